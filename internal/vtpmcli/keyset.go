package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// keysetsDir is the folder of key sets in a root.
const keysetsDir = "keysets"

// A KeysetWatcher is told of a key set that has changed. What it finds out it says itself.
type KeysetWatcher func(ctx context.Context, env *program.Env, host *Host, keyset string)

// NewKeysetCmd is "keyset"; changed may be nil.
func NewKeysetCmd(env *program.Env, changed KeysetWatcher) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyset",
		Short: "Whose boot loaders a virtual machine starts: the keys of Secure Boot",
		Long: `Make the keys that Secure Boot decides by, and put them into the variable stores of
virtual machines. A key set is PK, KEK, db and dbx as one object, of one of the kinds

  microsoft      Microsoft's authorities of 2011 and 2023, and its revocations
  microsoft+own  the same, and keys of your own beside them
  own            your own keys only
  setup-mode     no keys: the guest enrols some

The platform key is always the set's own. docs/keysets.md is the guide.`,
	}
	cmd.AddCommand(
		newKeysetCreateCmd(env), newKeysetListCmd(env), newKeysetShowCmd(env), newKeysetStatusCmd(env),
		newKeysetEnrolCmd(env), newKeysetUpdateCmd(env, changed), newKeysetRollCmd(env, changed), newKeysetSignCmd(env),
		newKeysetExportCmd(env), newKeysetImportCmd(env),
	)
	return cmd
}

// tell has a watcher hear of a change.
func (w KeysetWatcher) tell(ctx context.Context, env *program.Env, root *rootFlags, keyset string) {
	if w != nil {
		w(ctx, env, &Host{root}, keyset)
	}
}

// keysets is the folder of key sets of a root.
func (f *rootFlags) keysets(env *program.Env) (*keysets.Root, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	return &keysets.Root{Dir: filepath.Join(dir, keysetsDir)}, nil
}

// openKeys opens the private keys of a set; none when none are stored.
func (f *rootFlags) openKeys(ctx context.Context, env *program.Env, s *keysets.Stored) (_ keyset.Keys, err error) {
	if !s.HasKeys() {
		return keyset.Keys{}, nil
	}
	p, err := f.openProvider(ctx, env, s.Provider)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	keys, err := s.Keys(ctx, p)
	if err != nil {
		return nil, providerFault(err)
	}
	return keys, nil
}

// keysetView is the JSON of a key set, or of a variable store.
type keysetView struct {
	Name         string               `json:"name"`
	Kind         keyset.Kind          `json:"kind"`
	Owner        string               `json:"owner"`
	Created      time.Time            `json:"created"`
	Updated      time.Time            `json:"updated"`
	Provider     string               `json:"provider"`
	Entries      map[string]int       `json:"entries"` // by variable
	Certificates []keyset.Certificate `json:"certificates"`
}

func viewKeyset(s *keysets.Stored, now time.Time) keysetView {
	v := keysetView{
		Name: s.Set.Name, Kind: s.Set.Kind, Owner: s.Set.Owner.String(), Created: s.Set.Created, Updated: s.Set.Updated,
		Provider: s.Provider, Entries: map[string]int{}, Certificates: s.Set.Status(now),
	}
	for _, r := range sigdb.Roles() {
		v.Entries[r.String()] = len(s.Set.Entries(r))
	}
	if v.Certificates == nil {
		v.Certificates = []keyset.Certificate{}
	}
	return v
}

func (v *keysetView) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s, of %s\n", v.Name, v.Kind, v.Updated.Format(time.RFC3339))
	if v.Provider != "" {
		fmt.Fprintf(w, "private keys sealed by %s\n", v.Provider)
	}
	if err := printCertificates(w, v.Certificates); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "dbx revokes %d images and certificates\n", v.Entries[sigdb.DBX.String()])
	return err
}

func printCertificates(w io.Writer, all []keyset.Certificate) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range all {
		own := ""
		if c.Own {
			own = "own"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.16s\n", c.Role, c.Subject, c.NotAfter.Format(time.DateOnly), c.State, own, c.SHA256)
	}
	return t.Flush()
}

func newKeysetListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "Name the key sets", Args: cobra.NoArgs}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		r, err := root.keysets(env)
		if err != nil {
			return err
		}
		names, err := r.List()
		if err != nil {
			return err
		}
		views := []keysetView{}
		for _, name := range names {
			s, err := r.Load(name)
			if err != nil {
				return err
			}
			views = append(views, viewKeyset(s, env.Now()))
		}
		if *format == "json" {
			return program.PrintJSON(env, views)
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		for _, v := range views {
			fmt.Fprintf(t, "%s\t%s\t%s\tPK %d, KEK %d, db %d, dbx %d\n", v.Name, v.Kind, v.Updated.Format(time.DateOnly),
				v.Entries["PK"], v.Entries["KEK"], v.Entries["db"], v.Entries["dbx"])
		}
		return t.Flush()
	}
	return cmd
}

