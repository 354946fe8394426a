package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/apiclient"
)

// A Process is what the command may touch.
type Process struct {
	Root           fs.FS // where the kernel exports its measurements
	Open           func(name string) (*os.File, error)
	WriteFile      func(name string, data []byte, perm fs.FileMode) error
	Stdout, Stderr io.Writer
	Machine        Machine
}

// A Machine is what commands need of the machine besides files.
type Machine struct {
	Random io.Reader
	// TPM opens the device file of a TPM.
	TPM    func(name string) (Device, error)
	Serial func(name string) (io.ReadWriteCloser, error)
	// KernelLog begins to read the kernel's log; see [KernelLog].
	KernelLog func() func() []string
	// Mount and PowerOff are the work of an init.
	Mount, PowerOff func() error
}

// A Device is a TPM's.
type Device interface {
	Send(command []byte) (response []byte, err error)
	Close() error
}

// errRefused is a decision that is not "trusted"; it has been printed.
var errRefused = errors.New("refused")

// Main runs the command line args and returns the exit status: 0 done or
// trusted, 1 refused, 2 something could not be used.
func Main(ctx context.Context, p Process, args []string) int {
	root := &cobra.Command{
		Use: "assay-agent", Short: "Collect evidence of this machine and answer a challenge with it",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.AddCommand(p.versionCmd(), p.challengeCmd(), p.bundleCmd(), p.attestCmd(), p.enrolCmd(), p.runCmd(), p.serveCmd(), p.initCmd())
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errRefused):
		return 1
	default:
		fmt.Fprintf(p.Stderr, "assay-agent: %v\n", err)
		return 2
	}
}

func (p Process) print(v any) error {
	enc := json.NewEncoder(p.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (p Process) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.Stdout, "assay-agent", version())
			return err
		},
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version + " " + info.GoVersion
	}
	return "unknown"
}

// serverFlags say which service to speak to.
type serverFlags struct{ server, tokenFile, ca string }

func (s *serverFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.server, "server", "", "URL of the attestation service")
	f.StringVar(&s.tokenFile, "token-file", "", "file with the API token to show")
	f.StringVar(&s.ca, "ca", "", "PEM file of the CA that the service's certificate comes from")
	_ = cmd.MarkFlagRequired("server")
}

// timeout bounds one exchange with the service.
const timeout = 30 * time.Second

func (p Process) client(s serverFlags) (*Client, error) {
	c := &Client{Server: strings.TrimSuffix(s.server, "/")}
	if s.tokenFile != "" {
		b, err := p.read(s.tokenFile)
		if err != nil {
			return nil, err
		}
		c.Token = strings.TrimSpace(string(b))
	}
	var authorities []byte
	var err error
	if s.ca != "" {
		if authorities, err = p.read(s.ca); err != nil {
			return nil, err
		}
	}
	if c.HTTP, err = apiclient.Connect(authorities, timeout); err != nil {
		return nil, fmt.Errorf("%s: %w", s.ca, err)
	}
	return c, nil
}

func (p Process) read(name string) ([]byte, error) {
	return readAtMost(tools{p}, name, maxFile)
}

// tools opens the files that the user named, as the user named them.
type tools struct{ p Process }

// Open opens a named file.
func (t tools) Open(name string) (fs.File, error) { return t.p.Open(name) }

func (p Process) challengeCmd() *cobra.Command {
	var server serverFlags
	var policy, nonceFile string
	cmd := &cobra.Command{
		Use: "challenge", Short: "Ask the service for a challenge to quote over", Args: cobra.NoArgs,
		Example: `  assay-agent challenge --server URL --nonce-file nonce > challenge.json
  tpm2_quote -c ak.ctx -l sha256:0,1,2,3,4,5,6,7 -q nonce -m quote.msg -s quote.sig -f tss`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client(server)
			if err != nil {
				return err
			}
			ch, err := c.NewChallenge(cmd.Context(), policy)
			if err != nil {
				return err
			}
			if nonceFile != "" {
				if err := p.WriteFile(nonceFile, ch.Nonce, 0o600); err != nil {
					return err
				}
			}
			return p.print(ch)
		},
	}
	server.add(cmd)
	cmd.Flags().StringVar(&policy, "policy", "", "policy to be appraised under; the service's default when empty")
	cmd.Flags().StringVar(&nonceFile, "nonce-file", "", "write the nonce here, as bytes, for tpm2_quote -q")
	return cmd
}

