package engine_test

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// trial returns the policyDigest of one assertion.
func (m *machine) trial(assert func(s *session)) []byte {
	m.Helper()
	s := m.session(sessionConfig{kind: tpm2.SessionTrial})
	assert(s)
	var out command.PolicyGetDigestOut
	m.do(tpm2.CCPolicyGetDigest, handles(s.handle), nil, nil, &out)
	m.flush(s.handle)
	return out.PolicyDigest
}

func (m *machine) policyCommand(cc tpm2.CC) func(s *session) {
	return func(s *session) {
		m.Helper()
		m.do(tpm2.CCPolicyCommandCode, handles(s.handle), nil, &command.PolicyCommandCodeIn{Code: cc}, nil)
	}
}

// duplicable gives a template the policy that allows duplication.
func (m *machine) duplicable(p tpm2.Public) tpm2.Public {
	m.Helper()
	p.AuthPolicy = m.trial(m.policyCommand(tpm2.CCDuplicate))
	return p
}

// duplicate runs TPM2_Duplicate and returns its code.
func (m *machine) duplicate(h, parent tpm2.Handle, in *command.DuplicateIn, out *command.DuplicateOut) tpm2.RC {
	m.Helper()
	if in.SymmetricAlg.Algorithm == 0 {
		in.SymmetricAlg.Algorithm = tpm2.AlgNull
	}
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	defer m.flush(s.handle)
	m.policyCommand(tpm2.CCDuplicate)(s)
	return m.run(tpm2.CCDuplicate, handles(h, parent), s.with(""), in, out)
}

// receive loads the public area of a parent of another TPM.
func (m *machine) receive(p *tpm2.Public) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: *p, Hierarchy: tpm2.HandleNull}, nil)
	return m.handle
}

// imports imports an object and loads it.
func (m *machine) imports(parent tpm2.Handle, in *command.ImportIn) tpm2.Handle {
	m.Helper()
	if in.SymmetricAlg.Algorithm == 0 {
		in.SymmetricAlg.Algorithm = tpm2.AlgNull
	}
	var out command.ImportOut
	m.do(tpm2.CCImport, handles(parent), password(""), in, &out)
	m.do(tpm2.CCLoad, handles(parent), password(""), &command.LoadIn{InPrivate: out.OutPrivate, InPublic: in.ObjectPublic}, nil)
	return m.handle
}

func movable() map[string]tpm2.Public {
	return map[string]tpm2.Public{
		"RSA":    rsaTemplate(ordinary | tpm2.AttrSign),
		"ECC":    eccTemplate(ordinary | tpm2.AttrSign),
		"HMAC":   keyedHashTemplate(ordinary | tpm2.AttrSign),
		"AES":    symTemplate(ordinary | tpm2.AttrDecrypt),
		"parent": eccTemplate(ordinary | storageUse),
	}
}

func TestDuplicatesMoveToAnotherTPM(t *testing.T) {
	for name, template := range movable() {
		for parentName, parentTemplate := range map[string]tpm2.Public{
			"RSA parent": rsaTemplate(fixed | ordinary | storageUse), "ECC parent": eccTemplate(fixed | ordinary | storageUse), "no parent": {},
		} {
			for innerName, inner := range map[string]command.DuplicateIn{
				"":                      {},
				" and an inner key":     {SymmetricAlg: aesCFB(256), EncryptionKeyIn: bytes.Repeat([]byte{9}, 32)},
				" and a new inner key":  {SymmetricAlg: aesCFB(128)},
				" and encryption twice": {SymmetricAlg: aesCFB(128), EncryptionKeyIn: bytes.Repeat([]byte{9}, 16)},
			} {
				t.Run(name+" to "+parentName+innerName, func(t *testing.T) { move(t, template, parentTemplate, inner) })
			}
		}
	}
}

