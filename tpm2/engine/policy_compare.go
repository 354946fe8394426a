package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Chapter 23 of Part 3, third part: assertions about NV and time.

// compare reports whether a, which the TPM knows, and b, which the policy names,
// are in the relation; both have the same size and are big endian (Part 2, 6.8).
func compare(op tpm2.Operation, a, b []byte) bool {
	unsigned := bytes.Compare(a, b)
	signed := unsigned
	if len(a) != 0 && (a[0]^b[0])&0x80 != 0 { // two's complement: the negative one is less
		signed = -unsigned
	}
	switch op {
	case tpm2.OpEQ:
		return unsigned == 0
	case tpm2.OpNEQ:
		return unsigned != 0
	case tpm2.OpSignedGT:
		return signed > 0
	case tpm2.OpUnsignedGT:
		return unsigned > 0
	case tpm2.OpSignedLT:
		return signed < 0
	case tpm2.OpUnsignedLT:
		return unsigned < 0
	case tpm2.OpSignedGE:
		return signed >= 0
	case tpm2.OpUnsignedGE:
		return unsigned >= 0
	case tpm2.OpSignedLE:
		return signed <= 0
	case tpm2.OpUnsignedLE:
		return unsigned <= 0
	case tpm2.OpBitSet:
		return masked(a, b, 0xff)
	case tpm2.OpBitClear:
		return masked(a, b, 0)
	}
	return false
}

// masked reports whether all bits of b are, in a, as want has them.
func masked(a, b []byte, want byte) bool {
	for i := range b {
		if (a[i]^want)&b[i] != 0 {
			return false
		}
	}
	return true
}

// argumentHash is the digest of the arguments of a comparison (Part 3, 23.9).
func argumentHash(s *session, operand []byte, offset uint16, op tpm2.Operation) ([]byte, error) {
	var b [4]byte
	binary.BigEndian.PutUint16(b[:], offset)
	binary.BigEndian.PutUint16(b[2:], uint16(op))
	return tpmcrypto.Hash(s.hash, operand, b[:])
}

// policyNV is TPM2_PolicyNV (Part 3, 23.9).
func policyNV(c *call, in *command.PolicyNVIn, _ *command.None) error {
	s := c.t.session(c.handles[2])
	if !s.trial {
		x, err := c.readable(c.handles[0], c.handles[1])
		if err != nil {
			return err
		}
		offset := int(in.Offset)
		switch {
		case offset > len(x.data):
			return parameter(tpm2.RCValue, 2)
		case len(in.OperandB) > len(x.data)-offset:
			return parameter(tpm2.RCSize, 1)
		case !compare(in.Operation, x.data[offset:offset+len(in.OperandB)], in.OperandB):
			return tpm2.RCPolicy
		}
	}
	args, err := argumentHash(s, in.OperandB, in.Offset, in.Operation)
	if err != nil {
		return err
	}
	c.extendPolicy(s, args, c.t.name(c.handles[1]))
	return nil
}

// policyCounterTimer is TPM2_PolicyCounterTimer (Part 3, 23.10), over the layout
// of a TPMS_TIME_INFO. The range is checked for trial sessions too.
func policyCounterTimer(c *call, in *command.PolicyCounterTimerIn, _ *command.None) error {
	s := c.policySession()
	info, err := c.t.scratch.Encode(&tpm2.TimeInfo{Time: c.t.vol.time, ClockInfo: c.t.clockInfo()})
	if err != nil {
		return err
	}
	offset := int(in.Offset)
	switch {
	case offset > len(info):
		return parameter(tpm2.RCValue, 2)
	case len(in.OperandB) > len(info)-offset:
		return tpm2.RCRange
	case !s.trial && !compare(in.Operation, info[offset:offset+len(in.OperandB)], in.OperandB):
		return tpm2.RCPolicy
	}
	args, err := argumentHash(s, in.OperandB, in.Offset, in.Operation)
	if err != nil {
		return err
	}
	c.extendPolicy(s, args)
	return nil
}

// policyAuthorizeNV is TPM2_PolicyAuthorizeNV (Part 3, 23.22): the policy so far
// is the one that an index holds, and the index takes its place.
func policyAuthorizeNV(c *call, _, _ *command.None) error {
	s := c.t.session(c.handles[2])
	if !s.trial {
		x, err := c.readable(c.handles[0], c.handles[1])
		if err != nil {
			return err
		}
		var approved tpm2.HA
		if _, err := wire.DecodePrefixIn(c.t.profile, x.data, &approved); err != nil {
			return tpm2.RCOf(err).Base()
		}
		if approved.HashAlg != s.hash {
			return tpm2.RCHash
		}
		if !equal(approved.Digest, s.digest) {
			return tpm2.RCValue
		}
	}
	s.digest = make([]byte, s.hash.DigestSize())
	c.extendPolicy(s, c.t.name(c.handles[1]))
	return nil
}
