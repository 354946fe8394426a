// Package evidencetest makes evidence for tests: bundles of recorded boots, and a
// fake TPM whose quotes tests can sign or break field by field.
//
// It verifies nothing and is imported by tests only. Start with [Recorded] and
// [NewTPM]. Where the recorded files come from is in testdata/README.md.
package evidencetest

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
)

// Quote is one member of a bundle's quotes.
type Quote struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
}

// Parts are the members of a bundle of type tpm. Members without a value are
// left out of the JSON.
type Parts struct {
	Type     string                       `json:"type"`
	Quotes   []Quote                      `json:"quotes,omitempty"`
	PCRs     map[string]map[string]string `json:"pcrs,omitempty"`
	AKPublic []byte                       `json:"akPublic,omitempty"`
	AKCert   []byte                       `json:"akCert,omitempty"`
	EKPublic []byte                       `json:"ekPublic,omitempty"`
	EKCert   []byte                       `json:"ekCert,omitempty"`
	CACerts  [][]byte                     `json:"caCerts,omitempty"`
	EventLog []byte                       `json:"eventLog,omitempty"`
	IMALog   []byte                       `json:"imaLog,omitempty"`
	Nonce    []byte                       `json:"nonce,omitempty"`
	Time     string                       `json:"time,omitempty"`
}

// JSON returns the bundle's text.
func (p Parts) JSON(tb testing.TB) []byte {
	tb.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Clone copies p so deep that a test may change any byte.
func (p Parts) Clone() Parts {
	p.Quotes = slices.Clone(p.Quotes)
	for i, q := range p.Quotes {
		p.Quotes[i] = Quote{slices.Clone(q.Attest), slices.Clone(q.Signature)}
	}
	p.PCRs = maps.Clone(p.PCRs)
	for bank, values := range p.PCRs {
		p.PCRs[bank] = maps.Clone(values)
	}
	for _, b := range []*[]byte{&p.AKPublic, &p.AKCert, &p.EKPublic, &p.EKCert, &p.EventLog, &p.IMALog, &p.Nonce} {
		*b = slices.Clone(*b)
	}
	p.CACerts = slices.Clone(p.CACerts)
	return p
}
