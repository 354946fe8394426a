// Package keysets keeps the key sets of Secure Boot on a host, each with its
// private keys in one file, sealed by a key provider.
//
// What [Root.Load] reads has the shape of a key set; it proves nothing about who
// wrote it: the folder belongs to root, or to the user whose it is. That private
// keys open proves that a holder of the provider's key sealed them for this set.
// Start with [Root].
//
// The format is that of docs/formats/keyset.md.
package keysets

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

// Errors that a caller can act on.
var (
	ErrExists = errors.New("there is a key set of this name")
	ErrNone   = errors.New("there is no key set of this name")
	ErrFormat = errors.New("file of a key set is damaged")
)

const (
	suffix        = ".json"
	format        = "assay key set"
	formatVersion = 1
	maxFile       = keyset.MaxFormat + 1<<20
	purpose       = "Secure Boot keys"
)

// A Root is the folder of key sets.
type Root struct{ Dir string }

// A Stored key set is one with its private keys sealed.
type Stored struct {
	Set *keyset.Set
	// Provider is the spec or the name of the key provider that sealed the private
	// keys; empty when there are none here.
	Provider string

	sealed []byte
}

// file is the text of a stored set.
type file struct {
	Format       string          `json:"format"`
	Version      int             `json:"version"`
	OldestReader int             `json:"oldestReader"`
	Provider     string          `json:"provider,omitempty"`
	Sealed       []byte          `json:"sealedKeys,omitempty"`
	Set          json.RawMessage `json:"set"`
}

// Seal puts a set and its private keys together; p is not used when there are none.
func Seal(ctx context.Context, s *keyset.Set, keys keyset.Keys, spec string, p keyprovider.Provider, random io.Reader) (*Stored, error) {
	out := &Stored{Set: s}
	if len(keys) == 0 {
		return out, nil
	}
	plain := map[string][]byte{}
	for r, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, err
		}
		plain[r.String()] = der
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	out.Provider = spec
	out.sealed, err = keyprovider.Seal(ctx, p, random, sealContext(s), text)
	if err != nil {
		return nil, fmt.Errorf("seal keys of %q: %w", s.Name, err)
	}
	return out, nil
}

// sealContext binds private keys to their set: its owner is random, and its alone.
func sealContext(s *keyset.Set) seal.Context {
	return seal.Context{Purpose: purpose, Name: s.Owner.String()}
}

// HasKeys reports whether private keys are stored.
func (s *Stored) HasKeys() bool { return len(s.sealed) > 0 }

// Keys opens the private keys by the provider that sealed them.
func (s *Stored) Keys(ctx context.Context, p keyprovider.Provider) (keyset.Keys, error) {
	secret, err := keyprovider.Open(ctx, p, sealContext(s.Set), s.sealed)
	if err != nil {
		return nil, fmt.Errorf("open keys of %q: %w", s.Set.Name, err)
	}
	defer secret.Destroy()
	var plain map[string][]byte
	if err := json.Unmarshal(secret.Expose(), &plain); err != nil {
		return nil, fmt.Errorf("keys of %q: %w", s.Set.Name, ErrFormat)
	}
	out := keyset.Keys{}
	for name, der := range plain {
		r, ok := sigdb.ParseRole(name)
		key, err := x509.ParsePKCS8PrivateKey(der)
		k, isRSA := key.(*rsa.PrivateKey)
		if !ok || err != nil || !isRSA {
			return nil, fmt.Errorf("keys of %q: %w", s.Set.Name, ErrFormat)
		}
		out[r] = k
		clear(der)
	}
	return out, nil
}

// Under is the key of the provider that the private keys are sealed by; empty when the
// file does not say.
func (s *Stored) Under() string {
	id, err := keyprovider.WrappedUnder(s.sealed)
	if err != nil {
		return ""
	}
	return id
}

// Rewrap returns the set with its private keys sealed by another key of their provider,
// or by another provider, which spec names.
func (s *Stored) Rewrap(ctx context.Context, from, to keyprovider.Provider, spec string, random io.Reader) (*Stored, error) {
	keys, err := s.Keys(ctx, from)
	if err != nil {
		return nil, err
	}
	return Seal(ctx, s.Set, keys, spec, to, random)
}

