package differential

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// compare fills in the difference. outs are the parameters of both responses when
// both succeeded and can be read.
func (s *step) compare(o *Observation, errs [2]error) *[2]wire.Layout {
	if o.RC[0] != o.RC[1] {
		if !s.apart(o) {
			o.Diff = "response code"
		}
		return nil
	}
	if o.RC[0] != 0 {
		if len(o.Response[0]) != len(o.Response[1]) || o.Response[0][1] != o.Response[1][1] {
			o.Diff = fmt.Sprintf("header of a refusal: %x, %x", o.Response[0], o.Response[1])
		}
		return nil
	}
	if errs[0] != nil || errs[1] != nil {
		// Both wrong is the caller's fault: he does not know a new authValue, or the request was spoilt.
		if errors.Is(errs[0], client.ErrHMAC) != errors.Is(errs[1], client.ErrHMAC) {
			o.Diff = fmt.Sprintf("caller finds: %v, %v", errs[0], errs[1])
		}
		return nil
	}
	var outs [2]wire.Layout
	for i := range outs {
		_, outs[i] = s.info.New()
		if err := wire.Decode(o.Params[i], outs[i]); err != nil {
			if s.bend.kind != straight || s.garbled(o) {
				return nil // another command, perhaps
			}
			o.Diff = fmt.Sprintf("parameters of %s cannot be read: %v", []string{"ours", "theirs"}[i], err)
			return nil
		}
	}
	if s.info.Response != "" && binary.BigEndian.Uint32(o.Response[0][10:]) != binary.BigEndian.Uint32(o.Response[1][10:]) {
		o.Diff = fmt.Sprintf("handle: %x, %x", o.Response[0][10:14], o.Response[1][10:14])
	}
	if s.garbled(o) || s.scrambled(o) {
		return &outs
	}
	if s.info.Code == tpm2.CCGetCapability {
		common(outs[0].(*command.GetCapabilityOut), outs[1].(*command.GetCapabilityOut))
	}
	m := mask{code: s.info.Code, mixed: s.mixed, exact: s.exact && s.straight(), bent: s.bend.kind != straight}
	if s.info.Code == tpm2.CCCertifyX509 {
		m.mixed = true
	}
	if d := m.differ("", reflect.ValueOf(outs[0]).Elem(), reflect.ValueOf(outs[1]).Elem()); d != "" {
		o.Diff = "content: " + d
	}
	if o.Diff == "" && len(o.Response[0]) != len(o.Response[1]) && !s.ownSize(outs[0]) {
		o.Diff = fmt.Sprintf("size of the response: %d, %d", len(o.Response[0]), len(o.Response[1]))
	}
	return &outs
}

// garbled reports whether the caller decrypts the response with what a policy does
// not check: a wrong authValue, a spoilt nonce.
func (s *step) garbled(o *Observation) bool { return s.unchecked(o, tpm2.SessionEncrypt) }

// scrambled reports whether the two TPMs decrypt the first parameter so, each to
// something else. The authValue is part of that key in every policy session that
// authorizes (Part 1, 21), also where the policy does not ask for it.
func (s *step) scrambled(o *Observation) bool { return s.unchecked(o, tpm2.SessionDecrypt) }

// unchecked reports whether a session has the attribute, as the caller set it or as it
// came, and something was spoilt on which its key hangs.
func (s *step) unchecked(o *Observation, a tpm2.SessionAttributes) bool {
	has := func(u use) bool { return u.attr.Has(a) }
	if s.bend.kind != straight {
		_, auths, _ := split(o.Request[0])
		return slices.ContainsFunc(s.uses, has) || slices.ContainsFunc(auths, func(c tpm2.AuthCommand) bool { return c.Attributes.Has(a) })
	}
	return s.wrong && s.info.Auths() > 0 && slices.ContainsFunc(s.uses[:min(1, len(s.uses))], has)
}

// apart reports whether two codes cannot be compared: the authorizations, which
// differ between the two, were spoilt and read as something else; or another part of
// the request was spoilt, for the two requests have different lengths; or each has
// decrypted parameters of its own, once the sessions were checked.
func (s *step) apart(o *Observation) bool {
	a, _ := o.RC[0].Subject()
	b, _ := o.RC[1].Subject()
	spoilt := s.bend.kind != straight
	if s.scrambled(o) && read(o.RC[0]) && read(o.RC[1]) {
		return true
	}
	return spoilt && a == tpm2.RCSession && b == tpm2.RCSession && !bytes.Equal(o.Request[0], o.Request[1]) ||
		s.bend.place(len(o.Request[0])) != s.bend.place(len(o.Request[1]))
}

// read reports whether rc is what a TPM says that has read the parameters, or tried to.
func read(rc tpm2.RC) bool {
	subject, number := rc.Subject()
	return rc == tpm2.RCSuccess || subject == tpm2.RCParameter || subject == tpm2.RCHandle && number == 0
}

