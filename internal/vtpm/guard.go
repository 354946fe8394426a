package vtpm

import (
	"encoding/binary"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2"
)

// Limits hold each TPM of a process, so that none takes from the others. What is
// zero has its default. Memory needs no number: a profile bounds what a TPM
// keeps, and a front end what it reads.
type Limits struct {
	// Heavy is how many commands that look for RSA primes run at once, of all TPMs
	// together; each TPM waits its turn. Default: one less than the processors, and
	// at least one, so that short commands always find a processor.
	Heavy int
	// HeavyWait is how long such a command waits for its turn before the guest is
	// told to try again; HeavyTime how long it may run. Defaults: 20 s and 60 s.
	HeavyWait, HeavyTime time.Duration
	// Saves is how many times a second a TPM's state may be written, and SaveBurst
	// how many times more it may at once. Its guest waits. Defaults: 200 and 2000.
	Saves     float64
	SaveBurst int
	// Sessions is how many times a second a hypervisor may connect to a TPM, start a
	// state that does not open, or have state arrive, each of which leaves an event in
	// the trail of all; SessionBurst is how many times more it may at once. Defaults: 2
	// and 200.
	Sessions     float64
	SessionBurst int
	// Starts is how many states are opened at once. Default: 16.
	Starts int
	// StartTime is how long a start tries a key provider that does not answer.
	// Default: 10 s.
	StartTime time.Duration
}

func (l Limits) orDefault() Limits {
	defaultTo(&l.Heavy, max(1, runtime.GOMAXPROCS(0)-1))
	defaultTo(&l.HeavyWait, 20*time.Second)
	defaultTo(&l.HeavyTime, time.Minute)
	defaultTo(&l.Saves, 200)
	defaultTo(&l.SaveBurst, 2000)
	defaultTo(&l.Sessions, 2)
	defaultTo(&l.SessionBurst, 200)
	defaultTo(&l.Starts, 16)
	defaultTo(&l.StartTime, 10*time.Second)
	return l
}

func defaultTo[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

// A lane lets a few through at a time, the others in the order of their coming.
type lane chan struct{}

func newLane(n int) lane { return make(lane, n) }

// enter waits for a place until after fires, and reports whether there was one.
func (l lane) enter(wait time.Duration) bool {
	select {
	case l <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case l <- struct{}{}:
		return true
	case <-t.C:
		return false
	}
}

func (l lane) leave() { <-l }

// guarded is a TPM whose heavy commands share a lane with those of others.
type guarded struct {
	frontend.TPM
	root *Root
	// limited is told that a command was held to a limit.
	limited func(what string)
}

// Execute runs a command.
func (g *guarded) Execute(locality uint8, request []byte) []byte {
	if !IsHeavy(request) {
		return g.TPM.Execute(locality, request)
	}
	limits := &g.root.cfg.Limits
	if !g.root.heavy.enter(limits.HeavyWait) {
		g.limited("a key waited too long for its turn to be made")
		return refusal(tpm2.RCRetry)
	}
	defer g.root.heavy.leave()
	// Part 1, 10.3.4: a command that is cancelled answers TPM_RC_CANCELED.
	t := time.AfterFunc(limits.HeavyTime, func() {
		g.limited("a key took too long to be made")
		g.Cancel()
	})
	defer t.Stop()
	return g.TPM.Execute(locality, request)
}

// refusal is a response that carries only a code (Part 1, 18.6).
func refusal(rc tpm2.RC) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0x80, 0x01}, 10)
	return binary.BigEndian.AppendUint32(b, uint32(rc))
}

// IsHeavy reports whether a command makes an RSA key: all others are short.
func IsHeavy(request []byte) bool {
	if len(request) < 10 {
		return false
	}
	switch tpm2.CC(binary.BigEndian.Uint32(request[6:])) {
	case tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded:
		return publicType(request[10:]) == tpm2.AlgRSA
	}
	return false
}

// publicType is the type in the public area of a command that makes an object:
// one handle, the authorizations, inSensitive, inPublic (Part 3, 12.1, 12.9, 24.1).
// AlgError when the command is not laid out so: the TPM refuses it at once.
func publicType(b []byte) tpm2.Alg {
	const handle = 4
	if len(b) < handle+4 {
		return tpm2.AlgError
	}
	n := binary.BigEndian.Uint32(b[handle:])
	if b = b[handle+4:]; uint64(n)+2 > uint64(len(b)) {
		return tpm2.AlgError
	}
	b = b[n:]
	sensitive := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; sensitive+4 > len(b) {
		return tpm2.AlgError
	}
	return tpm2.Alg(binary.BigEndian.Uint16(b[sensitive+2:]))
}

// newSaves is the limit of one TPM's writes.
func (l *Limits) newSaves() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(l.Saves), l.SaveBurst)
}

// newTurns is the limit of what one TPM's hypervisor leaves in the trail.
func (l *Limits) newTurns() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(l.Sessions), l.SessionBurst)
}
