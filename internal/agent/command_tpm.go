package agent

import (
	"context"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/tpm2"
)

// keyFlags say which TPM and which attestation key.
type keyFlags struct {
	device     string
	rsa, owner bool
	handle     string
}

func (k *keyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&k.device, "tpm", "", "device of the TPM; /dev/tpmrm0 or else /dev/tpm0 when empty")
	f.BoolVar(&k.rsa, "ak-rsa", false, "an attestation key of RSA-2048 instead of P-256")
	f.BoolVar(&k.owner, "ak-owner", false, "make it under the owner's hierarchy instead of the endorsement hierarchy")
	f.StringVar(&k.handle, "ak-handle", "", "persistent handle where it is, or is put when nothing is there: 0x81010010")
}

func (k *keyFlags) config() (cfg KeyConfig, err error) {
	cfg = KeyConfig{RSA: k.rsa, Owner: k.owner}
	if k.handle == "" {
		return cfg, nil
	}
	n, err := strconv.ParseUint(k.handle, 0, 32)
	if cfg.Handle = tpm2.Handle(n); err != nil || cfg.Handle.Kind() != tpm2.KindPersistent {
		return cfg, fmt.Errorf("--ak-handle %q is no persistent handle: they are 0x81000000 to 0x817fffff for the owner", k.handle)
	}
	return cfg, nil
}

// openTPM opens the TPM that the flags name; the one with the kernel's resource manager
// is preferred.
func (p Process) openTPM(k *keyFlags) (*TPM, error) {
	cfg, err := k.config()
	if err != nil {
		return nil, err
	}
	device, err := p.device(k.device)
	if err != nil {
		return nil, err
	}
	return OpenTPM(device, p.Machine.Random, cfg)
}

func (p Process) device(name string) (Device, error) {
	if name != "" {
		return p.Machine.TPM(name)
	}
	d, err := p.Machine.TPM("/dev/tpmrm0")
	if errors.Is(err, fs.ErrNotExist) {
		d, err = p.Machine.TPM("/dev/tpm0")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("this machine shows no TPM: neither /dev/tpmrm0 nor /dev/tpm0 is there")
	}
	return d, err
}

// chainIndex is the first NV index with certificates above those of endorsement keys
// (EK Credential Profile, 2.2.1.5.2); they follow one another in as many as it takes.
const (
	chainIndex = tpm2.Handle(0x01c00100)
	maxChain   = 8
)

// chain reads the authorities above the certificates of endorsement keys.
func (m *TPM) chain() (out [][]byte, err error) {
	var all []byte
	for i := range maxChain {
		b, err := m.readIndex(chainIndex + tpm2.Handle(i))
		if err != nil {
			return nil, err
		}
		if b == nil {
			break
		}
		all = append(all, b...)
	}
	for len(all) > 0 && len(out) < maxChain {
		var der asn1.RawValue
		rest, err := asn1.Unmarshal(all, &der)
		if err != nil {
			break // what fills the index
		}
		out, all = append(out, der.FullBytes), rest
	}
	return out, nil
}

// preferred are the templates of endorsement keys in the order in which the agent
// looks for a certificate: keys that a TPM makes fast come first.
var preferred = []string{"L-2", "H-3", "H-2", "L-1", "H-1", "H-6"}

// endorsement returns the endorsement key to enrol with: that of a template, or the
// first that has a certificate.
func (m *TPM) endorsement(template string) (name string, public, cert []byte, err error) {
	if template == "" {
		template = preferred[0]
		for _, name := range preferred {
			t, err := ekTemplate(name)
			if err != nil {
				return "", nil, nil, err
			}
			found, err := m.readIndex(tpm2.Handle(t.NVCert))
			if err != nil {
				return "", nil, nil, err
			}
			if len(found) > 0 {
				template = name
				break
			}
		}
	}
	public, cert, err = m.EndorsementKey(template)
	return template, public, cert, err
}

