// Package maa writes a confirmed log as the claim "events" that policies for Azure
// Attestation query.
//
// [Events] takes a log whose registers a quote signed and nothing else, and states
// no more than [eventlog.Confirmed.Proofs] does: of every other event only the
// register, the place and the digest appear, so that a query by type or content
// finds nothing that nobody proved. What cannot be told apart from another meaning
// is left out, never guessed; docs/policy.md lists what is not there.
//
// Azure Attestation documents the claim by examples, in the policies of version 1.2.
package maa

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/uefi"
)

// maxText bounds the claim. The largest log on record makes under 200 KB.
const maxText = 2 << 20

// An event is one element of the list. Members that say nothing are absent.
type event struct {
	EventSeq        int
	PcrIndex        int
	EventTypeString string `json:",omitempty"`
	Digests         map[string]string
	ProcessedData   map[string]any `json:",omitempty"`
}

// Events returns the JSON text of the claim; ok is false when nothing is proven, or
// when the text would exceed its bound.
func Events(boot *eventlog.Confirmed) (text string, ok bool) {
	proofs := boot.Proofs()
	if len(proofs) == 0 {
		return "", false
	}
	windows := readTags(proofs)
	bank := strings.ToUpper(boot.Bank().BankName())
	var doc struct{ Events []event }
	size := 0
	for i := range proofs {
		p := &proofs[i]
		e := event{EventSeq: p.Event, PcrIndex: p.PCR, Digests: map[string]string{bank: hex.EncodeToString(p.Digest)}}
		if p.Stated {
			state(&e, p, windows)
		}
		// The bound holds before the text is made: it is some four times the data.
		if size += 256 + 4*len(p.Data); size > 2*maxText {
			return "", false
		}
		doc.Events = append(doc.Events, e)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("unreachable: texts and numbers marshal: %v", err))
	}
	return string(b), len(b) <= maxText
}

// state adds what is proven of the type and the data of an event. A tagged event
// without a reading states nothing.
func state(e *event, p *eventlog.Proof, windows map[int]map[string]any) {
	switch p.Type {
	case eventlog.EventTag:
		if e.ProcessedData = windows[p.Event]; e.ProcessedData == nil {
			return
		}
	case eventlog.EFIVariableDriverConfig:
		v, err := uefi.ParseVariableData(p.Data)
		if err != nil {
			return
		}
		e.ProcessedData = map[string]any{
			"VariableGuid": strings.ToUpper(v.Vendor.String()),
			"UnicodeName":  v.Name(),
			"VariableData": base64.RawURLEncoding.EncodeToString(v.Data),
		}
	}
	e.EventTypeString = p.Type.String()
}
