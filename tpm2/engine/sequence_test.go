package engine_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/google/go-cmp/cmp"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// hashSequence starts a hash sequence; AlgNull makes it an event sequence.
func (m *machine) hashSequence(a tpm2.Alg, auth string) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCHashSequenceStart, nil, nil, &command.HashSequenceStartIn{Auth: []byte(auth), HashAlg: a}, nil)
	return m.handle
}

// macSequence starts a MAC sequence by a key whose authValue is empty.
func (m *machine) macSequence(key tpm2.Handle, auth string) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCHMACStart, handles(key), password(""), &command.HMACStartIn{Auth: []byte(auth), InScheme: tpm2.AlgNull}, nil)
	return m.handle
}

// update adds to the message of a sequence.
func (m *machine) update(h tpm2.Handle, auth, data string) {
	m.Helper()
	m.do(tpm2.CCSequenceUpdate, handles(h), password(auth), &command.SequenceUpdateIn{Buffer: []byte(data)}, nil)
}

// complete ends a hash or MAC sequence.
func (m *machine) complete(h tpm2.Handle, auth, data string, hierarchy tpm2.Handle) *command.SequenceCompleteOut {
	m.Helper()
	out := new(command.SequenceCompleteOut)
	m.do(tpm2.CCSequenceComplete, handles(h), password(auth), &command.SequenceCompleteIn{Buffer: []byte(data), Hierarchy: hierarchy}, out)
	return out
}

// parts of messages: the last goes with the completion.
var parts = map[string][]string{
	"nothing":        {""},
	"at once":        {"some data"},
	"in parts":       {"so", "", "me ", "data"},
	"beyond a block": {string(bytes.Repeat([]byte{1}, 1024)), string(bytes.Repeat([]byte{2}, 77)), string(bytes.Repeat([]byte{3}, 129))},
	"all before":     {"some data", ""},
}

func TestSequencesGiveWhatOneCommandGives(t *testing.T) {
	m := newMachine(t)
	cmac := outsideCipher(t, tpm2.AlgCMAC, aesKey256, usable|tpm2.AttrSign)
	long := outsideHMAC(usable|tpm2.AttrSign, "a key as long as the block of SHA-256, that is of all 64 bytes..")
	for what, o := range map[string]*outside{"hash": nil, "HMAC": outsideHMAC(usable|tpm2.AttrSign, "a key"), "HMAC, long key": long, "CMAC": cmac} {
		for name, message := range parts {
			t.Run(what+" "+name, func(t *testing.T) {
				m.in(t)
				var h, key tpm2.Handle
				if o == nil {
					h = m.hashSequence(tpm2.AlgSHA3x512, "auth")
				} else {
					key = m.external(o)
					defer m.flush(key)
					h = m.macSequence(key, "auth")
				}
				var whole []byte
				for i, p := range message {
					if whole = append(whole, p...); i < len(message)-1 {
						m.update(h, "auth", p)
					}
				}
				got := m.complete(h, "auth", message[len(message)-1], tpm2.HandleNull)
				if want := m.whole(key, whole); !bytes.Equal(got.Result, want) {
					t.Errorf("result = %x, want %x", got.Result, want)
				}
				m.fails(tpm2.RCReferenceH0, tpm2.CCSequenceUpdate, handles(h), password("auth"), &command.SequenceUpdateIn{})
			})
		}
	}
}

