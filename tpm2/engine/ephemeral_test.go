package engine_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"
	"testing"

	"filippo.io/nistec"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/wire"
)

// anonymous gives an ECC key the scheme ECDAA.
func anonymous(p *tpm2.Public) {
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256}
}

// p256 reads a point of the TPM.
func p256(t *testing.T, p tpm2.ECCPoint) *nistec.P256Point {
	t.Helper()
	q, err := nistec.NewP256Point().SetBytes(append(append([]byte{4}, p.X...), p.Y...))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// times is [k]p, of the base point if p is nil.
func times(t *testing.T, p *nistec.P256Point, k []byte) *nistec.P256Point {
	t.Helper()
	out, err := nistec.NewP256Point(), error(nil)
	if p == nil {
		out, err = out.ScalarBaseMult(k)
	} else {
		out, err = out.ScalarMult(p, k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The signature is verified as Part 1, C.4.2 has it, with other code than the TPM's:
// [s]G = E + [H(K || digest)]Q.
func TestECDAASignaturesFitTheirCommitment(t *testing.T) {
	m := newMachine(t)
	key := m.external(outsideECC(t, usable|tpm2.AttrSign).of(anonymous))
	digest := sha256.Sum256([]byte("message"))
	scheme := tpm2.SigScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256}
	for range 3 {
		var made command.CommitOut
		m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{}, &made)
		if len(made.K.X) != 0 || len(made.L.X) != 0 {
			t.Errorf("Commit without P2 gives K and L: %+v", made)
		}
		scheme.Count = made.Counter
		in := &command.SignIn{Digest: digest[:], InScheme: scheme, Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}
		var out command.SignOut
		m.do(tpm2.CCSign, handles(key), password(""), in, &out)
		h := sha256.Sum256(append(bytes.Clone(out.Signature.R), digest[:]...))
		left := times(t, nil, out.Signature.S)
		right := nistec.NewP256Point().Add(p256(t, made.E), times(t, p256(t, m.public(key).Unique.ECC), h[:]))
		if !bytes.Equal(left.Bytes(), right.Bytes()) {
			t.Error("the signature does not fit its commitment")
		}
		m.fails(tpm2.RCValue, tpm2.CCSign, handles(key), password(""), in) // a commitment serves once
	}
}

// pointFromHash finds s2 whose hash is the x-coordinate of a point, and its y.
func pointFromHash(t *testing.T) (s2 []byte, p tpm2.ECCPoint) {
	t.Helper()
	for i := byte(0); ; i++ {
		x := sha256.Sum256([]byte{i})
		q, err := nistec.NewP256Point().SetBytes(append([]byte{2}, x[:]...))
		if err == nil {
			b := q.Bytes()
			return []byte{i}, tpm2.ECCPoint{X: b[1:33], Y: b[33:]}
		}
	}
}

func TestCommitComputesItsThreePoints(t *testing.T) {
	m := newMachine(t)
	o := outsideECC(t, usable|tpm2.AttrSign).of(anonymous)
	key := m.external(o)
	s2, p2 := pointFromHash(t)
	p1 := outsideECC(t, usable).public.Unique.ECC
	var out command.CommitOut
	m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{P1: p1, S2: s2, Y2: p2.Y}, &out)
	if want := times(t, p256(t, p2), o.sensitive.Bits).Bytes(); !bytes.Equal(p256(t, out.K).Bytes(), want) {
		t.Errorf("K = %x, want [d]P2", out.K)
	}
	// With r from a signature, L and E are [r]P2 and [r]P1: s = r + H(K||digest)*d.
	digest := make([]byte, 32)
	scheme := tpm2.SigScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256, Count: out.Counter}
	var sig command.SignOut
	m.do(tpm2.CCSign, handles(key), password(""), &command.SignIn{Digest: digest, InScheme: scheme, Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}, &sig)
	h := sha256.Sum256(append(bytes.Clone(sig.Signature.R), digest...))
	n, _ := new(big.Int).SetString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
	r := new(big.Int).Mul(new(big.Int).SetBytes(h[:]), new(big.Int).SetBytes(o.sensitive.Bits))
	r.Sub(new(big.Int).SetBytes(sig.Signature.S), r).Mod(r, n)
	scalar := r.FillBytes(make([]byte, 32))
	if want := times(t, p256(t, p2), scalar).Bytes(); !bytes.Equal(p256(t, out.L).Bytes(), want) {
		t.Errorf("L = %x, want [r]P2", out.L)
	}
	if want := times(t, p256(t, p1), scalar).Bytes(); !bytes.Equal(p256(t, out.E).Bytes(), want) {
		t.Errorf("E = %x, want [r]P1", out.E)
	}
	m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{S2: s2, Y2: p2.Y}, &out)
	if len(out.E.X) != 0 || len(out.E.Y) != 0 {
		t.Errorf("Commit without P1 but with P2 gives E = %x", out.E)
	}
}

