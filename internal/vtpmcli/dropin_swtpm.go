package vtpmcli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/program"
)

// An swtpmOptions is the command line of swtpm socket or chardev, as it was written.
type swtpmOptions struct {
	device, proxy           bool // of swtpm chardev
	tpm2, terminate, daemon bool
	help, capabilities      bool
	states, profiles        bool
	info                    string
	port, fd                int
	runas, chroot           string
	raw                     swtpmTexts
	ledger                  ledgerFlags

	server, ctrl, state, log   words // nil for an option that is not there
	pid, locality, flags       words
	key, migrationKey, profile words
	migration                  words
}

// swtpmTexts are the options whose value is a list of words, before it is read.
type swtpmTexts struct {
	server, ctrl, state, log   string
	pid, locality, flags       string
	key, migrationKey, profile string
	migration, seccomp         string
}

// runSWTPM is swtpm socket and swtpm chardev.
func runSWTPM(env *program.Env, args []string) error {
	if len(args) == 0 {
		return errors.New("which interface? \"swtpm socket\" and \"swtpm chardev\" are served; swtpm --help lists its options")
	}
	switch args[0] {
	case "socket", "chardev":
	case "-h", "--help":
		return swtpmHelp(env)
	case "-v", "--version":
		_, err := fmt.Fprintf(env.Stdout, "TPM emulator version %s, in whose place assay %s stands\n", swtpmVersion, program.Version())
		return err
	case "cuse":
		return plainError("Unsupported TPM interface " + strconv.Quote(args[0]) + ": this program makes no device files")
	default:
		return fmt.Errorf("interface %q is not served, only \"socket\" and \"chardev\"", args[0])
	}
	o, err := parseSWTPM(env.Stderr, args[0] == "chardev", args[1:])
	if err != nil {
		return err
	}
	if ask := o.question(); ask != nil {
		return ask(env)
	}
	return o.start(env, args)
}

// question is what only prints something, if the command line asks for that.
func (o *swtpmOptions) question() func(*program.Env) error {
	switch {
	case o.help:
		return swtpmHelp
	case o.capabilities:
		return printSWTPMCapabilities
	case o.states:
		return o.printStates
	case o.profiles:
		return printSWTPMProfiles
	case o.info != "":
		return o.printInfo
	}
	return nil
}

func (o *swtpmOptions) flagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("swtpm socket", pflag.ContinueOnError)
	f.SortFlags = false
	f.BoolVar(&o.tpm2, "tpm2", false, "serve a TPM 2.0; required, there is no TPM 1.2 here")
	f.StringVar(&o.raw.state, "tpmstate", "", "`dir=DIR|backend-uri=URI`[,mode=0640][,lock]: where the TPM is kept, encrypted")
	f.StringVar(&o.raw.ctrl, "ctrl", "", "`type=unixio,path=P|type=tcp,port=N`[,fd=N|clientfd=N][,mode=,uid=,gid=][,terminate]: control channel")
	f.StringVar(&o.raw.server, "server", "", "`type=unixio,path=P|type=tcp,port=N`[,fd=N][,mode=,uid=,gid=][,disconnect]: data channel")
	f.IntVarP(&o.port, "port", "p", 0, "TCP `PORT` of the data channel, which ends after each command")
	f.IntVarP(&o.fd, "fd", "f", -1, "data channel that is open already, by the `NUMBER` of its file; with chardev a character device")
	f.BoolVarP(&o.proxy, "vtpm-proxy", "v", false, "")
	f.Lookup("vtpm-proxy").Hidden = true // refused
	f.BoolVarP(&o.terminate, "terminate", "t", false, "end when the client of the data channel goes")
	f.BoolVarP(&o.daemon, "daemon", "d", false, "go to the background once the TPM answers")
	f.StringVar(&o.raw.log, "log", "", "`file=F|fd=N`[,level=N][,prefix=P][,truncate]: where the log goes")
	f.StringVar(&o.raw.pid, "pid", "", "`file=F|fd=N`: where the number of the process goes")
	f.StringVar(&o.raw.flags, "flags", "", "`WORDS` of not-need-init, startup-clear, startup-state, startup-none, disable-auto-shutdown")
	f.StringVar(&o.raw.locality, "locality", "", "`WORDS` of allow-set-locality, reject-locality-4")
	f.StringVar(&o.raw.key, "key", "", "`file=F|fd=N|pwdfile=F|pwdfd=N`[,format=][,mode=][,kdf=][,remove]: the key provider is this key or passphrase")
	f.StringVar(&o.raw.migrationKey, "migration-key", "", "as --key, for the state that passes through the control channel")
	f.StringVar(&o.raw.migration, "migration", "", "`WORDS` of incoming, release-lock-outgoing")
	f.StringVar(&o.raw.profile, "profile", "", "`name=N|profile=JSON|file=F|fd=N`[,remove-disabled=]: of a new TPM")
	o.ledger.add(f)
	f.StringVarP(&o.runas, "runas", "r", "", "become `USER` first")
	f.StringVarP(&o.chroot, "chroot", "R", "", "see `DIR` as the root of all files")
	f.StringVar(&o.raw.seccomp, "seccomp", "", "")
	f.Lookup("seccomp").Hidden = true // taken, and without effect
	f.BoolVar(&o.capabilities, "print-capabilities", false, "print what is supported, as JSON")
	f.BoolVar(&o.states, "print-states", false, "print what --tpmstate holds, as JSON")
	f.BoolVar(&o.profiles, "print-profiles", false, "print the profiles, as JSON")
	f.StringVar(&o.info, "print-info", "", "print what the bits of `NUMBER` ask about the TPM, as JSON")
	f.BoolVarP(&o.help, "help", "h", false, "print this")
	return f
}

