package program

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/audit"
)

// A ChainReport is the JSON of audit verify -o json.
type ChainReport struct {
	Whole bool `json:"whole"`
	// Head is the last entry up to which the chain holds.
	Head audit.Head `json:"head"`
	// Break is the first entry at fault; absent when Whole.
	Break *ChainBreak `json:"break,omitempty"`
}

// An UnknownChain is what -o json prints of a chain that could not be read: whether
// it is whole is null.
type UnknownChain struct {
	Whole *bool `json:"whole"`
	Outcome
}

// A ChainBreak names the first entry at fault.
type ChainBreak struct {
	Seq uint64 `json:"seq"`
	Why string `json:"why"`
}

// PrintChain prints a report in words.
func PrintChain(w io.Writer, r ChainReport) error {
	if r.Whole {
		_, err := fmt.Fprintf(w, `The audit chain is whole: %d entries.
head %d:%s
Note the head elsewhere; "--head" with it shows later whether the end was cut.
`, r.Head.Seq, r.Head.Seq, r.Head.Hash)
		return err
	}
	_, err := fmt.Fprintf(w, "The audit chain is broken: entry %d %s.\n", r.Break.Seq, r.Break.Why)
	if err == nil && r.Head.Seq > 0 {
		_, err = fmt.Fprintf(w, "Entries 1 to %d follow one another.\n", r.Head.Seq)
	}
	return err
}

// ReadHeads reads what audit verify printed.
func ReadHeads(texts []string) ([]audit.Head, error) {
	var out []audit.Head
	for _, text := range texts {
		number, hash, _ := strings.Cut(text, ":")
		seq, err := strconv.ParseUint(number, 10, 63)
		h := audit.Head{Seq: seq}
		if err == nil {
			err = h.Hash.UnmarshalText([]byte(hash))
		}
		if err != nil || seq == 0 && h != (audit.Head{}) {
			return nil, fmt.Errorf("--head %q: want SEQ:HASH as audit verify prints it", text)
		}
		out = append(out, h)
	}
	return out, nil
}

// PrintEntries prints entries of a chain, one a line.
func PrintEntries(w io.Writer, entries []audit.Entry) error {
	for _, e := range entries {
		// Names may come from an attacker: quoted, they cannot forge a line.
		_, err := fmt.Fprintf(w, "%d  %s  %q %s %q: %s  %s\n",
			e.Seq, e.Time.Format(time.RFC3339), e.Actor, strconv.Quote(e.Action), e.Subject, strconv.Quote(e.Outcome), e.Detail)
		if err != nil {
			return err
		}
	}
	return nil
}
