//go:build unix

package place

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/assay-project/assay/internal/vtpm/state"
)

// NoLedger in the place of a ledger's folder declines one.
const NoLedger = "none"

// A Ledger is the ledger that a TPM is kept under, or the reason why there is none. A
// nil Ledger is none.
type Ledger struct {
	ledger *state.Ledger // nil for none
	why    error
	no     bool // the operator declined one
	must   bool // nothing is served without it
}

// OpenLedger opens the ledger in a folder, which is made when it is missing. That it
// cannot be used is no error here: a TPM says what that means for it. With required,
// none is served without it.
func OpenLedger(dir string, required bool) *Ledger {
	l := &Ledger{must: required}
	if dir == NoLedger {
		l.no, l.why = true, errors.New("a ledger is declined")
		return l
	}
	l.ledger, l.why = openLedger(dir)
	return l
}

// Absent is the ledger of somebody who has no folder for one.
func Absent(why error, required bool) *Ledger { return &Ledger{why: why, must: required} }

func openLedger(dir string) (*state.Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	l, err := state.OpenLedger(dir)
	if err != nil {
		return nil, err
	}
	const writable = 2 | 1 // W_OK and X_OK
	if err := syscall.Access(dir, writable); err != nil {
		return nil, fmt.Errorf("write to %q: %w", dir, err)
	}
	return l, nil
}

// use is the ledger, nil for none.
func (l *Ledger) use() *state.Ledger {
	if l == nil {
		return nil
	}
	return l.ledger
}

func (l *Ledger) declined() bool { return l != nil && l.no }
func (l *Ledger) required() bool { return l != nil && l.must }

// reason says why there is none.
func (l *Ledger) reason() error {
	if l == nil || l.why == nil {
		return errors.New("no ledger is configured")
	}
	return l.why
}

// demand is an error when a ledger is required, and there is none.
func (l *Ledger) demand() error {
	if l.required() && l.use() == nil {
		return fmt.Errorf("%w: %w", ErrLedger, l.reason())
	}
	return nil
}

// Close closes the ledger's files.
func (l *Ledger) Close() error {
	if l.use() == nil {
		return nil
	}
	return l.ledger.Close()
}
