package engine_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// An outside object is one that was made without a TPM.
type outside struct {
	public    tpm2.Public
	sensitive tpm2.Sensitive
}

// clone copies what tests change.
func (o *outside) clone() *outside {
	c := *o
	c.sensitive.Bits, c.sensitive.SeedValue = slices.Clone(o.sensitive.Bits), slices.Clone(o.sensitive.SeedValue)
	c.public.Unique.RSA = slices.Clone(o.public.Unique.RSA)
	c.public.Unique.Digest = slices.Clone(o.public.Unique.Digest)
	c.public.Unique.ECC = tpm2.ECCPoint{X: slices.Clone(o.public.Unique.ECC.X), Y: slices.Clone(o.public.Unique.ECC.Y)}
	return &c
}

// rsaPrivate is made once: it takes long.
var rsaPrivate = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func outsideRSA(t testing.TB, a tpm2.ObjectAttributes) *outside {
	t.Helper()
	k, err := rsaPrivate()
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{public: rsaTemplate(a), sensitive: tpm2.Sensitive{Type: tpm2.AlgRSA, Bits: k.Primes[0].Bytes()}}
	o.public.Unique.RSA = k.N.Bytes()
	return o
}

func outsideECC(t testing.TB, a tpm2.ObjectAttributes) *outside {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, errD := k.Bytes()
	q, errQ := k.PublicKey.Bytes()
	if errD != nil || errQ != nil {
		t.Fatal(errD, errQ)
	}
	o := &outside{public: eccTemplate(a), sensitive: tpm2.Sensitive{Type: tpm2.AlgECC, Bits: d}}
	o.public.Unique.ECC = tpm2.ECCPoint{X: q[1:33], Y: q[33:]}
	return o
}

// bind computes unique as Part 1, 27.6.3.2 has it for objects that are no parents.
func (o *outside) bind() *outside {
	sum := sha256.Sum256(slices.Concat(o.sensitive.SeedValue, o.sensitive.Bits))
	o.public.Unique.Digest = sum[:]
	return o
}

func outsideHMAC(a tpm2.ObjectAttributes, key string) *outside {
	o := &outside{public: keyedHashTemplate(a), sensitive: tpm2.Sensitive{Type: tpm2.AlgKeyedHash, Bits: []byte(key)}}
	o.sensitive.SeedValue = bytes.Repeat([]byte{7}, 32)
	return o.bind()
}

func outsideAES(a tpm2.ObjectAttributes) *outside {
	o := &outside{public: symTemplate(a), sensitive: tpm2.Sensitive{Type: tpm2.AlgSymCipher, Bits: make([]byte, 16)}}
	o.sensitive.SeedValue = bytes.Repeat([]byte{7}, 32)
	return o.bind()
}

// external is the parameters of TPM2_LoadExternal for all of o.
func (o *outside) external() *command.LoadExternalIn {
	return &command.LoadExternalIn{InPublic: o.public, InPrivate: tpm2.Sensitive2B{Sensitive: &o.sensitive}, Hierarchy: tpm2.HandleNull}
}

const usable = tpm2.AttrUserWithAuth // of what comes from outside

func TestOutsideObjectsLoad(t *testing.T) {
	m := newMachine(t)
	for name, o := range map[string]*outside{
		"RSA":    outsideRSA(t, usable|tpm2.AttrSign|tpm2.AttrDecrypt),
		"ECC":    outsideECC(t, usable|tpm2.AttrSign),
		"HMAC":   outsideHMAC(usable|tpm2.AttrSign, "a key"),
		"sealed": outsideHMAC(usable, "data"),
		"AES":    outsideAES(usable | tpm2.AttrDecrypt),
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			want, err := o.public.Name()
			if err != nil {
				t.Fatal(err)
			}
			var out command.LoadExternalOut
			m.do(tpm2.CCLoadExternal, nil, nil, o.external(), &out)
			if !bytes.Equal(out.Name, want) {
				t.Errorf("Name = %x, want %x", out.Name, want)
			}
			var got command.ReadPublicOut
			m.do(tpm2.CCReadPublic, handles(m.handle), nil, nil, &got)
			if !bytes.Equal(got.QualifiedName, want) {
				t.Errorf("Qualified Name = %x, want the Name %x", got.QualifiedName, want)
			}
			m.flush(m.handle)
			for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleNull} {
				m.do(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: o.public, Hierarchy: h}, nil)
				m.flush(m.handle)
			}
			unnamed := o.clone()
			unnamed.public.NameAlg = tpm2.AlgNull
			m.do(tpm2.CCLoadExternal, nil, nil, unnamed.external(), &out)
			if len(out.Name) != 0 {
				t.Errorf("Name without Name algorithm = %x, want none", out.Name)
			}
			m.flush(m.handle)
		})
	}
}