// ownSize reports whether the size of a response is the TPM's own business, or
// chance: of an ECDAA signature, where a nonce has no leading zeros, and of the
// serial number of a certificate.
func (s *step) ownSize(out wire.Layout) bool {
	switch s.info.Code {
	case tpm2.CCContextSave, tpm2.CCGetCapability, tpm2.CCCertifyX509:
		return true
	}
	f := reflect.ValueOf(out).Elem().FieldByName("Signature")
	return f.IsValid() && f.Interface().(tpm2.Signature).SigAlg == tpm2.AlgECDAA
}

// A mask knows which fields of a response can be the same.
type mask struct {
	code  tpm2.CC
	mixed bool // the request or what it names differs
	exact bool // and yet the answers are the same
	bent  bool
	free  bool // R is a nonce without leading zeros
}

// random are fields that hang on the randomness or a secret of the TPM: only
// their sizes compare.
var random = []string{
	"RandomBytes", "NonceTPM", "OutPrivate", "CreationHash", "CredentialBlob", "Secret", "EncryptionKeyOut", "Duplicate", "OutSymSeed",
	"OutDuplicate", "R", "S", "C1", "C2", "C3", "OutZ2", "TBSDigest", "PubPoint", "ZPoint", "K", "L", "E", "Q", "Digest", "Timeout", "HMAC", "RSA", "QualifiedName",
}

// keyed are fields that hang on the keys and inputs: they compare when those are the same.
var keyed = []string{
	"Unique", "Name", "ParentName", "ParentQualifiedName", "OutMAC", "OutData", "IVOut", "Message", "OutPoint", "OutZ1", "OutZ2", "NVName",
	"Result", "PolicyDigest", "CertInfo", "Handles",
}

// free are fields that are the TPM's own business.
var free = []string{"ContextBlob", "Clock", "Time", "FirmwareVersion"}

// fresh are the commands that make keys.
func (m mask) fresh() bool {
	switch m.code {
	case tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded, tpm2.CCRSAEncrypt, tpm2.CCSign, tpm2.CCQuote:
		return true
	}
	return m.mixed
}

