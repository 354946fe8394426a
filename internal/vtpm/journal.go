package vtpm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/assay-project/assay/tpm2/engine"
)

// A Journal is how much a running TPM has recorded of its measurements since power came
// on. The records themselves are for the owner of the process alone ([Instance.Follow]).
type Journal struct {
	Records int    `json:"records"`
	Dropped uint64 `json:"dropped"` // that came when it was full
	Omitted uint64 `json:"omitted"` // of PCR 10 and from 16 on, that came when it was half full
	// AtLeast is set when more may have been omitted than was counted.
	AtLeast bool `json:"omittedAtLeast,omitempty"`
}

// How long one that looks at a journal waits for the guest's command, and how often it looks.
// A short command ends in that time; one that makes a key may hold the TPM for more than a
// minute ([Limits]).
const (
	journalWait  = 100 * time.Millisecond
	journalPause = time.Millisecond
)

// journal looks at the TPM between two commands. It is nil when the guest's command takes
// long, and when ctx ends before it.
func (i *Instance) journal(ctx context.Context) *Journal {
	ctx, cancel := context.WithTimeout(ctx, journalWait)
	defer cancel()
	again := time.NewTicker(journalPause)
	defer again.Stop()
	var j Journal
	for !i.machine.TryBetween(func() { j = journalOf(i.volatile.tpm) }) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
	return &j
}

// journalOf looks at a TPM that nothing else uses.
func journalOf(t *engine.TPM) (j Journal) {
	records, _ := t.JournalSince(0)
	j.Records = len(records)
	_, j.Dropped = t.JournalSize()
	n, exact := t.JournalOmitted()
	j.Omitted, j.AtLeast = n, !exact
	return j
}

// String says it in a line.
func (j *Journal) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d records since power on", j.Records)
	switch {
	case j.AtLeast:
		fmt.Fprintf(&s, "; %d or more of PCR 10 and from 16 on not kept", j.Omitted)
	case j.Omitted != 0:
		fmt.Fprintf(&s, "; %d of PCR 10 and from 16 on not kept", j.Omitted)
	}
	if j.Dropped != 0 {
		fmt.Fprintf(&s, "; full, %d more not kept", j.Dropped)
	}
	return s.String()
}