func addFileFlags(cmd *cobra.Command, f *Files) {
	cmd.Flags().StringVar(&f.Quote, "quote", "", "quote, as tpm2_quote -m wrote it; without one this machine's TPM makes it")
	cmd.Flags().StringVar(&f.Signature, "signature", "", "its signature, as tpm2_quote -s -f tss wrote it")
	cmd.Flags().StringVar(&f.AKPublic, "ak", "", "public area of the attestation key, as tpm2_createak -u -f tss wrote it")
	cmd.Flags().StringVar(&f.AKCert, "ak-cert", "", "the key's certificate, DER")
	cmd.Flags().BoolVar(&f.IMA, "ima", false, "send the kernel's list of runtime measurements")
	cmd.MarkFlagsRequiredTogether("quote", "signature", "ak")
}

// gather has the evidence from the tools' files, or from the TPM.
func (p Process) gather(files Files, key *keyFlags, nonce []byte) (*Bundle, error) {
	if files.Quote != "" {
		return Collect(p.Root, tools{p}, files)
	}
	t, err := p.openTPM(key)
	if err != nil {
		return nil, err
	}
	b, err := t.Evidence(p.Root, nonce, files.IMA)
	return b, errors.Join(err, t.Close())
}

func (p Process) bundleCmd() *cobra.Command {
	var files Files
	var key keyFlags
	var nonce []byte
	cmd := &cobra.Command{
		Use: "bundle", Short: "Print the evidence of this machine as a bundle for assay appraise", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := p.gather(files, &key, nonce)
			if err != nil {
				return err
			}
			return p.print(b)
		},
	}
	addFileFlags(cmd, &files)
	key.add(cmd)
	cmd.Flags().BytesHexVar(&nonce, "nonce", nil, "have the TPM quote over these bytes, hex")
	return cmd
}

func (p Process) attestCmd() *cobra.Command {
	var server serverFlags
	var files Files
	var key keyFlags
	var challenge, policy string
	cmd := &cobra.Command{
		Use: "attest", Short: "Send the evidence of this machine and print the decision", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client(server)
			if err != nil {
				return err
			}
			ch, err := p.challengeFor(cmd.Context(), c, challenge, policy, files)
			if err != nil {
				return err
			}
			b, err := p.gather(files, &key, ch.Nonce)
			if err != nil {
				return err
			}
			d, err := c.Attest(cmd.Context(), ch, b)
			if err != nil {
				return err
			}
			if err := p.print(d); err != nil || d.Verdict == "trusted" {
				return err
			}
			return errRefused
		},
	}
	server.add(cmd)
	addFileFlags(cmd, &files)
	key.add(cmd)
	cmd.Flags().StringVar(&challenge, "challenge", "", "file with what assay-agent challenge printed; without one a challenge is asked for")
	cmd.Flags().StringVar(&policy, "policy", "", "policy to be appraised under, without --challenge; the service's default when empty")
	cmd.MarkFlagsMutuallyExclusive("challenge", "policy")
	return cmd
}

// challengeFor reads the challenge that a quote in a file answers, or asks for one.
func (p Process) challengeFor(ctx context.Context, c *Client, file, policy string, files Files) (ch Challenge, err error) {
	switch {
	case file == "" && files.Quote != "":
		return ch, errors.New("--quote answers a challenge: give it with --challenge")
	case file == "":
		return c.NewChallenge(ctx, policy)
	}
	text, err := p.read(file)
	if err != nil {
		return ch, err
	}
	if err := json.Unmarshal(text, &ch); err != nil {
		return ch, fmt.Errorf("challenge %s: %w", file, err)
	}
	return ch, nil
}
