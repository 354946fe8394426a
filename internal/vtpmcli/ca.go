package vtpmcli

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

func newVTPMCACmd(env *program.Env) *cobra.Command {
	group := &cobra.Command{Use: "ca", Short: "The certificate authority of TPMs made here"}
	group.AddCommand(
		newCAInitCmd(env), newCANextCmd(env), newCAShowCmd(env), newCAListCmd(env), newCARevokeCmd(env), newCAExportCmd(env), newCAServeCmd(env))
	return group
}

// caInit are the flags of assay vtpm ca init.
type caInit struct {
	o             ekca.AuthorityOptions
	program       []string
	issuing, root string
}

func newCAInitCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the authority: a root, and an authority below it that certifies TPMs",
		Long: `Make the certificate authority of a root of TPMs: from then on TPMs are made with
certificates. Its private keys are sealed by the key provider. The root's is used
once; "assay vtpm ca export-root" takes it off this machine.

With --issuing-cert, --root-cert and --signer the issuing key stays where it is, as
in an HSM: PROGRAM signs. With --program another program issues in all: see
docs/vtpm-identity.md for both.`,
		Args: cobra.NoArgs,
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	c := &caInit{}
	f := cmd.Flags()
	f.StringVar(&c.o.Name, "name", "Assay vTPM", "`NAME` of the authority, at most 40 bytes")
	f.StringVar(&c.o.URL, "url", "", "`URL` where its certificates and revocation lists will be served; goes into certificates")
	f.StringVar(&c.o.CPS, "cps", "", "`URL` of its practice statement")
	addProviderFlag(cmd, &c.o.Provider)
	f.StringVar(&c.issuing, "issuing-cert", "", "`FILE` with the certificate of an issuing key that is elsewhere")
	f.StringVar(&c.root, "root-cert", "", "`FILE` with the root above it")
	f.StringArrayVar(&c.o.SignerCommand, "signer", nil, "`PROGRAM` that signs by that key, then its arguments (repeatable)")
	f.StringArrayVar(&c.program, "program", nil, "`PROGRAM` that issues in place of the built-in authority, then its arguments (repeatable)")
	cmd.MarkFlagsRequiredTogether("issuing-cert", "root-cert", "signer")
	cmd.MarkFlagsMutuallyExclusive("issuing-cert", "program")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), env, root, *format) }
	return cmd
}

func (c *caInit) run(ctx context.Context, env *program.Env, root *rootFlags, format program.OutputFormat) error {
	if len(c.program) > 0 {
		dir, err := root.path(env)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return ekca.WriteProgram(filepath.Join(dir, authorityDir), c.program)
	}
	for file, to := range map[string]**x509.Certificate{c.issuing: &c.o.IssuingCert, c.root: &c.o.RootCert} {
		if file == "" {
			continue
		}
		cert, err := readCertificate(file)
		if err != nil {
			return err
		}
		*to = cert
	}
	a, err := root.makeAuthority(ctx, env, c.o)
	if err != nil {
		return err
	}
	return showAuthority(env, a, format)
}

func readCertificate(name string) (*x509.Certificate, error) {
	text, err := readFile(name, maxCertificates)
	if err != nil {
		return nil, err
	}
	certs, err := ekca.ParseBundle(text)
	if err == nil && len(certs) != 1 {
		err = fmt.Errorf("%d certificates, want one", len(certs))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return certs[0], nil
}

func pemCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// An authorityView is what -o json prints of an authority.
type authorityView struct {
	ekca.Info
	Root        string     `json:"rootCertificate"` // PEM
	RootSHA256  string     `json:"rootSha256"`
	RootKeyHere bool       `json:"rootKeyHere"`
	Issuing     string     `json:"issuingCertificate"`
	Older       []string   `json:"olderIssuingCertificates"` // newest first
	Platform    string     `json:"platformCertificate"`
	Issued      int        `json:"issued"`
	Revoked     int        `json:"revoked"`
	Lists       []listView `json:"lists"`
}

type listView struct {
	Of      string    `json:"of"`
	Number  string    `json:"number"`
	Revoked int       `json:"revoked"`
	Updated time.Time `json:"updated"`
	Next    time.Time `json:"nextUpdate"`
}

func viewAuthority(a *ekca.Authority) (*authorityView, error) {
	root, issuing, platform := a.Certificates()
	sum := sha256.Sum256(root.Raw)
	v := &authorityView{
		Info: a.Info(), Root: string(pemCertificate(root.Raw)), RootSHA256: hex.EncodeToString(sum[:]), RootKeyHere: a.HasRoot(),
		Issuing: string(pemCertificate(issuing.Raw)), Platform: string(pemCertificate(platform.Raw)),
	}
	v.Older = []string{}
	for _, c := range a.Older() {
		v.Older = append(v.Older, string(pemCertificate(c.Raw)))
	}
	all, err := a.Issued("")
	if err != nil {
		return nil, err
	}
	v.Issued = len(all)
	for i := range all {
		if all[i].Revoked != nil {
			v.Revoked++
		}
	}
	for _, of := range a.Lists() {
		list, err := a.List(of)
		if errors.Is(err, os.ErrNotExist) {
			continue // a foreign root publishes its own
		}
		if err != nil {
			return nil, err
		}
		v.Lists = append(v.Lists, listView{of, list.Number.String(), len(list.RevokedCertificateEntries), list.ThisUpdate, list.NextUpdate})
	}
	return v, nil
}

func showAuthority(env *program.Env, a *ekca.Authority, format program.OutputFormat) error {
	v, err := viewAuthority(a)
	if err != nil {
		return err
	}
	if format == "json" {
		return program.PrintJSON(env, v)
	}
	_, issuing, _ := a.Certificates()
	rootKey := "not on this machine: \"assay vtpm ca next\" asks for its file"
	switch {
	case v.RootKeyHere:
		rootKey = "on this machine, sealed: export it with \"assay vtpm ca export-root\""
	case v.Foreign:
		rootKey = "with its owner, as the issuing key is"
	}
	t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "name\t%s\nid\t%s\nurl\t%s\nkey provider\t%s\npolicy\t%s\nroot SHA-256\t%s\nroot key\t%s\nissuing authority\tnumber %d, until %s\ncertificates\t%d issued, %d revoked\n",
		v.Name, v.ID, dash(v.URL), dash(v.Provider), v.Policy, v.RootSHA256, rootKey, v.Generation, issuing.NotAfter.Format(time.DateOnly), v.Issued, v.Revoked)
	for _, l := range v.Lists {
		late := ""
		if env.Now().After(l.Next) {
			late = ", LATE: run \"assay vtpm ca crl\""
		}
		fmt.Fprintf(t, "list of %s\tnumber %s, %d revoked, next by %s%s\n", l.Of, l.Number, l.Revoked, l.Next.Format(time.RFC3339), late)
	}
	return t.Flush()
}

func newCANextCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "next",
		Short: "Give the authority a new issuing key below its root, as long before the old one ends",
		Long: `Make the next issuing authority below the root, and the next key for platform
certificates: from then on they certify. What the ones before certified stays good;
their keys stay sealed here and sign their revocation lists on, so that
"assay vtpm ca revoke" reaches every certificate. Verifiers trust the root and need
nothing new but chain.pem. A daemon that runs takes the new one up by itself.

The root's key signs once: the one in the folder, or, when "assay vtpm ca export-root"
took it off this machine, the file that it wrote.`,
		Args: cobra.NoArgs,
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	var rootKey string
	var keys program.KeySource
	cmd.Flags().StringVar(&rootKey, "root-key", "", "`FILE` with the root's private key, as export-root --key-out wrote it")
	cmd.Flags().StringVar(&keys.Passphrase, "passphrase-file", "", "`FILE` whose first line opens it")
	cmd.MarkFlagsRequiredTogether("root-key", "passphrase-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := root.nextAuthority(cmd.Context(), env, rootKey, keys)
		if errors.Is(err, ekca.ErrNoKey) {
			return program.RefusedBy(fmt.Errorf("%w; give the file of the root's key by --root-key", err))
		}
		if err != nil {
			return err
		}
		return showAuthority(env, a, *format)
	}
	return cmd
}

func newCAShowCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show", Short: "Tell about the authority; its keys are not needed", Args: cobra.NoArgs}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := root.publicAuthority(cmd.Context(), env)
		if err != nil {
			return err
		}
		return showAuthority(env, a, *format)
	}
	return cmd
}

func newCAListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crl",
		Short: "Sign and publish new revocation lists",
		Long: `Sign and publish new revocation lists in the folder ca/public of the root. Each
is good for a week, so run this daily, or let "assay vtpm ca serve" do it.`,
		Args: cobra.NoArgs,
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := root.authority(cmd.Context(), env)
		if err != nil {
			return err
		}
		if err := a.UpdateLists(cmd.Context()); err != nil {
			return err
		}
		return showAuthority(env, a, *format)
	}
	return cmd
}

func newCARevokeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke [SERIAL]",
		Short: "Revoke a certificate, or all of one TPM, and publish new lists",
		Args:  cobra.MaximumNArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	var tpm, reason string
	f := cmd.Flags()
	f.StringVar(&tpm, "tpm", "", "`UUID` of the TPM whose certificates are revoked")
	f.StringVar(&reason, "reason", string(ekca.Unspecified), fmt.Sprintf("`REASON`, one of %v", ekca.Reasons()))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == (tpm != "") {
			return errors.New("name a serial number, or a TPM by --tpm")
		}
		a, err := root.authority(cmd.Context(), env)
		if err != nil {
			return err
		}
		if tpm == "" {
			err = a.Revoke(cmd.Context(), args[0], ekca.Reason(reason))
		} else {
			var n int
			if n, err = a.RevokeTPM(cmd.Context(), tpm, ekca.Reason(reason)); err == nil && n == 0 {
				err = fmt.Errorf("TPM %s: %w", tpm, ekca.ErrNotIssued)
			}
		}
		if errors.Is(err, ekca.ErrNotIssued) {
			return program.RefusedBy(err)
		}
		if err != nil {
			return err
		}
		return showAuthority(env, a, *format)
	}
	return cmd
}

