package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// benchmark runs one command again and again; what it leaves in the TPM goes
// outside of the measured time.
func (m *machine) benchmark(b *testing.B, cc tpm2.CC, h tpm2.Handle, in wire.Layout) {
	b.Helper()
	info, _ := command.Lookup(cc)
	x := &exchange{m: m, cc: cc, handles: handles(h)}
	if info.Auths() > 0 {
		x.auths = password("")
	}
	request := x.request(in)
	b.ReportAllocs()
	for b.Loop() {
		r := m.tpm.Execute(0, request)
		if !bytes.Equal(r[6:10], []byte{0, 0, 0, 0}) {
			b.Fatalf("%s = %x", commandName(cc), r[6:10])
		}
		if info.Response != "" {
			b.StopTimer()
			x.parse(r, nil)
			m.flush(m.handle)
			b.StartTimer()
		}
	}
}

func BenchmarkCreatePrimary(b *testing.B) {
	for name, template := range map[string]tpm2.Public{
		"P-256": eccTemplate(fixed | ordinary | storageUse), "RSA-2048": rsaTemplate(fixed | ordinary | storageUse),
	} {
		b.Run(name, func(b *testing.B) {
			newMachine(b).benchmark(b, tpm2.CCCreatePrimary, tpm2.HandleOwner, &command.CreatePrimaryIn{InPublic: template})
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	for name, in := range map[string]*command.CreateIn{
		"P-256":    {InPublic: eccTemplate(fixed | ordinary | tpm2.AttrSign)},
		"RSA-2048": {InPublic: rsaTemplate(fixed | ordinary | tpm2.AttrSign)},
		"sealed":   {InPublic: keyedHashTemplate(fixed | tpm2.AttrUserWithAuth), InSensitive: tpm2.SensitiveCreate{Data: make([]byte, 32)}},
	} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b)
			m.benchmark(b, tpm2.CCCreate, m.storage(""), in)
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for name, template := range map[string]tpm2.Public{
		"P-256": eccTemplate(fixed | ordinary | tpm2.AttrSign), "RSA-2048": rsaTemplate(fixed | ordinary | tpm2.AttrSign),
	} {
		b.Run(name, func(b *testing.B) {
			m := newMachine(b)
			srk := m.storage("")
			o := m.create(srk, template, "", "")
			m.benchmark(b, tpm2.CCLoad, srk, &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic})
		})
	}
}

func BenchmarkUnseal(b *testing.B) {
	m := newMachine(b)
	item := m.child(m.storage(""), keyedHashTemplate(fixed|tpm2.AttrUserWithAuth), "", "secret")
	m.benchmark(b, tpm2.CCUnseal, item, nil)
}

func BenchmarkReadPublic(b *testing.B) {
	m := newMachine(b)
	m.benchmark(b, tpm2.CCReadPublic, m.storage(""), nil)
}

// BenchmarkSavedRSA is a client that loads its key for a signature and saves it again.
func BenchmarkSavedRSA(b *testing.B) {
	m := newMachine(b)
	key := m.child(m.storage(""), rsaTemplate(signing), "", "")
	in := signIn(sum())
	in.InScheme.Scheme = tpm2.AlgRSASSA
	sign := m.request(tpm2.CCSign, in, key)
	for b.Loop() {
		x := m.save(key)
		m.flush(key)
		m.loadContext(x)
		m.succeed([][]byte{sign})
	}
}
