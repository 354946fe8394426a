package vtpmcli

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/uefi/keyset"
)

// A Host is the root of virtual TPMs, key providers and key sets, as the commands over
// machines use it.
type Host struct{ flags *rootFlags }

// AddHostFlag declares --root.
func AddHostFlag(cmd *cobra.Command) *Host { return &Host{addRootFlag(cmd)} }

// HostAt is the host whose root is a folder.
func HostAt(dir string) *Host { return &Host{&rootFlags{dir: dir}} }

// Dir is the root's folder.
func (h *Host) Dir(env *program.Env) (string, error) { return h.flags.path(env) }

// VTPM says how to open the virtual TPMs.
func (h *Host) VTPM(env *program.Env) (vtpm.Config, error) { return h.flags.config(env) }

// KeepTokens makes this a process that lives long: the tokens of key providers are
// renewed until stop is called.
func (h *Host) KeepTokens(ctx context.Context, env *program.Env) (stop func() error, err error) {
	return h.flags.keepTokens(ctx, env)
}

// Keyset returns a key set. Those of Microsoft need nothing that a person must decide and
// are made when they are first wanted, the platform key sealed by the default provider.
func (h *Host) Keyset(ctx context.Context, env *program.Env, name string) (*keyset.Set, error) {
	root, err := h.flags.keysets(env)
	if err != nil {
		return nil, err
	}
	s, err := root.Load(name)
	if errors.Is(err, keysets.ErrNone) && name == string(keyset.Microsoft) {
		m := &keysetMaking{root: h.flags, kind: name}
		if s, err = m.make(ctx, env, name); errors.Is(err, keysets.ErrExists) { // made by another process meanwhile
			s, err = root.Load(name)
		}
	}
	if err != nil {
		return nil, err
	}
	return s.Set, nil
}

// Keysets reads all key sets. With an error come those that could be read.
func (h *Host) Keysets(env *program.Env) (sets []*keyset.Set, err error) {
	root, err := h.flags.keysets(env)
	if err != nil {
		return nil, err
	}
	names, err := root.List()
	for _, name := range names {
		s, lerr := root.Load(name)
		if lerr != nil {
			err = errors.Join(err, lerr)
			continue
		}
		sets = append(sets, s.Set)
	}
	return sets, err
}

// Unattended are the names of the host's key providers that may be opened and asked again
// and again. A PKCS #11 token is none of them: each time offers its PIN, and one that is
// wrong locks the token after some.
func (h *Host) Unattended(env *program.Env) ([]string, error) {
	_, set, err := h.flags.providerSet(env)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range set.List() {
		if c.Spec.Kind() != keyprovider.KindPKCS11 {
			out = append(out, c.Name)
		}
	}
	return out, nil
}

// MachinesDir is where the homes of machines are.
func (h *Host) MachinesDir(env *program.Env) (string, error) {
	dir, err := h.flags.path(env)
	return filepath.Join(dir, "machines"), err
}
