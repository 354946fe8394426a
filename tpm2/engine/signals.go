package engine

import (
	"io"
	"sync/atomic"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// signals are what reaches a TPM from its platform beside commands. They are no
// part of its state.
type signals struct {
	canceled     atomic.Bool // set while a command runs, by anybody
	failSelfTest bool
}

// Cancel asks the command that runs, if one does, to end with TPM_RC_CANCELED
// (Part 1, 10.3.4). Only the search for RSA primes does: all else is short. It may
// be called at any time, also while another method runs.
func (t *TPM) Cancel() { t.signals.canceled.Store(true) }

// FailSelfTest has the next self-test fail, so that clients can be tested against
// failure mode (Part 1, 12.4).
func (t *TPM) FailSelfTest() { t.signals.failSelfTest = true }

// SetBufferSize bounds commands and responses to n bytes, as the buffer of the
// interface in front of the TPM does; a guest sees it as TPM_PT_MAX_COMMAND_SIZE. It
// is no part of the state, and never more than the profile has.
func (t *TPM) SetBufferSize(n int) {
	t.limits.Command = min(n, t.profile.Limits.Command)
	t.fixed = nil
}

// failForced enters failure mode when [TPM.FailSelfTest] asked for it.
func (t *TPM) failForced() error {
	if !t.signals.failSelfTest {
		return nil
	}
	t.signals.failSelfTest = false
	t.vol.failed = true
	return tpm2.RCFailure
}

// cancelable returns r for work that [TPM.Cancel] may end.
func (t *TPM) cancelable(r io.Reader) io.Reader { return cancelable{t, r} }

type cancelable struct {
	t *TPM
	r io.Reader
}

func (c cancelable) Read(b []byte) (int, error) {
	if c.t.signals.canceled.Load() {
		return 0, tpm2.RCCanceled
	}
	return c.r.Read(b)
}

// Fresh passes on whether r's bytes are random only, or a primary key's stream
// that nothing may replace.
func (c cancelable) Fresh() bool { return tpmcrypto.Fresh(c.r) }

// Mark passes on whether r can be brought back, for a search that reads ahead.
func (c cancelable) Mark() (back func(), ok bool) { return tpmcrypto.Mark(c.r) }
