package keyprovider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/strictjson"
)

// SetFile is what the file of a [Set] is called in the folder that it serves.
const SetFile = "key-providers.json"

// The format of a set's file (docs/formats/key-providers.md).
const (
	setFormat  = "assay key providers"
	setVersion = 1
	maxSetFile = 1 << 20
	// MaxConfigured bounds the providers of a set.
	MaxConfigured = 256
)

// ErrNoProvider is returned, wrapped, for a name that a set does not have, and when
// a default is asked for and there is none. Without a provider no vTPM is made.
var ErrNoProvider = errors.New("no such key provider is configured")

// A Configured provider is one that an operator has given a name.
type Configured struct {
	Name  string
	Spec  Spec
	Added time.Time
}

// A Set is the configured providers of a folder. The zero Set, and a nil one, has
// none. It is not safe for concurrent use while it is changed.
type Set struct {
	configured []Configured // in the order of their names
	def        string
}

// nameForm is what a provider may be called: never mistaken for a spec or a path.
var nameForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
})

// LoadSet reads a set's file; one that does not exist is an empty set. Nobody but
// its owner may be able to change it: it says who is given the keys.
func LoadSet(name string) (*Set, error) {
	text, err := readPrivate(name, 0o022, maxSetFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &Set{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("key providers: %w", err)
	}
	s, err := ParseSet(text)
	if err != nil {
		return nil, fmt.Errorf("key providers %q: %w", name, err)
	}
	return s, nil
}

// UpdateSet changes a set's file: it reads the set, has change work on it, and
// writes it, while no other process does the same. A crash leaves the old file or
// the new one.
func UpdateSet(name string, change func(*Set) error) error {
	lock, err := os.OpenFile(name+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock key providers: %w", err)
	}
	defer lock.Close() // which unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock key providers: %w", err)
	}
	s, err := LoadSet(name)
	if err != nil {
		return err
	}
	if err := change(s); err != nil {
		return err
	}
	text, err := s.encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(name, text, 0o600)
}

// List returns the providers, ordered by name.
func (s *Set) List() []Configured {
	if s == nil {
		return nil
	}
	return slices.Clone(s.configured)
}

// Default is the name of the provider that is used when none is named; empty when
// there is none.
func (s *Set) Default() string {
	if s == nil {
		return ""
	}
	return s.def
}

// find returns the place of a name.
func (s *Set) find(name string) (int, bool) {
	if s == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(s.configured, name, func(c Configured, name string) int { return strings.Compare(c.Name, name) })
}

// Lookup returns the provider of a name.
func (s *Set) Lookup(name string) (c Configured, ok bool) {
	i, ok := s.find(name)
	if !ok {
		return Configured{}, false
	}
	return s.configured[i], true
}

// Resolve returns the spec that text means: that of a name, that of the default when
// text is empty, or text itself. name is empty for a spec that has none.
func (s *Set) Resolve(text string) (spec Spec, name string, err error) {
	if strings.ContainsRune(text, ':') {
		spec, err = ParseSpec(text)
		return spec, "", err
	}
	if text == "" {
		if text = s.Default(); text == "" {
			return Spec{}, "", fmt.Errorf("%w: there is no default; add one with \"assay key-provider add\"", ErrNoProvider)
		}
	}
	c, ok := s.Lookup(text)
	if !ok {
		return Spec{}, "", fmt.Errorf("%w: %q", ErrNoProvider, text)
	}
	return c.Spec, c.Name, nil
}

// Add puts a provider into the set; the first becomes the default.
func (s *Set) Add(c Configured) error {
	if !nameForm().MatchString(c.Name) {
		return fmt.Errorf("name %q: want 1 to 63 lower-case letters, digits, dots, lines and underscores, the first a letter or a digit", c.Name)
	}
	if c.Spec.kind == "" {
		return fmt.Errorf("provider %q has no spec", c.Name)
	}
	i, taken := s.find(c.Name)
	if taken {
		return fmt.Errorf("a key provider %q is configured already", c.Name)
	}
	if len(s.configured) == MaxConfigured {
		return fmt.Errorf("%d key providers are configured, and no more can be", MaxConfigured)
	}
	s.configured = slices.Insert(s.configured, i, c)
	if s.def == "" {
		s.def = c.Name
	}
	return nil
}