// move duplicates a new object of one TPM to another and compares the two.
func move(t *testing.T, template, parentTemplate tpm2.Public, inner command.DuplicateIn) {
	there := newMachine(t)
	to, outer := there.storage(""), parentTemplate.Type != 0
	if outer {
		there.flush(to)
		to = there.primary(tpm2.HandleOwner, parentTemplate, "")
	}
	here := newMachine(t)
	h := here.child(here.storage(""), here.duplicable(template), "auth", "")
	parent := tpm2.HandleNull
	if outer {
		parent = here.receive(there.public(to))
	}
	given := inner.EncryptionKeyIn
	var out command.DuplicateOut
	if rc := here.duplicate(h, parent, &inner, &out); rc != tpm2.RCSuccess {
		t.Fatalf("Duplicate = %v", rc)
	}
	if wanted := inner.SymmetricAlg.Algorithm != tpm2.AlgNull && given == nil; (len(out.EncryptionKeyOut) != 0) != wanted {
		t.Errorf("encryptionKeyOut is %x", out.EncryptionKeyOut)
	}
	if (len(out.OutSymSeed) != 0) != outer {
		t.Errorf("outSymSeed is %x", out.OutSymSeed)
	}
	in := &command.ImportIn{
		EncryptionKey: append(bytes.Clone(given), out.EncryptionKeyOut...), ObjectPublic: *here.public(h),
		Duplicate: out.Duplicate, InSymSeed: out.OutSymSeed, SymmetricAlg: inner.SymmetricAlg,
	}
	got := there.imports(to, in)
	if a, b := here.tpm.Sensitive(h), there.tpm.Sensitive(got); !bytes.Equal(a.Bits, b.Bits) || !bytes.Equal(a.AuthValue, b.AuthValue) || !bytes.Equal(a.SeedValue, b.SeedValue) {
		t.Errorf("sensitive area is %+v, want %+v", b, a)
	}
	if got, want := there.name(got), here.name(h); !bytes.Equal(got, want) {
		t.Errorf("Name is %x, want %x", got, want)
	}
}

// go-tpm makes duplicates without a TPM: an independent reading of Part 1, 23.3.
func TestDuplicatesOfGoTPMAreImported(t *testing.T) {
	for name, template := range map[string]tpm2.Public{
		"RSA": rsaTemplate(fixed | ordinary | storageUse), "ECC": eccTemplate(fixed | ordinary | storageUse),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			parent := m.primary(tpm2.HandleOwner, template, "")
			key, err := gotpm.ImportEncapsulationKey(unmarshalPublic(t, m.public(parent)))
			if err != nil {
				t.Fatal(err)
			}
			o := outsideHMAC(usable, "sealed elsewhere")
			objectName, err := o.public.Name()
			if err != nil {
				t.Fatal(err)
			}
			blob, seed, err := gotpm.CreateDuplicate(rand.Reader, key, objectName, mustEncode(t, &o.sensitive))
			if err != nil {
				t.Fatal(err)
			}
			h := m.imports(parent, &command.ImportIn{ObjectPublic: o.public, Duplicate: blob, InSymSeed: seed})
			var out command.UnsealOut
			m.do(tpm2.CCUnseal, handles(h), password(""), nil, &out)
			if string(out.OutData) != "sealed elsewhere" {
				t.Errorf("Unseal = %q", out.OutData)
			}
		})
	}
}

