package differential

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A pair is the two TPMs of a stream with a caller for each.
type pair struct {
	cfg    *Config
	report *Report
	stream int
	peers  [2]Peer
	taps   [2]*tap
	tpms   [2]*client.TPM

	memory memory
	steps  int
	parted bool // the two have different state: nothing that follows compares
	err    error
}

func newPair(cfg *Config, r *Report, stream int) (*pair, error) {
	p := &pair{cfg: cfg, report: r, stream: stream}
	for i, start := range []func() (Peer, error){cfg.Ours, cfg.Theirs} {
		peer, err := start()
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.peers[i] = peer
		p.taps[i] = &tap{peer: peer, retry: i == 1, report: r}
		p.tpms[i] = client.New(p.taps[i], nonces(cfg.Seed, stream))
	}
	return p, nil
}

// nonces is the randomness of a caller: the same for both.
func nonces(seed uint64, stream int) io.Reader {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	binary.BigEndian.PutUint64(key[8:], uint64(stream))
	return rand.NewChaCha8(key)
}

func (p *pair) close() error {
	var errs []error
	for _, peer := range p.peers {
		if peer != nil {
			errs = append(errs, peer.Close())
		}
	}
	return errors.Join(errs...)
}

// both does something to both machines.
func (p *pair) both(do func(Peer) error) {
	for _, peer := range p.peers {
		if err := do(peer); err != nil {
			p.fail(err)
		}
	}
}

func (p *pair) fail(err error) {
	p.err = errors.Join(p.err, err)
	p.parted = true
}

// A tap is a transport that spoils requests and keeps what passes.
type tap struct {
	peer     Peer
	retry    bool // send again after TPM_RC_RETRY
	report   *Report
	bend     bend
	request  []byte
	response []byte
}

// errTooLong is a command for which not all have room: swtpm reads 4,096 bytes and
// takes the rest for the next command.
var errTooLong = errors.New("command is too long")

// Send sends a command, spoilt as bend says.
func (t *tap) Send(c []byte) ([]byte, error) {
	if len(c) > 4000 {
		return nil, errTooLong
	}
	t.request = sized(t.bend.apply(bytes.Clone(c)))
	b, err := t.peer.Send(t.request)
	for range 3 {
		if err != nil || !t.retry || tpm2.RC(binary.BigEndian.Uint32(b[6:])) != tpm2.RCRetry {
			break
		}
		t.report.Retries++
		b, err = t.peer.Send(t.request)
	}
	t.response = bytes.Clone(b)
	return t.response, err
}

// A step is one command for both.
type step struct {
	info    *command.Info
	handles []*thing
	uses    []use
	in      [2]wire.Layout
	bend    bend
	inner   bend // of the parameters, before they are authorized
	wrong   bool // with a wrong authValue for the first handle

	mixed     bool // made of something that differs between the two
	mayDiffer bool // the answers may differ though the requests do not
	exact     bool // the answers are the same though the requests differ
}

// A use is a session in a step.
type use struct {
	session *thing // nil is a password
	attr    tpm2.SessionAttributes
}