// whole is the result of a message by one command, or by more than it takes by
// Go: SHA3-512 without a key.
func (m *machine) whole(key tpm2.Handle, message []byte) []byte {
	m.Helper()
	if key == 0 {
		ha, _ := tpm2.AlgSHA3x512.Hash()
		sum := ha.New()
		sum.Write(message)
		return sum.Sum(nil)
	}
	if len(message) <= tpm2.MaxBuffer {
		var out command.HMACOut
		m.do(tpm2.CCHMAC, handles(key), password(""), &command.HMACIn{Buffer: message, InScheme: tpm2.AlgNull}, &out)
		return out.OutMAC
	}
	sensitive := m.tpm.Sensitive(key)
	if sensitive.Type == tpm2.AlgSymCipher {
		mac, err := tpmcrypto.NewCMAC(tpm2.AlgAES, uint16(8*len(sensitive.Bits)), sensitive.Bits)
		if err != nil {
			m.Fatal(err)
		}
		mac.Write(message)
		return mac.Sum(nil)
	}
	mac := hmac.New(sha256.New, sensitive.Bits)
	mac.Write(message)
	return mac.Sum(nil)
}

// A ticket depends on the first block, of four bytes at least: what follows less
// could make it what a TPM attests.
func TestTicketsOfSequences(t *testing.T) {
	m := newMachine(t)
	signer := m.restrictedSigner()
	for name, tc := range map[string]struct {
		parts []string
		good  bool
	}{
		"data":                      {[]string{"some", " data"}, true},
		"data at once":              {[]string{"some data"}, true},
		"the magic":                 {[]string{"\xffTCG", " data"}, false},
		"the magic at once":         {[]string{"\xffTCG"}, false},
		"the magic in parts":        {[]string{"\xffT", "CG"}, false},
		"a short first block":       {[]string{"dat", "a of no harm"}, false},
		"an empty first block":      {[]string{"", "\xffTCG"}, false},
		"nothing":                   {[]string{""}, false},
		"the magic after the first": {[]string{"data", "\xffTCG"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			h := m.hashSequence(tpm2.AlgSHA256, "")
			for _, p := range tc.parts[:len(tc.parts)-1] {
				m.update(h, "", p)
			}
			out := m.complete(h, "", tc.parts[len(tc.parts)-1], tpm2.HandleOwner)
			m.checkTicket(signer, out.Result, out.Validation, tpm2.HandleOwner, tc.good)
		})
	}
	m.in(t)
	out := m.complete(m.hashSequence(tpm2.AlgSHA256, ""), "", "data", tpm2.HandleNull)
	m.checkTicket(signer, out.Result, out.Validation, tpm2.HandleOwner, false)
	key := m.external(outsideHMAC(usable|tpm2.AttrSign, "key"))
	out = m.complete(m.macSequence(key, ""), "", "data", tpm2.HandleOwner)
	m.checkTicket(signer, out.Result, out.Validation, tpm2.HandleOwner, false)
}

func TestEventSequencesExtendAPCR(t *testing.T) {
	m := newMachine(t)
	for _, pcr := range []tpm2.Handle{16, tpm2.HandleNull} {
		h := m.hashSequence(tpm2.AlgNull, "auth")
		m.update(h, "auth", "an ")
		var out command.EventSequenceCompleteOut
		m.do(tpm2.CCEventSequenceComplete, handles(pcr, h), append(password(""), password("auth")...), &command.EventSequenceCompleteIn{Buffer: []byte("event")}, &out)
		want := tpm2.DigestValues{}
		for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
			ha, _ := a.Hash()
			sum := ha.New()
			sum.Write([]byte("an event"))
			want = append(want, tpm2.DigestValue{HashAlg: a, Digest: sum.Sum(nil)})
		}
		if diff := cmp.Diff(want, out.Results); diff != "" {
			t.Errorf("digests (-want +got):\n%s", diff)
		}
		m.fails(tpm2.RCReferenceH0+1, tpm2.CCEventSequenceComplete, handles(pcr, h), append(password(""), password("auth")...), &command.EventSequenceCompleteIn{})
	}
	digest := sha512.Sum512([]byte("an event"))
	extended := sha512.Sum512(append(make([]byte, 64), digest[:]...))
	var read command.PCRReadOut
	m.do(tpm2.CCPCRRead, nil, nil, &command.PCRReadIn{PCRSelectionIn: tpm2.PCRSelections{{Hash: tpm2.AlgSHA512, Select: tpm2.SelectPCRs(16)}}}, &read)
	if len(read.PCRValues) != 1 || !bytes.Equal(read.PCRValues[0], extended[:]) {
		t.Errorf("PCR 16 = %x, want %x", read.PCRValues, extended)
	}
}

