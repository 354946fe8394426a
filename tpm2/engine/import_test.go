package engine_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

func importedSeeds() *engine.Imported {
	h := func(c byte) engine.ImportedHierarchy {
		return engine.ImportedHierarchy{Seed: bytes.Repeat([]byte{c}, 64), Proof: bytes.Repeat([]byte{c + 1}, 64)}
	}
	return &engine.Imported{Owner: h(1), Endorsement: h(3), Platform: h(5), Orderly: true}
}

func importedIndex(size int) engine.ImportedIndex {
	return engine.ImportedIndex{
		Public: tpm2.NVPublic{NVIndex: 0x01000001, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite, DataSize: uint16(size)},
		Data:   make([]byte, size),
	}
}

func persistent(t *testing.T, change func(*engine.ImportedObject)) engine.ImportedObject {
	t.Helper()
	m := manufacture(t, "default")
	m.startup(tpm2.StartupClear)
	h := m.primary(tpm2.HandleOwner, eccTemplate(fixed|ordinary|tpm2.AttrSign), "")
	o := engine.ImportedObject{Handle: 0x81000001, Public: *m.public(h), Sensitive: m.tpm.Sensitive(h), Hierarchy: tpm2.HandleOwner, Primary: true}
	change(&o)
	return o
}

// libtpmsTPM imports into a machine of its own.
func libtpmsTPM(t *testing.T, from *engine.Imported) (*machine, error) {
	t.Helper()
	m := manufacture(t, "libtpms")
	p, err := engine.FindProfile("libtpms", 1)
	if err != nil {
		t.Fatal(err)
	}
	m.tpm, err = engine.Import(p, m.config(), from)
	return m, err
}

// Each thing that a TPM of the profile cannot have is refused, and named.
func TestImportRefusesWhatAProfileCannotHave(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*engine.Imported)
		want   string
	}{
		{"short seed", func(i *engine.Imported) { i.Owner.Seed = i.Owner.Seed[:32] }, "owner hierarchy: seed of 32"},
		{"no seed", func(i *engine.Imported) { i.Platform.Seed, i.Platform.Proof = nil, nil }, "platform hierarchy: seed of 0"},
		{"seed without proof", func(i *engine.Imported) { i.Endorsement.Proof = nil }, "proof of 0"},
		{"policy of an unknown algorithm", func(i *engine.Imported) {
			i.Owner.Policy = engine.ImportedPolicy{Alg: tpm2.AlgSM3, Digest: make([]byte, 32)}
		}, "owner hierarchy: policy of 32"},
		{"long authValue", func(i *engine.Imported) { i.Owner.Auth = bytes.Repeat([]byte{1}, 65) }, "authValue of 65"},
		{"index above the limit", func(i *engine.Imported) { i.Indices = []engine.ImportedIndex{importedIndex(2049)} }, "NV index 01000001"},
		{"index of another size", func(i *engine.Imported) {
			x := importedIndex(8)
			x.Data = x.Data[:7]
			i.Indices = []engine.ImportedIndex{x}
		}, "7 bytes, which is not its size"},
		{"PCR policy of another size", func(i *engine.Imported) {
			i.PCRPolicy = engine.ImportedPolicy{Alg: tpm2.AlgSHA256, Digest: make([]byte, 31)}
		}, "policy of PCRs of 31"},
		{"lockout with a seed", func(i *engine.Imported) { i.Lockout.Seed = make([]byte, 64) }, "lockout hierarchy: seed of 64"},
		{"counter of 7 bytes", func(i *engine.Imported) {
			x := importedIndex(7)
			x.Public.Attributes |= tpm2.NVAttributes(tpm2.NVCounter) << 4
			i.Indices = []engine.ImportedIndex{x}
		}, "not its size"},
		{"index at another handle", func(i *engine.Imported) {
			x := importedIndex(8)
			x.Public.NVIndex = 0x81000001
			i.Indices = []engine.ImportedIndex{x}
		}, "not the handle"},
		{"long authValue of an index", func(i *engine.Imported) {
			x := importedIndex(8)
			x.Auth = bytes.Repeat([]byte{1}, 33)
			i.Indices = []engine.ImportedIndex{x}
		}, "authValue of 33"},
		{"index of an unknown algorithm", func(i *engine.Imported) {
			x := importedIndex(8)
			x.Public.NameAlg = tpm2.AlgSM3
			i.Indices = []engine.ImportedIndex{x}
		}, "NV index 01000001"},
		{"too many indices", func(i *engine.Imported) { i.Indices = make([]engine.ImportedIndex, 65) }, "65 NV indices"},
		{"two indices of one handle", func(i *engine.Imported) { i.Indices = []engine.ImportedIndex{importedIndex(8), importedIndex(8)} }, "2 NV indices and persistent objects have 1"},
		{"audit by an unknown hash", func(i *engine.Imported) { i.AuditAlg = tpm2.AlgSM3 }, "command audit"},
		{"audit by no hash", func(i *engine.Imported) { i.AuditAlg = tpm2.AlgRSA }, "command audit"},
		{"too many bytes", func(i *engine.Imported) {
			for n := range 33 {
				x := importedIndex(2048)
				x.Public.NVIndex += tpm2.Handle(n)
				i.Indices = append(i.Indices, x)
			}
		}, "bytes in NV indices"},
		{"too many objects", func(i *engine.Imported) { i.Objects = make([]engine.ImportedObject, 65) }, "65 persistent objects"},
		{"object at a transient handle", func(i *engine.Imported) {
			i.Objects = []engine.ImportedObject{persistent(t, func(o *engine.ImportedObject) { o.Handle = 0x80000001 })}
		}, "persistent handle"},
		{"object of the null hierarchy", func(i *engine.Imported) {
			i.Objects = []engine.ImportedObject{persistent(t, func(o *engine.ImportedObject) { o.Hierarchy = tpm2.HandleNull })}
		}, "hierarchy 40000007"},
		{"object with another's key", func(i *engine.Imported) {
			o := persistent(t, func(*engine.ImportedObject) {})
			o.Sensitive.Bits[len(o.Sensitive.Bits)-1] ^= 1
			i.Objects = []engine.ImportedObject{o}
		}, "81000001: its keys are not sound"},
		{"object of an unknown type", func(i *engine.Imported) {
			i.Objects = []engine.ImportedObject{persistent(t, func(o *engine.ImportedObject) { o.Public.Type = tpm2.AlgMLKEM })}
		}, "not offered"},
	} {
		from := importedSeeds()
		tc.change(from)
		m, err := libtpmsTPM(t, from)
		if m.tpm != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v; want an error with %q", tc.name, m.tpm != nil, err, tc.want)
		}
		if !errors.Is(err, engine.ErrState) {
			t.Errorf("%s: %v is not ErrState", tc.name, err)
		}
	}
}

