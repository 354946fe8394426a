package engine_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/wire"
)

// A machine is a TPM in a machine whose clock is set by hand and whose entropy
// is the same in every run. It is a client of its TPM, too: all that it does
// goes through Execute.
type machine struct {
	testing.TB
	tpm *engine.TPM

	now      time.Duration
	locality uint8
	entropy  *rand.ChaCha8

	// handle is that of the last response that had one.
	handle tpm2.Handle
	// trace, unless nil, gets all that is done to the TPM.
	trace *[]step
	// written is the permanent state as its owner last wrote it.
	written []byte

	// names are Names that the client need not ask for: a question ends an
	// exclusive audit session.
	names map[tpm2.Handle][]byte
}

// newMachine returns a machine with a TPM of the default profile that was started.
func newMachine(t testing.TB) *machine {
	t.Helper()
	m := manufacture(t, "default")
	m.startup(tpm2.StartupClear)
	return m
}

// manufacture returns a machine with a new TPM that has power and awaits TPM2_Startup.
func manufacture(t testing.TB, profile string) *machine {
	t.Helper()
	p, err := engine.FindProfile(profile, 0)
	if err != nil {
		t.Fatal(err)
	}
	return manufactureBy(t, p)
}

// manufactureBy is manufacture for a version of a profile that need not be the newest.
func manufactureBy(t testing.TB, p *engine.Profile) *machine {
	t.Helper()
	m := &machine{TB: t, entropy: rand.NewChaCha8([32]byte{1: 0xa5}), names: map[tpm2.Handle][]byte{}}
	var err error
	if m.tpm, err = engine.Manufacture(p, m.config()); err != nil {
		t.Fatal(err)
	}
	m.tpm.PowerOn()
	return m
}

func (m *machine) config() engine.Config {
	return engine.Config{
		Random: m.entropy,
		Now:    func() time.Duration { return m.now },
		Panic:  func(v any, stack []byte) { m.Errorf("the TPM panicked: %v\n%s", v, stack) },
	}
}

// in makes failures those of t, a subtest.
func (m *machine) in(t testing.TB) { m.TB = t }

func (m *machine) startup(kind tpm2.StartupType) {
	m.Helper()
	m.do(tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: kind}, nil)
}

// Send makes the machine a go-tpm transport.TPM.
func (m *machine) Send(request []byte) ([]byte, error) {
	return bytes.Clone(m.execute(request)), nil
}

// raw is parameters as bytes.
type raw []byte

func (r *raw) Wire(c *wire.Codec) { c.Rest((*[]byte)(r)) }

// handles is the handle area of a command.
func handles(h ...tpm2.Handle) []tpm2.Handle { return h }

// do runs a command that must succeed.
func (m *machine) do(cc tpm2.CC, handles []tpm2.Handle, auths []auth, in, out wire.Layout) {
	m.Helper()
	if rc := m.run(cc, handles, auths, in, out); rc != tpm2.RCSuccess {
		m.Fatalf("%s = %v (%#x), want success", commandName(cc), rc, uint32(rc))
	}
}

// fails runs a command that must fail with this code.
func (m *machine) fails(want tpm2.RC, cc tpm2.CC, handles []tpm2.Handle, auths []auth, in wire.Layout) {
	m.Helper()
	if rc := m.run(cc, handles, auths, in, nil); rc != want {
		m.Errorf("%s = %v (%#x), want %v (%#x)", commandName(cc), rc, uint32(rc), want, uint32(want))
	}
}

func commandName(cc tpm2.CC) string {
	if info, ok := command.Lookup(cc); ok {
		return info.Name
	}
	return "command"
}

// run runs a command with one authorization entry for each of auths. The
// response must be well formed and its HMACs right; out, unless nil, is filled
// from its parameters. in may be nil.
func (m *machine) run(cc tpm2.CC, handles []tpm2.Handle, auths []auth, in, out wire.Layout) tpm2.RC {
	m.Helper()
	x := &exchange{m: m, cc: cc, handles: handles, auths: auths}
	return x.parse(m.execute(x.request(in)), out)
}

