// Package component is the index of known components: names for digests that boots show
// though no disk of the machine has them, such as the shell inside the firmware, or a
// boot loader of a distribution.
//
// A name is a hint for the person who reads a report. It says that somebody, the
// [Component.Source], computed this digest of a thing of that name. It decides nothing,
// allows nothing, and does not say that the thing is good. Start with [Builtin], [Parse]
// and [Index.Find].
//
// What is measured as which digest: TCG PC Client Platform Firmware Profile 1.06, 3.3.
package component

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/uefi/authenticode"
)

// A Component is one digest with its name.
type Component struct {
	// Digest is SHA-256 in lower-case hex: Authenticode's of a program that firmware
	// starts, else that of the content.
	Digest string `json:"sha256"`
	Kind   string `json:"kind"` // one of the Kind constants of package eventlog
	Name   string `json:"name"`
	// Source says who named it, and what it is from.
	Source string `json:"source"`
}

// An Index finds components by their digest. The zero Index knows none.
type Index struct{ by map[string]Component }

// Builtin is the index that comes with the program: constants of the standard, and
// Debian's packages.
func Builtin() *Index { return index(builtin()) }

// With is the index with more components. Those of a digest that is there already are
// left out: an operator's file renames nothing that comes with the program.
func (x *Index) With(more []Component) *Index { return index(slices.Concat(x.All(), more)) }

func index(all []Component) *Index {
	x := &Index{by: make(map[string]Component, len(all))}
	for _, c := range all {
		if _, there := x.by[c.Digest]; !there {
			x.by[c.Digest] = c
		}
	}
	return x
}

// Find returns the component of a SHA-256 digest.
func (x *Index) Find(digest []byte) (Component, bool) {
	c, ok := x.by[hex.EncodeToString(digest)]
	return c, ok
}

// All are the components, by name and digest.
func (x *Index) All() []Component {
	out := make([]Component, 0, len(x.by))
	for _, c := range x.by {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Component) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return out
}

// Limits of an operator's file, and of a text in it in bytes.
const (
	maxComponents = 10000
	maxText       = 200
	version       = 1
)

var rules = strictjson.Rules{Bytes: 8 << 20, Depth: 4, Members: 8, Values: 5*maxComponents + 8, FoldNames: true}

// ErrFormat is a file of components that cannot be used.
var ErrFormat = errors.New("file of components is not usable")

type fileV1 struct {
	Version    int         `json:"version"`
	Components []Component `json:"components"`
}

// Parse reads an operator's file.
func Parse(text []byte) ([]Component, error) {
	if _, err := strictjson.Parse(text, rules); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var f fileV1
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if f.Version != version || len(f.Components) > maxComponents {
		return nil, fmt.Errorf("version %d, %d components: %w", f.Version, len(f.Components), ErrFormat)
	}
	for i := range f.Components {
		if err := f.Components[i].Check(); err != nil {
			return nil, fmt.Errorf("component %d: %w", i, err)
		}
	}
	return f.Components, nil
}

// Format writes an operator's file.
func Format(all []Component) ([]byte, error) {
	if len(all) > maxComponents {
		return nil, fmt.Errorf("%d components: %w", len(all), ErrFormat)
	}
	if all == nil {
		all = []Component{}
	}
	text, err := json.MarshalIndent(fileV1{version, all}, "", "  ")
	return append(text, '\n'), err
}

// Kinds are those that a component may have.
func Kinds() []string {
	return []string{
		eventlog.KindFirmware, eventlog.KindBootLoader, eventlog.KindKernel, eventlog.KindInitrd, eventlog.KindConfig,
		eventlog.KindOptionROM, eventlog.KindBootEntry, eventlog.KindOther,
	}
}

// Check refuses what cannot be shown or found.
func (c *Component) Check() error {
	d, err := hex.DecodeString(c.Digest)
	switch {
	case err != nil || len(d) != sha256.Size || hex.EncodeToString(d) != c.Digest:
		return fmt.Errorf("digest %.80q is not lower-case hex of SHA-256: %w", c.Digest, ErrFormat)
	case !slices.Contains(Kinds(), c.Kind):
		return fmt.Errorf("kind %.40q is none of %s: %w", c.Kind, strings.Join(Kinds(), ", "), ErrFormat)
	}
	for _, text := range []string{c.Name, c.Source} {
		if text == "" || len(text) > maxText || !printable(text) {
			return fmt.Errorf("name or source %.40q is empty, not of printable ASCII, or longer than %d bytes: %w", text, maxText, ErrFormat)
		}
	}
	return nil
}

func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// Digests are those that a boot shows of a file: of a program the one that firmware
// measures, and that of the content, which GRUB measures of each file that it reads.
func Digests(r io.ReaderAt, size int64) ([]string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return nil, err
	}
	out := []string{hex.EncodeToString(h.Sum(nil))}
	image, err := authenticode.Parse(r, size)
	if err != nil {
		return out, nil //nolint:nilerr // it is no program
	}
	d, err := image.Digest(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if text := hex.EncodeToString(d); text != out[0] {
		out = append(out, text)
	}
	return out, nil
}
