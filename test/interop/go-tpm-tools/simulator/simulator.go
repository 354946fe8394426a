// Package simulator stands in for go-tpm-tools' cgo simulator: the same names,
// over a TPM of tpm2/tpmtest. With it, tests written for that simulator run over
// this project's engine unchanged.
//
// Unlike the original, any number may be open at a time. The keys of a fixed
// seed are not the original's: the derivation of primary keys is each TPM's own.
//
// Start with [Get].
package simulator

import (
	"errors"
	"fmt"

	"github.com/assay-project/assay/tpm2/tpmtest"
)

// ErrUsingClosedSimulator is the error of a simulator that was closed.
var ErrUsingClosedSimulator = errors.New("attempting to use a closed simulator")

// A Simulator is one TPM.
type Simulator struct {
	cfg    tpmtest.Config
	tpm    *tpmtest.TPM
	closed bool
}

// profile is that of the original, whose limits go-tpm's tests know.
const profile = "reference"

// Get returns a new TPM, started.
func Get() (*Simulator, error) { return open(tpmtest.Config{Profile: profile}) }

// GetWithFixedSeedInsecure returns a TPM whose keys follow from the seed.
func GetWithFixedSeedInsecure(seed int64) (*Simulator, error) {
	return open(tpmtest.Config{Profile: profile, Seed: fmt.Appendf(nil, "%d", seed)})
}

func open(cfg tpmtest.Config) (*Simulator, error) {
	tpm, err := tpmtest.New(cfg)
	return &Simulator{cfg: cfg, tpm: tpm}, err
}

// Reset is an orderly reboot.
func (s *Simulator) Reset() error {
	if s.closed {
		return ErrUsingClosedSimulator
	}
	return s.tpm.Reset()
}

// ManufactureReset replaces the TPM by a new one.
func (s *Simulator) ManufactureReset() error {
	if s.closed {
		return ErrUsingClosedSimulator
	}
	tpm, err := tpmtest.New(tpmtest.Config{Profile: profile})
	s.tpm = tpm
	return err
}

// Write runs a command.
func (s *Simulator) Write(command []byte) (int, error) {
	if s.closed {
		return 0, ErrUsingClosedSimulator
	}
	return s.tpm.Write(command)
}

// Read returns its response.
func (s *Simulator) Read(response []byte) (int, error) {
	if s.closed {
		return 0, ErrUsingClosedSimulator
	}
	return s.tpm.Read(response)
}

// Close ends the TPM.
func (s *Simulator) Close() error {
	if s.closed {
		return ErrUsingClosedSimulator
	}
	s.closed = true
	return s.tpm.Close()
}

// IsClosed reports whether it has ended.
func (s *Simulator) IsClosed() bool { return s.closed }