func swtpmHelp(env *program.Env) error {
	f := new(swtpmOptions).flagSet()
	_, err := fmt.Fprintf(env.Stdout, "usage: swtpm socket|chardev --tpm2 [OPTIONS]\n\n%s\n%s", f.FlagUsagesWrapped(100), dropInKeyHelp)
	return err
}

func parseSWTPM(usage io.Writer, device bool, args []string) (*swtpmOptions, error) {
	o := &swtpmOptions{device: device}
	f := o.flagSet()
	f.SetOutput(usage)
	f.Usage = func() {}
	if err := f.Parse(wholeNames(f, args)); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, plainError("Unknown parameter '" + f.Arg(0) + "'")
	}
	if o.help || o.capabilities || o.profiles {
		return o, nil
	}
	if !o.tpm2 {
		return nil, errors.New("--tpm2 is missing: there is no TPM 1.2 here")
	}
	if err := o.readWords(); err != nil {
		return nil, err
	}
	return o, o.check()
}

// readWords reads the options whose value is a list of words.
func (o *swtpmOptions) readWords() error {
	for _, r := range []struct {
		flag, text string
		known      map[string]wordKind
		to         *words
	}{
		{"--server", o.raw.server, swtpmServerWords(), &o.server},
		{"--ctrl", o.raw.ctrl, swtpmCtrlWords(), &o.ctrl},
		{"--tpmstate", o.raw.state, swtpmStateWords(), &o.state},
		{"--log", o.raw.log, swtpmLogWords(), &o.log},
		{"--pid", o.raw.pid, swtpmPidWords(), &o.pid},
		{"--locality", o.raw.locality, swtpmLocalityWords(), &o.locality},
		{"--flags", o.raw.flags, swtpmFlagsWords(), &o.flags},
		{"--key", o.raw.key, swtpmKeyWords(), &o.key},
		{"--migration-key", o.raw.migrationKey, swtpmKeyWords(), &o.migrationKey},
		{"--migration", o.raw.migration, swtpmMigrationWords(), &o.migration},
		{"--profile", o.raw.profile, swtpmProfileWords(), &o.profile},
	} {
		if r.text == "" {
			continue
		}
		w, err := parseWords(r.flag, r.text, r.known)
		if err != nil {
			return err
		}
		*r.to = w
	}
	return nil
}

// check refuses what cannot be served, before anything is opened.
func (o *swtpmOptions) check() error {
	if s := o.raw.seccomp; s != "" && !slices.Contains([]string{"action=none", "action=log", "action=kill"}, s) {
		return fmt.Errorf("--seccomp: %q is not one of action=none, action=log, action=kill", s)
	}
	if o.fd >= 0 && o.fd < 3 || o.fd < -1 {
		return errors.New("--fd: file descriptors 0, 1 and 2 are the standard files")
	}
	if o.device && o.question() == nil {
		if err := o.checkDevice(); err != nil {
			return err
		}
	}
	if o.pid != nil && !o.pid.has("file") && !o.pid.has("fd") {
		return errors.New("--pid: file or fd is missing")
	}
	if o.flags.has("startup-deactivated") {
		return errors.New("--flags: startup-deactivated is for a TPM 1.2")
	}
	if o.info != "" {
		if _, err := strconv.ParseUint(o.info, 0, 32); err != nil {
			return fmt.Errorf("--print-info: %q is no number", o.info)
		}
	}
	return nil
}

// needsInit reports whether the TPM waits for CMD_INIT.
func (o *swtpmOptions) needsInit() bool {
	return o.ctrl != nil && !o.flags.has("not-need-init") && !o.flags.has("startup-clear") && !o.flags.has("startup-state")
}
