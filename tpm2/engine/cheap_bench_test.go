package engine_test

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// cheap are commands whose cost is that of dispatch and little more.
func cheap(m *machine) map[string][]byte {
	m.defineNV(index(byOwner))
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
	request := func(cc tpm2.CC, h []tpm2.Handle, auths []auth, in wire.Layout) []byte {
		x := &exchange{m: m, cc: cc, handles: h, auths: auths}
		return x.request(in)
	}
	return map[string][]byte{
		"PCR_Extend":    request(tpm2.CCPCRExtend, handles(16), password(""), extension(1)),
		"PCR_Read":      request(tpm2.CCPCRRead, nil, nil, &command.PCRReadIn{PCRSelectionIn: selection(tpm2.AlgSHA256, 0, 1, 2, 3, 4, 5, 6, 7)}),
		"NV_Read":       request(tpm2.CCNVRead, handles(tpm2.HandleOwner, anIndex), password(""), nvUses["read"].in),
		"GetCapability": request(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: 0x100, PropertyCount: 100}),
		"GetRandom":     request(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 32}),
		"ReadClock":     request(tpm2.CCReadClock, nil, nil, nil),
	}
}

// A cheap command allocates little: at most 10 times.
func TestCheapCommandsAllocateLittle(t *testing.T) {
	m := newMachine(t)
	for name, request := range cheap(m) {
		if n := testing.AllocsPerRun(100, func() { m.tpm.Execute(0, request) }); n > 10 {
			t.Errorf("%s allocates %v times, want at most 10", name, n)
		}
	}
}

func BenchmarkCheap(b *testing.B) {
	m := newMachine(b)
	for name, request := range cheap(m) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.tpm.Execute(0, request)
			}
		})
	}
}

// BenchmarkState is what a change of permanent state costs besides its encryption.
func BenchmarkState(b *testing.B) {
	m := newMachine(b)
	m.keepSomething()
	b.Run("Permanent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.tpm.MustPermanent()
		}
	})
	b.Run("Volatile", func(b *testing.B) {
		for b.Loop() {
			m.tpm.MustVolatile()
		}
	})
}
