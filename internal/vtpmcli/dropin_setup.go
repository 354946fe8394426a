package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// A setupOptions is the command line of swtpm_setup.
type setupOptions struct {
	tpm2, ecc, createEK, createSPK        bool
	ekCert, platformCert, lockNVRAM       bool
	overwrite, notOverwrite, reconfigure  bool
	allowSigning, decryption, display     bool
	takeOwnership, ownerZero, srkZero     bool
	help, version, capabilities, profiles bool

	state, config, vmid, logfile, runas, certDir, rsaBits string
	keyfile, pwdfile, cipher, createConfig                string
	keyFD, pwdFD, profileFD                               int
	banks                                                 []string
	profile, profileName, profileFile, removeDisabled     string
	ownerPass, srkPass                                    string

	ledger  ledgerFlags
	conf    setupConfig
	place   *swtpmPlace
	chosen  *engine.Profile
	ekKinds []ekca.Kind
	pcrs    []tpm2.Alg // banks to allocate; nil leaves the profile's
}

// setupFeatures are what swtpm_setup --print-capabilities lists, in its order.
func setupFeatures() []string {
	return []string{
		"tpm-2.0", "cmdarg-keyfile-fd", "cmdarg-pwdfile-fd", "tpm12-not-need-root", "cmdarg-write-ek-cert-files",
		"cmdarg-create-config-files", "cmdarg-reconfigure-pcr-banks", "tpm2-rsa-keysize-2048", "tpm2-rsa-keysize-3072",
		"cmdarg-profile", "cmdarg-profile-remove-disabled",
	}
}

