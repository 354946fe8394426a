package differential

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/assay-project/assay/tpm2/engine"
)

// ours is this project's TPM as a [Peer].
type ours struct {
	tpm      *engine.TPM
	locality uint8
	panicked error
}

// Ours makes a TPM of the named profile.
func Ours(profile string, random io.Reader, now func() time.Duration) (Peer, error) {
	p, err := engine.FindProfile(profile, 0)
	if err != nil {
		return nil, err
	}
	o := new(ours)
	o.tpm, err = engine.Manufacture(p, engine.Config{Random: random, Now: now, Panic: func(v any, stack []byte) {
		o.panicked = errors.Join(o.panicked, fmt.Errorf("the TPM panicked: %v\n%s", v, stack))
	}})
	if err != nil {
		return nil, err
	}
	o.tpm.PowerOn()
	return o, nil
}

// Send runs a command. A panic of the TPM is an error.
func (o *ours) Send(command []byte) ([]byte, error) {
	return o.tpm.Execute(o.locality, command), o.panicked
}

// PowerCycle takes the power away.
func (o *ours) PowerCycle() error {
	o.tpm.PowerOn()
	return nil
}

// SetLocality sets the locality of the commands that follow.
func (o *ours) SetLocality(locality uint8) error {
	o.locality = locality
	return nil
}

// Hash sends the three signals of the dynamic root of trust.
func (o *ours) Hash(data []byte) error {
	o.tpm.HashStart(4)
	o.tpm.HashData(data)
	o.tpm.HashEnd()
	return o.panicked
}

// Close ends nothing: the TPM is memory.
func (o *ours) Close() error { return nil }
