package vtpmcli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

// A keysetMaking is what assay keyset create is told.
type keysetMaking struct {
	root     *rootFlags
	kind     string
	given    map[sigdb.Role]*[]string
	without  bool
	provider string
}

func newKeysetCreateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME --kind KIND",
		Short: "Make a key set",
		Long: `Make a key set. Keys that are not given are made, RSA of 2048 bits, and sealed by the
key provider; of those that are given only the certificate is known here, and whoever
holds the key signs the updates.

ENTRY is a file with certificates (PEM or DER) or signature lists (.esl), or a digest
of an image as sha256:HEX. Entries of --kek, --db and --dbx are added to Microsoft's.`,
		Args: cobra.ExactArgs(1),
	}
	m := &keysetMaking{root: addRootFlag(cmd), given: map[sigdb.Role]*[]string{}}
	f := cmd.Flags()
	f.StringVar(&m.kind, "kind", "", "`KIND`: microsoft, microsoft+own, own or setup-mode")
	for _, r := range sigdb.Roles() {
		m.given[r] = f.StringArray(strings.ToLower(r.String()), nil, "`ENTRY` of "+r.String()+" (repeatable)")
	}
	f.BoolVar(&m.without, "without-revocations", false, "leave Microsoft's dbx out, as 2 MB builds of OVMF have no room for it")
	addProviderFlag(cmd, &m.provider)
	cmd.MarkFlagRequired("kind") //nolint:errcheck // the flag is there
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := m.make(cmd.Context(), env, args[0])
		if err != nil {
			return err
		}
		v := viewKeyset(s, env.Now())
		if *format == "json" {
			return program.PrintJSON(env, v)
		}
		return v.print(env.Stdout)
	}
	return cmd
}

func (m *keysetMaking) make(ctx context.Context, env *program.Env, name string) (*keysets.Stored, error) {
	o := keyset.Options{
		Kind: keyset.Kind(m.kind), Random: env.Rand, Now: env.Now(), WithoutRevocations: m.without,
		Given: map[sigdb.Role][]sigdb.Signature{},
	}
	for r, files := range m.given {
		for _, f := range *files {
			entries, err := readEntries(f)
			if err != nil {
				return nil, err
			}
			o.Given[r] = append(o.Given[r], entries...)
		}
	}
	root, err := m.root.keysets(env)
	if err != nil {
		return nil, err
	}
	if _, err := root.Load(name); err == nil { // before keys are made
		return nil, program.RefusedBy(fmt.Errorf("%q: %w", name, keysets.ErrExists))
	}
	set, keys, err := keyset.New(name, o)
	if err != nil {
		return nil, err
	}
	s, err := m.root.sealKeyset(ctx, env, set, keys, m.provider)
	if err != nil {
		return nil, err
	}
	return s, root.Create(s)
}

// sealKeyset seals private keys by a provider, which is not asked when there are none.
func (f *rootFlags) sealKeyset(ctx context.Context, env *program.Env, set *keyset.Set, keys keyset.Keys, spec string) (_ *keysets.Stored, err error) {
	if len(keys) == 0 {
		return keysets.Seal(ctx, set, keys, "", nil, env.Rand)
	}
	if spec, err = absoluteSpec(spec); err != nil {
		return nil, err
	}
	p, err := f.openProvider(ctx, env, spec)
	if err != nil {
		return nil, fmt.Errorf("which key provider seals the private keys? %w", err)
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if spec = p.Name(); spec == "" {
		spec = p.Spec().String()
	}
	s, err := keysets.Seal(ctx, set, keys, spec, p, env.Rand)
	if err != nil {
		return nil, providerFault(err)
	}
	return s, nil
}

// maxEntries bounds a file of certificates or signature lists.
const maxEntries = 1 << 20

// readEntries reads what stands for entries on the command line.
func readEntries(arg string) ([]sigdb.Signature, error) {
	if digest, ok := strings.CutPrefix(arg, "sha256:"); ok {
		b, err := hex.DecodeString(digest)
		if err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("%q is no SHA-256 digest", digest)
		}
		return []sigdb.Signature{{Type: sigdb.SHA256, Data: b}}, nil
	}
	b, err := readFile(arg, maxEntries)
	if err != nil {
		return nil, err
	}
	var out []sigdb.Signature
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			out = append(out, sigdb.Signature{Type: sigdb.X509, Data: block.Bytes})
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if c, err := cms.ParseCertificate(b); err == nil && bytes.Equal(c.Raw, b) {
		return []sigdb.Signature{{Type: sigdb.X509, Data: b}}, nil
	}
	d, err := sigdb.Parse(b)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s holds neither certificates nor signature lists", arg)
	}
	return slices.Collect(d.All()), nil
}