func (o *setupOptions) flagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("swtpm_setup", pflag.ContinueOnError)
	f.SortFlags = false
	var ignored string
	f.BoolVar(&o.tpm2, "tpm2", false, "set up a TPM 2.0; required, there is no TPM 1.2 here")
	f.StringVar(&o.state, "tpm-state", "", "`DIR, dir://DIR or file://FILE`: where the TPM is kept, encrypted")
	f.StringVar(&o.state, "tpmstate", "", "as --tpm-state")
	f.BoolVar(&o.createEK, "createek", false, "make the endorsement keys RSA-2048 and P-384")
	f.BoolVar(&o.ecc, "ecc", false, "P-384 alone")
	f.BoolVar(&o.createSPK, "create-spk", false, "make a storage primary key at 81000001")
	f.BoolVar(&o.ekCert, "create-ek-cert", false, "certify the endorsement keys")
	f.BoolVar(&o.platformCert, "create-platform-cert", false, "certify the platform")
	f.BoolVar(&o.lockNVRAM, "lock-nvram", false, "accepted: what is written is always locked")
	f.StringVar(&o.vmid, "vmid", "", "`NAME` of the machine, for its certificates")
	f.StringVar(&o.rsaBits, "rsa-keysize", "", "`BITS` of the RSA key: 2048, 3072 or max")
	f.StringSliceVar(&o.banks, "pcr-banks", nil, "`BANKS` of PCRs that are active; - for all")
	f.BoolVar(&o.reconfigure, "reconfigure", false, "change --pcr-banks of a TPM that is there")
	f.BoolVar(&o.overwrite, "overwrite", false, "put a new TPM in place of the one that is there: what it holds is lost")
	f.BoolVar(&o.notOverwrite, "not-overwrite", false, "end without an error when one is there")
	f.StringVar(&o.keyfile, "keyfile", "", "`FILE` of a key: the key provider")
	f.IntVar(&o.keyFD, "keyfile-fd", -1, "as --keyfile, by the `NUMBER` of an open file")
	f.StringVar(&o.pwdfile, "pwdfile", "", "`FILE` of a passphrase: the key provider")
	f.IntVar(&o.pwdFD, "pwdfile-fd", -1, "as --pwdfile, by the `NUMBER` of an open file")
	f.StringVar(&o.cipher, "cipher", "aes-128-cbc", "`NAME`: how long the key of --keyfile is; the state is sealed with AES-256-GCM in any case")
	f.StringVar(&o.profile, "profile", "", "`JSON` with the Name of a profile")
	f.StringVar(&o.profileName, "profile-name", "", "`NAME` of a profile")
	f.StringVar(&o.profileFile, "profile-file", "", "`FILE` with the JSON of --profile")
	f.IntVar(&o.profileFD, "profile-file-fd", -1, "as --profile-file, by the `NUMBER` of an open file")
	f.StringVar(&o.removeDisabled, "profile-remove-disabled", "", "refused: profiles are not altered")
	f.StringVar(&o.config, "config", "", "`FILE` as swtpm_setup.conf")
	f.StringVar(&o.logfile, "logfile", "", "`FILE` of the log, which is appended to")
	o.ledger.add(f)
	f.StringVar(&o.runas, "runas", "", "become `USER` first")
	f.StringVar(&o.certDir, "write-ek-cert-files", "", "also write the certificates to `DIR`")
	f.BoolVar(&o.display, "display", false, "show what was made")
	f.StringVar(&o.createConfig, "create-config-files", "", "`overwrite,root,skip-if-exist`: make a key file and a configuration that names it")
	f.Lookup("create-config-files").NoOptDefVal = " "
	f.BoolVar(&o.allowSigning, "allow-signing", false, "refused: the EK Credential Profile has no such key")
	f.BoolVar(&o.decryption, "decryption", false, "accepted: endorsement keys decrypt")
	f.BoolVar(&o.capabilities, "print-capabilities", false, "print what is supported, as JSON")
	f.BoolVar(&o.profiles, "print-profiles", false, "print the profiles, as JSON")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.BoolVarP(&o.help, "help", "h", false, "print this")
	for _, name := range []string{"tpm", "swtpm_ioctl", "tcsd-system-ps-file"} {
		f.StringVar(&ignored, name, "", "")
		f.Lookup(name).Hidden = true // programs that this one does not start
	}
	f.BoolVar(&o.takeOwnership, "take-ownership", false, "")
	f.BoolVar(&o.ownerZero, "owner-well-known", false, "")
	f.BoolVar(&o.srkZero, "srk-well-known", false, "")
	f.StringVar(&o.ownerPass, "ownerpass", "", "")
	f.StringVar(&o.srkPass, "srkpass", "", "")
	for _, name := range []string{"take-ownership", "owner-well-known", "srk-well-known", "ownerpass", "srkpass"} {
		f.Lookup(name).Hidden = true // of TPM 1.2
	}
	return f
}

// runSetup is swtpm_setup.
func runSetup(env *program.Env, args []string) error {
	o := &setupOptions{}
	f := o.flagSet()
	f.SetOutput(env.Stderr)
	f.Usage = func() {}
	if err := f.Parse(wholeNames(f, joinOptional(args, "--create-config-files"))); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("%q is not understood", f.Arg(0))
	case o.help:
		_, err := fmt.Fprintf(env.Stdout, "usage: swtpm_setup --tpm2 --tpm-state DIR [OPTIONS]\n\n%s\n%s", f.FlagUsagesWrapped(100), dropInKeyHelp)
		return err
	case o.version:
		_, err := fmt.Fprintf(env.Stdout, "TPM emulator setup tool version %s, in whose place assay %s stands\n", swtpmVersion, program.Version())
		return err
	case o.capabilities:
		_, err := fmt.Fprintf(env.Stdout, "{ \"type\": \"swtpm_setup\", \"features\": %s, \"profiles\": %s, \"version\": %q }\n", quoted(setupFeatures()), quoted(profileNames()), swtpmVersion)
		return err
	case o.profiles:
		return printSWTPMProfiles(env)
	case o.createConfig != "":
		return createDropInConfig(env, strings.Split(strings.TrimSpace(o.createConfig), ","))
	}
	if err := o.check(env); err != nil {
		return err
	}
	return o.run(env)
}

