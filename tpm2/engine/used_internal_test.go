package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// does runs a command that must succeed, with an empty password for each handle but those
// that need none, and returns the first four bytes behind the header: a handle, if any.
func (t *TPM) does(tb testing.TB, cc tpm2.CC, in wire.Layout, handles ...tpm2.Handle) tpm2.Handle {
	tb.Helper()
	info, ok := command.Lookup(cc)
	if !ok {
		tb.Fatalf("no command %#x", uint32(cc))
	}
	tag, area := tpm2.TagNoSessions, []byte(nil)
	for range info.Auths() {
		tag = tpm2.TagSessions
		area = append(area, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 0), uint32(cc))
	for _, h := range handles {
		b = binary.BigEndian.AppendUint32(b, uint32(h))
	}
	if area != nil {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(area))), area...)
	}
	params, err := wire.Encode(in)
	if err != nil {
		tb.Fatal(err)
	}
	b = append(b, params...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	response := t.Execute(0, b)
	if rc := codeOf(response); rc != tpm2.RCSuccess {
		tb.Fatalf("%s = %v", info.Name, rc)
	}
	if len(response) < 14 {
		return 0
	}
	return tpm2.Handle(binary.BigEndian.Uint32(response[10:]))
}

// usedTPM is a TPM of a profile that has a key, the same as persistent object 81000001, an NV
// index 01800001 that was written, extended PCRs, a hash sequence and a session of each kind.
func usedTPM(t testing.TB, p *Profile) *TPM {
	t.Helper()
	x, err := Manufacture(p, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	x.PowerOn()
	x.does(t, tpm2.CCStartup, &command.StartupIn{})
	key := tpm2.Public{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256}
	key.Attributes = tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrSign
	key.Parameters.ECC = tpm2.ECCParms{
		Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgNull},
		CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	h := x.does(t, tpm2.CCCreatePrimary, &command.CreatePrimaryIn{InPublic: key}, tpm2.HandleOwner)
	x.does(t, tpm2.CCEvictControl, &command.EvictControlIn{PersistentHandle: 0x81000001}, tpm2.HandleOwner, h)
	const index = 0x01800001
	nv := tpm2.NVPublic{NVIndex: index, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVOrderly, DataSize: 8}
	x.does(t, tpm2.CCNVDefineSpace, &command.NVDefineSpaceIn{Auth: []byte("auth"), PublicInfo: nv}, tpm2.HandleOwner)
	x.does(t, tpm2.CCNVWrite, &command.NVWriteIn{Data: []byte("content.")}, tpm2.HandleOwner, index)
	x.does(t, tpm2.CCPCREvent, &command.PCREventIn{EventData: []byte("event")}, 16)
	s := x.does(t, tpm2.CCHashSequenceStart, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA384})
	x.does(t, tpm2.CCSequenceUpdate, &command.SequenceUpdateIn{Buffer: []byte("some data")}, s)
	for _, kind := range []tpm2.SessionType{tpm2.SessionHMAC, tpm2.SessionPolicy} {
		in := &command.StartAuthSessionIn{NonceCaller: make([]byte, 16), SessionType: kind, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}
		x.does(t, tpm2.CCStartAuthSession, in, tpm2.HandleNull, tpm2.HandleOwner)
	}
	return x
}

// What FuzzRestore starts from is a TPM of each profile that can be restored, and two blobs
// that it changed stay together: with another digest they would be refused for that alone.
func TestTheSeedsOfFuzzRestoreAreRestored(t *testing.T) {
	for _, p := range Profiles() {
		x := usedTPM(t, p)
		permanent, volatile := x.MustPermanent(), body(x.MustVolatile())
		for name, tc := range map[string]struct {
			digest [sha256.Size]byte
			want   error
		}{"their own": {sha256.Sum256(permanent), nil}, "another": {sha256.Sum256(volatile), ErrState}} {
			changed := together(together(volatile, [sha256.Size]byte{1}), tc.digest)
			if _, err := Restore(testConfig(t), permanent, sealed(changed)); !errors.Is(err, tc.want) {
				t.Errorf("%s:%d, with %s digest: Restore = %v, want %v", p.Name, p.Version, name, err, tc.want)
			}
		}
	}
}
