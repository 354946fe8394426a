// Package engine is a TPM 2.0: commands in, responses out, all state in memory.
//
// A [TPM] reads no clock, disk or network and starts no goroutine: time and
// randomness come in through [Config], and what must survive a power loss leaves
// through [TPM.Permanent], which its owner writes before the response leaves. The
// package proves nothing about who sends commands; a guest is hostile, and a
// fault of ours puts this one TPM in failure mode, by whatever method it is met.
//
// Read [TPM.Execute] first. Part 3 has one file here for each of its chapters.
//
// TPM 2.0 Library, Parts 1 to 3, version 1.83, with the post-quantum commands of 1.85.
package engine

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Config is what a TPM takes from the machine that it runs on.
type Config struct {
	// Random is the entropy source of the TPM's own random bit generator. Required.
	Random io.Reader
	// Now returns a time that only goes forward; the TPM uses differences. Required.
	Now func() time.Duration
	// Panic is told of a fault of ours that put the TPM in failure mode. May be nil.
	Panic func(value any, stack []byte)
}

func (c *Config) check() error {
	if c.Random == nil || c.Now == nil {
		return errors.New("a TPM needs a source of randomness and of time")
	}
	return nil
}

// A TPM is one TPM 2.0. It is not safe for concurrent use. It holds secrets: no
// method prints or returns them but [TPM.Permanent] and [TPM.Volatile].
type TPM struct {
	cfg     Config
	profile *Profile
	limits  Limits
	random  *tpmcrypto.DRBG
	// validated says that the validated module computes. It is of this process, not of
	// the state: a TPM that moves is told by where it is.
	validated bool

	permanent permanent  // survives everything but manufacture
	orderly   orderly    // survives an orderly shutdown; else what was last written
	clear     stateClear // survives TPM2_Shutdown(STATE) until Startup(STATE)
	reset     stateReset // the same, and TPM Restart too
	vol       volatile   // does not survive _TPM_Init

	changed bool // permanent state differs from what Permanent last returned
	torn    bool // a fault of ours may have left the state half changed
	// inherited says that what a shutdown kept for the next startup may be that of
	// other TPMs, too: its commitments are void then.
	inherited bool
	journal   journal
	offered   []tpm2.CommandAttributes  // list of commands, once it was asked for
	spare     []bankHash                // of an event sequence that has gone; nobody else has them
	fixed     []tpm2.TaggedProperty     // the properties PT_FIXED, once one was asked for
	tests     []tpm2.Alg                // algorithms that can be tested, once a test was asked for
	resp      []byte                    // of the last command; reused
	call      call                      // of the present command; reused
	codec     wire.Codec                // of its parameters; reused
	scratch   wire.Buffer               // for what is encoded to be hashed or encrypted; reused
	pcrValues [maxPCRRead]tpm2.Digest2B // of TPM2_PCR_Read, which aliases the PCRs; reused
	digest    [tpm2.MaxDigest]byte      // of TPM2_Hash and TPM2_PolicyPCR; reused
	offers    offer                     // for codec
	macs      macs
	signals   signals
}

// Manufacture makes a new TPM of profile p, with new seeds and no power: call
// [TPM.PowerOn], then send TPM2_Startup.
func Manufacture(p *Profile, cfg Config) (_ *TPM, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &TPM{cfg: cfg, profile: p, limits: p.Limits, validated: tpmcrypto.Validated()}
	defer t.fault(&err)
	random, err := tpmcrypto.NewDRBG(cfg.Random, personalization(p))
	if err != nil {
		return nil, fmt.Errorf("seed the random bit generator: %w", err)
	}
	t.random = random
	t.manufacture()
	return t, nil
}

// PowerOn is _TPM_Init (Part 1, 12.2.2): what is volatile is gone, and the next
// command must be TPM2_Startup. The time since power on starts at zero.
func (t *TPM) PowerOn() {
	defer t.fault(nil)
	t.vol = t.newVolatile()
	t.macs.forget()
	t.reset.dropLoaded(len(t.vol.sessions)) // a snapshot before TPM2_Startup has slots, and none in them
	t.journal.restart()
	t.record(JournalRecord{Kind: JournalInit})
}

// Format prints nothing of the TPM, which holds secrets, under any verb.
func (t *TPM) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[TPM]") }

// Execute runs one command and returns the response, which is valid until the
// next call and always well formed. The locality is that of the interface over
// which the command came (PTP, 6.2).
func (t *TPM) Execute(locality uint8, request []byte) (response []byte) {
	defer func() {
		if v := recover(); v != nil {
			response = t.panicked(v)
		}
	}()
	t.signals.canceled.Store(false) // Cancel is for the command that runs
	t.advance()
	t.noteLocality(locality)
	t.abandonHash()
	return t.execute(locality, request)
}

// ErrFault is returned by a TPM that met a fault of ours: its state may be half
// changed, so it is not given out any more.
var ErrFault = errors.New("the TPM is in failure mode by a fault of this program")

// fault is deferred by what the platform calls: a panic puts this TPM in failure
// mode and ends here. An err that is not nil is told of it.
func (t *TPM) fault(err *error) {
	v := recover()
	if v == nil {
		return
	}
	t.panicked(v)
	if err != nil {
		*err = ErrFault
	}
}

// panicked puts the TPM in failure mode: a state that a fault may have torn must
// not serve another command (Part 1, 12.4).
func (t *TPM) panicked(v any) []byte {
	t.torn, t.vol.failed = true, true
	if t.cfg.Panic != nil {
		t.cfg.Panic(v, debug.Stack())
	}
	return t.errorResponse(tpm2.RCFailure)
}

// SetPhysicalPresence says whether a person is at the machine (Part 1, 37.6).
func (t *TPM) SetPhysicalPresence(present bool) { t.vol.presence = present }

// Changed reports whether permanent state differs from what [TPM.Permanent] last
// returned. The owner writes it before the response of the command leaves. After a
// fault of ours it reports false for ever: the state last written is the good one,
// and [Restore] goes on from it.
func (t *TPM) Changed() bool { return t.changed && !t.torn }

// newBytes returns n random bytes of the TPM's generator.
//
//go:noinline
func (t *TPM) newBytes(n int) []byte {
	b := make([]byte, n)
	t.fillRandom(b)
	return b
}

// fillRandom fills b. A generator that cannot deliver is a failure of the TPM,
// which the dispatcher turns into failure mode.
func (t *TPM) fillRandom(b []byte) {
	if _, err := io.ReadFull(t.random, b); err != nil {
		panic(fmt.Errorf("random bit generator: %w", err))
	}
}