func TestWhatIsNotDuplicated(t *testing.T) {
	for name, tc := range map[string]struct {
		template tpm2.Public
		parent   func(m *machine) tpm2.Handle
		in       command.DuplicateIn
		want     tpm2.RC
	}{
		"fixedParent":                    {eccTemplate(ordinary | fixed | tpm2.AttrSign), nobody, command.DuplicateIn{}, handleRC(tpm2.RCAttributes, 1)},
		"to a key that is no parent":     {eccTemplate(ordinary | tpm2.AttrSign), (*machine).signer, command.DuplicateIn{}, handleRC(tpm2.RCType, 2)},
		"to a symmetric parent":          {eccTemplate(ordinary | tpm2.AttrSign), (*machine).symmetricParent, command.DuplicateIn{}, handleRC(tpm2.RCType, 2)},
		"to a parent that signs, too":    {eccTemplate(ordinary | tpm2.AttrSign), (*machine).signingParent, command.DuplicateIn{}, handleRC(tpm2.RCType, 2)},
		"encrypted, without inner":       {eccTemplate(ordinary | tpm2.AttrSign | tpm2.AttrEncryptedDuplication), (*machine).receiver, command.DuplicateIn{}, parameterRC(tpm2.RCSymmetric, 2)},
		"encrypted, without outer":       {eccTemplate(ordinary | tpm2.AttrSign | tpm2.AttrEncryptedDuplication), nobody, command.DuplicateIn{SymmetricAlg: aesCFB(128)}, handleRC(tpm2.RCHierarchy, 2)},
		"a key without an algorithm":     {eccTemplate(ordinary | tpm2.AttrSign), nobody, command.DuplicateIn{EncryptionKeyIn: make([]byte, 16)}, parameterRC(tpm2.RCSize, 1)},
		"a key of another size":          {eccTemplate(ordinary | tpm2.AttrSign), nobody, command.DuplicateIn{SymmetricAlg: aesCFB(128), EncryptionKeyIn: make([]byte, 32)}, parameterRC(tpm2.RCSize, 1)},
		"encrypted and with all (works)": {eccTemplate(ordinary | tpm2.AttrSign | tpm2.AttrEncryptedDuplication), (*machine).receiver, command.DuplicateIn{SymmetricAlg: aesCFB(128)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			parent := tc.parent(m)
			h := m.child(m.storage(""), m.duplicable(tc.template), "", "")
			if got := m.duplicate(h, parent, &tc.in, new(command.DuplicateOut)); got != tc.want {
				t.Errorf("Duplicate = %v, want %v", got, tc.want)
			}
		})
	}
}

func nobody(*machine) tpm2.Handle { return tpm2.HandleNull }

func (m *machine) receiver() tpm2.Handle {
	return m.receive(m.keep(eccTemplate(fixed | ordinary | storageUse)))
}

func (m *machine) symmetricParent() tpm2.Handle {
	return m.receive(m.keep(symTemplate(fixed | ordinary | storageUse)))
}

func (m *machine) signer() tpm2.Handle {
	return m.receive(m.keep(eccTemplate(fixed | ordinary | tpm2.AttrSign)))
}

// signingParent is a public area that no TPM makes, but one that can be loaded.
func (m *machine) signingParent() tpm2.Handle {
	p := m.keep(eccTemplate(fixed | ordinary | storageUse))
	p.Attributes |= tpm2.AttrSign
	return m.receive(p)
}

// keep returns the public area of a primary key that is not kept.
func (m *machine) keep(template tpm2.Public) *tpm2.Public {
	m.Helper()
	h := m.primary(tpm2.HandleOwner, template, "")
	defer m.flush(h)
	return m.public(h)
}

func TestOnlyAPolicyForItAllowsDuplication(t *testing.T) {
	m := newMachine(t)
	h := m.child(m.storage(""), m.duplicable(eccTemplate(ordinary|tpm2.AttrSign)), "", "")
	in := &command.DuplicateIn{SymmetricAlg: noSymmetric}
	entities := handles(h, tpm2.HandleNull)
	m.fails(tpm2.RCAuthMissing, tpm2.CCDuplicate, entities, nil, in)
	m.fails(sessionRC(tpm2.RCAuthType, 1), tpm2.CCDuplicate, entities, password(""), in)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCDuplicate, entities, s.with(""), in)
	m.policyCommand(tpm2.CCObjectChangeAuth)(s)
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCDuplicate, entities, s.with(""), in)
}