func (r *Root) path(name string) (string, error) {
	if !keyset.ValidName(name) {
		return "", fmt.Errorf("%q: %w", name, keyset.ErrName)
	}
	return filepath.Join(r.Dir, name+suffix), nil
}

// Create writes a set that must not be there.
func (r *Root) Create(s *Stored) error {
	name, err := r.path(s.Set.Name)
	if err != nil {
		return err
	}
	b, err := s.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return err
	}
	if err := durable.CreateFile(name, b, 0o600); errors.Is(err, durable.ErrExists) {
		return fmt.Errorf("%q: %w", s.Set.Name, ErrExists)
	} else if err != nil {
		return err
	}
	return nil
}

// Update has change work on a set that is there, and writes what it returns, while
// no other process changes a set of this folder.
func (r *Root) Update(name string, change func(*Stored) (*Stored, error)) (err error) {
	path, err := r.path(name)
	if err != nil {
		return err
	}
	if _, err := r.Load(name); err != nil { // the folder may not be there
		return err
	}
	lock, err := durable.LockDir(r.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	s, err := r.Load(name)
	if err != nil {
		return err
	}
	next, err := change(s)
	if err != nil {
		return err
	}
	if next.Set.Name != name {
		return fmt.Errorf("%q is not %q: %w", next.Set.Name, name, keyset.ErrName)
	}
	b, err := next.encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}

func (s *Stored) encode() ([]byte, error) {
	set, err := json.Marshal(s.Set)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(&file{format, formatVersion, formatVersion, s.Provider, s.sealed, set}, "", "  ")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	if _, err := Parse(b); err != nil { // what cannot be read again is not written
		return nil, err
	}
	return b, nil
}

// Load reads a set.
func (r *Root) Load(name string) (*Stored, error) {
	path, err := r.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", name, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	s, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.Set.Name != name {
		return nil, fmt.Errorf("%s: %w: it is of %q", path, ErrFormat, s.Set.Name)
	}
	return s, nil
}

// Parse reads the file of a set.
func Parse(b []byte) (*Stored, error) {
	if _, err := strictjson.Parse(b, strictjson.Rules{Bytes: maxFile, Depth: 3, Members: 16, Values: 64, FoldNames: true}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var f file
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if f.Format != format || f.OldestReader != formatVersion || f.Version < formatVersion || (f.Provider == "") != (len(f.Sealed) == 0) {
		return nil, fmt.Errorf("%w: format, version or provider", ErrFormat)
	}
	set, err := keyset.Parse(f.Set)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return &Stored{set, f.Provider, f.Sealed}, nil
}

// List names the sets of the folder, in order; a folder that does not exist has none.
func (r *Root) List() ([]string, error) {
	entries, err := os.ReadDir(r.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if ok && e.Type().IsRegular() && keyset.ValidName(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// A Status says which certificates of a key set expire, and what is to be done.
type Status struct {
	Name         string               `json:"name"`
	Certificates []keyset.Certificate `json:"certificates"`
	Attention    []string             `json:"attention"`
}

// StatusOf is the status of a key set at a time.
func StatusOf(s *keyset.Set, now time.Time) Status {
	st := Status{Name: s.Name, Certificates: s.Status(now), Attention: []string{}}
	if st.Certificates == nil {
		st.Certificates = []keyset.Certificate{}
	}
	all, good := map[string]int{}, map[string]int{}
	for _, c := range st.Certificates {
		all[c.Role]++
		if c.State == keyset.StateGood {
			good[c.Role]++
		} else if c.Own {
			st.Attention = append(st.Attention, fmt.Sprintf("%s: %q is %s: run assay keyset roll %s --role %s", c.Role, c.Subject, c.State, s.Name, c.Role))
		}
	}
	for _, r := range sigdb.Roles() {
		if n := r.String(); all[n] > 0 && good[n] == 0 {
			st.Attention = append(st.Attention, n+" has no certificate whose time is not over")
		}
	}
	return st
}