// A loadFault is one thing wrong with an outside object.
type loadFault struct {
	object *outside
	spoil  func(in *command.LoadExternalIn)
	want   tpm2.RC
}

func loadFaults(t *testing.T) map[string]loadFault {
	ecc, hmac, aes := outsideECC(t, usable|tpm2.AttrSign), outsideHMAC(usable|tpm2.AttrSign, "key"), outsideAES(usable|tpm2.AttrDecrypt)
	rsaKey := outsideRSA(t, usable|tpm2.AttrSign)
	other := outsideECC(t, usable)
	private, public := func(rc tpm2.RC) tpm2.RC { return parameterRC(rc, 1) }, func(rc tpm2.RC) tpm2.RC { return parameterRC(rc, 2) }
	publicOnly := func(f func(p *tpm2.Public)) func(in *command.LoadExternalIn) {
		return func(in *command.LoadExternalIn) {
			in.InPrivate.Sensitive = nil
			f(&in.InPublic)
		}
	}
	sensitive := func(f func(s *tpm2.Sensitive)) func(in *command.LoadExternalIn) {
		return func(in *command.LoadExternalIn) { f(in.InPrivate.Sensitive) }
	}
	of := func(f func(p *tpm2.Public)) func(in *command.LoadExternalIn) {
		return func(in *command.LoadExternalIn) { f(&in.InPublic) }
	}
	return map[string]loadFault{
		"a private key in a hierarchy": {ecc, func(in *command.LoadExternalIn) { in.Hierarchy = tpm2.HandleOwner }, parameterRC(tpm2.RCHierarchy, 3)},
		"fixedTPM":                     {ecc, of(func(p *tpm2.Public) { p.Attributes |= tpm2.AttrFixedTPM }), public(tpm2.RCAttributes)},
		"fixedParent":                  {ecc, of(func(p *tpm2.Public) { p.Attributes |= tpm2.AttrFixedParent }), public(tpm2.RCAttributes)},
		"restricted":                   {ecc, of(func(p *tpm2.Public) { p.Attributes |= tpm2.AttrRestricted }), public(tpm2.RCAttributes)},
		"for no use":                   {ecc, of(func(p *tpm2.Public) { p.Attributes &^= tpm2.AttrSign }), public(tpm2.RCAttributes)},
		"public with a wrong scheme":   {ecc, publicOnly(func(p *tpm2.Public) { p.Parameters.ECC.Symmetric = aesCFB(128) }), public(tpm2.RCSymmetric)},
		"seed longer than a digest":    {ecc, sensitive(func(s *tpm2.Sensitive) { s.SeedValue = make([]byte, 33) }), private(tpm2.RCKeySize)},
		"another type":                 {ecc, sensitive(func(s *tpm2.Sensitive) { s.Type = tpm2.AlgRSA }), private(tpm2.RCType)},
		"authValue too long":           {ecc, sensitive(func(s *tpm2.Sensitive) { s.AuthValue = make([]byte, 33) }), private(tpm2.RCSize)},
		"short coordinate":             {ecc, publicOnly(func(p *tpm2.Public) { p.Unique.ECC.X = p.Unique.ECC.X[1:] }), public(tpm2.RCKey)},
		"short other coordinate":       {ecc, publicOnly(func(p *tpm2.Public) { p.Unique.ECC.Y = p.Unique.ECC.Y[1:] }), public(tpm2.RCKey)},
		"point off the curve":          {ecc, publicOnly(func(p *tpm2.Public) { p.Unique.ECC.X[31] ^= 1 }), public(tpm2.RCECCPoint)},
		"scalar of zero":               {ecc, sensitive(func(s *tpm2.Sensitive) { s.Bits = make([]byte, 32) }), tpm2.RCKeySize},
		"scalar above the order":       {ecc, sensitive(func(s *tpm2.Sensitive) { s.Bits = bytes.Repeat([]byte{0xff}, 32) }), tpm2.RCKeySize},
		"another's point":              {ecc, of(func(p *tpm2.Public) { p.Unique.ECC = other.public.Unique.ECC }), tpm2.RCBinding},
		"short modulus":                {rsaKey, publicOnly(func(p *tpm2.Public) { p.Unique.RSA = p.Unique.RSA[1:] }), public(tpm2.RCKey)},
		"small modulus":                {rsaKey, of(func(p *tpm2.Public) { p.Unique.RSA[0] = 0x7f }), public(tpm2.RCKey)},
		"exponent of 5":                {rsaKey, of(func(p *tpm2.Public) { p.Parameters.RSA.Exponent = 5 }), public(tpm2.RCValue)},
		"short prime":                  {rsaKey, sensitive(func(s *tpm2.Sensitive) { s.Bits = s.Bits[1:] }), private(tpm2.RCKeySize)},
		"small prime":                  {rsaKey, sensitive(func(s *tpm2.Sensitive) { s.Bits[0] = 0x7f }), private(tpm2.RCKeySize)},
		"another's prime":              {rsaKey, sensitive(func(s *tpm2.Sensitive) { s.Bits[100] ^= 2 }), tpm2.RCBinding},
		"public of another size":       {hmac, publicOnly(func(p *tpm2.Public) { p.Unique.Digest = p.Unique.Digest[1:] }), public(tpm2.RCKey)},
		"AES key of another size":      {aes, sensitive(func(s *tpm2.Sensitive) { s.Bits = make([]byte, 24) }), private(tpm2.RCKeySize)},
		"HMAC key beyond a block":      {hmac, sensitive(func(s *tpm2.Sensitive) { s.Bits = make([]byte, 65) }), private(tpm2.RCKeySize)},
		"seed shorter than a digest":   {hmac, sensitive(func(s *tpm2.Sensitive) { s.SeedValue = s.SeedValue[1:] }), private(tpm2.RCKeySize)},
		"another HMAC key":             {hmac, sensitive(func(s *tpm2.Sensitive) { s.Bits[0] ^= 1 }), tpm2.RCBinding},
		"another AES key":              {aes, sensitive(func(s *tpm2.Sensitive) { s.Bits[0] ^= 1 }), tpm2.RCBinding},
	}
}

