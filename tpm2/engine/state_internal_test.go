package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

func testConfig(t testing.TB) Config {
	return Config{
		Random: rand.NewChaCha8([32]byte{}),
		Now:    func() time.Duration { return time.Minute },
		Panic:  func(v any, stack []byte) { t.Errorf("the TPM panicked: %v\n%s", v, stack) },
	}
}

// keptTPM is the TPM of the kept snapshot.
func keptTPM(t testing.TB) *TPM {
	t.Helper()
	kept, err := Restore(testConfig(t), readState(t, "permanent"), readState(t, "volatile"))
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func readState(t testing.TB, part string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/state/1-" + part + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed puts the digest behind a changed blob, so that the other checks are reached.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func body(blob []byte) []byte { return blob[:len(blob)-sha256.Size] }

// What is written with a right digest is still checked, field by field.
func TestStateThatNoTPMHasIsRefused(t *testing.T) {
	session := func(h tpm2.Handle) *session {
		return &session{handle: h, hash: tpm2.AlgSHA256, symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}}
	}
	index := func(x *TPM) *nvIndex { return x.permanent.nv.indices[0x01800002] }
	for name, spoil := range map[string]func(x *TPM){
		"hierarchy without a seed":           func(x *TPM) { x.permanent.owner.seed, x.permanent.owner.proof = nil, nil },
		"hierarchy without a proof":          func(x *TPM) { x.permanent.platform.proof = nil },
		"policy of no algorithm":             func(x *TPM) { x.permanent.owner.policy = authPolicy{alg: tpm2.AlgNull, digest: []byte{1}} },
		"policy of another size":             func(x *TPM) { x.permanent.owner.policy = authPolicy{alg: tpm2.AlgSHA256, digest: []byte{1}} },
		"policy of a hash that is not there": func(x *TPM) { x.clear.platformPolicy = authPolicy{alg: tpm2.AlgSM3, digest: make([]byte, 32)} },
		"audit hash that is none":            func(x *TPM) { x.permanent.auditAlg = tpm2.AlgAES },
		"unknown shutdown":                   func(x *TPM) { x.permanent.orderlyState = shutdownState + 1 },
		"unknown previous shutdown":          func(x *TPM) { x.vol.previous = shutdownState + 1 },
		"bank of no hash":                    func(x *TPM) { x.permanent.banks[0].Hash = tpm2.AlgSM3 },
		"PCRs of no hash":                    func(x *TPM) { x.vol.pcrs[0].alg = tpm2.AlgSM3 },
		"index with less data":               func(x *TPM) { index(x).data = index(x).data[:7] },
		"counter of another size":            func(x *TPM) { index(x).data, index(x).public.DataSize = []byte{1}, 1 },
		"index of an unknown type":           func(x *TPM) { index(x).public.Attributes |= tpm2.NVType(15).Attributes() },
		"index by a hash that is not there":  func(x *TPM) { index(x).public.NameAlg = tpm2.AlgSM3 },
		"two indices of one handle":          func(x *TPM) { index(x).public.NVIndex = 0x01800001 },
		"persistent object elsewhere":        func(x *TPM) { x.permanent.objects[0x81000001].evict = 0x80000001 },
		"persistent sequence":                func(x *TPM) { x.permanent.objects[0x81000001].sequence = new(sequence) },
		"saved state without TPM_RH_NULL":    func(x *TPM) { x.permanent.saved = new(savedState) },
		"saved state of an unknown locality": func(x *TPM) { x.permanent.saved = x.saveState(); x.permanent.saved.locality = 5 },
		"unknown locality of startup":        func(x *TPM) { x.vol.startupLocality = 5 },
		"recovery that begins in the future": func(x *TPM) { x.vol.heal.tries = x.vol.time + 1 },
		"lockout that begins in the future":  func(x *TPM) { x.vol.heal.lockout = x.vol.time + 1 },
		"last command in the future":         func(x *TPM) { x.cfg.Now = func() time.Duration { return 0 }; x.vol.time = maxElapsed + 1 },
		"clock that runs too fast":           func(x *TPM) { x.vol.ratePPM = maxRate + 1 },
		"clock that runs too slowly":         func(x *TPM) { x.vol.ratePPM = -maxRate - 1 },
		"session in no slot":                 func(x *TPM) { x.reset.contexts[3] = 1 },
		"session without a number":           func(x *TPM) { x.vol.sessions[0] = session(0x02000003) },
		"session of another number":          func(x *TPM) { x.vol.sessions[0] = session(0x02000004); x.reset.contexts[3] = 1 },
		"session of a number beyond all":     func(x *TPM) { x.vol.sessions[0] = session(0x02000000 + maxActiveSessions) },
		"HMAC session as a policy session":   func(x *TPM) { x.vol.sessions[0] = session(0x03000003); x.reset.contexts[3] = 1 },
		"two numbers of one session":         func(x *TPM) { x.vol.sessions[0] = session(0x02000003); x.reset.contexts[3], x.reset.contexts[4] = 1, 1 },
		"session by a hash that is not there": func(x *TPM) {
			s := session(0x02000003)
			s.hash = tpm2.AlgSM3
			x.vol.sessions[0], x.reset.contexts[3] = s, 1
		},
		"journal of half a record":   func(x *TPM) { x.journal.buf = x.journal.buf[:len(x.journal.buf)-1] },
		"journal of an unknown kind": func(x *TPM) { x.journal.buf[0] = 0 },
		"journal that is too long":   func(x *TPM) { x.journal.buf = make([]byte, maxJournal+1) },
		"omission of no record":      func(x *TPM) { omitting(x, omission{besideLimit + 1, 0}) },
		"omission inside a record":   func(x *TPM) { omitting(x, omission{besideLimit + 2, 1}) },
		"omission behind the end":    func(x *TPM) { omitting(x, omission{besideLimit + 14, 1}) },
		"omission before half":       func(x *TPM) { omitting(x, omission{besideLimit - 12, 1}) },
		"two omissions at one place": func(x *TPM) { omitting(x, omission{besideLimit + 1, 1}, omission{besideLimit + 1, 1}) },
		"omissions of no place":      func(x *TPM) { omitting(x); x.journal.omitted.rest = 1 },
		"omissions of many places":   func(x *TPM) { omitting(x, make([]omission, maxPlaces+1)...) },
	} {
		t.Run(name, func(t *testing.T) {
			x := keptTPM(t)
			spoil(x)
			permanent, volatile, err := tryEncode(x)
			if err != nil {
				return // its own layout refuses to write it
			}
			if got, err := Restore(testConfig(t), permanent, volatile); got != nil || !errors.Is(err, ErrState) {
				t.Errorf("Restore = %v, %v, want ErrState", got, err)
			}
		})
	}
}

// omitting has the TPM have omitted records, with a journal that is half full: a record
// ends at one byte more.
func omitting(x *TPM, places ...omission) {
	x.journal.restart()
	for len(x.journal.buf) < besideLimit {
		x.record(JournalRecord{Kind: JournalShutdown})
	}
	x.journal.omitted.places = places
}

// tryEncode gives the blobs, or that the state cannot be written.
func tryEncode(x *TPM) (permanent, volatile []byte, err error) {
	x.cfg.Panic = nil
	if permanent, err = x.Permanent(); err == nil {
		volatile, err = x.Volatile()
	}
	return permanent, volatile, err
}

func TestHeadersOfOtherFormatsAreRefused(t *testing.T) {
	good := body(readState(t, "permanent"))
	const profile = 14 // the offset of the name, "default", after its size
	for name, tc := range map[string]struct {
		change func(b []byte)
		want   error
		text   string
	}{
		"another magic":              {func(b []byte) { b[0]++ }, ErrState, "magic"},
		"magic of a volatile blob":   {func(b []byte) { b[6] = 'V' }, ErrState, "magic"},
		"for newer readers only":     {func(b []byte) { b[9], b[11] = 2, 2 }, ErrState, "can be read from version 2 on"},
		"version 0":                  {func(b []byte) { b[9] = 0 }, ErrState, "version 0"},
		"older than its readers":     {func(b []byte) { b[9], b[11] = 0, 1 }, ErrState, "version 0"},
		"an unknown profile":         {func(b []byte) { b[profile]++ }, ErrProfile, "eefault"},
		"an unknown profile version": {func(b []byte) { b[profile+8] = 99 }, ErrProfile, "99"},
		"profile version 0":          {func(b []byte) { b[profile+8] = 0 }, ErrProfile, "version 0"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(good)
			tc.change(b)
			if _, err := Restore(testConfig(t), sealed(b), nil); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("Restore = %v, want %v that tells %q", err, tc.want, tc.text)
			}
		})
	}
}

