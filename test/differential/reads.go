package differential

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/wire"
)

// A reading is what decoding the parameters of a request gives.
type reading struct {
	in    wire.Layout // as far as they decode
	rc    tpm2.RC     // with which a TPM refuses them; 0 when they decode
	err   error       // why
	value uint16      // the last two bytes before the fault: a number that is not known
	whole uint32      // the last four
	part  int         // the parameter that has it, from 1
	at    int         // where it begins
	bytes []byte      // all parameters
	// template is that of TPM2_CreateLoaded, as far as it decodes; then the place and
	// the bytes are those of the template.
	template *tpm2.Public
}

// read decodes the parameters as our TPM does, that of a template behind the others.
func (o *Observation) read() reading {
	info, params := o.sent()
	if info == nil {
		return reading{}
	}
	in, _ := info.New()
	r := decode(in, params)
	if t, ok := in.(*command.CreateLoadedIn); ok && r.rc == 0 {
		p := new(tpm2.Public)
		r = decode(p, t.InPublic)
		if r.in, r.part, r.template = in, 2, p; r.rc != 0 {
			r.rc = r.rc.Base().Of(tpm2.RCParameter, 2)
		}
	}
	return r
}

// decode decodes parameters under the profile that our TPM has here.
func decode(in wire.Layout, params []byte) reading {
	r := reading{in: in, bytes: params}
	profile, err := engine.FindProfile("default", 0)
	if err != nil {
		return r
	}
	rest, err := wire.DecodePrefixIn(profile, params, in)
	if err == nil && len(rest) != 0 {
		r.rc = tpm2.RCSize
		return r
	}
	r.rc, r.err = tpm2.RCOf(err), err
	fault, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return r
	}
	if r.part = fault.Part; fault.Offset >= 2 && fault.Offset <= len(params) {
		r.value = binary.BigEndian.Uint16(params[fault.Offset-2:])
		if fault.Offset >= 4 {
			r.whole = binary.BigEndian.Uint32(params[fault.Offset-4:])
		}
	}
	// What ends before a parameter begins lacks an earlier one.
	for r.at = 0; r.at < len(params); r.at++ {
		_, err := wire.DecodePrefixIn(profile, params[:r.at], in)
		if cut, ok := errors.AsType[*wire.Error](err); ok && cut.Part == r.part {
			break
		}
	}
	_ = wire.DecodeIn(profile, params, in) // the loop has overwritten what was read
	return r
}

// sent returns the command that came, and its parameters: those on the wire, which
// may be spoilt, unless a session encrypts the first of them.
func (o *Observation) sent() (*command.Info, []byte) {
	info, auths, params := split(o.Request[0])
	if slices.ContainsFunc(auths, func(a tpm2.AuthCommand) bool { return a.Attributes.Has(tpm2.SessionDecrypt) }) {
		return info, o.Plain
	}
	return info, params
}

// split takes a request apart: its command, nil where it cannot be read; the
// authorizations; and the parameters.
func split(b []byte) (info *command.Info, auths []tpm2.AuthCommand, params []byte) {
	if len(b) < 10 {
		return nil, nil, nil
	}
	info, ok := command.Lookup(tpm2.CC(binary.BigEndian.Uint32(b[6:])))
	if !ok || len(b) < 10+4*len(info.Handles) {
		return nil, nil, nil
	}
	tag, b := tpm2.Tag(binary.BigEndian.Uint16(b)), b[10+4*len(info.Handles):]
	if tag != tpm2.TagSessions {
		return info, nil, b
	}
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, nil
	}
	n := binary.BigEndian.Uint32(b)
	area, params := b[4:4+n], b[4+n:]
	for len(area) > 0 {
		var a tpm2.AuthCommand
		rest, err := wire.DecodePrefix(area, &a)
		if err != nil {
			return nil, nil, nil
		}
		auths, area = append(auths, a), rest
	}
	return info, auths, params
}

// unknown reports whether we refuse the request for a number that is one of these.
func (o *Observation) unknown(rc tpm2.RC, values ...uint16) bool {
	if o.RC[0].Base() != rc {
		return false
	}
	r := o.read()
	return r.rc == o.RC[0] && slices.Contains(values, r.value)
}

// beyond reports whether libtpms answers what it finds when it reads a structure,
// that we refuse for its size, whatever the size says.
func (o *Observation) beyond() bool {
	r := o.read()
	open, ok := r.open()
	return ok && r.rc == o.RC[0] && open.rc == o.RC[1]
}

// open reads again a structure that was refused for its size: with a size that no
// input can fill, only what is not there ends it.
func (r *reading) open() (reading, bool) {
	if r.rc.Base() != tpm2.RCSize || len(r.bytes) < r.at+2 || r.template != nil {
		return reading{}, false
	}
	b := slices.Clone(r.bytes)
	binary.BigEndian.PutUint16(b[r.at:], uint16(len(b)-r.at-2)+1)
	return decode(r.in, b), true
}

// maxName is the size of TPMU_NAME, and padded what the reference code takes for it:
// a TPM_HANDLE beside a TPMT_HA makes a union in C a multiple of four.
const maxName, paddedName = 66, 68