// keysetRolled is the JSON of assay keyset roll.
type keysetRolled struct {
	keysetView
	Role   string `json:"role"`
	Append bool   `json:"append"` // the update is to be written to add
	Update string `json:"update"` // the file that was written, or ""
}

func newKeysetRollCmd(env *program.Env, changed KeysetWatcher) *cobra.Command {
	var role, update string
	var retire bool
	cmd := &cobra.Command{
		Use:   "roll NAME --role pk|kek|db",
		Short: "Put a new key in the place of one of the set's own",
		Long: `Make a new platform key, key exchange key or image signing key. A new image signing
key stands beside the old one, so that what that signed goes on starting; when all is
signed anew, --retire removes the old ones.

--update FILE gets the authenticated write that takes a running machine to the new
key: the guest's efi-updatevar or fwupd writes it. Machines that are off get it by
assay keyset enrol, or assay keyset update --vars.`,
		Args: cobra.ExactArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&role, "role", "", "`ROLE`: pk, kek or db")
	cmd.Flags().BoolVar(&retire, "retire", false, "remove the older image signing keys; make none")
	cmd.Flags().StringVar(&update, "update", "", "`FILE` for the authenticated write")
	cmd.MarkFlagRequired("role") //nolint:errcheck // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := parseRole(role)
		if err != nil {
			return err
		}
		if retire && r != sigdb.DB {
			return errors.New("--retire is for --role db: the others have one key of the set's own")
		}
		out, err := rollKeyset(cmd.Context(), env, root, args[0], func(s *keyset.Set, keys keyset.Keys) (*keyset.Rolled, error) {
			if retire {
				return s.Retire(keys, env.Rand, env.Now())
			}
			return s.Roll(r, keys, env.Rand, env.Now())
		}, update)
		if err != nil {
			return err
		}
		changed.tell(cmd.Context(), env, root, args[0])
		if *format == "json" {
			return program.PrintJSON(env, out)
		}
		if out.Update != "" {
			fmt.Fprintf(env.Stdout, "%s has the write of %s\n", out.Update, out.Role)
		}
		return out.print(env.Stdout)
	}
	return cmd
}

func parseRole(name string) (sigdb.Role, error) {
	for _, r := range sigdb.Roles() {
		if strings.EqualFold(r.String(), name) {
			return r, nil
		}
	}
	return 0, fmt.Errorf("--role %q is none of pk, kek, db, dbx", name)
}

func rollKeyset(ctx context.Context, env *program.Env, root *rootFlags, name string, roll func(*keyset.Set, keyset.Keys) (*keyset.Rolled, error), update string) (out keysetRolled, err error) {
	r, err := root.keysets(env)
	if err != nil {
		return out, err
	}
	err = r.Update(name, func(s *keysets.Stored) (*keysets.Stored, error) {
		keys, err := root.openKeys(ctx, env, s)
		if err != nil {
			return nil, err
		}
		rolled, err := roll(s.Set, keys)
		if errors.Is(err, keyset.ErrRole) {
			return nil, program.RefusedBy(err)
		}
		if err != nil {
			return nil, err
		}
		out.Role, out.Append = rolled.Role.String(), rolled.More
		if update != "" {
			if rolled.Update == nil {
				return nil, program.RefusedBy(errors.New("the key that signs the write is not here: enrol the set in machines that are off, without --update"))
			}
			// Written first: what was rolled is of no use to a running machine without it.
			if err := durable.CreateFile(update, rolled.Update, 0o644); err != nil {
				return nil, err
			}
			out.Update = update
		}
		next, err := root.sealKeyset(ctx, env, rolled.Set, maps.Clone(rolled.Keys), s.Provider)
		if err != nil {
			return nil, err
		}
		out.keysetView = viewKeyset(next, env.Now())
		return next, nil
	})
	return out, err
}

// maxImage bounds an image that is signed here: a unified kernel image with its
// initial file system.
const maxImage = 1 << 30

func newKeysetSignCmd(env *program.Env) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "sign NAME IMAGE --out FILE",
		Short: "Sign a boot loader, a kernel or a unified kernel image by the set's own key",
		Args:  cobra.ExactArgs(2),
	}
	root := addRootFlag(cmd)
	cmd.Flags().StringVar(&to, "out", "", "`FILE` for the signed image")
	cmd.MarkFlagRequired("out") //nolint:errcheck // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := root.loadKeyset(env, args[0])
		if err != nil {
			return err
		}
		keys, err := root.openKeys(cmd.Context(), env, s)
		if err != nil {
			return err
		}
		by, err := s.Set.Signing(sigdb.DB, keys, env.Rand)
		if err != nil {
			return program.RefusedBy(err)
		}
		image, err := readFile(args[1], maxImage)
		if err != nil {
			return err
		}
		signed, err := authenticode.Sign(image, by)
		if err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
		return durable.WriteFile(to, signed, 0o644)
	}
	return cmd
}