func (m mask) differ(name string, a, b reflect.Value) string {
	switch {
	case slices.Contains(free, name), m.free && name == "R":
		return ""
	case name == "CertifyInfo" || name == "Quoted" || name == "AuditInfo" || name == "TimeInfo":
		return m.attest(a.Bytes(), b.Bytes())
	case name == "AddedToCertificate":
		return certificates(a.Bytes(), b.Bytes())
	case name == "Digest" && m.code == tpm2.CCPCREvent, name == "Digest" && m.code == tpm2.CCEventSequenceComplete:
	case slices.Contains(random, name):
		return sizes(name, a, b)
	case slices.Contains(keyed, name) && m.fresh():
		return sizes(name, a, b)
	}
	switch a.Kind() {
	case reflect.Struct:
		if s, ok := a.Interface().(tpm2.Signature); ok && s.SigAlg == tpm2.AlgECDAA {
			m.free = true
		}
		for i := range a.NumField() {
			if d := m.differ(a.Type().Field(i).Name, a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Pointer:
		return m.differ(name, a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Type().Elem().Kind() == reflect.Uint8 {
			if !bytes.Equal(a.Bytes(), b.Bytes()) {
				return fmt.Sprintf("%s\n%x\n%x", name, a.Bytes(), b.Bytes())
			}
			return ""
		}
		return m.list(name, a, b)
	}
	if !reflect.DeepEqual(a.Interface(), b.Interface()) {
		return fmt.Sprintf("%s\n%v\n%v", name, a.Interface(), b.Interface())
	}
	return ""
}

func (m mask) list(name string, a, b reflect.Value) string {
	if a.Len() != b.Len() {
		return fmt.Sprintf("%s\n%v\n%v", name, a.Interface(), b.Interface())
	}
	for i := range a.Len() {
		if d := m.differ(name+"[]", a.Index(i), b.Index(i)); d != "" {
			return d
		}
	}
	return ""
}

// sizes compares shapes alone.
func sizes(name string, a, b reflect.Value) string {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if d := sizes(name+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
	case reflect.Slice:
		if a.Len() != b.Len() {
			return fmt.Sprintf("size of %s\n%d\n%d", name, a.Len(), b.Len())
		}
	}
	return ""
}

// certificates compares what two TPMs add to certificates: serial numbers and keys
// are their own.
func certificates(a, b []byte) string {
	var x, y []asn1.RawValue
	restX, errX := asn1.Unmarshal(a, &x)
	restY, errY := asn1.Unmarshal(b, &y)
	if errX != nil || errY != nil || len(restX)+len(restY) != 0 || len(x) != len(y) || len(x) < 3 {
		return fmt.Sprintf("AddedToCertificate\n%x\n%x", a, b)
	}
	for i := range x {
		key := i == len(x)-1
		if x[i].Tag != y[i].Tag || key && len(x[i].FullBytes) != len(y[i].FullBytes) || i != 1 && !key && !bytes.Equal(x[i].FullBytes, y[i].FullBytes) {
			return fmt.Sprintf("element %d of AddedToCertificate\n%x\n%x", i+1, x[i].FullBytes, y[i].FullBytes)
		}
	}
	return ""
}

// attest compares two attestation structures.
func (m mask) attest(a, b []byte) string {
	x, errX := tpm2.ParseAttest(a)
	y, errY := tpm2.ParseAttest(b)
	if errX != nil || errY != nil {
		return fmt.Sprintf("TPMS_ATTEST\n%v\n%v", errX, errY)
	}
	for _, t := range []*tpm2.Attest{x, y} {
		t.QualifiedSigner = make([]byte, len(t.QualifiedSigner))
		plain(&t.ClockInfo)
		t.FirmwareVersion = 0
		u := &t.Attested
		u.Time.FirmwareVersion, u.Time.Time.Time = 0, 0
		plain(&u.Time.Time.ClockInfo)
		for _, b := range [][]byte{u.Certify.Name, u.Certify.QualifiedName, u.Creation.ObjectName, u.Creation.CreationHash, u.CommandAudit.AuditDigest} {
			clear(b)
		}
		if !m.exact {
			clear(u.SessionAudit.SessionDigest)
		}
		if m.mixed {
			clear(u.NV.IndexName)
			clear(u.NVDigest.IndexName)
		}
	}
	return mask{}.differ("Attest", reflect.ValueOf(x).Elem(), reflect.ValueOf(y).Elem())
}

// plain drops what is obscured for most keys (Part 1, 36.7).
func plain(c *tpm2.ClockInfo) { c.ResetCount, c.RestartCount = 0, 0 }

// own are properties that say who made the TPM and how much it holds.
var own = []uint32{
	0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 0x108, 0x109, 0x10a, 0x10b, 0x10c, // revision, date, manufacturer, vendor strings, firmware
	0x10d, 0x10f, 0x113, 0x114, 0x115, 0x117, 0x119, 0x11b, 0x11e, 0x120, 0x121, 0x122, 0x123, 0x124, 0x125, 0x126, 0x127, 0x128, 0x129, 0x12a, 0x12b, 0x12d, 0x12e, // sizes and numbers of what there is
	0x209, 0x20a, 0x20b, 0x20c, 0x20d, // numbers of NV indices and free room
}

// common leaves of two lists what both have, where each TPM has its own.
func common(a, b *command.GetCapabilityOut) {
	x, y := &a.CapabilityData, &b.CapabilityData
	if x.Capability != y.Capability {
		return
	}
	switch x.Capability {
	case tpm2.CapAlgs, tpm2.CapCommands, tpm2.CapECCCurves, tpm2.CapTPMProperties, tpm2.CapPPCommands:
		a.MoreData, b.MoreData = false, false
	}
	x.Algorithms, y.Algorithms = shared(x.Algorithms, y.Algorithms, func(p tpm2.AlgProperty) tpm2.Alg { return p.Alg })
	x.Commands, y.Commands = shared(x.Commands, y.Commands, tpm2.CommandAttributes.Code)
	x.ECCCurves, y.ECCCurves = shared(x.ECCCurves, y.ECCCurves, func(c tpm2.ECCCurve) tpm2.ECCCurve { return c })
	if x.Capability == tpm2.CapPPCommands {
		x.CommandCodes, y.CommandCodes = shared(x.CommandCodes, y.CommandCodes, func(c tpm2.CC) tpm2.CC { return c })
	}
	x.Properties, y.Properties = shared(x.Properties, y.Properties, func(p tpm2.TaggedProperty) uint32 { return uint32(p.Property) })
	isOwn := func(p tpm2.TaggedProperty) bool { return slices.Contains(own, uint32(p.Property)) }
	x.Properties, y.Properties = slices.DeleteFunc(x.Properties, isOwn), slices.DeleteFunc(y.Properties, isOwn)
}

// shared returns the elements of both lists whose key is in both.
func shared[T any, K comparable](a, b []T, key func(T) K) (inA, inB []T) {
	for _, v := range a {
		if slices.ContainsFunc(b, func(o T) bool { return key(o) == key(v) }) {
			inA = append(inA, v)
		}
	}
	for _, v := range b {
		if slices.ContainsFunc(a, func(o T) bool { return key(o) == key(v) }) {
			inB = append(inB, v)
		}
	}
	return inA, inB
}
