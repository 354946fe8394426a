package engine_test

import (
	"bytes"
	"crypto/fips140"
	"encoding/binary"
	"math/rand/v2"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// FuzzExecute sends commands to TPMs that were put into a state first. Whatever
// they are: no fault of ours shows; each response is well formed; a command that
// fails leaves all state but that of guessing protection; what changes permanent state
// says so; the TPM can be restored from its blobs at the end, and then answers as the
// one that goes on does.
func FuzzExecute(f *testing.F) {
	all := scenes(f)
	for n, s := range all {
		for i, request := range append(s.meant(f, n), s.random(f, n, len(all))...) {
			f.Add(byte(n), byte(i%4), false, request)
		}
	}
	for _, w := range flows() {
		n := find(f, all, w.scene)
		f.Add(byte(n), byte(0), false, w.stream(f, all[n]))
	}
	f.Fuzz(func(t *testing.T, scene, locality byte, fix bool, stream []byte) {
		m := all[int(scene)%len(all)].machine(t)
		m.locality = locality % 8
		var last []byte
		for _, last = range commands(stream, fix) {
			m.checked(last)
		}
		m.checkTwin(last)
	})
}

// maxStream bounds how many commands one input has.
const maxStream = 8

// commands splits a stream into commands as the sizes in their headers say. With
// fix it is one command, and its size is made right.
func commands(stream []byte, fix bool) [][]byte {
	stream = bytes.Clone(stream)
	if fix && len(stream) >= 6 {
		binary.BigEndian.PutUint32(stream[2:], uint32(len(stream)))
	}
	var out [][]byte
	for len(out) < maxStream-1 && len(stream) >= 10 {
		n := binary.BigEndian.Uint32(stream[2:])
		if n < 10 || uint64(n) >= uint64(len(stream)) {
			break
		}
		out, stream = append(out, stream[:n]), stream[n:]
	}
	return append(out, stream)
}

// maxAllocated is what one command may allocate: a self-test of all algorithms
// allocates most.
const maxAllocated = 16 << 20

// checked runs a command and checks what holds for every one.
func (m *machine) checked(request []byte) {
	m.Helper()
	m.tpm.MustPermanent() // its owner keeps it
	before, lasting, sent := m.tpm.Settled(), m.tpm.Lasting(), bytes.Clone(request)
	allocated, started := heap(), time.Now()
	response := bytes.Clone(m.tpm.Execute(m.locality, request))
	if n := heap() - allocated; n > maxAllocated {
		m.Errorf("%x allocates %d bytes", request, n)
	}
	if d := time.Since(started); d > time.Minute {
		m.Errorf("%x takes %v", request, d)
	}
	if !bytes.Equal(request, sent) {
		m.Errorf("the TPM changed the request %x to %x", sent, request)
	}
	if after := m.tpm.Lasting(); !m.tpm.Changed() && !bytes.Equal(lasting, after) {
		m.Errorf("%x changes permanent state at byte %d of %d, and does not say so", request, firstDifference(lasting, after), len(after))
	}
	rc := m.wellFormed(request, response)
	if rc == tpm2.RCSuccess || rc == tpm2.RCFailure {
		return
	}
	if after := m.tpm.Settled(); !bytes.Equal(before, after) {
		m.Errorf("%x fails with %v and changes the state at byte %d of %d (was %d)", request, rc, firstDifference(before, after), len(after), len(before))
	}
}

func firstDifference(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// heap is how many bytes were ever allocated.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// wellFormed checks the shape of a response (Part 1, 18.9) and returns its code.
func (m *machine) wellFormed(request, b []byte) tpm2.RC {
	m.Helper()
	if len(b) < 10 || uint64(binary.BigEndian.Uint32(b[2:])) != uint64(len(b)) || len(b) > 8192 {
		m.Fatalf("%x is answered with %x: size", request, b)
	}
	tag, rc := tpm2.Tag(binary.BigEndian.Uint16(b)), tpm2.RC(binary.BigEndian.Uint32(b[6:]))
	if !strings.HasPrefix(rc.String(), "TPM_RC_") {
		m.Errorf("%x is answered with the unknown code %v", request, rc)
	}
	if rc != tpm2.RCSuccess {
		want := tpm2.TagNoSessions
		if rc == tpm2.RCBadTag {
			want = tpm2.TagResponseCommand
		}
		if len(b) != 10 || tag != want {
			m.Errorf("%x is answered with %x: an error has tag %#x and no more than a header", request, b, want)
		}
		return rc
	}
	if want := tpm2.Tag(binary.BigEndian.Uint16(request)); tag != want {
		m.Fatalf("%x is answered with %x: tag", request, b)
	}
	m.wellFormedBody(request, b[10:], tag == tpm2.TagSessions)
	return rc
}

// wellFormedBody checks what follows the header of a response.
func (m *machine) wellFormedBody(request, b []byte, sessions bool) {
	m.Helper()
	info, ok := command.Lookup(tpm2.CC(binary.BigEndian.Uint32(request[6:])))
	if !ok {
		m.Fatalf("%x succeeds", request)
	}
	if info.Response != "" {
		if len(b) < 4 {
			m.Fatalf("%s has no handle: %x", info.Name, b)
		}
		b = b[4:]
	}
	encrypted := false
	if sessions {
		if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
			m.Fatalf("%s has no parameters: %x", info.Name, b)
		}
		n := binary.BigEndian.Uint32(b)
		params, area := b[4:4+n], b[4+n:]
		entries := 0
		for b = params; len(area) > 0; entries++ {
			var r tpm2.AuthResponse
			var err error
			if area, err = wire.DecodePrefix(area, &r); err != nil {
				m.Fatalf("%s, authorization %d: %v", info.Name, entries+1, err)
			}
			encrypted = encrypted || r.Attributes&tpm2.SessionEncrypt != 0
		}
		if entries < info.Auths() || entries == 0 || entries > 3 {
			m.Errorf("%s is authorized by %d entries", info.Name, entries)
		}
	}
	if _, out := info.New(); !encrypted {
		if err := wire.Decode(b, out); err != nil {
			m.Errorf("%s answers %x: %v", info.Name, b, err)
		}
	}
}

// checkTwin restores the TPM, and has both answer the same commands.
func (m *machine) checkTwin(last []byte) {
	m.Helper()
	twin := m.fork()
	var err error
	if twin.tpm, err = engine.Restore(impatient(twin), m.tpm.MustPermanent(), m.tpm.MustVolatile()); err != nil {
		m.Fatalf("what Execute left cannot be restored: %v", err)
	}
	if fips140.Enabled() {
		return // signatures and keys have the module's own randomness
	}
	if err := m.tpm.Reseed(); err != nil {
		m.Fatal(err)
	}
	for _, request := range append(probes(m), last) {
		got, want := twin.tpm.Execute(m.locality, request), m.tpm.Execute(m.locality, request)
		if !bytes.Equal(got, want) {
			m.Errorf("%x is answered with %x by a restored TPM, else with %x", request, got, want)
		}
	}
	if !bytes.Equal(twin.tpm.MustPermanent(), m.tpm.MustPermanent()) || !bytes.Equal(twin.tpm.MustVolatile(), m.tpm.MustVolatile()) {
		m.Errorf("the state of a restored TPM differs after %x", last)
	}
}

// probes are commands that show much of the state.
func probes(t testing.TB) [][]byte {
	capability := func(c tpm2.Capability, property uint32) []byte {
		return encoded(t, tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: c, Property: property, PropertyCount: 64})
	}
	return [][]byte{
		encoded(t, tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 8}),
		capability(tpm2.CapTPMProperties, uint32(tpm2.PTVar)), capability(tpm2.CapHandles, 0x02000000), capability(tpm2.CapHandles, 0x80000000),
		encoded(t, tpm2.CCPCRRead, nil, nil, &command.PCRReadIn{PCRSelectionIn: selection(tpm2.AlgSHA256, 0, 16, 17)}),
	}
}