// longName reports whether we refuse a Name that fits into the union with its padding
// only, and libtpms goes on to what is behind it.
func (o *Observation) longName() bool {
	r := o.read()
	switch r.in.(type) {
	case *command.PolicyTicketIn, *command.PolicyAuthorizeIn, *command.PolicyDuplicationSelectIn, *command.MakeCredentialIn:
	default:
		return false
	}
	n := int(r.value)
	if r.rc != o.RC[0] || !errors.Is(r.err, wire.ErrSize) || n <= maxName || n > paddedName || len(r.bytes) < r.at+2+n {
		return false
	}
	// With a Name of the allowed length, what is behind it is read.
	short := slices.Delete(slices.Clone(r.bytes), r.at+2+maxName, r.at+2+n)
	binary.BigEndian.PutUint16(short[r.at:], maxName)
	s, behind := decode(r.in, short).rc.Subject()
	t, theirs := o.RC[1].Subject()
	return s == 0 || s == t && behind == theirs
}

// oversized reports whether we refuse a length because it is more than any may be.
func (o *Observation) oversized() bool {
	r := o.read()
	return r.rc == o.RC[0] && errors.Is(r.err, wire.ErrSize)
}

// public returns the public area of an object that is created or loaded, as far as it
// decodes.
func (r *reading) public() *tpm2.Public {
	switch in := r.in.(type) {
	case *command.CreateIn:
		return &in.InPublic
	case *command.CreatePrimaryIn:
		return &in.InPublic
	case *command.LoadIn:
		return &in.InPublic
	case *command.LoadExternalIn:
		return &in.InPublic
	case *command.ImportIn:
		return &in.ObjectPublic
	}
	return r.template
}

// oddPolicy reports whether we refuse a public area for the size of its authPolicy.
func (o *Observation) oddPolicy() bool {
	r := o.read()
	if r.rc != o.RC[0] || r.part != 2 {
		return false
	}
	odd := func(r *reading) bool {
		p := r.public()
		return p != nil && len(p.AuthPolicy) != 0 && len(p.AuthPolicy) != p.NameAlg.DigestSize()
	}
	open, ok := r.open() // the policy may go on behind the end of the public area
	return odd(&r) || ok && odd(&open)
}

// newAttributes reports whether a public area has attributes of version 1.83.
func (o *Observation) newAttributes() bool {
	r := o.read()
	p := r.public()
	return p != nil && p.Attributes&(tpm2.AttrFirmwareLimited|tpm2.AttrSVNLimited) != 0
}

// stKnown are the TPM_ST that libtpms 0.9.2 takes for one (Part 2, 6.9).
var stKnown = []uint16{
	0x00c4, 0x8000, 0x8001, 0x8002, 0x8014, 0x8015, 0x8016, 0x8017, 0x8018, 0x8019, 0x801a, 0x8021, 0x8022, 0x8023, 0x8024, 0x8025,
}

// ticketTag reports whether we refuse a ticket for a tag that libtpms knows for
// nothing at all.
func (o *Observation) ticketTag() bool {
	r := o.read()
	switch r.in.(type) {
	case *command.PolicyTicketIn, *command.PolicyAuthorizeIn, *command.SignIn, *command.CertifyCreationIn:
	default:
		return false
	}
	_, n := o.RC[0].Subject()
	return r.rc == o.RC[0] && o.RC[1] == tpm2.RCValue.Of(tpm2.RCParameter, n) && !slices.Contains(stKnown, r.value)
}

// newTag reports whether the ticket of TPM2_PolicyAuthorize has a tag of version 1.85.
func (o *Observation) newTag() bool {
	in, ok := o.read().in.(*command.PolicyAuthorizeIn)
	return ok && (in.CheckTicket.Tag == tpm2.TagMessageVerified || in.CheckTicket.Tag == tpm2.TagDigestVerified)
}

// overlongSecret reports whether we refuse a secret because there is more in it than the
// point of ECC keys.
func (o *Observation) overlongSecret() bool {
	var secret []byte
	part := 2
	switch in := o.read().in.(type) {
	case *command.StartAuthSessionIn:
		secret = in.EncryptedSalt
	case *command.ActivateCredentialIn:
		secret = in.Secret
	case *command.RewrapIn:
		secret, part = in.InSymSeed, 3
	case *command.ImportIn:
		secret, part = in.InSymSeed, 4
	}
	rest, err := wire.DecodePrefix(secret, new(tpm2.ECCPoint))
	return err == nil && len(rest) != 0 && o.RC[0] == tpm2.RCSize.Of(tpm2.RCParameter, part) && o.RC[1] != o.RC[0]
}

// macBySHA3 reports whether a MAC is asked for by SHA-3.
func (o *Observation) macBySHA3() bool {
	var scheme tpm2.Alg
	switch in := o.read().in.(type) {
	case *command.HMACIn:
		scheme = in.InScheme
	case *command.HMACStartIn:
		scheme = in.InScheme
	}
	return scheme >= tpm2.AlgSHA3x256 && scheme <= tpm2.AlgSHA3x512
}

// above reports whether the ciphertext of TPM2_RSA_Decrypt is as long as the modulus,
// and no number below it.
func (o *Observation) above() bool {
	in, ok := o.read().in.(*command.RSADecryptIn)
	return ok && len(o.Modulus) != 0 && len(in.CipherText) == len(o.Modulus) && bytes.Compare(in.CipherText, o.Modulus) >= 0
}

// tests reports whether the list of TPM2_IncrementalSelfTest has one of these.
func (o *Observation) tests(algs ...tpm2.Alg) bool {
	in, ok := o.read().in.(*command.IncrementalSelfTestIn)
	return ok && slices.ContainsFunc(in.ToTest, func(a tpm2.Alg) bool { return slices.Contains(algs, a) })
}
