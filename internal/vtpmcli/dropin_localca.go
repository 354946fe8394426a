package vtpmcli

import (
	"crypto"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/localca"
)

// A localcaOptions is the command line of swtpm_localca.
type localcaOptions struct {
	certOptions
	ek, dir, vmid, logfile string
	config, options        string
}

func (o *localcaOptions) flagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("swtpm_localca", pflag.ContinueOnError)
	f.SortFlags = false
	o.describe(f)
	f.StringVar(&o.ek, "ek", "", "the key: `HEX` of an RSA modulus, or x=HEX,y=HEX,id=CURVE")
	f.StringVar(&o.ek, "key", "", "as --ek")
	f.StringVar(&o.dir, "dir", "", "`DIR` where ek.cert or platform.cert is written")
	f.StringVar(&o.vmid, "vmid", "unknown", "`NAME` of the machine, for the certificate")
	f.StringVar(&o.logfile, "logfile", "", "`FILE` of the log, which is appended to")
	f.StringVar(&o.config, "configfile", "", "`FILE` as swtpm-localca.conf")
	f.StringVar(&o.options, "optsfile", "", "`FILE` as swtpm-localca.options: more options")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.BoolVarP(&o.help, "help", "h", false, "print this")
	return f
}

// runLocalCA is swtpm_localca: one certificate by an authority whose files the
// configuration names, and which is made at its first use.
func runLocalCA(env *program.Env, args []string) (err error) {
	o := &localcaOptions{}
	f := o.flagSet()
	f.SetOutput(env.Stderr)
	f.Usage = func() {}
	if err := f.Parse(wholeNames(f, args)); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("%q is not understood", f.Arg(0))
	case o.help:
		_, err := fmt.Fprintf(env.Stdout, "usage: swtpm_localca --type KIND --ek KEY --dir DIR --tpm2 [OPTIONS]\n\n%s", f.FlagUsagesWrapped(100))
		return err
	case o.version:
		_, err := fmt.Fprintf(env.Stdout, "TPM emulator local certificate authority version %s, in whose place assay %s stands\n", swtpmVersion, program.Version())
		return err
	}
	env, closeLog, err := logToFile(env, o.logfile)
	if err != nil {
		return err
	}
	defer closeLog()
	if err = o.run(env, f); err != nil && o.logfile != "" {
		fmt.Fprintf(env.Stderr, "swtpm_localca: %v\n", err)
	}
	return err
}

// logToFile has both outputs go to the end of a file, if there is one.
func logToFile(env *program.Env, name string) (*program.Env, func(), error) {
	if name == "" {
		return env, func() {}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, nil, fmt.Errorf("--logfile: %w", err)
	}
	logged := *env
	logged.Stderr, logged.Stdout = f, f
	return &logged, func() { f.Close() }, nil //nolint:errcheck // of a log
}

func (o *localcaOptions) run(env *program.Env, f *pflag.FlagSet) error {
	if o.dir == "" || o.ek == "" {
		return errors.New("--dir or --ek is missing")
	}
	if err := o.readOptions(env, f); err != nil {
		return err
	}
	r, err := o.described()
	if err != nil {
		return err
	}
	if r.Key, err = parseEK(o.ek); err != nil {
		return fmt.Errorf("--ek: %w", err)
	}
	r.Subject = pkix.Name{CommonName: o.vmid}
	folder, err := o.folder(env)
	if err != nil {
		return err
	}
	der, made, err := folder.Issue(r)
	if made {
		fmt.Fprintf(env.Stdout, "Created the authority's keys and certificates beside %q.\n", folder.SigningKey)
	}
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(o.dir, o.kind+".cert"), der, 0o644); err != nil {
		return err
	}
	name := "EK"
	if r.Kind == localca.Platform {
		name = "platform"
	}
	_, err = fmt.Fprintf(env.Stdout, "Successfully created %s certificate locally.\n", name)
	return err
}

// parseEK is the opposite of [ekParameter].
func parseEK(text string) (crypto.PublicKey, error) {
	if !strings.Contains(text, "=") {
		return rsaPublicKey(text, 65537)
	}
	w, err := parseWords("--ek", text, map[string]wordKind{"x": wordText, "y": wordText, "id": wordText})
	if err != nil {
		return nil, err
	}
	return eccPublicKey(w["id"], w["x"], w["y"])
}

// readOptions adds the options of the options file; the command line has the word.
func (o *localcaOptions) readOptions(env *program.Env, f *pflag.FlagSet) error {
	text, name, err := localcaFile(env, o.options, "swtpm-localca.options")
	if err != nil || name == "" {
		return err
	}
	given := map[string]bool{}
	f.Visit(func(flag *pflag.Flag) { given[flag.Name] = true })
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		option, value, _ := strings.Cut(line, " ")
		if key, _, glued := strings.Cut(option, "="); glued {
			option, value = key, strings.TrimPrefix(line, key+"=")
		}
		option = strings.TrimPrefix(option, "--")
		value = unquoted(strings.TrimSpace(value))
		if given[option] {
			continue
		}
		if flag := f.Lookup(option); value == "" && flag != nil && flag.Value.Type() == "bool" {
			value = "true"
		}
		if err := f.Set(option, value); err != nil {
			return fmt.Errorf("%s: --%s: %w", name, option, err)
		}
	}
	return nil
}

// unquoted is a value without the quotation marks round it.
func unquoted(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// maxLocalcaFile bounds configuration files, in bytes.
const maxLocalcaFile = 64 << 10

// localcaFile reads a file that is named, or else the user's or the machine's of
// that name; no name for none.
func localcaFile(env *program.Env, named, usual string) (text, name string, err error) {
	files := []string{named}
	if named == "" {
		files = configFilesOf(env, usual)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) && named == "" {
			continue
		}
		if err != nil {
			return "", "", err
		}
		if info.Mode().IsRegular() && info.Size() > maxLocalcaFile {
			return "", "", fmt.Errorf("%q has more than %d bytes", name, maxLocalcaFile)
		}
		b, err := os.ReadFile(name)
		return string(b), name, err
	}
	return "", "", nil
}

// folder reads the configuration.
func (o *localcaOptions) folder(env *program.Env) (*localca.Folder, error) {
	text, name, err := localcaFile(env, o.config, "swtpm-localca.conf")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, errors.New("no swtpm-localca.conf: --configfile names one; without create_certs_tool in swtpm_setup.conf the built-in authority certifies")
	}
	folder := &localca.Folder{Random: env.Rand, Now: env.Now}
	if p := env.Getenv("SWTPM_ROOTCA_PASSWORD"); p != "" {
		folder.RootPassword = []byte(p)
	}
	for key, value := range configLines(env, text) {
		switch key {
		case "statedir":
			folder.StateDir = value
		case "signingkey":
			folder.SigningKey = value
		case "issuercert":
			folder.IssuerCert = value
		case "certserial":
			folder.Serial = value
		case "signingkey_password":
			folder.Password = []byte(value)
		}
	}
	for key, value := range map[string]string{"statedir": folder.StateDir, "signingkey": folder.SigningKey, "issuercert": folder.IssuerCert} {
		if value == "" {
			return nil, fmt.Errorf("%s: %s is missing", name, key)
		}
	}
	if folder.Serial == "" {
		folder.Serial = filepath.Join(folder.StateDir, "certserial")
	}
	return folder, mustBeFile(folder.SigningKey)
}