// joinOptional joins an option whose argument may be missing with what follows.
func joinOptional(args []string, option string) []string {
	i := slices.Index(args, option)
	if i < 0 || i+1 >= len(args) || strings.HasPrefix(args[i+1], "-") {
		return args
	}
	return append(append(slices.Clone(args[:i]), option+"="+args[i+1]), args[i+2:]...)
}

// check refuses what cannot be, before anything is touched.
func (o *setupOptions) check(env *program.Env) (err error) {
	switch {
	case !o.tpm2:
		return errors.New("--tpm2 is missing: there is no TPM 1.2 here")
	case o.takeOwnership || o.ownerZero || o.srkZero || o.ownerPass != "" || o.srkPass != "":
		return errors.New("--take-ownership and passwords of owner and SRK are for a TPM 1.2")
	case o.state == "":
		return errors.New("--tpm-state must be provided")
	case o.allowSigning:
		return errors.New("--allow-signing: the EK Credential Profile has no endorsement key that signs; none is made")
	case o.removeDisabled != "":
		return errors.New("--profile-remove-disabled: profiles are not altered; the profile \"fips\" has only approved algorithms")
	case o.reconfigure && (o.createEK || o.ekCert || o.platformCert || o.createSPK):
		return errors.New("--reconfigure goes with no keys or certificates")
	}
	if err := knownWords("--cipher", []string{o.cipher}, "aes-cbc", "aes-128-cbc", "aes-256-cbc"); err != nil {
		return err
	}
	if o.conf, err = readSetupConfig(env, o.config); err != nil {
		return err
	}
	uri := o.state
	if !strings.Contains(uri, "://") {
		uri = "dir://" + uri
	}
	if o.place, err = placeOfURI(uri); err != nil {
		return err
	}
	if err := o.chooseProfile(); err != nil {
		return err
	}
	if err := o.chooseKeys(); err != nil {
		return err
	}
	return o.chooseBanks()
}

func (o *setupOptions) chooseProfile() (err error) {
	w := words{}
	for name, text := range map[string]string{"profile": o.profile, "name": o.profileName, "file": o.profileFile} {
		if text != "" {
			w[name] = text
		}
	}
	if o.profileFD >= 0 {
		w["fd"] = fmt.Sprint(o.profileFD)
	}
	if len(w) == 0 {
		if o.conf.profile == "" || o.reconfigure { // one that there is has its own
			return nil
		}
		w["profile"] = o.conf.profile
	} else if o.reconfigure {
		return errors.New("--reconfigure changes no profile")
	}
	if name, ok := strings.CutPrefix(w["name"], "builtin:"); ok {
		w["name"] = name
	}
	o.chosen, err = profileOfWords(w)
	return err
}

func (o *setupOptions) chooseKeys() error {
	bits := o.rsaBits
	if bits == "" {
		bits = o.conf.rsaBits
	}
	rsa := ekca.RSA2048
	switch bits {
	case "", "2048":
	case "3072", "max":
		rsa = ekca.RSA3072
	default:
		return fmt.Errorf("--rsa-keysize: %q is not one of 2048, 3072 and max", bits)
	}
	if !o.createEK && !o.ekCert && !o.platformCert {
		return nil
	}
	o.ekKinds = []ekca.Kind{rsa, ekca.P384}
	if o.ecc {
		o.ekKinds = o.ekKinds[1:]
	}
	return nil
}

// chooseBanks reads --pcr-banks, else the configuration; without either the banks
// stay as the profile has them.
func (o *setupOptions) chooseBanks() error {
	banks := o.banks
	if len(banks) == 0 && o.conf.banks != "" {
		banks = strings.Split(o.conf.banks, ",")
	}
	for _, name := range banks {
		name = strings.TrimSpace(name)
		if name == "-" {
			o.pcrs = nil
			return nil
		}
		if name == "" {
			continue
		}
		a, ok := tpm2.AlgOfBank(name)
		if !ok {
			return fmt.Errorf("--pcr-banks: %q is no bank", name)
		}
		o.pcrs = append(o.pcrs, a)
	}
	if o.reconfigure && o.pcrs == nil {
		return errors.New("--reconfigure: --pcr-banks says to what")
	}
	return nil
}

