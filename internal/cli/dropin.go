package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// A dropIn takes the place of another program when assay is called by its name,
// as by a symbolic link: other people's test suites start their TPM so. One
// program under several names is nothing more to build, ship and keep in step.
// All drop-ins serve a new TPM that ends with the process, on 127.0.0.1.
type dropIn func(env *Env, args []string) error

// dropIns are the programs, by name.
func dropIns() map[string]dropIn {
	return map[string]dropIn{
		"tpm_server":     runSimulator, // IBM's build of the reference code
		"tpm2-simulator": runSimulator, // the one that canonical/go-tpm2 starts
		"swtpm":          runSWTPM,
	}
}

// asDropIn runs the drop-in that the program was called as, if it was.
func asDropIn(env *Env, args []string) (status int, ok bool) {
	name := filepath.Base(env.Program)
	run, ok := dropIns()[name]
	if !ok {
		return 0, false
	}
	if err := run(env, args); err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", name, err)
		return 1, true
	}
	return exitOK, true
}

// defaultSimPort is the command port of the reference simulator.
const defaultSimPort = 2321

// runSimulator is the reference simulator: [-m] [-e] [-rm] [-port PORT] [PORT].
// The flags about the file of its state are accepted; there is none.
func runSimulator(env *Env, args []string) error {
	port := defaultSimPort
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; arg {
		case "-m", "-e", "-rm", "-manufacture", "--manufacture":
		case "-port", "--port":
			if i++; i == len(args) {
				return fmt.Errorf("%s: a number must follow", arg)
			}
			fallthrough
		default:
			n, err := parsePort(args[i])
			if err != nil {
				return err
			}
			port = n
		}
	}
	return untilSignal(context.Background(), func(ctx context.Context) error {
		m, err := ephemeralMachine(env)
		if err != nil {
			return err
		}
		return serveMSSIM(ctx, env, m, loopback(port), dropInConfig(env))
	})
}

func dropInConfig(env *Env) frontend.Config {
	return frontend.Config{Now: env.Now, Log: vtpmLog(env)}
}