func TestSequencesAreRefused(t *testing.T) {
	m := newMachine(t)
	key := m.storage("")
	update, complete, event := &command.SequenceUpdateIn{}, &command.SequenceCompleteIn{Hierarchy: tpm2.HandleNull}, &command.EventSequenceCompleteIn{}
	two := append(password(""), password("")...)
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCSequenceUpdate, handles(key), password(""), update)
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCSequenceComplete, handles(key), password(""), complete)
	m.fails(handleRC(tpm2.RCMode, 2), tpm2.CCEventSequenceComplete, handles(16, key), two, event)
	hash, events := m.hashSequence(tpm2.AlgSHA256, ""), m.hashSequence(tpm2.AlgNull, "")
	m.fails(handleRC(tpm2.RCMode, 1), tpm2.CCSequenceComplete, handles(events), password(""), complete)
	m.fails(handleRC(tpm2.RCMode, 2), tpm2.CCEventSequenceComplete, handles(16, hash), two, event)
	m.fails(tpm2.RCObjectMemory, tpm2.CCHashSequenceStart, nil, nil, &command.HashSequenceStartIn{HashAlg: tpm2.AlgNull})
	m.fails(tpm2.RCObjectMemory, tpm2.CCHashSequenceStart, nil, nil, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA256})
	m.fails(tpm2.RCLocality, tpm2.CCEventSequenceComplete, handles(17, events), two, event)
	m.do(tpm2.CCEventSequenceComplete, handles(tpm2.HandleNull, events), two, event, nil) // it is still there
	m.flush(hash)
	mac := m.external(outsideHMAC(usable|tpm2.AttrSign, "key"))
	m.hashSequence(tpm2.AlgSHA256, "")
	m.fails(tpm2.RCObjectMemory, tpm2.CCHMACStart, handles(mac), password(""), &command.HMACStartIn{InScheme: tpm2.AlgNull})
}

// The authValue of a sequence is asked for; guesses do not count.
func TestAuthValuesOfSequences(t *testing.T) {
	m := newMachine(t)
	h := m.hashSequence(tpm2.AlgSHA256, "auth\x00\x00")
	for range 40 {
		m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCSequenceUpdate, handles(h), password("wrong"), &command.SequenceUpdateIn{})
	}
	m.update(h, "auth", "some ")
	s := m.session(sessionConfig{symmetric: aes128()})
	m.do(tpm2.CCSequenceUpdate, handles(h), s.with("auth", tpm2.SessionDecrypt), &command.SequenceUpdateIn{Buffer: []byte("da")}, nil)
	var out command.SequenceCompleteOut
	m.do(tpm2.CCSequenceComplete, handles(h), s.with("auth", tpm2.SessionDecrypt, tpm2.SessionEncrypt),
		&command.SequenceCompleteIn{Buffer: []byte("ta"), Hierarchy: tpm2.HandleNull}, &out)
	if want := sha256.Sum256([]byte("some data")); !bytes.Equal(out.Result, want[:]) {
		t.Errorf("result = %x, want %x", out.Result, want)
	}
}