// run sends the step to both and compares. outs are the decoded parameters of the
// responses when both succeeded, else nil.
func (p *pair) run(s *step) (handle tpm2.Handle, outs *[2]wire.Layout) {
	if p.parted {
		return 0, nil
	}
	p.steps++
	o := &Observation{Stream: p.stream, Step: p.steps, Code: s.info.Code, Name: s.info.Name, Bent: s.bend.String() + s.inner.String()}
	var errs [2]error
	s.mixed = s.bend.kind == headed || s.bend.kind == replaced || s.bend.kind == flipped // another handle, perhaps
	params, ok := s.encode()
	if !ok {
		return 0, nil
	}
	o.Plain, o.Past = params[0], p.memory.past
	s.describe(o)
	for i := range p.tpms {
		var out raw
		c := s.command(i, params[i], &out)
		t := p.taps[i]
		t.bend, t.request, t.response = s.bend, nil, nil
		_, errs[i] = p.tpms[i].Run(c)
		if t.request == nil {
			return 0, nil // the client refuses to send it, to both
		}
		if t.response == nil && i == 1 && errors.Is(errs[i], io.EOF) {
			o.Request[i], o.RC[i], o.Ended, o.Diff = t.request, tpm2.RCFailure, true, "no answer, the peer ended"
			p.observe(o)
			p.parted = true
			return 0, nil
		}
		if t.response == nil {
			p.fail(fmt.Errorf("%s: %w", s.info.Name, errs[i]))
			return 0, nil
		}
		o.Request[i], o.Response[i], o.Params[i] = t.request, t.response, out
		o.RC[i] = tpm2.RC(binary.BigEndian.Uint32(t.response[6:]))
	}
	for i := range s.info.Handles { // as they were sent
		if at := 10 + 4*i; len(o.Request[0]) >= at+4 {
			o.Handles = append(o.Handles, tpm2.Handle(binary.BigEndian.Uint32(o.Request[0][at:])))
		}
	}
	o.Part = slices.ContainsFunc(o.Handles, func(h tpm2.Handle) bool { return slices.Contains(p.memory.parts, h) })
	s.mixed = (s.mixed || s.mayDiffer) && !(s.exact && s.straight())
	outs = s.compare(o, errs)
	p.observe(o)
	tookIn := o.RC == [2]tpm2.RC{} && s.scrambled(o) // each what it read
	if tookIn || (o.RC[0] == 0) != (o.RC[1] == 0) || o.RC[0] == tpm2.RCFailure || o.RC[1] == tpm2.RCFailure {
		p.parted = true
		return 0, nil
	}
	if outs != nil && s.info.Response != "" {
		if !bytes.Equal(o.Response[0][10:14], o.Response[1][10:14]) {
			p.parted = true
			return 0, nil
		}
		handle = tpm2.Handle(binary.BigEndian.Uint32(o.Response[0][10:]))
	}
	return handle, outs
}

// describe notes what the step is about.
func (s *step) describe(o *Observation) {
	o.Index, o.PIN = s.index()
	switch in := s.in[0].(type) {
	case *command.CreateIn:
		o.Made = in.InPublic.Type
	case *command.ImportIn:
		o.Made = in.ObjectPublic.Type
	case *command.CreateLoadedIn:
		if len(in.InPublic) >= 2 {
			o.Made = tpm2.Alg(binary.BigEndian.Uint16(in.InPublic))
		}
	}
	o.HMAC = slices.ContainsFunc(s.uses[:min(len(s.uses), s.info.Auths())], func(u use) bool {
		return u.session != nil && u.session.handle.Kind() == tpm2.KindHMACSession
	})
	if len(s.handles) > 0 {
		o.Type = s.handles[0].public().Type
		if p := s.handles[0].side[1].public; p != nil {
			o.Modulus = p.Unique.RSA
		}
	}
}

// index returns the attributes of the NV index of the step, and whether a policy
// authorizes the use of one that is a PIN.
func (s *step) index() (a tpm2.NVAttributes, pin bool) {
	for i, h := range s.handles {
		if h.handle.Kind() != tpm2.KindNVIndex {
			continue
		}
		a = h.nv.Attributes
		pin = pin || isPIN(a) && i < len(s.uses) && s.uses[i].session != nil && s.uses[i].session.handle.Kind() == tpm2.KindPolicySession
	}
	return a, pin
}

// straight reports whether nothing of the step was spoilt.
func (s *step) straight() bool {
	return s.bend.kind == straight && s.inner.kind == straight && !s.wrong
}

// observe counts an observation.
func (p *pair) observe(o *Observation) {
	p.memory.remember(o)
	if d := p.report.observe(o); d != nil && d.Parts {
		p.parted = true
	}
	if (o.RC[0].Base() == tpm2.RCAuthFail) != (o.RC[1].Base() == tpm2.RCAuthFail) {
		p.parted = true // one has counted a failed try
	}
	if p.cfg.Trace != nil {
		p.cfg.Trace(o)
	}
}

