package cli

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/collateral"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/policy"
)

// appraiseFlags are the flags of assay appraise as typed.
type appraiseFlags struct {
	trustAK, trustCA, collateral         []string
	nonce, baseline, profile, policy, at string
}

func newAppraiseCmd(env *program.Env) *cobra.Command {
	var f appraiseFlags
	cmd := &cobra.Command{
		Use:   "appraise BUNDLE.json",
		Short: "Appraise an evidence bundle offline",
		Long: "Appraise an evidence bundle offline: is the evidence genuine, fresh and of a trusted machine, and did it boot as it should?\n" +
			"BUNDLE.json is described in docs/formats/evidence-bundle.md; - reads standard input.\n" +
			"Nothing is trusted but what the flags name. Exit status: 0 trusted, 1 refused, 2 unusable.",
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.trustAK, "trust-ak", nil, "trust this attestation key: file with a TPMT_PUBLIC, or PEM (repeatable)")
	flags.StringArrayVar(&f.trustCA, "trust-ca", nil, "trust this CA for attestation and endorsement key certificates: PEM file (repeatable)")
	flags.StringVar(&f.nonce, "nonce", "", "nonce, in hex, that the evidence must answer; without it freshness is not checked")
	flags.StringVar(&f.baseline, "baseline", "", "the boot must match this baseline file, or the boot of this bundle")
	flags.StringVar(&f.profile, "profile", "", fmt.Sprintf("what of the baseline decides, one of %v", baseline.ProfileNames()))
	flags.StringVar(&f.policy, "policy", "", "policy file that decides instead of the strict default")
	flags.StringArrayVar(&f.collateral, "collateral", nil, "root certificates with vendor and usage: PEM bundle (repeatable)")
	flags.StringVar(&f.at, "at", "", "time of the appraisal in RFC 3339 form; without it, now")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := appraise(env, &f, cmd.Flags().Changed("nonce"), args[0])
		if err != nil {
			return program.Unusable(newUnusableResult(), err)
		}
		if err := printAppraisal(env, *format, &a.Result); err != nil {
			return err
		}
		switch a.Verdict {
		case evidence.Trusted:
			return nil
		case evidence.Unusable:
			return program.Exit(program.StatusUnusable)
		default:
			return program.Refused()
		}
	}
	return cmd
}

// unusableResult is what -o json prints when the command line or a file that it
// names cannot be used, so that nothing was appraised.
type unusableResult struct {
	evidence.Result
	program.Outcome
}

func newUnusableResult() *unusableResult {
	r := &unusableResult{Result: evidence.NewResult("", nil)}
	r.Verdict = evidence.Unusable
	return r
}

// appraise reads all that the flags name, then the bundle, and judges it. An
// error is one of the command line or its files, not of the evidence.
func appraise(env *program.Env, f *appraiseFlags, fresh bool, name string) (*tpm.Appraisal, error) {
	o, notes, err := f.options(env)
	if err != nil {
		return nil, err
	}
	if fresh && len(o.Nonce) == 0 {
		return nil, errors.New("--nonce is empty")
	}
	text, err := readBounded(env, name, evidence.MaxBundle)
	if err != nil {
		return tpm.Unusable("", evidence.Refuse("bundle.unreadable", "%v", err)), nil
	}
	if b, err := evidence.ParseBundle(text); err == nil {
		// A CA named for the attestation key's certificate need not be that of
		// the TPM's maker: the other certificate must then not fail under it.
		if _, certified := b.Member("akCert"); certified && len(f.collateral) == 0 {
			o.EKRoots = nil
		}
	}
	a := tpm.AppraiseBundle(text, o)
	a.NotChecked = append(a.NotChecked, notes...)
	return a, nil
}