// Replace gives a provider another spec of the same kind.
func (s *Set) Replace(name string, spec Spec) error {
	i, ok := s.find(name)
	if !ok {
		return fmt.Errorf("%w: %q", ErrNoProvider, name)
	}
	if s.configured[i].Spec.kind != spec.kind {
		return fmt.Errorf("key provider %q is of kind %s, not %s", name, s.configured[i].Spec.kind, spec.kind)
	}
	s.configured[i].Spec = spec
	return nil
}

// Remove takes a provider out of the set. The caller has seen to it that nothing
// which matters is under its keys. The default can go only as the last.
func (s *Set) Remove(name string) error {
	i, ok := s.find(name)
	if !ok {
		return fmt.Errorf("%w: %q", ErrNoProvider, name)
	}
	if s.def == name && len(s.configured) > 1 {
		return fmt.Errorf("key provider %q is the default: make another the default first", name)
	}
	s.configured = slices.Delete(s.configured, i, i+1)
	if s.def == name {
		s.def = ""
	}
	return nil
}

// MakeDefault says which provider is used when none is named.
func (s *Set) MakeDefault(name string) error {
	if _, ok := s.find(name); !ok {
		return fmt.Errorf("%w: %q", ErrNoProvider, name)
	}
	s.def = name
	return nil
}

// setJSON is the file as it is written.
type setJSON struct {
	Format       string           `json:"format"`
	Version      int              `json:"version"`
	OldestReader int              `json:"oldestReader"`
	Default      string           `json:"default"`
	Providers    []configuredJSON `json:"providers"`
}

type configuredJSON struct {
	Name  string `json:"name"`
	Spec  string `json:"spec"`
	Added string `json:"added"`
}

func (s *Set) encode() ([]byte, error) {
	out := setJSON{Format: setFormat, Version: setVersion, OldestReader: setVersion, Default: s.def, Providers: []configuredJSON{}}
	for _, c := range s.configured {
		out.Providers = append(out.Providers, configuredJSON{c.Name, c.Spec.String(), c.Added.UTC().Format(time.RFC3339)})
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err == nil && len(text) >= maxSetFile {
		err = fmt.Errorf("key providers: more than %d bytes", maxSetFile)
	}
	return append(text, '\n'), err
}

// ParseSet reads the text of a set's file.
func ParseSet(text []byte) (*Set, error) {
	rules := strictjson.Rules{Bytes: maxSetFile, Depth: 3, Members: 16, Values: 8 * MaxConfigured}
	s, oldest, format, def := &Set{}, int64(0), "", ""
	err := strictjson.Object(text, rules, func(name string, v strictjson.Value) (err error) {
		switch name {
		case "format":
			format, err = v.Text()
		case "version":
			_, err = v.Int()
		case "oldestReader":
			oldest, err = v.Int()
		case "default":
			def, err = v.Text()
		case "providers":
			err = v.Array(func(_ int, v strictjson.Value) error { return s.parseOne(v) })
		default:
			err = strictjson.Unknown()
		}
		return err
	})
	switch {
	case format == setFormat && oldest > setVersion:
		return nil, fmt.Errorf("written by a newer version of this program: readable from version %d of the format on", oldest)
	case err != nil:
		return nil, err
	case format != setFormat || oldest < 1:
		return nil, errors.New("not a file of key providers")
	}
	if s.def = def; def != "" || len(s.configured) > 0 {
		err = s.MakeDefault(def)
	}
	return s, err
}

func (s *Set) parseOne(v strictjson.Value) error {
	var c Configured
	err := v.Object(func(name string, v strictjson.Value) error {
		text, err := v.Text()
		if err != nil {
			return err
		}
		switch name {
		case "name":
			c.Name = text
		case "spec":
			c.Spec, err = ParseSpec(text)
		case "added":
			c.Added, err = time.Parse(time.RFC3339, text)
		default:
			err = strictjson.Unknown()
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.Add(c)
}
