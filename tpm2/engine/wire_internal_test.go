package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// kept are the layouts of what a context or a snapshot keeps, filled at random.
func kept(r structtest.Source) map[string]struct {
	full  wire.Layout
	empty func() wire.Layout
} {
	object := func() wire.Layout { return new(object) }
	return map[string]struct {
		full  wire.Layout
		empty func() wire.Layout
	}{
		"object":   {randomObject(r, false), object},
		"public":   {randomObject(r, true), object},
		"sequence": {randomSequence(r), object},
		"session":  {randomSession(r), func() wire.Layout { return new(session) }},
	}
}

func randomObject(r structtest.Source, publicOnly bool) *object {
	o := &object{
		public: *r.Public(), name: r.UpTo(tpm2.MaxName), qualified: r.UpTo(tpm2.MaxName), hierarchy: r.Hierarchy(),
		evict: tpm2.Handle(r.Uint32()), publicOnly: publicOnly,
	}
	for _, f := range []*bool{&o.primary, &o.temporary, &o.external, &o.stClear, &o.parent, &o.derivation} {
		*f = r.IntN(2) == 0
	}
	if !publicOnly {
		o.sensitive = *r.Sensitive()
	}
	return o
}

func randomSequence(r structtest.Source) *object {
	o := &object{
		public:    tpm2.Public{Type: tpm2.AlgNull, NameAlg: tpm2.AlgNull, Attributes: tpm2.AttrNoDA},
		hierarchy: tpm2.HandleNull, temporary: true, sequence: &sequence{kind: eventSequence, auth: r.UpTo(tpm2.MaxDigest)},
	}
	for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512} {
		h, _ := a.Hash()
		b := bankHash{a, h.New()}
		b.sum.Write(r.UpTo(300))
		o.sequence.sums = append(o.sequence.sums, b)
	}
	return o
}

func randomSession(r structtest.Source) *session {
	s := &session{
		handle: tpm2.Handle(r.Uint32()), hash: r.Hash(), key: r.UpTo(tpm2.MaxDigest), nonce: r.UpTo(tpm2.MaxDigest),
		startTime: r.Uint64(), epoch: r.Uint32(), auditDigest: r.UpTo(tpm2.MaxDigest),
		boundAuth: r.UpTo(tpm2.MaxDigest), boundName: structtest.Pick(r, nil, r.UpTo(tpm2.MaxName)),
		assertions: assertions{
			digest: r.UpTo(tpm2.MaxDigest), timeout: r.Uint64(), commandCode: tpm2.CC(r.Uint32()), locality: tpm2.Locality(r.Uint32()),
			pcrMark: r.Uint32(), bound: structtest.Pick(r, boundNothing, boundParameters), boundDigest: r.UpTo(tpm2.MaxDigest),
		},
	}
	r.Fill(&s.symmetric)
	for _, f := range []*bool{
		&s.policy, &s.trial, &s.daBound, &s.lockoutBound, &s.audit,
		&s.authValueNeeded, &s.passwordNeeded, &s.presenceNeeded, &s.checkWritten, &s.written,
	} {
		*f = r.IntN(2) == 0
	}
	return s
}

func TestStateSurvivesItsLayout(t *testing.T) {
	for seed := range uint64(200) {
		for name, tc := range kept(structtest.New(seed)) {
			b, err := wire.Encode(tc.full)
			if err != nil {
				t.Fatalf("seed %d: encode %s: %v", seed, name, err)
			}
			back := tc.empty()
			if err := wire.Decode(b, back); err != nil {
				t.Fatalf("seed %d: decode %s: %v", seed, name, err)
			}
			again, err := wire.Encode(back)
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("seed %d: %s is %x, want %x (%v)", seed, name, again, b, err)
			}
			if seed < 10 {
				refuseOthers(t, name, b, tc.empty)
			}
		}
	}
}

// refuseOthers checks that no proper prefix of b is accepted, nor b with a byte more.
func refuseOthers(t *testing.T, name string, b []byte, empty func() wire.Layout) {
	t.Helper()
	for n := range b {
		if err := wire.Decode(b[:n], empty()); !errors.Is(err, wire.ErrShort) {
			t.Fatalf("decode %d of %d bytes of %s: %v, want ErrShort", n, len(b), name, err)
		}
	}
	if err := wire.Decode(append(bytes.Clone(b), 0), empty()); !errors.Is(err, wire.ErrTrailing) {
		t.Errorf("decode %s and a byte: %v, want ErrTrailing", name, err)
	}
}