// A later version may add to the end of a blob and say that this one can read it.
func TestALaterVersionMayAddToTheEnd(t *testing.T) {
	b := bytes.Clone(body(readState(t, "permanent")))
	later, err := wire.Encode((*extra)(&[]byte{1, 2, 3}))
	if err != nil {
		t.Fatal(err)
	}
	b = append(b[:len(b)-4], later...)
	if _, err := Restore(testConfig(t), sealed(b), nil); !errors.Is(err, ErrState) {
		t.Errorf("Restore of version 1 with more = %v, want ErrState", err)
	}
	b[9] = 2
	if _, err := Restore(testConfig(t), sealed(b), nil); err != nil {
		t.Errorf("Restore of version 2 with more = %v", err)
	}
	if _, err := Restore(testConfig(t), sealed(append(b, 0)), nil); !errors.Is(err, ErrState) {
		t.Errorf("Restore of version 2 with a byte behind it = %v, want ErrState", err)
	}
}

// FuzzRestore restores anything whose digests are right: it is refused, or it is a
// TPM that runs and whose state is that of the blobs.
func FuzzRestore(f *testing.F) {
	f.Add(body(readState(f, "permanent")), body(readState(f, "volatile")))
	f.Add(body(readState(f, "permanent")), []byte(nil))
	f.Add(body(readState(f, "permanent")), body(halfFull(f).MustVolatile()))
	for _, p := range Profiles() {
		x := usedTPM(f, p)
		f.Add(body(x.MustPermanent()), body(x.MustVolatile()))
	}
	f.Fuzz(func(t *testing.T, permanent, volatile []byte) {
		permanent = sealed(permanent)
		if volatile != nil {
			volatile = sealed(together(volatile, sha256.Sum256(permanent)))
		}
		x, err := Restore(testConfig(t), permanent, volatile)
		if err != nil {
			if x != nil || !errors.Is(err, ErrState) && !errors.Is(err, ErrProfile) {
				t.Fatalf("Restore = %v, %v", x, err)
			}
			return
		}
		exercise(x)
		x.PowerOn()
		exercise(x)
		if _, err := Restore(testConfig(t), x.MustPermanent(), x.MustVolatile()); err != nil {
			t.Errorf("what was restored cannot be restored again: %v", err)
		}
	})
}