// check fails the run, unless the step was spoilt, when something does not hold
// that follows from more than one answer.
func (p *pair) check(s *step, holds bool, what string) {
	if !holds && s.straight() {
		p.observe(&Observation{Stream: p.stream, Step: p.steps, Code: s.info.Code, Name: s.info.Name, Diff: what})
	}
}

// encode encodes the parameters and spoils them.
func (s *step) encode() (params [2][]byte, ok bool) {
	for i := range params {
		if s.in[i] == nil {
			continue
		}
		b, err := wire.Encode(s.in[i])
		if err != nil {
			return params, false
		}
		params[i] = b
	}
	if !bytes.Equal(params[0], params[1]) {
		s.mixed = true
	}
	if s.inner.kind != straight {
		if len(params[0]) != len(params[1]) {
			return params, false
		}
		for i := range params {
			params[i] = s.inner.apply(params[i])
		}
	}
	return params, true
}

// command is the step as a command for one of the two.
func (s *step) command(i int, params []byte, out *raw) *client.Command {
	in := raw(params)
	c := &client.Command{Code: s.info.Code, In: &in, Out: out}
	for n, h := range s.handles {
		e := h.entity(i)
		if n == 0 && s.wrong {
			e.Auth = append(bytes.Clone(e.Auth), 'x')
		}
		if h.mixed {
			s.mixed = true
		}
		c.Handles = append(c.Handles, e)
	}
	for _, u := range s.uses {
		cu := client.Use{Attributes: u.attr}
		if u.session != nil {
			cu.Session = u.session.side[i].session
		}
		c.Uses = append(c.Uses, cu)
	}
	return c
}

// raw is parameters as bytes.
type raw []byte

// Wire lays out all that is there.
func (r *raw) Wire(c *wire.Codec) { c.Rest((*[]byte)(r)) }

// A bend is a way to spoil bytes.
type bend struct {
	kind  bendKind
	at    uint32 // a place, modulo the length
	value byte
}

type bendKind uint8

const (
	straight bendKind = iota
	flipped           // one bit
	replaced          // one byte
	cut               // the end is missing
	extended
	retagged
	headed // somewhere in the header, handles or authorizations
)

func (b bend) String() string {
	if b.kind == straight {
		return ""
	}
	return fmt.Sprintf(" %s %d %#x", [...]string{"", "flipped", "replaced", "cut", "extended", "retagged", "headed"}[b.kind], b.at, b.value)
}

// apply spoils c, which it may change.
func (b bend) apply(c []byte) []byte {
	if len(c) == 0 {
		return c
	}
	at := b.place(len(c))
	switch b.kind {
	case flipped:
		c[at] ^= 1 << (b.value % 8)
	case replaced:
		if c[at] == b.value {
			c[at] ^= 1 // so that it changes in both
		} else {
			c[at] = b.value
		}
	case cut:
		c = c[:at]
	case extended:
		c = append(c, make([]byte, 1+b.value%9)...)
	case retagged:
		c[1] ^= 3
	case headed:
		c[at] ^= 1 << (b.value % 8)
	}
	return c
}

// place returns where bytes of this length are spoilt.
func (b bend) place(n int) int {
	switch b.kind {
	case flipped, replaced, cut:
		return int(b.at % uint32(n))
	case headed:
		return int(b.at % uint32(min(n, 60)))
	}
	return 0 // at the end or the tag
}

// sized makes a command at least a header, and the size there that of the command:
// on a stream a wrong one would have the TPM wait for more.
func sized(c []byte) []byte {
	for len(c) < 10 {
		c = append(c, 0)
	}
	binary.BigEndian.PutUint32(c[2:], uint32(len(c)))
	return c
}

// rcOf is the code of a response.
func rcOf(b []byte) tpm2.RC { return tpm2.RC(binary.BigEndian.Uint32(b[6:])) }
