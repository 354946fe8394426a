//go:build unix

package place

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/assay-project/assay/internal/strictjson"
)

// A Record is sealed with the state of a TPM that is known by its place.
type Record struct {
	Version int    `json:"version"`
	MadeBy  string `json:"madeBy"`
	Profile string `json:"profile"`
	// Place is what the state belongs to; empty in what was made before places were kept.
	Place string `json:"place,omitempty"`
}

// recordVersion is that of records with a place. Version 1 had none.
const recordVersion = 2

// Record is r as it is sealed with a state of this place.
func (h *Home) Record(r Record) ([]byte, error) {
	r.Version, r.Place = recordVersion, h.name
	return json.Marshal(r)
}

// recordRules bound a record.
func recordRules() strictjson.Rules {
	return strictjson.Rules{Bytes: 1 << 20, Depth: 8, Members: 64, Values: 4096}
}

// parseRecord reads what [Home.Record] wrote. A state of serve --state that was made
// before places were kept has no record.
func parseRecord(text []byte) (Record, error) {
	var r Record
	if len(text) == 0 {
		return r, nil
	}
	if _, err := strictjson.Parse(text, recordRules()); err != nil {
		return r, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, err
	}
	if r.Version < 1 || r.Version > recordVersion {
		return r, fmt.Errorf("version %d is not known", r.Version)
	}
	return r, nil
}
