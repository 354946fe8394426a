package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/store"
)

func newKeyCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Change the key that the service's own keys are sealed under"}
	cmd.AddCommand(newKeyRotateCmd(env))
	return cmd
}

// The steps of a rotation. Without --step the first two are done.
const (
	stepAdd    = "add"
	stepRewrap = "rewrap"
	stepDrop   = "drop"
)

// keyRotation is the JSON of assay key rotate -o json.
type keyRotation struct {
	Newest    string `json:"newest"`    // name of the key that wraps from now on
	Older     int    `json:"older"`     // keys in the file beside it
	Rewrapped int    `json:"rewrapped"` // sealed anew by this command
	Remaining int    `json:"remaining"` // still sealed under an older key
}

func newKeyRotateCmd(env *program.Env) *cobra.Command {
	var c wiring
	var step string
	cmd := &cobra.Command{
		Use:   "rotate --data DIR",
		Short: "Put a new key into the key file and seal everything under it",
		Long: `Put a new key at the head of the key file, and seal the token keys, the challenge
keys and the TLS authority's key anew under it. Stop the service of --data first.
It may be stopped at any point and run again: until "--step drop" the file holds the
older keys as well, and everything opens. Backups of the database that were made
before need the older keys: drop them when no such backup is needed any more.

Services that share a PostgreSQL database need the new key before anything is
sealed under it: "--step add" on one machine, copy the key file to the others and
restart them, then "--step rewrap" on each, since each has a TLS authority of its
own, and last "--step drop" on each. Exit status 1: not all is sealed under the
newest key, and nothing was dropped.`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&c.Data, "data", "", "`DIR` of the service")
	f.StringVar(&c.Database, "database", "", "`URL` of its PostgreSQL database, in place of SQLite in --data")
	f.BoolVar(&c.WithoutSync, "database-without-fsync", false, "take a PostgreSQL server with fsync or full_page_writes off")
	f.StringVar(&c.Keys.File, "key-file", "", "`FILE` of key-encryption keys; service.key in --data when empty")
	f.StringVar(&c.Keys.Passphrase, "passphrase-file", "", "`FILE` whose first line opens the key file")
	f.StringVar(&step, "step", "", "only one step: add, rewrap or drop")
	cmd.MarkFlagRequired("data") //nolint:errcheck // the flag is there
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		result, err := rotate(cmd.Context(), env, c, step)
		if err != nil {
			return err
		}
		if *format == "json" {
			return program.PrintJSON(env, result)
		}
		_, err = fmt.Fprintf(env.Stdout, "key %s wraps; %d older in the file; %d sealed anew, %d still under an older key\n",
			result.Newest, result.Older, result.Rewrapped, result.Remaining)
		return err
	}
	return cmd
}

func rotate(ctx context.Context, env *program.Env, c wiring, step string) (result keyRotation, err error) {
	switch step {
	case "", stepAdd, stepRewrap, stepDrop:
	default:
		return result, fmt.Errorf("--step: %q is none of %s, %s, %s", step, stepAdd, stepRewrap, stepDrop)
	}
	if _, err := os.Lstat(c.Keys.Path(c.Data)); err != nil { // before anything is made in a mistyped folder
		return result, fmt.Errorf("key file: %w", err)
	}
	s, err := openStore(ctx, c, store.Config{})
	if errors.Is(err, durable.ErrLocked) {
		return result, fmt.Errorf("stop the service first: %w", err)
	}
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if step == "" || step == stepAdd {
		if err := c.Keys.Change(env, c.Data, keyprovider.AddKey); err != nil {
			return result, err
		}
	}
	if step == "" || step == stepRewrap {
		if result.Rewrapped, err = rewrap(ctx, env, c, s); err != nil {
			return result, err
		}
	}
	if err := result.look(ctx, env, c, s); err != nil || step != stepDrop {
		return result, err
	}
	return result, result.drop(env, c)
}

// drop removes the older keys from the file, unless something needs them.
func (r *keyRotation) drop(env *program.Env, c wiring) error {
	if r.Remaining > 0 {
		return program.RefusedBy(fmt.Errorf("%d keys are still sealed under an older key: run \"assay key rotate --step rewrap\" first", r.Remaining))
	}
	r.Older = 0
	return c.Keys.Change(env, c.Data, keyprovider.DropOldKeys)
}

// rewrap seals what is stored, and the key of the TLS authority, under the newest key.
func rewrap(ctx context.Context, env *program.Env, c wiring, s attest.Store) (int, error) {
	keys, err := c.Keys.Open(env, c.Data)
	if err != nil {
		return 0, err
	}
	defer keys.Close()
	newest := keys.KeyIDs()[0]
	done, err := attest.Rewrap(ctx, s, keys, newest, env.Now, env.Rand)
	if err != nil {
		return done, err
	}
	sealed, id, err := sealedCA(c.Data)
	if err != nil || sealed == nil || id == newest {
		return done, err
	}
	if sealed, err = attest.Reseal(ctx, keys, env.Rand, caContext(), sealed); err != nil {
		return done, fmt.Errorf("%s: %w", caKeyFile, err)
	}
	return done + 1, durable.WriteFile(filepath.Join(c.Data, caKeyFile), sealed, 0o600)
}

// sealedCA reads the sealed key of the TLS authority and the name of the key that
// it is wrapped under; nil when there is no authority.
func sealedCA(data string) (sealed []byte, under string, err error) {
	sealed, err = os.ReadFile(filepath.Join(data, caKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err == nil {
		under, err = keyprovider.WrappedUnder(sealed)
	}
	return sealed, under, err
}

// look counts what is sealed under which key.
func (r *keyRotation) look(ctx context.Context, env *program.Env, c wiring, s attest.Store) error {
	keys, err := c.Keys.Open(env, c.Data)
	if err != nil {
		return err
	}
	defer keys.Close()
	ids := keys.KeyIDs()
	r.Newest, r.Older = ids[0], len(ids)-1
	under, err := attest.SealedUnder(ctx, s)
	if err != nil {
		return err
	}
	sealed, ca, err := sealedCA(c.Data)
	if err != nil {
		return err
	}
	if sealed != nil {
		under[ca]++
	}
	for id, n := range under {
		if id != r.Newest {
			r.Remaining += n
		}
	}
	return nil
}