func TestSavedSequencesGoOn(t *testing.T) {
	m := newPostQuantum(t)
	message := string(bytes.Repeat([]byte("0123456789abc"), 11))
	mac := m.external(outsideHMAC(usable|tpm2.AttrSign, "key"))
	cmac := m.external(outsideCipher(t, tpm2.AlgCMAC, aesKey128, usable|tpm2.AttrSign))
	for name, start := range map[string]func() tpm2.Handle{
		"SHA-1":    func() tpm2.Handle { return m.hashSequence(tpm2.AlgSHA1, "auth") },
		"SHA3-256": func() tpm2.Handle { return m.hashSequence(tpm2.AlgSHA3x256, "auth") },
		"HMAC":     func() tpm2.Handle { return m.macSequence(mac, "auth") },
		"CMAC":     func() tpm2.Handle { return m.macSequence(cmac, "auth") },
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			h := start()
			m.update(h, "auth", message)
			want := m.complete(h, "auth", "end", tpm2.HandleOwner)
			h = start()
			for i := range message {
				saved := m.save(h)
				if saved.SavedHandle != tpm2.SavedSequenceObject {
					t.Fatalf("saved handle = %v", saved.SavedHandle)
				}
				m.flush(h)
				h = m.loadContext(saved)
				m.update(h, "auth", message[i:i+1])
			}
			got := m.complete(h, "auth", "end", tpm2.HandleOwner)
			if !bytes.Equal(got.Result, want.Result) {
				t.Errorf("result = %x, want %x", got.Result, want.Result)
			}
		})
	}
}

// A saved sequence of a signature knows its key and how the message began.
func TestSavedSignatureSequencesGoOn(t *testing.T) {
	m := newPostQuantum(t)
	key := m.restrictedSigner()
	two := append(password(""), password("")...)
	for _, tc := range []struct {
		begin string
		want  tpm2.RC
	}{{"a", tpm2.RCSuccess}, {"\xffT", parameterRC(tpm2.RCValue, 1)}} {
		m.do(tpm2.CCSignSequenceStart, handles(key), nil, &command.SignSequenceStartIn{}, nil)
		h := m.handle
		m.update(h, "", tc.begin)
		saved := m.save(h)
		m.flush(h)
		h = m.loadContext(saved)
		m.fails(tc.want, tpm2.CCSignSequenceComplete, handles(h, key), two, &command.SignSequenceCompleteIn{Buffer: []byte("CG")})
		if tc.want != tpm2.RCSuccess {
			m.flush(h)
		}
	}
}

func TestGoTPMRunsASequence(t *testing.T) {
	m := newMachine(t)
	start, err := gotpm.HashSequenceStart{Auth: gotpm.TPM2BAuth{Buffer: []byte("auth")}, HashAlg: gotpm.TPMAlgSHA384}.Execute(m)
	if err != nil {
		t.Fatal(err)
	}
	h := gotpm.AuthHandle{Handle: start.SequenceHandle, Auth: gotpm.HMAC(gotpm.TPMAlgSHA256, 16, gotpm.Auth([]byte("auth")))}
	if _, err := (gotpm.SequenceUpdate{SequenceHandle: h, Buffer: gotpm.TPM2BMaxBuffer{Buffer: []byte("some ")}}).Execute(m); err != nil {
		t.Fatal(err)
	}
	out, err := gotpm.SequenceComplete{SequenceHandle: h, Buffer: gotpm.TPM2BMaxBuffer{Buffer: []byte("data")}, Hierarchy: gotpm.TPMRHOwner}.Execute(m)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha512.Sum384([]byte("some data")); !bytes.Equal(out.Result.Buffer, want[:]) {
		t.Errorf("result = %x, want %x", out.Result.Buffer, want)
	}
}

// A key without a scheme may be longer than the block of the hash that the caller
// names: HMAC takes its digest then.
func TestHMACSequencesTakeLongKeys(t *testing.T) {
	m := newMachine(t)
	o := outsideHMAC(bothUses, string(bytes.Repeat([]byte("k"), 100)))
	o.public.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
	key := m.external(o)
	m.do(tpm2.CCHMACStart, handles(key), password(""), &command.HMACStartIn{InScheme: tpm2.AlgSHA256}, nil)
	want := hmac.New(sha256.New, o.sensitive.Bits)
	want.Write([]byte("data"))
	if got := m.complete(m.handle, "", "data", tpm2.HandleNull); !bytes.Equal(got.Result, want.Sum(nil)) {
		t.Errorf("result = %x, want %x", got.Result, want.Sum(nil))
	}
}
