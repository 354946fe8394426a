package vtpm

import (
	"fmt"
	"strings"
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

// journal looks at the TPM between two commands.
func (i *Instance) journal() *Journal {
	var j Journal
	i.machine.Between(func() {
		t := i.volatile.tpm
		records, _ := t.JournalSince(0)
		j.Records = len(records)
		_, j.Dropped = t.JournalSize()
		n, exact := t.JournalOmitted()
		j.Omitted, j.AtLeast = n, !exact
	})
	return &j
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