// A digest that is longer than the field is taken modulo its prime.
func TestCommitTakesLongHashes(t *testing.T) {
	m := newMachine(t)
	key := m.external(outsideECC(t, usable|tpm2.AttrSign).of(func(p *tpm2.Public) {
		anonymous(p)
		p.NameAlg = tpm2.AlgSHA384
	}))
	prime, _ := new(big.Int).SetString("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff", 16)
	for i := byte(0); ; i++ {
		sum := sha512.Sum384([]byte{i})
		x := new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), prime).FillBytes(make([]byte, 32))
		q, err := nistec.NewP256Point().SetBytes(append([]byte{2}, x...))
		if err != nil {
			continue
		}
		m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{S2: []byte{i}, Y2: q.Bytes()[33:]}, nil)
		return
	}
}

func TestCommitIsRefused(t *testing.T) {
	key := outsideECC(t, usable|tpm2.AttrSign).of(anonymous)
	ecdsa := key.of(func(p *tpm2.Public) {
		p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	})
	s2, p2 := pointFromHash(t)
	refused(t, map[string]keyCheck{
		"an RSA key":     {outsideRSA(t, bothUses), tpm2.CCCommit, &command.CommitIn{}, handleRC(tpm2.RCKey, 1)},
		"an ECDSA key":   {ecdsa, tpm2.CCCommit, &command.CommitIn{}, handleRC(tpm2.RCScheme, 1)},
		"no scheme":      {outsideECC(t, usable|tpm2.AttrSign), tpm2.CCCommit, &command.CommitIn{}, handleRC(tpm2.RCScheme, 1)},
		"s2 alone":       {key, tpm2.CCCommit, &command.CommitIn{S2: s2}, parameterRC(tpm2.RCSize, 3)},
		"y2 alone":       {key, tpm2.CCCommit, &command.CommitIn{Y2: p2.Y}, parameterRC(tpm2.RCSize, 3)},
		"P2 off":         {key, tpm2.CCCommit, &command.CommitIn{S2: s2, Y2: p2.X}, parameterRC(tpm2.RCECCPoint, 2)},
		"P1 off":         {key, tpm2.CCCommit, &command.CommitIn{P1: tpm2.ECCPoint{X: p2.X, Y: p2.X}}, parameterRC(tpm2.RCECCPoint, 1)},
		"P1 without a y": {key, tpm2.CCCommit, &command.CommitIn{P1: tpm2.ECCPoint{X: p2.X}}, parameterRC(tpm2.RCECCPoint, 1)},
	})
}

// ephemeral makes an ephemeral key on P-256.
func (m *machine) ephemeral() *command.ECEphemeralOut {
	m.Helper()
	out := new(command.ECEphemeralOut)
	m.do(tpm2.CCECEphemeral, nil, nil, &command.ECEphemeralIn{CurveID: tpm2.CurveNISTP256}, out)
	return out
}

// agree runs TPM2_ZGen_2Phase.
func (m *machine) agree(a tpm2.Alg, key tpm2.Handle, static tpm2.ECCPoint, theirs *command.ECEphemeralOut, mine uint16) *command.ZGen2PhaseOut {
	m.Helper()
	out := new(command.ZGen2PhaseOut)
	in := &command.ZGen2PhaseIn{InQsB: static, InQeB: theirs.Q, InScheme: a, Counter: mine}
	m.do(tpm2.CCZGen2Phase, handles(key), password(""), in, out)
	return out
}

func TestTwoPhasesAgree(t *testing.T) {
	for name, scheme := range map[string]tpm2.Alg{"ECDH": tpm2.AlgECDH, "MQV": tpm2.AlgECMQV} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			one, two := outsideECC(t, usable|tpm2.AttrDecrypt), outsideECC(t, usable|tpm2.AttrDecrypt)
			a, b := m.external(one), m.external(two)
			ephemeralA, ephemeralB := m.ephemeral(), m.ephemeral()
			atA := m.agree(scheme, a, two.public.Unique.ECC, ephemeralB, ephemeralA.Counter)
			atB := m.agree(scheme, b, one.public.Unique.ECC, ephemeralA, ephemeralB.Counter)
			if diff := cmp.Diff(atA, atB); diff != "" || len(atA.OutZ1.X) != 32 {
				t.Errorf("the parties do not agree:\n%s", diff)
			}
			if want := map[tpm2.Alg]int{tpm2.AlgECDH: 32, tpm2.AlgECMQV: 0}[scheme]; len(atA.OutZ2.X) != want {
				t.Errorf("Z2 = %x, want %d bytes", atA.OutZ2.X, want)
			}
			in := &command.ZGen2PhaseIn{InQsB: two.public.Unique.ECC, InQeB: ephemeralB.Q, InScheme: scheme, Counter: ephemeralA.Counter}
			m.fails(parameterRC(tpm2.RCValue, 4), tpm2.CCZGen2Phase, handles(a), password(""), in) // it serves once
		})
	}
}

