package finding

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// ErrFormat is a file of findings that is damaged, or that a newer program wrote.
var ErrFormat = errors.New("file of findings is damaged")

const (
	formatName    = "assay findings"
	formatVersion = 2 // 1 had no findings that moved
	oldestVersion = 1
	maxFile       = 256 << 20
	maxChangeFile = 1 << 20
)

// file is the text of a book (docs/formats/findings.md).
type file struct {
	Format       string        `json:"format"`
	Version      int           `json:"version"`
	OldestReader int           `json:"oldestReader"`
	Origin       string        `json:"origin"`
	NextID       int           `json:"nextId"`
	Changes      uint64        `json:"changes,string"`
	Findings     []record      `json:"findings"`
	Suppressions []Suppression `json:"suppressions"`
}

var (
	bookRules   = strictjson.Rules{Bytes: maxFile, Depth: 6, Members: 32, Values: 1 << 24, FoldNames: true}
	changeRules = strictjson.Rules{Bytes: maxChangeFile, Depth: 6, Members: 32, Values: 4096, FoldNames: true}
)

// decode reads JSON that has nothing unknown, nothing twice and nothing after it.
func decode(text []byte, rules strictjson.Rules, to any) error {
	if _, err := strictjson.Parse(text, rules); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// MarshalJSON writes the format of docs/formats/findings.md.
func (b *Book) MarshalJSON() ([]byte, error) {
	return json.Marshal(file{
		formatName, formatVersion, formatVersion, b.origin, b.nextID, b.changes,
		append([]record{}, b.records...), append([]Suppression{}, b.suppressions...),
	})
}

// Parse reads what [Book.MarshalJSON] wrote. What is unknown, stands twice or
// contradicts itself is an error.
func Parse(text []byte) (*Book, error) {
	var f file
	if err := decode(text, bookRules, &f); err != nil {
		return nil, err
	}
	if f.Format != formatName || f.OldestReader < oldestVersion || f.OldestReader > formatVersion || f.Version < f.OldestReader {
		return nil, fmt.Errorf("%w: format %.40q, version %d", ErrFormat, f.Format, f.Version)
	}
	if id, err := hex.DecodeString(f.Origin); err != nil || len(id) != originSize || hex.EncodeToString(id) != f.Origin {
		return nil, fmt.Errorf("%w: origin", ErrFormat)
	}
	if len(f.Findings) > maxFindings || len(f.Suppressions) > maxSuppressions || f.NextID < 1 {
		return nil, fmt.Errorf("%w: %d findings, %d suppressions, next %d", ErrFormat, len(f.Findings), len(f.Suppressions), f.NextID)
	}
	last := 0
	for i := range f.Findings {
		r := &f.Findings[i]
		if err := r.check(); err != nil || r.ID <= last || r.ID >= f.NextID {
			return nil, fmt.Errorf("%w: finding %d: %w", ErrFormat, r.ID, errors.Join(err, errPlace))
		}
		last = r.ID
	}
	for i := range f.Suppressions {
		if err := f.Suppressions[i].check(); err != nil {
			return nil, fmt.Errorf("%w: suppression %d: %w", ErrFormat, i, err)
		}
	}
	return &Book{origin: f.Origin, nextID: f.NextID, changes: f.Changes, records: f.Findings, suppressions: f.Suppressions}, nil
}

var errPlace = errors.New("a member is wrong, or it stands at another's place")

func (r *record) check() error {
	_, known := lookup(r.Kind)
	switch {
	case !known:
		return fmt.Errorf("kind %.80q is not known", r.Kind)
	case r.Count < 1 || r.Count > maxCount || len(r.Reasons) > maxReasons || len(r.History) > maxHistory:
		return fmt.Errorf("%d times, %d reasons, %d steps", r.Count, len(r.Reasons), len(r.History))
	case r.Told != "" && !slices.Contains(states, r.Told):
		return fmt.Errorf("state %.20q is not known", r.Told)
	}
	if r.From != nil {
		if err := r.From.check(); err != nil {
			return err
		}
	}
	for _, s := range r.History {
		if !slices.Contains(states, s.State) {
			return fmt.Errorf("state %.20q is not known", s.State)
		}
	}
	if r.Reasons == nil {
		r.Reasons = []evidence.Reason{}
	}
	if r.History == nil {
		r.History = []Step{}
	}
	return nil
}

// queued is the file of one change that is to be delivered.
type queued struct {
	Version int    `json:"version"`
	Origin  string `json:"origin"`
	Change  Change `json:"change"`
}

// ParseChange reads a file of the queue: the book's origin, and the change.
func ParseChange(text []byte) (origin string, c Change, err error) {
	var q queued
	if err := decode(text, changeRules, &q); err != nil {
		return "", Change{}, err
	}
	if q.Version < oldestVersion || q.Version > formatVersion || q.Change.Number == 0 || q.Origin == "" {
		return "", Change{}, fmt.Errorf("%w: version %d, change %d", ErrFormat, q.Version, q.Change.Number)
	}
	return q.Origin, q.Change, nil
}