func TestARestoredSequenceGoesOn(t *testing.T) {
	o := randomSequence(structtest.New(1))
	b, err := wire.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	back := new(object)
	if err := wire.Decode(b, back); err != nil {
		t.Fatal(err)
	}
	for i := range o.sequence.sums {
		one, two := o.sequence.sums[i], back.sequence.sums[i]
		one.sum.Write([]byte("more"))
		two.sum.Write([]byte("more"))
		if got, want := two.sum.Sum(nil), one.sum.Sum(nil); !bytes.Equal(got, want) {
			t.Errorf("%s of the restored sequence is %x, want %x", one.alg.BankName(), got, want)
		}
	}
}

func TestUnboundSessionsStaySo(t *testing.T) {
	for name, bound := range map[string][]byte{"unbound": nil, "bound to an entity without Name": {}, "bound": {1}} {
		s := randomSession(structtest.New(1))
		s.boundName = bound
		b, err := wire.Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		back := new(session)
		if err := wire.Decode(b, back); err != nil {
			t.Fatal(err)
		}
		if (back.boundName == nil) != (bound == nil) {
			t.Errorf("%s: restored boundName is %#v", name, back.boundName)
		}
	}
}

func TestStateThatNobodyWroteIsRefused(t *testing.T) {
	r := structtest.New(1)
	sound := func(v wire.Layout) []byte {
		b, err := wire.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	flip := func(b []byte, at int, bits byte) []byte {
		b[at] ^= bits
		return b
	}
	sha3 := sound(&sequence{kind: eventSequence, sums: randomSequence(r).sequence.sums[4:5]})
	for name, tc := range map[string]struct {
		in   []byte
		v    wire.Layout
		want error
	}{
		"flags of an object":            {flip(sound(randomObject(r, true)), 8, 0x80), new(object), wire.ErrReserved},
		"flags of a session":            {flip(sound(randomSession(r)), 4, 0x80), new(session), wire.ErrReserved},
		"hash of a session":             {flip(sound(randomSession(r)), 6, 0x80), new(session), wire.ErrSelector},
		"hash of a sequence":            {flip(bytes.Clone(sha3), 6, 0x80), new(sequence), wire.ErrSelector},
		"magic of a hash":               {flip(bytes.Clone(sha3), 10, 1), new(sequence), wire.ErrRange},
		"a SHA-3 that was read from":    {flip(bytes.Clone(sha3), len(sha3)-8, 1), new(sequence), wire.ErrRange},
		"a hash without state":          {[]byte{0, 0, 0, 0, 0, 1, 0, 0x0b, 0, 0}, new(sequence), wire.ErrRange},
		"a SHA-3 without state":         {[]byte{0, 0, 0, 0, 0, 1, 0, 0x27, 0, 0}, new(sequence), wire.ErrRange},
		"more sums than there are PCRs": {[]byte{0, 0, 0, 0, 0, 9}, new(sequence), wire.ErrSize},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wire.Decode(tc.in, tc.v); !errors.Is(err, tc.want) {
				t.Errorf("Decode(%x) = %v, want %v", tc.in, err, tc.want)
			}
		})
	}
}

// FuzzKeptState decodes anything as an object or a session: what is taken has one
// encoding, and a restored sequence can go on.
func FuzzKeptState(f *testing.F) {
	for seed := range uint64(3) {
		for _, tc := range kept(structtest.New(seed)) {
			b, err := wire.Encode(tc.full)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
		for _, s := range everySequence(f, structtest.New(seed)) {
			b, err := wire.Encode(&object{sequence: s})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, v := range []wire.Layout{new(object), new(session)} {
			if wire.Decode(in, v) != nil {
				continue
			}
			again, err := wire.Encode(v)
			if err != nil {
				t.Fatalf("encode what was decoded from %x: %v", in, err)
			}
			if o, ok := v.(*object); ok && o.sequence != nil {
				o.sequence.write(in)
				if o.sequence.kind != eventSequence {
					o.sequence.finish(in)
				}
				continue // states of hashes may have bytes of no meaning
			}
			if !bytes.Equal(again, in) {
				t.Errorf("%x is encoded as %x", in, again)
			}
		}
	})
}

// What layouts ask says of each algorithm what the profile does, also when the
// profile of a TPM changes as its state is read.
func TestAnOfferIsTheProfile(t *testing.T) {
	m := new(TPM)
	for _, p := range profiles {
		m.profile = p
		for a := range 1 << 16 {
			if got, want := m.offer().OffersAlg(tpm2.Alg(a)), p.OffersAlg(tpm2.Alg(a)); got != want {
				t.Fatalf("%s: OffersAlg(%#x) = %v, want %v", p.Name, a, got, want)
			}
		}
	}
}