func TestOutsideObjectsWithOneFaultAreRefused(t *testing.T) {
	m := newMachine(t)
	for name, tc := range loadFaults(t) {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			in := tc.object.clone().external()
			tc.spoil(in)
			m.fails(tc.want, tpm2.CCLoadExternal, nil, nil, in)
		})
	}
	m.in(t)
	in := &command.LoadExternalIn{InPublic: outsideECC(t, usable|tpm2.AttrSign).public, Hierarchy: tpm2.HandleEndorsement}
	m.do(tpm2.CCHierarchyControl, handles(tpm2.HandleEndorsement), password(""), &command.HierarchyControlIn{Enable: tpm2.HandleEndorsement}, nil)
	m.fails(parameterRC(tpm2.RCHierarchy, 3), tpm2.CCLoadExternal, nil, nil, in)
	for range 3 {
		m.storage("")
	}
	m.fails(tpm2.RCObjectMemory, tpm2.CCLoadExternal, nil, nil, in)
}

func TestBlobsThatWereChangedAreRefused(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	o := m.create(srk, keyedHashTemplate(sealing), "", "secret")
	try := func(private []byte, want tpm2.RC) {
		t.Helper()
		m.fails(want, tpm2.CCLoad, handles(srk), password(""), &command.LoadIn{InPrivate: private, InPublic: o.OutPublic})
	}
	for i := range o.OutPrivate {
		bad := slices.Clone(o.OutPrivate)
		bad[i] ^= 0x20
		want := tpm2.RCIntegrity
		if i == 0 {
			want = tpm2.RCSize // of the integrity value: beyond any digest
		}
		try(bad, parameterRC(want, 1))
	}
	try(nil, parameterRC(tpm2.RCSize, 1))
	for n := 1; n < len(o.OutPrivate); n++ {
		want := tpm2.RCIntegrity
		if n < 34 {
			want = tpm2.RCInsufficient
		}
		try(o.OutPrivate[:n], parameterRC(want, 1))
	}
	try(append(slices.Clone(o.OutPrivate), 0), parameterRC(tpm2.RCIntegrity, 1))
	// Of another parent, and of another object.
	other := m.primary(tpm2.HandleOwner, eccTemplate(storing|tpm2.AttrNoDA|tpm2.AttrSTClear), "")
	m.fails(parameterRC(tpm2.RCIntegrity, 1), tpm2.CCLoad, handles(other), password(""), &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic})
	changed := o.OutPublic
	changed.Attributes |= tpm2.AttrNoDA
	m.fails(parameterRC(tpm2.RCIntegrity, 1), tpm2.CCLoad, handles(srk), password(""), &command.LoadIn{InPrivate: o.OutPrivate, InPublic: changed})
	// Under what is no parent, and without room.
	leaf := m.load(srk, o)
	m.fails(tpm2.RCObjectMemory, tpm2.CCLoad, handles(srk), password(""), &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic})
	m.flush(other)
	m.fails(handleRC(tpm2.RCType, 1), tpm2.CCLoad, handles(leaf), password(""), &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic})
}