func newKeysetShowCmd(env *program.Env) *cobra.Command {
	var vars string
	cmd := &cobra.Command{
		Use:   "show NAME | show --vars FILE",
		Short: "Show the keys of a set, or those in a variable store",
		Long: `Show the certificates of a key set, with the end of their time, and how much dbx
revokes. With --vars it reads the variable store of a machine instead, and says what
the firmware will enforce.`,
		Args: cobra.MaximumNArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&vars, "vars", "", "variable store `FILE` to read in place of a key set")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if (vars == "") == (len(args) == 0) {
			return errors.New("name a key set, or a variable store by --vars")
		}
		if vars != "" {
			return showVars(env, vars, *format)
		}
		s, err := root.loadKeyset(env, args[0])
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

func (f *rootFlags) loadKeyset(env *program.Env, name string) (*keysets.Stored, error) {
	r, err := f.keysets(env)
	if err != nil {
		return nil, err
	}
	s, err := r.Load(name)
	if errors.Is(err, keysets.ErrNone) && name == string(keyset.Microsoft) {
		err = fmt.Errorf("%w yet: the first machine makes it, or assay keyset create %s --kind %[2]s", err, name)
	}
	return s, err
}

// varsView is the JSON of the keys in a variable store.
type varsView struct {
	Layout       string               `json:"layout"`
	SecureBoot   *bool                `json:"secureBoot"` // the firmware will enforce it; null: not known
	SetupMode    *bool                `json:"setupMode"`  // there is no platform key; null: not known
	Entries      map[string]int       `json:"entries"`
	Certificates []keyset.Certificate `json:"certificates"`
	Notices      []evidence.Reason    `json:"notices"`
}

func showVars(env *program.Env, name string, format program.OutputFormat) error {
	store, err := readVars(name)
	if err != nil {
		return err
	}
	variables, err := keyset.Read(store)
	if err != nil {
		return err
	}
	v := varsView{
		Layout:  store.Layout().String(),
		Entries: map[string]int{}, Certificates: []keyset.Certificate{}, Notices: append([]evidence.Reason{}, store.Notices()...),
	}
	if !store.Pending() { // firmware may put other keys there before it looks
		on, setup := keyset.SecureBoot(store), variables.SetupMode()
		v.SecureBoot, v.SetupMode = &on, &setup
	}
	for _, r := range sigdb.Roles() {
		d := variables.Database(r)
		v.Entries[r.String()] = 0
		if d == nil {
			continue
		}
		c := d.Count()
		v.Entries[r.String()] = c.Certificates + c.Digests + c.Others
		if r != sigdb.DBX {
			v.Certificates = append(v.Certificates, keyset.Certificates(r, d, [16]byte{}, env.Now())...)
		}
	}
	if format == "json" {
		return program.PrintJSON(env, v)
	}
	fmt.Fprintf(env.Stdout, "%s; Secure Boot %s; setup mode %s\n", v.Layout, onOff(v.SecureBoot), onOff(v.SetupMode))
	if err := printCertificates(env.Stdout, v.Certificates); err != nil {
		return err
	}
	for _, n := range v.Notices {
		fmt.Fprintf(env.Stdout, "%s: %s\n", n.Code, n.Message)
	}
	_, err = fmt.Fprintf(env.Stdout, "dbx revokes %d images and certificates\n", v.Entries[sigdb.DBX.String()])
	return err
}

func onOff(v *bool) string {
	switch {
	case v == nil:
		return "unknown"
	case *v:
		return "on"
	default:
		return "off"
	}
}

// maxVars bounds the file of a variable store.
const maxVars = 1 << 20

// readVars reads a variable store.
func readVars(name string) (*varstore.Store, error) {
	b, err := readFile(name, maxVars)
	if err != nil {
		return nil, err
	}
	store, err := varstore.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return store, nil
}

// writeVars writes a variable store back, whole or not at all, with the access that
// the file had.
func writeVars(name string, store *varstore.Store) error {
	b, err := store.Bytes()
	if err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	return durable.WriteFile(name, b, mode)
}

func newKeysetStatusCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Say which certificates of a set expire, and whether something is to be done",
		Long: `Show the expiry of each certificate. Firmware does not look at it: an expired key goes
on working, but what its owner signs from then on is signed by another. Exit status 1:
a key of the set's own has expired or will within half a year, or a variable has no
certificate any more whose time is not over.`,
		Args: cobra.ExactArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		s, err := root.loadKeyset(env, args[0])
		if err != nil {
			return err
		}
		st := keysets.StatusOf(s.Set, env.Now())
		if *format == "json" {
			err = program.PrintJSON(env, st)
		} else if err = printCertificates(env.Stdout, st.Certificates); err == nil {
			for _, a := range st.Attention {
				fmt.Fprintln(env.Stdout, a)
			}
		}
		if err == nil && len(st.Attention) > 0 {
			return program.Refused()
		}
		return err
	}
	return cmd
}
