package ekca

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
)

// A journalEntry is one line of what the authority did. Lines are only appended,
// and are durable before what they tell of leaves.
type journalEntry struct {
	Type   entryType `json:"type"`
	Time   time.Time `json:"time"`
	By     string    `json:"by"` // whose certificate or list: ca, platform, ca2, …
	Serial string    `json:"serial,omitempty"`
	Kind   string    `json:"kind,omitempty"`
	TPM    string    `json:"tpm,omitempty"`
	Name   string    `json:"name,omitempty"`
	Holder string    `json:"holder,omitempty"` // of a platform certificate: serial number of the key's
	Reason Reason    `json:"reason,omitempty"`
	Number string    `json:"number,omitempty"` // of a list
}

type entryType string

const (
	entryIssue  entryType = "issue"
	entryRevoke entryType = "revoke"
	entryList   entryType = "list"
)

// A Reason says why a certificate is revoked (RFC 5280, 5.3.1).
type Reason string

// The reasons.
const (
	Unspecified   Reason = "unspecified"
	KeyCompromise Reason = "keyCompromise" // as when a TPM's state was copied
	Superseded    Reason = "superseded"    // another certificate, or another TPM, is in its place
	Cessation     Reason = "cessationOfOperation"
	Withdrawn     Reason = "privilegeWithdrawn"
)

func (r Reason) code() (int, bool) {
	switch r {
	case Unspecified:
		return 0, true
	case KeyCompromise:
		return 1, true
	case Superseded:
		return 4, true
	case Cessation:
		return 5, true
	case Withdrawn:
		return 9, true
	}
	return 0, false
}

// Reasons lists the reasons.
func Reasons() []Reason {
	return []Reason{Unspecified, KeyCompromise, Superseded, Cessation, Withdrawn}
}

// hexSerial is a serial number as the journal and the command line have it.
func hexSerial(n *big.Int) string { return fmt.Sprintf("%x", n) }

// lock takes the folder for this process: changes of its journal are one at a time.
func (a *Authority) lock(ctx context.Context) (unlock func(), err error) {
	a.mu.Lock()
	for {
		l, err := durable.LockDir(a.dir)
		if err == nil {
			unlock = func() { l.Close(); a.mu.Unlock() } //nolint:errcheck // closing a lock file
			if err = a.mustBeNewest(); err != nil {
				unlock()
				return nil, err
			}
			return unlock, nil
		}
		if !errors.Is(err, durable.ErrLocked) {
			a.mu.Unlock()
			return nil, err
		}
		select { // another process has it for the time of one write
		case <-ctx.Done():
			a.mu.Unlock()
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mustBeNewest holds that the folder has no later generation than was opened: an old
// authority would not publish what a newer one revokes.
func (a *Authority) mustBeNewest() error {
	now := &Authority{dir: a.dir}
	if err := now.readFile(); err != nil {
		return err
	}
	if now.file.newest() != a.number {
		return ErrStale
	}
	return nil
}

// record appends entries, durably.
func (a *Authority) record(ctx context.Context, entries ...journalEntry) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return a.append(entries...)
}

// append writes entries in one piece; the caller has the lock. A line that a crash
// cut short is of something that never left, and is dropped.
func (a *Authority) append(entries ...journalEntry) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range entries {
		if err := enc.Encode(&entries[i]); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(a.path(journalFile), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("journal of the authority: %w", err)
	}
	defer f.Close()
	end, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.WriteAt(b.Bytes(), end)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("journal of the authority: %w", err)
	}
	return nil
}

// maxLine bounds a line of the journal in bytes.
const maxLine = 4 << 10

// wholeLines returns the length of f up to the end of its last whole line.
func wholeLines(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return 0, err
	}
	n := min(end, maxLine+1)
	tail := make([]byte, n)
	if _, err := f.ReadAt(tail, end-n); err != nil {
		return 0, err
	}
	at := bytes.LastIndexByte(tail, '\n')
	if at < 0 && n <= maxLine {
		return 0, nil // one line, cut short
	}
	if at < 0 {
		return 0, fmt.Errorf("line of more than %d bytes: %w", maxLine, ErrAuthority)
	}
	return end - n + int64(at) + 1, nil
}

// walk calls visit for every entry.
func (a *Authority) walk(visit func(*journalEntry) error) error {
	f, err := os.Open(a.path(journalFile))
	if err != nil {
		return fmt.Errorf("journal of the authority: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil // what is left is a line that was cut short
		}
		if err != nil {
			return fmt.Errorf("journal of the authority, line %d: %w: %w", n, err, ErrAuthority)
		}
		e := new(journalEntry)
		if err := decodeStrict(line, e); err != nil {
			return fmt.Errorf("journal of the authority, line %d: %w: %w", n, err, ErrAuthority)
		}
		if err := visit(e); err != nil {
			return err
		}
	}
}

// An IssuedCertificate is what the journal knows of a certificate.
type IssuedCertificate struct {
	Serial  string     `json:"serial"` // hex
	By      string     `json:"by"`     // ca or platform; ca2, platform2, … of later generations
	Kind    string     `json:"kind"`
	TPM     string     `json:"tpm"`
	Name    string     `json:"name,omitempty"`
	Holder  string     `json:"holder,omitempty"` // of a platform certificate: serial number of the key's
	Issued  time.Time  `json:"issued"`
	Revoked *time.Time `json:"revoked,omitempty"`
	Reason  Reason     `json:"reason,omitempty"`
}

// Issued lists certificates in the order in which they were issued; those of one
// TPM when tpm is not empty.
func (a *Authority) Issued(tpm string) ([]IssuedCertificate, error) {
	var out []IssuedCertificate
	at := map[string]int{}
	err := a.walk(func(e *journalEntry) error {
		key := e.By + " " + e.Serial
		switch n, known := at[key]; {
		case e.Type == entryIssue && (tpm == "" || e.TPM == tpm):
			at[key] = len(out)
			out = append(out, IssuedCertificate{Serial: e.Serial, By: e.By, Kind: e.Kind, TPM: e.TPM, Name: e.Name, Holder: e.Holder, Issued: e.Time})
		case e.Type == entryRevoke && known:
			when := e.Time
			out[n].Revoked, out[n].Reason = &when, e.Reason
		}
		return nil
	})
	return out, err
}