// parsePort reads a port whose successor is one, too.
func parsePort(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65534 {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return n, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// dropInProfile is the profile of a TPM in another's place: it offers what that
// one does, as suites that ask the TPM for its algorithms try them all.
const dropInProfile = "compatible"

// ephemeralMachine is a machine without power around a new TPM.
func ephemeralMachine(env *Env) (*frontend.Machine, error) {
	t, err := manufacture(env, dropInProfile)
	if err != nil {
		return nil, err
	}
	return frontend.NewMachine(t, frontend.MachineConfig{Restore: restorer(env)}), nil
}

// swtpmOptions are what of swtpm's command line is understood.
type swtpmOptions struct {
	tpm2, terminate bool
	port            int
	server, ctrl    string
	flags, locality []string
}

// runSWTPM is swtpm socket, as far as test suites use it. State folders are
// accepted and stay empty; what would ask for more than that is refused.
func runSWTPM(env *Env, args []string) error {
	if len(args) == 0 || args[0] != "socket" {
		return errors.New("only \"swtpm socket\" is served")
	}
	o, err := parseSWTPM(env.Stderr, args[1:])
	if err != nil {
		return err
	}
	return untilSignal(context.Background(), func(ctx context.Context) error { return o.serve(ctx, env) })
}

func parseSWTPM(usage io.Writer, args []string) (*swtpmOptions, error) {
	o := &swtpmOptions{}
	f := pflag.NewFlagSet("swtpm socket", pflag.ContinueOnError)
	f.SetOutput(usage)
	f.BoolVar(&o.tpm2, "tpm2", false, "serve a TPM 2.0; required")
	f.BoolVarP(&o.terminate, "terminate", "t", false, "end when the client of the data channel goes")
	f.IntVarP(&o.port, "port", "p", 0, "TCP `PORT` of the data channel")
	f.StringVar(&o.server, "server", "", "data channel: type=tcp,port=PORT or type=unixio,path=PATH")
	f.StringVar(&o.ctrl, "ctrl", "", "control channel: type=tcp,port=PORT or type=unixio,path=PATH")
	f.StringSliceVar(&o.flags, "flags", nil, "not-need-init, startup-clear, startup-none")
	f.StringSliceVar(&o.locality, "locality", nil, "allow-set-locality, reject-locality-4")
	f.String("log", "", "accepted; logs go to standard error")
	f.String("tpmstate", "", "accepted; the TPM ends with the process")
	f.String("seccomp", "", "accepted")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case !o.tpm2:
		return nil, errors.New("--tpm2 is missing: there is no TPM 1.2 here")
	case f.NArg() > 0:
		return nil, fmt.Errorf("%q is not understood", f.Arg(0))
	case (o.port == 0) == (o.server == ""):
		return nil, errors.New("one of --port and --server must say where the data channel is")
	}
	if err := knownWords("--flags", o.flags, "not-need-init", "startup-clear", "startup-none"); err != nil {
		return nil, err
	}
	return o, knownWords("--locality", o.locality, "allow-set-locality", "reject-locality-4")
}

func knownWords(flag string, words []string, known ...string) error {
	for _, w := range words {
		if !slices.Contains(known, w) {
			return fmt.Errorf("%s: %q is not one of %v", flag, w, known)
		}
	}
	return nil
}

func (o *swtpmOptions) serve(ctx context.Context, env *Env) error {
	m, err := ephemeralMachine(env)
	if err != nil {
		return err
	}
	server := o.server
	if server == "" {
		server = fmt.Sprintf("type=tcp,port=%d", o.port)
	}
	data, err := listenSWTPM(ctx, "--server", server)
	if err != nil {
		return err
	}
	defer data.Close()
	sw := frontend.SWTPMConfig{
		AllowSetLocality: slices.Contains(o.locality, "allow-set-locality"),
		RejectLocality4:  slices.Contains(o.locality, "reject-locality-4"),
		Terminate:        o.terminate,
	}
	if o.ctrl != "" {
		if sw.Control, err = listenSWTPM(ctx, "--ctrl", o.ctrl); err != nil {
			return err
		}
		defer sw.Control.Close()
	}
	o.power(m)
	return serveSWTPM(ctx, env, m, data, sw, dropInConfig(env))
}

// startupClear is TPM2_Startup(CLEAR).
const startupClear = "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00"

// power gives the TPM power as --flags say: without not-need-init, and with a
// control channel, it waits for CMD_INIT.
func (o *swtpmOptions) power(m *frontend.Machine) {
	startup := slices.Contains(o.flags, "startup-clear")
	if o.ctrl == "" || startup || slices.Contains(o.flags, "not-need-init") || slices.Contains(o.flags, "startup-none") {
		m.PowerOn()
	}
	if startup {
		m.Execute(nil, 0, []byte(startupClear))
	}
}

// listenSWTPM listens where an option of swtpm says.
func listenSWTPM(ctx context.Context, flag, value string) (net.Listener, error) {
	opts := map[string]string{"type": "tcp"}
	for part := range strings.SplitSeq(value, ",") {
		name, v, _ := strings.Cut(part, "=")
		opts[name] = v
	}
	for name := range opts {
		if err := knownWords(flag, []string{name}, "type", "port", "bindaddr", "path", "mode"); err != nil {
			return nil, err
		}
	}
	switch opts["type"] {
	case "tcp":
		port, err := parsePort(opts["port"])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		addr := loopback(port)
		if host := opts["bindaddr"]; host != "" {
			addr = net.JoinHostPort(host, opts["port"])
			if err := mustBeLoopback(flag, addr); err != nil {
				return nil, err
			}
		}
		return listen(ctx, "tcp", addr)
	case "unixio":
		return listenUnix(ctx, opts["path"])
	}
	return nil, fmt.Errorf("%s: type %q is neither tcp nor unixio", flag, opts["type"])
}