func (p Process) enrolCmd() *cobra.Command {
	var server serverFlags
	var key keyFlags
	var e Enrolment
	var template string
	cmd := &cobra.Command{
		Use: "enrol", Short: "Prove to the service that the attestation key is in this machine's TPM, by credential activation", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.client(server)
			if err != nil {
				return err
			}
			t, err := p.openTPM(&key)
			if err != nil {
				return err
			}
			record, err := enrol(cmd.Context(), c, t, e, template)
			if err := errors.Join(err, t.Close()); err != nil {
				return err
			}
			return p.print(record)
		},
	}
	server.add(cmd)
	key.add(cmd)
	cmd.Flags().StringVar(&e.Machine, "machine", "", "what the service is to call this machine")
	cmd.Flags().StringVar(&e.Baseline, "baseline", "", "reference value that its boots are compared with")
	cmd.Flags().BoolVar(&e.TrustEK, "trust-ek", false, "have the service take the endorsement key on your word when it has no certificate")
	cmd.Flags().StringVar(&template, "ek", "", "template of the endorsement key (L-1, L-2, H-1, …); the first with a certificate when empty")
	_ = cmd.MarkFlagRequired("machine")
	return cmd
}

func enrol(ctx context.Context, c *Client, t *TPM, e Enrolment, template string) (json.RawMessage, error) {
	template, public, cert, err := t.endorsement(template)
	if err != nil {
		return nil, err
	}
	e.AKPublic, e.EKPublic, e.EKCert = t.AKPublic(), public, cert
	if cert != nil {
		if e.Chain, err = t.chain(); err != nil {
			return nil, err
		}
	}
	credential, err := c.BeginEnrolment(ctx, e)
	if err != nil {
		return nil, err
	}
	secret, err := t.Activate(template, credential.CredentialBlob, credential.EncryptedSecret)
	if err != nil {
		return nil, err
	}
	return c.FinishEnrolment(ctx, credential.ID, secret)
}

func (p Process) runCmd() *cobra.Command {
	var server serverFlags
	var key keyFlags
	r := renewal{}
	cmd := &cobra.Command{
		Use: "run", Short: "Attest now and again and again, until stopped; print each decision as a line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.interval < minInterval {
				return fmt.Errorf("--interval %s is less than %s", r.interval, minInterval)
			}
			if _, err := key.config(); err != nil {
				return err
			}
			c, err := p.client(server)
			if err != nil {
				return err
			}
			r.client, r.open = c, func() (*TPM, error) { return p.openTPM(&key) }
			return p.renew(cmd.Context(), &r)
		},
	}
	server.add(cmd)
	key.add(cmd)
	f := cmd.Flags()
	f.StringVar(&r.policy, "policy", "", "policy to be appraised under; the service's default when empty")
	f.DurationVar(&r.interval, "interval", 15*time.Minute, "from one attestation to the next")
	f.BoolVar(&r.ima, "ima", false, "send the kernel's list of runtime measurements")
	f.StringVar(&r.tokenOut, "token-out", "", "file for the token of the newest trusted result; emptied when the machine is refused")
	return cmd
}

// minInterval keeps a mistyped interval from being an attack on the service.
const minInterval = 10 * time.Second

// A renewal attests for ever.
type renewal struct {
	client   *Client
	open     func() (*TPM, error)
	policy   string
	interval time.Duration
	ima      bool
	tokenOut string
}

// renew attests at once and then each interval. What cannot be done is tried again
// sooner: after 5 seconds, then twice as long each time, up to the interval.
func (p Process) renew(ctx context.Context, r *renewal) error {
	const first = 5 * time.Second
	pause := first
	for {
		wait := r.interval
		d, err := r.attest(ctx, p)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			fmt.Fprintf(p.Stderr, "assay-agent: %v; trying again in %s\n", err, pause)
			wait, pause = p.spread(pause), min(2*pause, r.interval)
		default:
			pause = first
			if err := p.decided(r, d); err != nil {
				return err
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// spread keeps agents that lost the service together from coming back together.
func (p Process) spread(d time.Duration) time.Duration {
	var b [1]byte
	if _, err := io.ReadFull(p.Machine.Random, b[:]); err != nil {
		return d
	}
	return d - d/4*time.Duration(b[0])/256
}

func (r *renewal) attest(ctx context.Context, p Process) (d Decision, err error) {
	ch, err := r.client.NewChallenge(ctx, r.policy)
	if err != nil {
		return d, err
	}
	t, err := r.open()
	if err != nil {
		return d, err
	}
	b, err := t.Evidence(p.Root, ch.Nonce, r.ima)
	if err := errors.Join(err, t.Close()); err != nil {
		return d, err
	}
	return r.client.Attest(ctx, ch, b)
}

// decided prints a decision, and keeps its token.
func (p Process) decided(r *renewal, d Decision) error {
	if r.tokenOut != "" {
		if err := p.WriteFile(r.tokenOut, []byte(d.Token), 0o600); err != nil {
			return err
		}
	}
	line, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s\n", line)
	return err
}
