package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// request lays out a command of a client that has password authorizations only.
func (m *machine) request(cc tpm2.CC, in wire.Layout, h ...tpm2.Handle) []byte {
	info, _ := command.Lookup(cc)
	x := &exchange{m: m, cc: cc, handles: h}
	for range info.Auths() {
		x.auths = append(x.auths, password("")...)
	}
	return x.request(in)
}

// cheap are commands, each with what undoes it, that have no arithmetic of a
// public key. Their cost is dispatch, hashes and what they copy.
var cheap = map[string]func(m *machine) [][]byte{
	"PCR_Extend": func(m *machine) [][]byte { return [][]byte{m.request(tpm2.CCPCRExtend, extension(1), 16)} },
	"PCR_Read": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCPCRRead, &command.PCRReadIn{PCRSelectionIn: selection(tpm2.AlgSHA256, 0, 1, 2, 3, 4, 5, 6, 7)})}
	},
	"NV_Write": func(m *machine) [][]byte {
		in := m.bigIndex()
		return [][]byte{m.request(tpm2.CCNVWrite, in, tpm2.HandleOwner, anIndex)}
	},
	"NV_Read": func(m *machine) [][]byte {
		in := m.bigIndex()
		m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, in)
		return [][]byte{m.request(tpm2.CCNVRead, &command.NVReadIn{Size: 32}, tpm2.HandleOwner, anIndex)}
	},
	"GetCapability": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: 0x100, PropertyCount: 127})}
	},
	"GetRandom": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCGetRandom, &command.GetRandomIn{BytesRequested: 32})}
	},
	// What was tested is not tested again.
	"IncrementalSelfTest": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCIncrementalSelfTest, &command.IncrementalSelfTestIn{ToTest: []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgRSA}})}
	},
	"ReadClock": func(m *machine) [][]byte { return [][]byte{m.request(tpm2.CCReadClock, nil)} },
	"Hash": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCHash, &command.HashIn{Data: make([]byte, 1024), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleNull})}
	},
	"Hash with ticket": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCHash, &command.HashIn{Data: make([]byte, 1024), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleOwner})}
	},
	"HMAC": func(m *machine) [][]byte {
		key := m.primary(tpm2.HandleOwner, keyedHashTemplate(signing), "")
		return [][]byte{m.request(tpm2.CCHMAC, &command.HMACIn{Buffer: make([]byte, 64), InScheme: tpm2.AlgNull}, key)}
	},
	"StartAuthSession": func(m *machine) [][]byte {
		in := &command.StartAuthSessionIn{NonceCaller: make([]byte, 32), SessionType: tpm2.SessionPolicy, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}
		return [][]byte{m.request(tpm2.CCStartAuthSession, in, tpm2.HandleNull, tpm2.HandleNull), m.flushing(0x03000000)}
	},
	"PolicyPCR": func(m *machine) [][]byte {
		s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
		return [][]byte{m.request(tpm2.CCPolicyPCR, &command.PolicyPCRIn{PCRs: selection(tpm2.AlgSHA256, 0, 2, 4, 7)}, s.handle)}
	},
	"Create sealed": func(m *machine) [][]byte {
		in := &command.CreateIn{InPublic: keyedHashTemplate(fixed | tpm2.AttrUserWithAuth), InSensitive: tpm2.SensitiveCreate{Data: make([]byte, 32)}}
		return [][]byte{m.request(tpm2.CCCreate, in, m.storage(""))}
	},
	"Load sealed": func(m *machine) [][]byte {
		srk := m.storage("")
		o := m.create(srk, keyedHashTemplate(fixed|tpm2.AttrUserWithAuth), "", "secret")
		return [][]byte{m.request(tpm2.CCLoad, &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic}, srk), m.flushing(0x80000001)}
	},
	"Unseal": func(m *machine) [][]byte {
		item := m.child(m.storage(""), keyedHashTemplate(fixed|tpm2.AttrUserWithAuth), "", "secret")
		return [][]byte{m.request(tpm2.CCUnseal, nil, item)}
	},
	"ReadPublic": func(m *machine) [][]byte { return [][]byte{m.request(tpm2.CCReadPublic, nil, m.storage(""))} },
	"ContextSave": func(m *machine) [][]byte {
		return [][]byte{m.request(tpm2.CCContextSave, nil, m.primary(tpm2.HandleOwner, eccTemplate(signing), ""))}
	},
	"ContextLoad": func(m *machine) [][]byte {
		return m.contextLoad(m.primary(tpm2.HandleOwner, eccTemplate(signing), ""))
	},
}