// PolicyDuplicationSelect limits where an object may go.
func TestDuplicationToASelectedParent(t *testing.T) {
	m := newMachine(t)
	parent, other := m.keep(eccTemplate(fixed|ordinary|storageUse)), m.keep(rsaTemplate(fixed|ordinary|storageUse))
	parentName, err := parent.Name()
	if err != nil {
		t.Fatal(err)
	}
	sel := func(name []byte) func(s *session) {
		return func(s *session) {
			in := &command.PolicyDuplicationSelectIn{ObjectName: name, NewParentName: parentName}
			m.do(tpm2.CCPolicyDuplicationSelect, handles(s.handle), nil, in, nil)
		}
	}
	template := eccTemplate(ordinary | tpm2.AttrSign)
	template.AuthPolicy = m.trial(sel(nil))
	srk := m.storage("")
	h := m.child(srk, template, "", "")
	m.flush(srk)
	name := m.name(h)
	for _, tc := range []struct {
		to   *tpm2.Public
		want tpm2.RC
	}{{other, sessionRC(tpm2.RCPolicyFail, 1)}, {parent, 0}} {
		to := m.receive(tc.to)
		s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
		sel(name)(s)
		if got := m.run(tpm2.CCDuplicate, handles(h, to), s.with(""), &command.DuplicateIn{SymmetricAlg: noSymmetric}, nil); got != tc.want {
			t.Errorf("Duplicate = %v, want %v", got, tc.want)
		}
		m.flush(to)
	}
}

// An importing is a good TPM2_Import and the parent for it.
type importing struct {
	*machine
	parent tpm2.Handle
	in     command.ImportIn
}

// newImporting makes one of an object with an outer and an inner protection.
func newImporting(t *testing.T, template tpm2.Public) *importing {
	t.Helper()
	m := newMachine(t)
	x := &importing{machine: m, parent: m.storage("")}
	h := m.child(x.parent, m.duplicable(template), "", "")
	var out command.DuplicateOut
	in := &command.DuplicateIn{SymmetricAlg: aesCFB(128)}
	if rc := m.duplicate(h, x.parent, in, &out); rc != tpm2.RCSuccess {
		t.Fatalf("Duplicate = %v", rc)
	}
	x.in = command.ImportIn{
		EncryptionKey: out.EncryptionKeyOut, ObjectPublic: *m.public(h), Duplicate: out.Duplicate, InSymSeed: out.OutSymSeed, SymmetricAlg: in.SymmetricAlg,
	}
	m.flush(h)
	return x
}

func TestImportsWithOneFaultAreRefused(t *testing.T) {
	encrypted := tpm2.AttrEncryptedDuplication
	for name, tc := range map[string]struct {
		change func(x *importing)
		want   tpm2.RC
	}{
		"fixedTPM":              {func(x *importing) { x.in.ObjectPublic.Attributes |= tpm2.AttrFixedTPM }, parameterRC(tpm2.RCAttributes, 2)},
		"fixedParent":           {func(x *importing) { x.in.ObjectPublic.Attributes |= tpm2.AttrFixedParent }, parameterRC(tpm2.RCAttributes, 2)},
		"under no parent":       {func(x *importing) { x.parent = x.child(x.parent, eccTemplate(ordinary|fixed|tpm2.AttrDecrypt), "", "") }, handleRC(tpm2.RCType, 1)},
		"key too short":         {func(x *importing) { x.in.EncryptionKey = x.in.EncryptionKey[:15] }, parameterRC(tpm2.RCSize, 1)},
		"no key":                {func(x *importing) { x.in.EncryptionKey = nil }, parameterRC(tpm2.RCSize, 1)},
		"key without algorithm": {func(x *importing) { x.in.SymmetricAlg = noSymmetric }, parameterRC(tpm2.RCSize, 1)},
		"encrypted, without inner": {func(x *importing) {
			x.in.SymmetricAlg, x.in.EncryptionKey, x.in.ObjectPublic.Attributes = noSymmetric, nil, encrypted
		}, parameterRC(tpm2.RCAttributes, 1)},
		"encrypted, without outer":  {func(x *importing) { x.in.InSymSeed, x.in.ObjectPublic.Attributes = nil, encrypted }, parameterRC(tpm2.RCAttributes, 4)},
		"under a symmetric parent":  {func(x *importing) { x.parent = x.primary(tpm2.HandleOwner, symTemplate(fixed|ordinary|storageUse), "") }, handleRC(tpm2.RCType, 1)},
		"seed is no point":          {func(x *importing) { x.in.InSymSeed = x.in.InSymSeed[:20] }, parameterRC(tpm2.RCInsufficient, 4)},
		"seed is not on the curve":  {func(x *importing) { x.in.InSymSeed[10] ^= 1 }, parameterRC(tpm2.RCECCPoint, 4)},
		"another object":            {func(x *importing) { x.in.ObjectPublic.Unique.ECC.X[0] ^= 1 }, parameterRC(tpm2.RCIntegrity, 3)},
		"another inner key":         {func(x *importing) { x.in.EncryptionKey[0] ^= 1 }, 0}, // see below
		"without the outer":         {func(x *importing) { x.in.InSymSeed = nil }, 0},
		"no duplicate":              {func(x *importing) { x.in.Duplicate = nil }, parameterRC(tpm2.RCInsufficient, 3)},
		"duplicate cut":             {func(x *importing) { x.in.Duplicate = x.in.Duplicate[:20] }, parameterRC(tpm2.RCInsufficient, 3)},
		"duplicate without its end": {func(x *importing) { x.in.Duplicate = x.in.Duplicate[:len(x.in.Duplicate)-1] }, parameterRC(tpm2.RCIntegrity, 3)},
		"size of the integrity":     {func(x *importing) { x.in.Duplicate[0] = 1 }, parameterRC(tpm2.RCSize, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			x := newImporting(t, eccTemplate(ordinary|tpm2.AttrSign))
			tc.change(x)
			rc := x.run(tpm2.CCImport, handles(x.parent), password(""), &x.in, nil)
			if tc.want == 0 {
				// What decrypts to noise has a size or a digest that is wrong.
				if s, n := rc.Subject(); s != tpm2.RCParameter || n != 3 {
					t.Errorf("Import = %v, want an error of parameter 3", rc)
				}
			} else if rc != tc.want {
				t.Errorf("Import = %v, want %v", rc, tc.want)
			}
		})
	}
}

