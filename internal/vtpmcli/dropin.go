package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2/engine"
)

// A dropIn takes the place of another program when assay is called by its name,
// as by a symbolic link: other people's test suites start their TPM so. One
// program under several names is nothing more to build, ship and keep in step.
// The simulators serve a new TPM that ends with the process, as theirs does when
// their file is not kept; swtpm keeps its TPM.
type dropIn func(env *program.Env, args []string) error

// dropIns are the programs, by name.
func dropIns() map[string]dropIn {
	return map[string]dropIn{
		"tpm_server":     runSimulator, // IBM's build of the reference code
		"tpm2-simulator": runSimulator, // the one that canonical/go-tpm2 starts
		"swtpm":          runSWTPM,
		"swtpm_ioctl":    runIOCTL,
		"swtpm_setup":    runSetup,
		"swtpm_cert":     runCert,
		"swtpm_localca":  runLocalCA,
	}
}

// DropIn runs the drop-in that the program was called as, if it was.
func DropIn(env *program.Env, args []string) (status int, ok bool) {
	name := filepath.Base(env.Program)
	run, ok := dropIns()[name]
	if !ok {
		return 0, false
	}
	if err := run(env, args); err != nil {
		if plain := plainError(""); errors.As(err, &plain) {
			name = ""
		} else {
			name += ": "
		}
		fmt.Fprintf(env.Stderr, "%s%v\n", name, err)
		return 1, true
	}
	return program.StatusOK, true
}

// A plainError is printed as the other program prints it, for who compares.
type plainError string

func (e plainError) Error() string { return string(e) }

// defaultSimPort is the command port of the reference simulator.
const defaultSimPort = 2321

// runSimulator is the reference simulator: [-m] [-e] [-rm] [-port PORT] [PORT].
// The flags about the file of its state are accepted; there is none.
func runSimulator(env *program.Env, args []string) error {
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

func dropInConfig(env *program.Env) frontend.Config {
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

// compatibleProfile offers what another's TPM does, as suites that ask the TPM for its
// algorithms try them all.
const compatibleProfile = "compatible"

// dropInProfile names the profile of a TPM in another's place that is made without a
// choice; in FIPS 140-3 mode it is the approved one, here too.
func dropInProfile() string {
	if p := engine.DefaultProfile(); p == "fips" {
		return p
	}
	return compatibleProfile
}

// ephemeralMachine is a machine without power around a new TPM.
func ephemeralMachine(env *program.Env) (*frontend.Machine, error) {
	t, err := manufacture(env, dropInProfile())
	if err != nil {
		return nil, err
	}
	return frontend.NewMachine(t, frontend.MachineConfig{Restore: restorer(env)}), nil
}
