package vtpmcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// vtpmIdentities are the subcommands of assay vtpm about who a TPM is.
func vtpmIdentities(env *program.Env) []*cobra.Command {
	ek := &cobra.Command{Use: "ek", Short: "Endorsement keys of a TPM, and their certificates"}
	ek.AddCommand(newEKShowCmd(env), newEKRequestCmd(env), newEKInstallCmd(env))
	return []*cobra.Command{ek, newVTPMIdentityCmd(env), newVTPMCACmd(env)}
}

func newVTPMIdentityCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "identity NAME",
		Short: "Tell by what an outsider knows a TPM: keys, certificates, chain",
		Long: `Tell by what an outsider knows a TPM: its endorsement and device keys, their
certificates, the chain and the platform certificate. -o json gives them in forms
that openssl reads: docs/vtpm-identity.md verifies them offline.

The keys are derived from the TPM's seed, whatever its guest put in their place.`,
		Args: cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbIdentity)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		return v.run(cmd, showIdentity)
	}
	return cmd
}

func newEKShowCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "List the endorsement and device keys of a TPM", Args: cobra.ExactArgs(1)}
	v := newVTPMVerb(env, cmd, vtpm.VerbIdentity)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		return v.run(cmd, showIdentity)
	}
	return cmd
}

func showIdentity(w io.Writer, result json.RawMessage) error {
	var id vtpm.Identity
	if err := json.Unmarshal(result, &id); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tHANDLE\tNV INDEX\tCERTIFICATE\tISSUER")
	for _, k := range id.Keys {
		cert := "none"
		switch {
		case k.Problem != "":
			cert = "not for this key: " + k.Problem
		case k.Certificate != "":
			cert = k.Serial
		}
		handle := k.Handle
		if !k.Persistent {
			handle = "not at " + k.Handle
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.Kind, handle, k.Index, cert, dash(k.Issuer))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	platform := "no platform certificate"
	if id.Platform != "" {
		platform = "a platform certificate"
		if !id.PlatformMatches {
			platform += " that names none of them"
		}
	}
	_, err := fmt.Fprintf(w, "%s %s: TPM %s %s, %d authorities in NV, %s\n", id.Name, id.ID, id.Device.Manufacturer, id.Device.Model, len(id.Chain), platform)
	return err
}

// endorsementKinds names the keys that are endorsement keys.
func endorsementKinds() string {
	var names []string
	for _, k := range ekca.Kinds() {
		if k.Endorsement() {
			names = append(names, string(k))
		}
	}
	return strings.Join(names, ", ")
}

func newEKRequestCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "csr NAME",
		Short: "Make a certification request for an endorsement key",
		Long: `Make a certification request (PKCS #10) for an endorsement key, to be certified by
an authority of your own. "assay vtpm ek install" takes the certificate; the TPM
never calls the authority.

The request is signed by the endorsement key itself. A TPM gives no such signature,
but the owner of its state may, for this one purpose: see docs/vtpm-identity.md.`,
		Args: cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbRequest)
	f := cmd.Flags()
	f.StringVar(&v.q.Kind, "key", string(ekca.RSA2048), "`KEY`, one of "+endorsementKinds())
	var out string
	f.StringVar(&out, "out", "", "`FILE` for the request (default standard output)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		return v.run(cmd, func(w io.Writer, result json.RawMessage) error {
			var r vtpm.CertificateRequest
			if err := json.Unmarshal(result, &r); err != nil {
				return err
			}
			if out != "" {
				return os.WriteFile(out, []byte(r.PEM), 0o644)
			}
			_, err := io.WriteString(w, r.PEM)
			return err
		})
	}
	return cmd
}

// maxCertificates bounds a file of certificates in bytes.
const maxCertificates = 48 << 10

func newEKInstallCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install NAME FILE",
		Short: "Put a certificate by your own authority into a TPM",
		Long: `Put a certificate by your own authority into a TPM that is off. FILE has it in PEM,
first, and the authorities above it after it. It goes to the endorsement key that
it is for; one for another key, one that is expired, one that says something else
of its key, or a chain that does not hold is refused with exit status 1, and the
TPM stays as it was.`,
		Args: cobra.ExactArgs(2),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbInstall)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := readFile(args[1], maxCertificates)
		if err != nil {
			return err
		}
		bundle, err := ekca.ParseBundle(text)
		if err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
		v.q.Name = args[0]
		for _, c := range bundle { // DER would not pass through JSON
			v.q.Certificate += string(pemCertificate(c.Raw))
		}
		return v.run(cmd, showInstalled)
	}
	return cmd
}

func showInstalled(w io.Writer, result json.RawMessage) error {
	var i vtpm.InstalledCertificate
	if err := json.Unmarshal(result, &i); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: certificate of %s at %s, %d authorities above it\n", i.Name, i.Kind, i.Index, i.Chain)
	for _, n := range i.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	return nil
}

// refusedCertificate reports whether a certificate was judged, and is not one for
// the TPM.
func refusedCertificate(err error) bool {
	for _, kind := range []error{ekca.ErrOtherKey, ekca.ErrUsage, ekca.ErrExpired, ekca.ErrChain} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// readFile reads a file of at most limit bytes.
func readFile(name string, limit int) ([]byte, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, err
}