func TestAFlippedBitOfADuplicateIsRefused(t *testing.T) {
	x := newImporting(t, eccTemplate(ordinary|tpm2.AttrSign))
	for i := 2; i < len(x.in.Duplicate); i++ {
		in := x.in
		in.Duplicate = bytes.Clone(in.Duplicate)
		in.Duplicate[i] ^= 0x10
		x.fails(parameterRC(tpm2.RCIntegrity, 3), tpm2.CCImport, handles(x.parent), password(""), &in)
	}
}

// importPlain imports a sensitive area without any protection.
func (m *machine) importPlain(parent tpm2.Handle, public *tpm2.Public, content []byte) tpm2.RC {
	m.Helper()
	in := &command.ImportIn{ObjectPublic: *public, Duplicate: content, SymmetricAlg: noSymmetric}
	return m.run(tpm2.CCImport, handles(parent), password(""), in, nil)
}

func TestWhatIsInADuplicateIsChecked(t *testing.T) {
	good := func() *outside { return outsideHMAC(usable|tpm2.AttrSign, "key") }
	for name, tc := range map[string]struct {
		change func(o *outside)
		want   tpm2.RC
	}{
		"nothing (works)":    {func(*outside) {}, 0},
		"type":               {func(o *outside) { o.sensitive.Type = tpm2.AlgSymCipher }, parameterRC(tpm2.RCType, 3)},
		"binding":            {func(o *outside) { o.sensitive.Bits = []byte("yek") }, tpm2.RCBinding},
		"seed":               {func(o *outside) { o.sensitive.SeedValue = make([]byte, 31) }, parameterRC(tpm2.RCKeySize, 3)},
		"seed beyond digest": {func(o *outside) { o.sensitive.SeedValue = make([]byte, 33) }, parameterRC(tpm2.RCKeySize, 3)},
		"authValue":          {func(o *outside) { o.sensitive.AuthValue = make([]byte, 33) }, parameterRC(tpm2.RCSize, 3)},
		"scheme":             {func(o *outside) { o.public.Parameters.KeyedHash.Scheme = tpm2.AlgNull }, parameterRC(tpm2.RCScheme, 2)},
		"attributes":         {func(o *outside) { o.public.Attributes |= tpm2.AttrRestricted | tpm2.AttrDecrypt }, parameterRC(tpm2.RCAttributes, 2)},
		"CVE-2025-2884: RSA scheme of a keyed hash": {func(o *outside) { o.public.Attributes &^= tpm2.AttrSign }, parameterRC(tpm2.RCScheme, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			o := good()
			tc.change(o)
			content := mustEncode(t, &tpm2.Sensitive2B{Sensitive: &o.sensitive})
			if got := m.importPlain(m.storage(""), &o.public, content); got != tc.want {
				t.Errorf("Import = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestADuplicateIsOneSensitiveArea(t *testing.T) {
	m := newMachine(t)
	parent := m.storage("")
	o := outsideHMAC(usable|tpm2.AttrSign, "key")
	good := mustEncode(t, &tpm2.Sensitive2B{Sensitive: &o.sensitive})
	sized := func(b []byte) []byte { return append([]byte{0, byte(len(b))}, b...) }
	for name, tc := range map[string]struct {
		content []byte
		want    tpm2.RC
	}{
		"good":                  {good, 0},
		"one byte":              {[]byte{0}, parameterRC(tpm2.RCInsufficient, 3)},
		"size below the rest":   {append(slices.Clone(good), 0), parameterRC(tpm2.RCSize, 3)},
		"size beyond the rest":  {good[:len(good)-1], parameterRC(tpm2.RCSize, 3)},
		"empty":                 {[]byte{0, 0}, parameterRC(tpm2.RCInsufficient, 3)},
		"more than a structure": {sized(append(slices.Clone(good[2:]), 0)), parameterRC(tpm2.RCSize, 3)},
		"less than a structure": {sized(good[2 : len(good)-1]), parameterRC(tpm2.RCInsufficient, 3)},
		"no type":               {sized(append([]byte{0, 0x10}, good[4:]...)), parameterRC(tpm2.RCType, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			if got := m.importPlain(parent, &o.public, tc.content); got != tc.want {
				t.Errorf("Import = %v, want %v", got, tc.want)
			}
		})
	}
}

// Under a parent that somebody else may know, an object is checked when it is loaded.
func TestImportUnderAnOpenParentLeavesTheChecksToLoad(t *testing.T) {
	hmac, key := outsideHMAC(usable|tpm2.AttrSign, "key"), outsideRSA(t, usable|tpm2.AttrSign).clone()
	hmac.sensitive.Bits = []byte("yek")
	key.sensitive.Bits[64] ^= 1
	for name, o := range map[string]*outside{"HMAC": hmac, "RSA": key} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			open := m.child(m.storage(""), eccTemplate(ordinary|storageUse), "", "")
			var out command.ImportOut
			in := &command.ImportIn{ObjectPublic: o.public, Duplicate: mustEncode(t, &tpm2.Sensitive2B{Sensitive: &o.sensitive}), SymmetricAlg: noSymmetric}
			m.do(tpm2.CCImport, handles(open), password(""), in, &out)
			m.fails(tpm2.RCBinding, tpm2.CCLoad, handles(open), password(""), &command.LoadIn{InPrivate: out.OutPrivate, InPublic: o.public})
		})
	}
}

func TestRewrapChangesTheOuterProtection(t *testing.T) {
	for name, template := range map[string]tpm2.Public{
		"RSA": rsaTemplate(fixed | ordinary | storageUse), "ECC": eccTemplate(fixed | ordinary | storageUse),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			from, to := m.storage(""), m.primary(tpm2.HandleEndorsement, template, "")
			o := outsideHMAC(usable, "data")
			objectName, err := o.public.Name()
			if err != nil {
				t.Fatal(err)
			}
			plain := mustEncode(t, &tpm2.Sensitive2B{Sensitive: &o.sensitive})
			rewrap := func(from, to tpm2.Handle, in command.RewrapIn) (out command.RewrapOut) {
				in.Name = objectName
				m.do(tpm2.CCRewrap, handles(from, to), password(""), &in, &out)
				return out
			}
			one := rewrap(tpm2.HandleNull, from, command.RewrapIn{InDuplicate: plain})
			two := rewrap(from, to, command.RewrapIn{InDuplicate: one.OutDuplicate, InSymSeed: one.OutSymSeed})
			m.flush(m.imports(to, &command.ImportIn{ObjectPublic: o.public, Duplicate: two.OutDuplicate, InSymSeed: two.OutSymSeed}))
			three := rewrap(to, tpm2.HandleNull, command.RewrapIn{InDuplicate: two.OutDuplicate, InSymSeed: two.OutSymSeed})
			if !bytes.Equal(three.OutDuplicate, plain) || len(three.OutSymSeed) != 0 {
				t.Errorf("duplicate without protection is %x with seed %x, want %x", three.OutDuplicate, three.OutSymSeed, plain)
			}
		})
	}
}

func TestRewrapsWithOneFaultAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(x *rewrapping)
		want   tpm2.RC
	}{
		"nothing (works)":         {func(*rewrapping) {}, 0},
		"seed without parent":     {func(x *rewrapping) { x.from = tpm2.HandleNull }, handleRC(tpm2.RCHandleValue, 1)},
		"parent without seed":     {func(x *rewrapping) { x.in.InSymSeed = nil }, handleRC(tpm2.RCHandleValue, 1)},
		"from no parent":          {func(x *rewrapping) { x.from = x.primary(tpm2.HandleOwner, eccTemplate(ordinary|tpm2.AttrDecrypt), "") }, handleRC(tpm2.RCType, 1)},
		"from a symmetric parent": {func(x *rewrapping) { x.from = x.primary(tpm2.HandleOwner, symTemplate(fixed|ordinary|storageUse), "") }, handleRC(tpm2.RCType, 1)},
		"to no parent":            {func(x *rewrapping) { x.to = x.primary(tpm2.HandleOwner, eccTemplate(ordinary|tpm2.AttrDecrypt), "") }, handleRC(tpm2.RCType, 2)},
		"seed":                    {func(x *rewrapping) { x.in.InSymSeed[10] ^= 1 }, parameterRC(tpm2.RCValue, 3)},
		"Name":                    {func(x *rewrapping) { x.in.Name[10] ^= 1 }, parameterRC(tpm2.RCIntegrity, 1)},
		"duplicate":               {func(x *rewrapping) { x.in.InDuplicate[40] ^= 1 }, parameterRC(tpm2.RCIntegrity, 1)},
		"duplicate cut":           {func(x *rewrapping) { x.in.InDuplicate = x.in.InDuplicate[:10] }, parameterRC(tpm2.RCInsufficient, 1)},
		"too large to wrap": {func(x *rewrapping) {
			x.from, x.in.InSymSeed, x.in.InDuplicate = tpm2.HandleNull, nil, make([]byte, tpm2.MaxPrivate-33)
		}, parameterRC(tpm2.RCValue, 1)},
		"as large as can be wrapped (works)": {func(x *rewrapping) {
			x.from, x.in.InSymSeed, x.in.InDuplicate = tpm2.HandleNull, nil, make([]byte, tpm2.MaxPrivate-34)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			x := &rewrapping{machine: m, from: m.storage(""), to: m.primary(tpm2.HandleEndorsement, eccTemplate(fixed|ordinary|storageUse), "")}
			x.in.Name = bytes.Repeat([]byte{3}, 34)
			var out command.RewrapOut
			m.do(tpm2.CCRewrap, handles(tpm2.HandleNull, x.from), password(""), &command.RewrapIn{InDuplicate: []byte("anything"), Name: x.in.Name}, &out)
			x.in.InDuplicate, x.in.InSymSeed = out.OutDuplicate, out.OutSymSeed
			tc.change(x)
			if got := m.run(tpm2.CCRewrap, handles(x.from, x.to), password(""), &x.in, nil); got != tc.want {
				t.Errorf("Rewrap = %v, want %v", got, tc.want)
			}
		})
	}
}

// A rewrapping is a good TPM2_Rewrap.
type rewrapping struct {
	*machine
	from, to tpm2.Handle
	in       command.RewrapIn
}