// Commitments are kept as bits by the counter modulo 128: neither one that is to
// come nor one that is past passes for the one whose bit it shares.
func TestCommitmentsAreToldApart(t *testing.T) {
	m := newMachine(t)
	o := outsideECC(t, usable|tpm2.AttrDecrypt)
	key := m.external(o)
	zgen := func(count uint16) wire.Layout {
		return &command.ZGen2PhaseIn{InQsB: o.public.Unique.ECC, InQeB: o.public.Unique.ECC, InScheme: tpm2.AlgECDH, Counter: count}
	}
	refuse := func(count uint16) {
		t.Helper()
		m.fails(parameterRC(tpm2.RCValue, 4), tpm2.CCZGen2Phase, handles(key), password(""), zgen(count))
	}
	first := m.ephemeral().Counter
	refuse(first + 1)
	refuse(first - 1)
	for range 127 {
		m.ephemeral()
	}
	refuse(first + 128)                                                   // the next
	m.do(tpm2.CCZGen2Phase, handles(key), password(""), zgen(first), nil) // just in time
	if last := m.ephemeral().Counter; last != first+128 {
		t.Fatalf("counter = %d, want %d", last, first+128)
	}
	refuse(first)
	m.ephemeral()
	refuse(first + 1) // the bit is another's now
	m.do(tpm2.CCZGen2Phase, handles(key), password(""), zgen(first+129), nil)
	m.tpm.PowerOn()
	m.startup(tpm2.StartupClear)
	key = m.external(o)
	refuse(first + 2) // TPM Reset forgets them
}

func TestEphemeralKeysNeedACurve(t *testing.T) {
	m := newMachine(t)
	in := raw{0, 0x10}
	m.fails(parameterRC(tpm2.RCCurve, 1), tpm2.CCECEphemeral, nil, nil, &in)
}

// Two TPMs of one snapshot that sign two digests by one commitment tell the private
// key: d = (s1-s2)/(T1-T2). A snapshot therefore carries no commitment, and those
// made later differ; nor does what a shutdown kept for a resume.
func TestNoCommitmentOutlivesASnapshot(t *testing.T) {
	m := newMachine(t)
	key := m.external(outsideECC(t, usable|tpm2.AttrSign).of(anonymous))
	var made command.CommitOut
	m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{}, &made)
	in := signIn(sum())
	in.InScheme = tpm2.SigScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256, Count: made.Counter}
	m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}, nil)
	permanent, volatile := m.tpm.MustPermanent(), m.tpm.MustVolatile()
	var points []string
	for range 2 {
		var err error
		if m.tpm, err = engine.Restore(m.config(), permanent, volatile); err != nil {
			t.Fatal(err)
		}
		m.fails(tpm2.RCValue, tpm2.CCSign, handles(key), password(""), in)
		var later command.CommitOut
		m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{}, &later)
		points = append(points, string(later.E.X))
		if m.tpm, err = engine.Restore(m.config(), permanent, nil); err != nil {
			t.Fatal(err)
		}
		m.tpm.PowerOn()
		m.startup(tpm2.StartupState)
		again := m.external(outsideECC(t, usable|tpm2.AttrSign).of(anonymous))
		m.fails(tpm2.RCValue, tpm2.CCSign, handles(again), password(""), in)
		m.flush(again)
	}
	if points[0] == points[1] {
		t.Error("two TPMs of one snapshot make the same commitment")
	}
}

// Volatile state is opened by a TPM that was itself made of the permanent state, when
// its process starts again: that must not change by being read.
func TestReadingPermanentStateLeavesItAsItWas(t *testing.T) {
	for _, kind := range []tpm2.StartupType{tpm2.StartupClear, tpm2.StartupState} {
		m := newMachine(t)
		m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: kind}, nil)
		permanent, volatile := m.tpm.MustPermanent(), m.tpm.MustVolatile()
		again, err := engine.Restore(m.config(), permanent, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again.Changed() {
			t.Errorf("%v: a TPM that was read has changed", kind)
		}
		for range 2 { // swtpm keeps volatile state for more than one start, if asked to
			if again, err = engine.Restore(m.config(), again.MustPermanent(), volatile); err != nil {
				t.Fatalf("%v: %v", kind, err)
			}
		}
		// Nor does it void the shutdown; a commitment does.
		m.tpm = again
		m.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 1}, nil)
		if !bytes.Equal(m.tpm.MustPermanent(), permanent) {
			t.Errorf("%v: the permanent state is another", kind)
		}
		m.ephemeral()
		if bytes.Equal(m.tpm.MustPermanent(), permanent) {
			t.Errorf("%v: a new commitment leaves the shutdown orderly", kind)
		}
	}
}