// together has the body of a volatile blob say that it goes with a permanent one, whose
// digest stands behind the header: magic, two versions, the profile's name and version.
func together(volatile []byte, permanent [sha256.Size]byte) []byte {
	volatile = bytes.Clone(volatile)
	const name = 8 + 2 + 2
	if len(volatile) < name+2 {
		return volatile
	}
	if at := name + 2 + int(binary.BigEndian.Uint16(volatile[name:])) + 2; len(volatile) >= at+sha256.Size {
		copy(volatile[at:], permanent[:])
	}
	return volatile
}

// exercise runs commands that look at all of the state.
func exercise(x *TPM) {
	for _, request := range []string{
		"80010000000c000001440000",
		"8001000000160000017a00000006000002000000007f",
		"8001000000160000017a00000006000001000000007f",
		"8001000000160000017a00000005000000000000000c",
		"8001000000140000017e00000001000b03ffffff",
		"80010000000e0000016901800001",
		"80010000000e0000016901800002",
		"80010000000e0000017381000001",
		"80020000001f00000134400000010180000200000009400000090000000000",
		"8002000000230000014e40000001018000010000000940000009000000000000040000",
		"80010000000a00000181",
		"80010000000c000001450001",
	} {
		b, err := hex.DecodeString(request)
		if err != nil {
			panic(err)
		}
		x.Execute(0, b)
	}
	x.HashStart(4)
	x.HashData([]byte{1})
	x.HashEnd()
}