// An exchange is one command and its response.
type exchange struct {
	m       *machine
	cc      tpm2.CC
	handles []tpm2.Handle
	auths   []auth
	names   [][]byte // of the handles before the command
}

func (x *exchange) request(in wire.Layout) []byte {
	var params []byte
	if in != nil {
		var err error
		if params, err = wire.Encode(in); err != nil {
			x.m.Fatalf("encode parameters of %s: %v", commandName(x.cc), err)
		}
	}
	tag := tpm2.TagNoSessions
	if len(x.auths) > 0 {
		tag = tpm2.TagSessions
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(x.cc))
	for _, h := range x.handles {
		b = binary.BigEndian.AppendUint32(b, uint32(h))
	}
	if len(x.auths) > 0 {
		area := x.authArea(params)
		b = binary.BigEndian.AppendUint32(b, uint32(len(area)))
		b = append(b, area...)
	}
	b = append(b, params...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// parse checks a response and gives its code.
func (x *exchange) parse(b []byte, out wire.Layout) tpm2.RC {
	m := x.m
	m.Helper()
	if len(b) < 10 || int(binary.BigEndian.Uint32(b[2:])) != len(b) {
		m.Fatalf("response of %s is malformed: %x", commandName(x.cc), b)
	}
	tag, rc := tpm2.Tag(binary.BigEndian.Uint16(b)), tpm2.RC(binary.BigEndian.Uint32(b[6:]))
	if rc != tpm2.RCSuccess {
		if len(b) != 10 {
			m.Fatalf("response of %s has code %v and %d bytes", commandName(x.cc), rc, len(b))
		}
		return rc
	}
	b = bytes.Clone(b[10:])
	if info, ok := command.Lookup(x.cc); ok && info.Response != "" {
		m.handle, b = tpm2.Handle(binary.BigEndian.Uint32(b)), b[4:]
	}
	if len(x.auths) > 0 {
		if tag != tpm2.TagSessions {
			m.Fatalf("response of %s has tag %#x", commandName(x.cc), tag)
		}
		n := int(binary.BigEndian.Uint32(b))
		params := b[4 : 4+n]
		x.checkResponse(params, b[4+n:])
		b = params
	}
	if out == nil {
		return rc
	}
	if err := wire.Decode(b, out); err != nil {
		m.Fatalf("decode response of %s: %v", commandName(x.cc), err)
	}
	return rc
}

// name returns the Name of an entity as TPM2_ReadPublic or TPM2_NV_ReadPublic
// tells it, unless it is its handle.
func (m *machine) name(h tpm2.Handle) []byte {
	if n, ok := m.names[h]; ok {
		return n
	}
	switch h.Kind() {
	case tpm2.KindTransient, tpm2.KindPersistent:
		var out command.ReadPublicOut
		if m.run(tpm2.CCReadPublic, handles(h), nil, nil, &out) != tpm2.RCSuccess {
			return nil // a sequence object has no Name
		}
		return out.Name
	case tpm2.KindNVIndex:
		var out command.NVReadPublicOut
		if m.run(tpm2.CCNVReadPublic, handles(h), nil, nil, &out) != tpm2.RCSuccess {
			return nil
		}
		return out.NVName
	}
	return binary.BigEndian.AppendUint32(nil, uint32(h))
}

// public returns the public area of an object.
func (m *machine) public(h tpm2.Handle) *tpm2.Public {
	m.Helper()
	var out command.ReadPublicOut
	m.do(tpm2.CCReadPublic, handles(h), nil, nil, &out)
	return &out.OutPublic
}

// flush ends a transient object or a session.
func (m *machine) flush(h tpm2.Handle) {
	m.Helper()
	m.do(tpm2.CCFlushContext, nil, nil, &command.FlushContextIn{FlushHandle: h}, nil)
}

// handleRC, parameterRC and sessionRC number a code as the TPM does.
func handleRC(rc tpm2.RC, n int) tpm2.RC    { return rc.Of(tpm2.RCHandle, n) }
func parameterRC(rc tpm2.RC, n int) tpm2.RC { return rc.Of(tpm2.RCParameter, n) }
func sessionRC(rc tpm2.RC, n int) tpm2.RC   { return rc.Of(tpm2.RCSession, n) }