// run makes or changes the TPM.
func (o *setupOptions) run(env *program.Env) (err error) {
	if o.logfile != "" {
		f, err := os.OpenFile(o.logfile, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o640)
		if err != nil {
			return fmt.Errorf("--logfile: %w", err)
		}
		defer f.Close()
		logged := *env
		logged.Stderr, logged.Stdout = f, f
		env = &logged
	}
	defer func() {
		if err != nil && o.logfile != "" {
			fmt.Fprintf(env.Stderr, "swtpm_setup: %v\n", err)
		}
	}()
	keys, err := o.openKeys(env)
	if err != nil {
		return err
	}
	defer keys.Close()
	issuer, closeIssuer, err := o.issuer(env)
	if err != nil {
		return err
	}
	defer closeIssuer()
	if err := o.ledger.chooseDropIn(env); err != nil {
		return err
	}
	if err := (&swtpmOptions{runas: o.runas}).confine(); err != nil {
		return err
	}
	k := &keptTPM{env: env, place: o.place, keys: keys, profile: o.chosen, takesOver: true, ledger: o.ledger.open()}
	defer func() { err = errors.Join(err, k.close()) }()
	if err := k.takeLock(); err != nil {
		return err
	}
	done, err := o.makeRoom(env)
	if done || err != nil {
		return err
	}
	what := "manufacturing"
	if o.reconfigure {
		what = "reconfiguration"
	}
	fmt.Fprintf(env.Stdout, "Starting vTPM %s as user %d @ %s\n", what, os.Geteuid(), env.Now().UTC().Format(time.RFC1123))
	if o.reconfigure {
		err = o.changeBanks(k)
	} else {
		err = o.manufacture(context.Background(), env, k, issuer)
	}
	if err == nil {
		fmt.Fprintf(env.Stdout, "Successfully authored TPM state.\nEnding vTPM %s @ %s\n", what, env.Now().UTC().Format(time.RFC1123))
	}
	return err
}

func (o *setupOptions) openKeys(env *program.Env) (*dropInKeys, error) {
	var key words
	mode := o.cipher
	switch {
	case o.keyfile != "":
		key = words{"file": o.keyfile, "mode": mode}
	case o.keyFD >= 0:
		key = words{"fd": fmt.Sprint(o.keyFD), "mode": mode}
	case o.pwdfile != "":
		key = words{"pwdfile": o.pwdfile}
	case o.pwdFD >= 0:
		key = words{"pwdfd": fmt.Sprint(o.pwdFD)}
	}
	keys, err := openDropInKeys(env, key, nil)
	if err == nil && keys.ephemeral() {
		err = fmt.Errorf("%s=%s keeps nothing, so there is nothing to set up", keyProviderEnv, ephemeralKeys)
	}
	return keys, err
}

// makeRoom sees to a TPM that is there already; done when it is to stay.
func (o *setupOptions) makeRoom(env *program.Env) (done bool, err error) {
	_, err = os.Lstat(o.place.permanent)
	if errors.Is(err, fs.ErrNotExist) && !o.reconfigure {
		return false, o.place.notTakingOver()
	}
	if err != nil || o.reconfigure {
		return false, err
	}
	switch {
	case o.notOverwrite:
		_, err = io.WriteString(env.Stdout, "Not overwriting existing state file.\n")
		return true, err
	case !o.overwrite:
		return false, fmt.Errorf("%q holds a TPM already, which stays as it is: --overwrite would put a new one in its place", o.place.permanent)
	}
	return false, o.place.notTakingOver()
}