// What a parent vouches for is still checked: another may know its seed.
func TestIntactBlobsWithBadContentAreRefused(t *testing.T) {
	m := newMachine(t)
	open := m.primary(tpm2.HandleOwner, eccTemplate(ordinary|storageUse), "")
	good := outsideECC(t, usable|tpm2.AttrSign)
	encode := func(s *tpm2.Sensitive) []byte {
		b, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	spoiled := func(f func(s *tpm2.Sensitive)) []byte {
		s := good.clone().sensitive
		f(&s)
		return encode(&s)
	}
	iv := make([]byte, 16)
	for name, tc := range map[string]struct {
		iv, content []byte
		want        tpm2.RC
	}{
		"good":                  {iv, encode(&good.sensitive), tpm2.RCSuccess},
		"initial value short":   {iv[1:], encode(&good.sensitive), parameterRC(tpm2.RCValue, 1)},
		"initial value long":    {make([]byte, 17), encode(&good.sensitive), parameterRC(tpm2.RCSize, 1)},
		"initial value missing": {nil, []byte{1}, parameterRC(tpm2.RCInsufficient, 1)},
		"empty":                 {iv, nil, parameterRC(tpm2.RCInsufficient, 1)},
		"empty structure":       {iv, []byte{0, 0}, parameterRC(tpm2.RCSensitive, 1)},
		"trailing byte":         {iv, append(encode(&good.sensitive), 0), parameterRC(tpm2.RCSensitive, 1)},
		"cut":                   {iv, encode(&good.sensitive)[:40], parameterRC(tpm2.RCSensitive, 1)},
		"unknown type":          {iv, []byte{0, 8, 0, 0x30, 0, 0, 0, 0, 0, 0}, parameterRC(tpm2.RCSensitive, 1)},
		"another's key":         {iv, encode(&outsideECC(t, usable).sensitive), tpm2.RCBinding},
		"seed too long":         {iv, spoiled(func(s *tpm2.Sensitive) { s.SeedValue = make([]byte, 33) }), parameterRC(tpm2.RCKeySize, 1)},
		"authValue too long":    {iv, spoiled(func(s *tpm2.Sensitive) { s.AuthValue = bytes.Repeat([]byte{1}, 33) }), parameterRC(tpm2.RCSize, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			name, err := good.public.Name()
			if err != nil {
				t.Fatal(err)
			}
			private, err := m.tpm.Wrap(open, name, tc.iv, tc.content)
			if err != nil {
				t.Fatal(err)
			}
			m.fails(tc.want, tpm2.CCLoad, handles(open), password(""), &command.LoadIn{InPrivate: private, InPublic: good.public})
			if tc.want == tpm2.RCSuccess {
				m.flush(tpm2.KindTransient.First() + 1)
			}
		})
	}
	m.in(t)
	m.parentSeeds(open)
}

// parentSeeds checks the seed of a parent under a parent: from half a digest to one.
func (m *machine) parentSeeds(open tpm2.Handle) {
	m.Helper()
	o := outsideECC(m, usable|storageUse)
	name, err := o.public.Name()
	if err != nil {
		m.Fatal(err)
	}
	for size, want := range map[int]tpm2.RC{15: parameterRC(tpm2.RCSize, 1), 16: tpm2.RCSuccess, 32: tpm2.RCSuccess, 33: parameterRC(tpm2.RCKeySize, 1)} {
		o.sensitive.SeedValue = make([]byte, size)
		b, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: &o.sensitive})
		if err != nil {
			m.Fatal(err)
		}
		private, err := m.tpm.Wrap(open, name, make([]byte, 16), b)
		if err != nil {
			m.Fatal(err)
		}
		m.fails(want, tpm2.CCLoad, handles(open), password(""), &command.LoadIn{InPrivate: private, InPublic: o.public})
		if want == tpm2.RCSuccess {
			m.flush(tpm2.KindTransient.First() + 1)
		}
	}
}