// Counters that never go back, and what tells the times of tickets apart, go on.
func TestCountsGoOnInAnImportedTPM(t *testing.T) {
	from := importedSeeds()
	from.AuditCounter, from.AuditAlg, from.TimeEpoch = 7<<32|9, tpm2.AlgSHA384, 41
	m, err := libtpmsTPM(t, from)
	if err != nil {
		t.Fatal(err)
	}
	m.tpm.PowerOn()
	m.startup(tpm2.StartupClear)
	if high, low := m.property(tpm2.PTAuditCounter0), m.property(tpm2.PTAuditCounter1); high != 7 || low != 9 {
		t.Errorf("audit counter is %d %d, want 7 9", high, low)
	}
	if alg, epoch := m.tpm.AuditAlg(), m.tpm.TimeEpoch(); alg != tpm2.AlgSHA384 || epoch != 42 {
		t.Errorf("audit by %v in epoch %d, want sha384 in the next, 42", alg, epoch)
	}
}

// The age of a seed decides its RSA keys. It survives the state and TPM2_Clear where
// the seed does, and ends with it.
func TestAgesOfSeedsGoWithThem(t *testing.T) {
	template := rsaTemplate(fixed | ordinary | storageUse)
	template.Parameters.RSA.KeyBits = 1024
	key := func(m *machine, h tpm2.Handle) string { return m.fingerprint(m.primary(h, template, "")) }
	keys := func(original bool) (*machine, [2]string) {
		from := importedSeeds()
		from.Endorsement.Original, from.Platform.Original = original, original
		m, err := libtpmsTPM(t, from)
		if err != nil {
			t.Fatal(err)
		}
		m.tpm.PowerOn()
		m.startup(tpm2.StartupClear)
		return m, [2]string{key(m, tpm2.HandleEndorsement), key(m, tpm2.HandlePlatform)}
	}
	m, old := keys(true)
	_, fixedSeeds := keys(false)
	if old[0] == fixedSeeds[0] || old[1] == fixedSeeds[1] {
		t.Fatal("the age of a seed changes nothing")
	}
	again, err := engine.Restore(m.config(), m.tpm.MustPermanent(), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.tpm = again
	m.tpm.PowerOn()
	m.startup(tpm2.StartupClear)
	if got := key(m, tpm2.HandleEndorsement); got != old[0] {
		t.Errorf("after a restore the key is %s, want %s", got, old[0])
	}
	m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil)
	if got := m.tpm.OriginalSeed(tpm2.HandleEndorsement); !got {
		t.Error("TPM2_Clear made the endorsement seed young")
	}
	m.do(tpm2.CCChangePPS, handles(tpm2.HandlePlatform), password(""), nil, nil)
	m.do(tpm2.CCChangeEPS, handles(tpm2.HandlePlatform), password(""), nil, nil)
	if m.tpm.OriginalSeed(tpm2.HandlePlatform) || m.tpm.OriginalSeed(tpm2.HandleEndorsement) {
		t.Error("a new seed is made old")
	}
}