// options turns the flags into what the verifier takes, and notes on what that leaves open.
func (f *appraiseFlags) options(env *program.Env) (o tpm.Options, notes []string, err error) {
	if o.Nonce, err = hex.DecodeString(f.nonce); err != nil {
		return o, nil, fmt.Errorf("--nonce is not hexadecimal: %q", f.nonce)
	}
	if o.At, err = f.time(env); err != nil {
		return o, nil, err
	}
	for _, name := range f.trustAK {
		key, err := readKey(env, name)
		if err != nil {
			return o, nil, err
		}
		o.Keys = append(o.Keys, key)
	}
	if notes, err = f.roots(env, &o); err != nil {
		return o, nil, err
	}
	if o.Profile, err = baseline.ProfileNamed(f.profile); err != nil {
		return o, nil, fmt.Errorf("--profile: %w", err)
	}
	if f.baseline != "" {
		if o.Baseline, err = readBaseline(env, f.baseline); err != nil {
			return o, nil, err
		}
	}
	if f.policy != "" {
		o.Policy, err = readPolicy(env, f.policy)
	}
	return o, notes, err
}

func (f *appraiseFlags) time(env *program.Env) (time.Time, error) {
	if f.at == "" {
		return env.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, f.at)
	if err != nil {
		return t, fmt.Errorf("--at is not a time in RFC 3339 form: %q", f.at)
	}
	return t, nil
}

// Sizes of the files that the operator names; beyond them it is another file.
const (
	maxKeyFile      = 64 << 10
	maxBaselineFile = 16 << 20
	maxPolicyFile   = 1 << 20
)

func readKey(env *program.Env, name string) (*tpm.Key, error) {
	b, err := readBounded(env, name, maxKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := tpm.ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("trust key of %q: %w", name, err)
	}
	return key, nil
}

// roots fills in the CAs: those of --trust-ca for both kinds of certificate,
// those of --collateral for the one that the bundle says.
func (f *appraiseFlags) roots(env *program.Env, o *tpm.Options) (notes []string, err error) {
	store := new(collateral.Store)
	for _, name := range f.collateral {
		b, err := readBounded(env, name, collateral.MaxSize)
		if err != nil {
			return nil, err
		}
		s, err := collateral.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("read collateral of %q: %w", name, err)
		}
		store = store.Join(s)
		notes = append(notes, fmt.Sprintf("how current %s is: %s", name, s.Age(o.At)))
	}
	o.AKRoots, o.EKRoots = store.Pool(collateral.AKCA), store.Pool(collateral.EKCA)
	for _, name := range f.trustCA {
		b, err := readBounded(env, name, maxKeyFile)
		if err != nil {
			return nil, err
		}
		if err := addCAs(o, b); err != nil {
			return nil, fmt.Errorf("trust CA of %q: %w", name, err)
		}
	}
	return notes, nil
}

func addCAs(o *tpm.Options, text []byte) error {
	n := 0
	for ; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("PEM block is %q, want a certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		for _, pool := range []**x509.CertPool{&o.AKRoots, &o.EKRoots} {
			if *pool == nil {
				*pool = x509.NewCertPool()
			}
			(*pool).AddCert(cert)
		}
	}
	if n == 0 {
		return errors.New("there is no PEM certificate")
	}
	return nil
}

// readBaseline reads a baseline file, or makes a baseline of a bundle.
func readBaseline(env *program.Env, name string) (*baseline.Baseline, error) {
	b, err := readBounded(env, name, maxBaselineFile)
	if err != nil {
		return nil, err
	}
	bundle, err := evidence.ParseBundle(b)
	if err != nil {
		base, err := baseline.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("read baseline of %q: %w", name, err)
		}
		return base, nil
	}
	e, err := tpm.Parse(bundle)
	if err != nil {
		return nil, fmt.Errorf("read baseline of %q: %w", name, err)
	}
	base, err := tpm.BaselineOf(e, baseline.Shape{})
	if err != nil {
		return nil, fmt.Errorf("read baseline of %q: %w", name, err)
	}
	return base, nil
}

func readPolicy(env *program.Env, name string) (*policy.Policy, error) {
	b, err := readBounded(env, name, maxPolicyFile)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(string(b), policy.Strict)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", name, err)
	}
	return p, nil
}

// readBounded reads a file of at most limit bytes; - is standard input.
func readBounded(env *program.Env, name string, limit int64) ([]byte, error) {
	r := env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if int64(buf.Len()) > limit {
		return nil, fmt.Errorf("read %q: more than %d bytes", name, limit)
	}
	return buf.Bytes(), nil
}
