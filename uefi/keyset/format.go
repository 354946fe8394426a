package keyset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
)

// ErrFormat is a text that is no key set.
var ErrFormat = errors.New("not a key set")

const (
	formatVersion = 1
	// MaxFormat bounds the text of a set.
	MaxFormat = 4 << 20
)

// document is the text form of a set (docs/formats/keyset.md).
type document struct {
	Version      int       `json:"version"`
	OldestReader int       `json:"oldestReader"`
	Name         string    `json:"name"`
	Kind         Kind      `json:"kind"`
	Owner        string    `json:"owner"`
	Created      time.Time `json:"created"`
	Updated      time.Time `json:"updated"`
	PK           []byte    `json:"PK,omitempty"`
	KEK          []byte    `json:"KEK,omitempty"`
	DB           []byte    `json:"db,omitempty"`
	DBX          []byte    `json:"dbx,omitempty"`
}

func (d *document) lists() map[sigdb.Role]*[]byte {
	return map[sigdb.Role]*[]byte{sigdb.PK: &d.PK, sigdb.KEK: &d.KEK, sigdb.DB: &d.DB, sigdb.DBX: &d.DBX}
}

// MarshalJSON writes the set. It holds nothing secret.
func (s *Set) MarshalJSON() ([]byte, error) {
	d := document{
		Version: formatVersion, OldestReader: formatVersion, Name: s.Name, Kind: s.Kind,
		Owner: s.Owner.String(), Created: s.Created, Updated: s.Updated,
	}
	for r, to := range d.lists() {
		*to = sigdb.Encode(s.lists[r])
	}
	return json.Marshal(&d)
}

// Parse reads what [Set.MarshalJSON] writes.
func Parse(text []byte) (*Set, error) {
	if _, err := strictjson.Parse(text, strictjson.Rules{Bytes: MaxFormat, Depth: 2, Members: 16, Values: 32, FoldNames: true}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if d.OldestReader != formatVersion || d.Version < formatVersion {
		return nil, fmt.Errorf("%w: version %d, for readers from %d on", ErrFormat, d.Version, d.OldestReader)
	}
	owner, err := uefi.ParseGUID(d.Owner)
	if err != nil {
		return nil, fmt.Errorf("%w: owner: %w", ErrFormat, err)
	}
	s := &Set{Name: d.Name, Kind: d.Kind, Owner: owner, Created: d.Created.UTC(), Updated: d.Updated.UTC(), lists: map[sigdb.Role][]sigdb.Signature{}}
	if !ValidName(d.Name) || !slices.Contains(Kinds(), d.Kind) || s.Updated.Nanosecond() != 0 || s.Updated.Year() < 1998 || s.Updated.Year() > 9998 {
		return nil, fmt.Errorf("%w: name, kind or time", ErrFormat)
	}
	for r, b := range d.lists() {
		if err := s.parseList(r, *b); err != nil {
			return nil, err
		}
	}
	if n := len(s.lists[sigdb.PK]); n != 1 && d.Kind != SetupMode || d.Kind == SetupMode && n+len(s.lists[sigdb.KEK])+len(s.lists[sigdb.DB])+len(s.lists[sigdb.DBX]) > 0 {
		return nil, fmt.Errorf("%w: PK has %d keys", ErrFormat, n)
	}
	return s, nil
}

func (s *Set) parseList(r sigdb.Role, b []byte) error {
	d, err := sigdb.Parse(b)
	if err == nil {
		err = sigdb.CheckList(r, b)
	}
	if err != nil {
		return fmt.Errorf("%w: %v: %w", ErrFormat, r, err)
	}
	if entries := slices.Collect(d.All()); len(entries) > 0 {
		s.lists[r] = entries
	}
	return nil
}
