package vtpmcli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// keysetEnrolled is the JSON of assay keyset enrol.
type keysetEnrolled struct {
	Name       string `json:"name"`
	Vars       string `json:"vars"`
	Layout     string `json:"layout"`
	SecureBoot bool   `json:"secureBoot"`
	Kept       int    `json:"keptRevocations"` // that the store had and the set has not
}

func newKeysetEnrolCmd(env *program.Env) *cobra.Command {
	var vars, template string
	cmd := &cobra.Command{
		Use:   "enrol NAME --vars FILE",
		Short: "Write a key set into the variable store of a machine that is off",
		Long: `Write PK, KEK, db and dbx into a variable store in place of those there, and turn
Secure Boot on; a set of kind setup-mode removes all keys. Revocations that the store
has and the set has not are kept. With --template the store is made: of a file, such as
Debian's OVMF_VARS_4M.fd, or of nothing, by the words 2M and 4M.

PCR 7 of the machine changes with its keys: what its guest sealed to that register no
longer opens. Exit status 1: the firmware is writing, or the machine is running.`,
		Args: cobra.ExactArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&vars, "vars", "", "variable store `FILE`")
	cmd.Flags().StringVar(&template, "template", "", "make --vars of this `FILE`, or of nothing: 2M or 4M")
	cmd.MarkFlagRequired("vars") //nolint:errcheck // the flag is there
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		s, err := root.loadKeyset(env, args[0])
		if err != nil {
			return err
		}
		store, err := storeToWrite(vars, template)
		if err != nil {
			return err
		}
		done, err := s.Set.Enrol(store)
		if err != nil {
			return storeFault(err)
		}
		if err := writeVars(vars, store); err != nil {
			return err
		}
		out := keysetEnrolled{s.Set.Name, vars, store.Layout().String(), keyset.SecureBoot(store), done.Kept}
		if *format == "json" {
			return program.PrintJSON(env, out)
		}
		_, err = fmt.Fprintf(env.Stdout, "%s has the keys of %s; Secure Boot %s; %d revocations of its own kept\n", vars, out.Name, map[bool]string{true: "on", false: "off"}[out.SecureBoot], out.Kept)
		return err
	}
	return cmd
}

// storeFault ends with status 1 when firmware has no room or has to finish first.
func storeFault(err error) error {
	if len(evidence.Reasons(err)) > 0 {
		return program.RefusedBy(err)
	}
	return err
}

// storeToWrite reads the store that is to change, or its template.
func storeToWrite(vars, template string) (*varstore.Store, error) {
	_, err := os.Lstat(vars)
	switch {
	case template == "" && err != nil:
		return nil, err
	case template == "":
		if err := notInUse(vars); err != nil {
			return nil, program.RefusedBy(err)
		}
		return readVars(vars)
	case err == nil:
		return nil, fmt.Errorf("%s is there already: leave --template out to change it", vars)
	case template == "2M":
		return varstore.New(varstore.OVMF2M), nil
	case template == "4M":
		return varstore.New(varstore.OVMF4M), nil
	default:
		return readVars(template)
	}
}

// keysetUpdated is the JSON of assay keyset update.
type keysetUpdated struct {
	Role    string         `json:"role"`
	Before  int            `json:"before"` // entries
	After   int            `json:"after"`
	Entries map[string]int `json:"entries"`
}

func newKeysetUpdateCmd(env *program.Env, changed KeysetWatcher) *cobra.Command {
	var vars, role string
	var replace bool
	cmd := &cobra.Command{
		Use:   "update NAME FILE | update --vars STORE FILE",
		Short: "Apply a signed update, such as Microsoft's list of revocations",
		Long: `Apply an authenticated update: FILE is as Microsoft publishes DBXUpdate.bin, and as
sbvarsign, sign-efi-sig-list and assay keyset roll make them. It must be signed as
firmware wants it: for dbx and db by a key under KEK, for KEK and PK by PK. With NAME
the revocations of a key set grow; with --vars it is carried out on the variable store
of a machine that is off, as its firmware would. Exit status 1: firmware would refuse.`,
		Args: cobra.RangeArgs(1, 2),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&vars, "vars", "", "variable store `STORE` to change in place of a key set")
	cmd.Flags().StringVar(&role, "role", "dbx", "with --vars: `ROLE`, one of pk, kek, db, dbx")
	cmd.Flags().BoolVar(&replace, "replace", false, "with --vars: the update was signed to replace, not to add")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (vars == "") != (len(args) == 2) {
			return errors.New("name a key set and a file, or --vars and a file")
		}
		update, err := readFile(args[len(args)-1], maxEntries)
		if err != nil {
			return err
		}
		var out keysetUpdated
		if vars == "" {
			if replace || role != "dbx" {
				return errors.New("a key set takes revocations only: --role and --replace go with --vars")
			}
			out, err = updateKeyset(env, root, args[0], update)
		} else {
			out, err = updateVars(vars, role, !replace, update)
		}
		if err != nil {
			return storeFault(err)
		}
		if vars == "" {
			changed.tell(cmd.Context(), env, root, args[0])
		}
		if *format == "json" {
			return program.PrintJSON(env, out)
		}
		_, err = fmt.Fprintf(env.Stdout, "%s has %d entries, before %d\n", out.Role, out.After, out.Before)
		return err
	}
	return cmd
}

func updateKeyset(env *program.Env, root *rootFlags, name string, update []byte) (out keysetUpdated, err error) {
	r, err := root.keysets(env)
	if err != nil {
		return out, err
	}
	err = r.Update(name, func(s *keysets.Stored) (*keysets.Stored, error) {
		before := len(s.Set.Entries(sigdb.DBX))
		next, added, err := s.Set.Revoke(update, env.Now())
		if err != nil {
			return nil, err
		}
		s.Set = next
		out = keysetUpdated{Role: sigdb.DBX.String(), Before: before, After: before + added, Entries: viewKeyset(s, env.Now()).Entries}
		return s, nil
	})
	return out, err
}

// updateVars carries an update out on a store as its firmware would.
func updateVars(vars, role string, more bool, update []byte) (out keysetUpdated, err error) {
	r, err := parseRole(role)
	if err != nil {
		return out, err
	}
	store, err := storeToWrite(vars, "")
	if err != nil {
		return out, err
	}
	now, err := keyset.Read(store)
	if err != nil {
		return out, err
	}
	u, err := sigdb.ParseUpdate(update)
	if err != nil {
		return out, err
	}
	change, err := now.Verify(r, more, u)
	if err != nil {
		return out, err
	}
	if err := keyset.Write(store, r, change.Value()); err != nil {
		return out, err
	}
	after := now.Apply(change)
	out = keysetUpdated{Role: r.String(), Before: countOf(now, r), After: countOf(after, r), Entries: map[string]int{}}
	for _, r := range sigdb.Roles() {
		out.Entries[r.String()] = countOf(after, r)
	}
	return out, writeVars(vars, store)
}

func countOf(v sigdb.Variables, r sigdb.Role) int {
	d := v.Database(r)
	if d == nil {
		return 0
	}
	c := d.Count()
	return c.Certificates + c.Digests + c.Others
}