// caExport are the flags of assay vtpm ca export-root.
type caExport struct {
	out, keyOut string
	keys        program.KeySource
	remove      bool
}

func newCAExportCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export-root",
		Short: "Write the root's certificate, and take its private key off this machine",
		Long: `Write the root's certificate, which verifiers of TPMs trust. With --key-out also its
private key, encrypted under a passphrase as PKCS #8, which openssl reads; --remove
then removes it here, after the file was read back. TPMs are certified without it.`,
		Args: cobra.NoArgs,
	}
	root := addRootFlag(cmd)
	c := &caExport{}
	f := cmd.Flags()
	f.StringVar(&c.out, "out", "", "`FILE` for the certificate (default standard output)")
	f.StringVar(&c.keyOut, "key-out", "", "`FILE` for the private key; it must not exist")
	f.StringVar(&c.keys.Passphrase, "passphrase-file", "", "`FILE` whose first line encrypts it, at least 12 bytes")
	f.BoolVar(&c.remove, "remove", false, "remove the private key from this machine")
	cmd.MarkFlagsRequiredTogether("key-out", "passphrase-file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), env, root) }
	return cmd
}

func (c *caExport) run(ctx context.Context, env *program.Env, f *rootFlags) error {
	if c.remove && c.keyOut == "" {
		return errors.New("--remove without --key-out would lose the root's key")
	}
	a, err := f.publicAuthority(ctx, env)
	if err != nil {
		return err
	}
	root, _, _ := a.Certificates()
	if c.keyOut != "" {
		if err := c.exportKey(ctx, env, f); err != nil {
			return err
		}
	}
	text := pemCertificate(root.Raw)
	if c.out != "" {
		return durable.WriteFile(c.out, text, 0o644)
	}
	_, err = env.Stdout.Write(text)
	return err
}

// exportKey writes the key, and removes it here once it was read back.
func (c *caExport) exportKey(ctx context.Context, env *program.Env, f *rootFlags) error {
	passphrase, err := c.keys.Phrase()
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	a, err := f.authority(ctx, env)
	if err != nil {
		return err
	}
	cfg, err := f.config(env)
	if err != nil {
		return err
	}
	p, err := cfg.Provider(ctx, a.Info().Provider)
	if err != nil {
		return err
	}
	text, err := a.ExportRoot(ctx, p, passphrase)
	if err = errors.Join(err, p.Close()); err != nil {
		return err
	}
	if err := durable.CreateFile(c.keyOut, text, 0o600); err != nil {
		return err
	}
	if !c.remove {
		return nil
	}
	back, err := readFile(c.keyOut, maxCertificates)
	if err != nil {
		return err
	}
	return a.RemoveRoot(back, passphrase)
}

func newCAServeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the authority's certificates and revocation lists over HTTP",
		Long: `Serve the authority's certificates and revocation lists over HTTP, at the paths of
the URL that it was made with, until SIGTERM or SIGINT. All of it is public and
signed. With --renew new lists are signed before the old ones end, which needs the
key provider. Any web server may serve the folder ca/public instead.`,
		Args: cobra.NoArgs,
	}
	root := addRootFlag(cmd)
	var listen string
	var renew bool
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8090", "`HOST:PORT`, a loopback address; put a web server before it")
	cmd.Flags().BoolVar(&renew, "renew", false, "sign new lists each day")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return serveCA(ctx, env, root, listen, renew) })
	}
	return cmd
}

// renewEvery is how often a serving authority signs new lists: a week's lists are
// never older than a day.
const renewEvery = 24 * time.Hour

func serveCA(ctx context.Context, env *program.Env, root *rootFlags, addr string, renew bool) error {
	if err := program.MustBeLoopback("--listen", addr); err != nil {
		return err
	}
	a, err := root.publicAuthority(ctx, env)
	if renew && err == nil {
		a, err = root.authority(ctx, env)
	}
	if err != nil {
		return err
	}
	l, err := listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // Serve tells
	defer stop()
	if _, err := fmt.Fprintf(env.Stdout, "serving http://%s\n", l.Addr()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer func() { cancel(); renewing.Wait() }()
	if renew {
		renewing.Go(func() { renewLists(ctx, env, root, a) })
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// renewLists signs new lists now and each day until ctx ends. A failure is told,
// and tried again: lists are good for six days more.
func renewLists(ctx context.Context, env *program.Env, root *rootFlags, a *ekca.Authority) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		err := a.UpdateLists(ctx)
		if errors.Is(err, ekca.ErrStale) {
			var next *ekca.Authority
			if next, err = root.authority(ctx, env); err == nil {
				a = next
				err = a.UpdateLists(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			io.WriteString(env.Stderr, "assay: sign revocation lists: "+err.Error()+"\n") //nolint:errcheck // nowhere to tell
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