// dear are commands of the same kind that have some.
var dear = map[string]func(m *machine) [][]byte{
	"VerifySignature RSA": func(m *machine) [][]byte {
		in := signIn(sum())
		in.InScheme.Scheme = tpm2.AlgRSASSA
		var out command.SignOut
		key := m.primary(tpm2.HandleOwner, rsaTemplate(signing), "")
		m.do(tpm2.CCSign, handles(key), password(""), in, &out)
		return [][]byte{m.request(tpm2.CCVerifySignature, &command.VerifySignatureIn{Digest: in.Digest, Signature: out.Signature}, key)}
	},
	"ContextLoad RSA": func(m *machine) [][]byte {
		return m.contextLoad(m.primary(tpm2.HandleOwner, rsaTemplate(signing), ""))
	},
	"Load RSA": func(m *machine) [][]byte {
		srk := m.storage("")
		o := m.create(srk, rsaTemplate(fixed|ordinary|tpm2.AttrSign), "", "")
		return [][]byte{m.request(tpm2.CCLoad, &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic}, srk), m.flushing(0x80000001)}
	},
}

// bigIndex defines an index of 32 bytes, and gives what fills it.
func (m *machine) bigIndex() *command.NVWriteIn {
	p := index(byOwner)
	p.DataSize = 32
	m.defineNV(p)
	return &command.NVWriteIn{Data: bytes.Repeat([]byte{0x5a}, 32)}
}

func (m *machine) flushing(h tpm2.Handle) []byte {
	return m.request(tpm2.CCFlushContext, &command.FlushContextIn{FlushHandle: h})
}

// contextLoad loads the context of an object in the first slot into the second.
func (m *machine) contextLoad(h tpm2.Handle) [][]byte {
	return [][]byte{m.request(tpm2.CCContextLoad, &command.ContextLoadIn{Context: m.save(h)}), m.flushing(0x80000001)}
}

// A cheap command allocates little: at most 10 times. What makes or brings back an
// object needs some more. A build that looks for data races keeps less on the stack;
// `make test` runs the engine without, too.
func TestCheapCommandsAllocateLittle(t *testing.T) {
	limits := map[string]float64{"Create sealed": 24, "Load sealed": 20, "ContextLoad": 14, "PCR_Read": 3, "Hash": 2}
	for name, of := range cheap {
		limit, ok := limits[name]
		if !ok {
			limit = 10
		}
		if raceEnabled {
			limit += 4
		}
		m := newMachine(t)
		requests := of(m)
		if n := testing.AllocsPerRun(100, func() { m.succeed(requests) }); n > limit {
			t.Errorf("%s allocates %v times, want at most %v", name, n, limit)
		}
	}
}

// succeed runs commands that do.
func (m *machine) succeed(requests [][]byte) {
	for _, r := range requests {
		if b := m.tpm.Execute(0, r); !bytes.Equal(b[6:10], []byte{0, 0, 0, 0}) {
			m.Fatalf("%x = %x", r[6:10], b[6:10])
		}
	}
}

func BenchmarkCheap(b *testing.B) {
	for _, rows := range []map[string]func(m *machine) [][]byte{cheap, dear} {
		for name, of := range rows {
			b.Run(name, func(b *testing.B) {
				m := newMachine(b)
				requests := of(m)
				b.ReportAllocs()
				for b.Loop() {
					m.succeed(requests)
					if m.tpm.Changed() {
						m.tpm.MustPermanent()
					}
				}
			})
		}
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