// encoded is a command with these authorizations.
func encoded(t testing.TB, cc tpm2.CC, h []tpm2.Handle, auths []tpm2.AuthCommand, in wire.Layout) []byte {
	t.Helper()
	tag := tpm2.TagNoSessions
	var area, params []byte
	var err error
	for i := range auths {
		if area, err = wire.Append(area, &auths[i]); err != nil {
			t.Fatal(err)
		}
	}
	if in != nil {
		if params, err = wire.Encode(in); err != nil {
			t.Fatalf("encode parameters of %s: %v", commandName(cc), err)
		}
	}
	if len(auths) > 0 {
		tag, area = tpm2.TagSessions, append(be32(uint32(len(area))), area...)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = append(append(b, 0, 0, 0, 0), be32(uint32(cc))...)
	for _, x := range h {
		b = append(b, be32(uint32(x))...)
	}
	b = append(append(b, area...), params...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// impatient is a configuration with which every search for RSA primes is canceled:
// it would take most of the time.
func impatient(m *machine) engine.Config {
	cfg := m.config()
	cfg.Now = func() time.Duration {
		if m.tpm != nil {
			m.tpm.Cancel() // Execute asks for the time once it runs
		}
		return m.now
	}
	return cfg
}

// machine returns a machine in the state of the scene.
func (s *scene) machine(t testing.TB) *machine {
	t.Helper()
	m := &machine{TB: t, now: s.now, entropy: rand.NewChaCha8([32]byte{3: 0x5c}), names: map[tpm2.Handle][]byte{}}
	var err error
	if m.tpm, err = engine.Restore(impatient(m), s.permanent, s.volatile); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return m
}

// meant are the commands that mean something, authorized in turn in each way.
func (s *scene) meant(t testing.TB, seed int) [][]byte {
	var out [][]byte
	for i, v := range meaningful() {
		info, _ := command.Lookup(v.cc)
		kinds := auths(info)
		out = append(out, encoded(t, v.cc, v.handles, kinds[(i+seed)%len(kinds)], v.in))
	}
	return out
}

// random are commands of random parameters, those of one scene of so many; all
// scenes together have each command code.
func (s *scene) random(t testing.TB, number, of int) [][]byte {
	var out [][]byte
	r := structtest.New(uint64(number))
	for n, info := range command.All() {
		if n%of != number {
			continue
		}
		in, _ := info.New()
		r.Fill(in)
		if z, ok := in.(*command.ZGen2PhaseIn); ok {
			z.InScheme = tpm2.AlgECDH
		}
		var h []tpm2.Handle
		for i := range info.Handles {
			h = append(h, anyHandle(r, info.Handles[i].Type))
		}
		out = append(out, encoded(t, info.Code, h, structtest.Pick(r, auths(info)...), in))
	}
	return out
}

// anyHandle picks one that the type allows.
func anyHandle(r structtest.Source, kind command.HandleType) tpm2.Handle {
	var fit []tpm2.Handle
	for _, h := range sceneHandles() {
		if kind.Check(h, tpm2.HandleLimits{PCRs: tpm2.NumPCR, Sessions: 64, Transients: 3}) == tpm2.RCSuccess {
			fit = append(fit, h)
		}
	}
	return structtest.Pick(r, fit...)
}

// auths are ways to authorize a command for entities without authValue: by
// password, and by sessions without a key, whose HMAC may be empty.
func auths(info *command.Info) [][]tpm2.AuthCommand {
	if info.NoSessions {
		return [][]tpm2.AuthCommand{nil}
	}
	var plain, session []tpm2.AuthCommand
	for range info.Auths() {
		plain = append(plain, tpm2.AuthCommand{SessionHandle: tpm2.HandlePassword, Attributes: tpm2.SessionContinue})
	}
	first := tpm2.AuthCommand{SessionHandle: 0x02000000, Nonce: make([]byte, 16), Attributes: tpm2.SessionContinue | tpm2.SessionAudit}
	if info.EncryptFirst {
		first.Attributes |= tpm2.SessionEncrypt
	}
	if session = append(session, first); len(plain) > 1 {
		session = append(session, plain[1:]...)
	}
	policy := append([]tpm2.AuthCommand(nil), session...)
	policy[0].SessionHandle, policy[0].Attributes = 0x03000001, tpm2.SessionContinue
	return [][]tpm2.AuthCommand{plain, session, policy}
}
