package health

import (
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/time/rate"

	"github.com/assay-project/assay/internal/channel"
)

// A phase is what a run waits for.
type phase uint8

const (
	idle    phase = iota // for the next time
	booting              // for the agent's first words
	asking               // for an answer
)

// A run is one connection to a machine. Only the goroutine of Run touches it.
type run struct {
	*Monitor
	ctx   context.Context
	send  chan channel.Message // what its writer has not sent yet
	phase phase
	due   time.Time // when waiting ends in silence, of booting and asking
	next  time.Time // of idle: when to ask again
	pause bool
	// bootDue is until when the guest's word that it boots moves due.
	bootDue time.Time

	seen     bool   // an agent spoke in this boot
	heard    bool   // it did since the last enrolment was asked for
	stale    bool   // nothing was asked for, because that one is unanswered
	boot     string // what it calls the boot
	noise    int    // lines since the last assessment that were no messages
	noiseErr error  // the last of them
	restarts int    // of the attestation under way, by the agent's own words

	last   time.Time // of the last assessment
	report Report    // the last one that was passed on
	step   step
	id     uint64
	start  uint64 // of the machine: what everything above is of
}

// Run drives the agent at the other end of rw until the stream or ctx ends; it closes
// rw. The machine need not have started yet. A monitor is run once: a machine that is
// started anew gets a new one.
func (m *Monitor) Run(ctx context.Context, rw io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Monitor: m, ctx: ctx, send: make(chan channel.Message, 4)}
	conn := channel.NewHost(&paced{ReadWriteCloser: rw, ctx: ctx, now: m.cfg.Now, limit: newLimit()})
	lines, lost := make(chan channel.Read), make(chan error, 2)
	go func() { lost <- read(ctx, conn, lines) }()
	go func() { lost <- write(ctx, conn, r.send) }()
	ended, err := r.loop(lines, lost)
	cancel()
	rw.Close() // the reader and the writer end with it
	for range 2 - ended {
		<-lost
	}
	return err
}

// loop ends with the context, or when the reader or the writer does; ended is how many
// of them did.
func (r *run) loop(lines <-chan channel.Read, lost <-chan error) (ended int, err error) {
	r.boots()
	r.request(&channel.Greet{})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(r.delay())
		select {
		case <-r.ctx.Done():
			return 0, nil
		case err := <-lost:
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return 1, err
		case o := <-r.orders:
			r.catchUp()
			r.obey(o)
		case line := <-lines:
			r.catchUp()
			r.take(line)
		case <-timer.C:
			r.catchUp()
			r.tick()
		}
	}
}

// delay is until something is to be done without anybody's word.
func (r *run) delay() time.Duration {
	at := r.due
	if r.phase == idle {
		at = r.next
	}
	if r.pause {
		return time.Hour
	}
	return max(at.Sub(r.cfg.Now()), 0)
}

func (r *run) tick() {
	if r.pause || r.delay() > 0 {
		return
	}
	if r.phase == idle {
		r.ask()
	} else {
		r.silent()
	}
}

// wait begins a phase that ends in silence.
func (r *run) wait(p phase, d time.Duration) {
	r.phase, r.due = p, r.cfg.Now().Add(d)
	r.late.Store(r.due.UnixNano())
}

// boots waits for the agent's first words of a boot, or since it came from another host.
func (r *run) boots() {
	r.wait(booting, orDefault(time.Duration(r.patience.Load()), r.cfg.BootDeadline))
	r.bootDue = r.due
}

// catchUp forgets what is of a start of the machine before the last, and reports whether
// there was another. An order may come later than what was said after it, or not at all.
func (r *run) catchUp() bool {
	now := r.starts.Load()
	if r.start == now {
		return false
	}
	r.start = now
	r.seen, r.heard, r.boot, r.step, r.report = false, false, "", step{}, Report{}
	r.boots()
	return true
}

func (r *run) obey(o order) {
	switch o {
	case orderBooted: // see catchUp
	case orderRestored:
		r.request(&channel.Greet{})
	case orderAsk:
		if r.phase == idle {
			r.ask()
		}
	case orderPause:
		r.pause = true
	case orderResume:
		if !r.pause {
			return
		}
		r.pause = false
		switch r.phase {
		case booting:
			r.boots()
		case asking:
			r.ask()
		}
	case orderPowerOff:
		// One that nobody reads now would end the next boot.
		if r.seen && r.heard {
			r.request(&channel.PowerOff{Head: channel.Head{ID: powerOffID}})
		}
	}
}

// powerOffID is none of a step's.
const powerOffID = 1 << 62

// request sends a message. A guest that reads nothing makes the queue full: then it
// gets nothing, and is silent in the end.
func (r *run) request(m channel.Message) {
	select {
	case r.send <- m:
	default:
	}
}

// take reads a line of the guest.
func (r *run) take(line channel.Read) {
	if line.Message == nil {
		r.noise, r.noiseErr = r.noise+1, line.Err
		return
	}
	r.seen, r.heard = true, true
	switch m := line.Message.(type) {
	case *channel.Hello:
		r.hello(m)
	case *channel.Heartbeat:
		r.heartbeat(m)
	default:
		r.answer(m)
	}
	switch {
	case r.phase == asking && r.stale:
		r.enrol() // the agent is there after all
	case r.phase == booting:
		r.request(&channel.Greet{}) // it started before this monitor, or is what a hibernated machine had
	}
}

// maxRestarts is how often an agent may begin anew in one attestation.
const maxRestarts = 3

// hello is the agent's word that it started.
func (r *run) hello(m *channel.Hello) {
	other := m.Boot != r.boot
	r.boot = m.Boot
	switch r.phase {
	case booting:
		r.ask()
	case asking:
		if r.restarts++; r.restarts > maxRestarts {
			return
		}
		// What was said before this boot may have come late. Only while the host knows
		// the machine to boot is there more time for it.
		if now := r.cfg.Now(); other && now.Before(r.bootDue) {
			r.wait(asking, r.cfg.Deadline)
		}
		r.enrol()
	case idle:
		if at := r.last.Add(gap); r.next.After(at) {
			r.next = at
		}
	}
}

// ask begins an attestation. While the last one's first request is unread, another
// would only queue up behind it.
func (r *run) ask() {
	r.restarts = 0
	r.wait(asking, r.cfg.Deadline)
	if r.stale = !r.heard && r.step.kind != stepNone; !r.stale {
		r.enrol()
	}
}

// newLimit allows the longest evidence at once, and then little: a guest that talks
// without end is read slowly, and waits.
func newLimit() *rate.Limiter { return rate.NewLimiter(pace, channel.MaxEvidence+1<<20) }

// pace is how many bytes a second are read of a guest that has used up its burst: more
// than the longest evidence in a minute.
const pace = 64 << 10

// paced reads no faster than its limit.
type paced struct {
	io.ReadWriteCloser
	ctx   context.Context //nolint:containedctx // it lives as long as one run
	now   func() time.Time
	limit *rate.Limiter
}

// Read also counts a line's cost, which is more than its bytes when it is short.
func (p *paced) Read(b []byte) (int, error) {
	n, err := p.ReadWriteCloser.Read(b)
	cost := n
	for _, c := range b[:n] {
		if c == '\n' {
			cost += lineCost
		}
	}
	for cost > 0 && err == nil {
		part := min(cost, p.limit.Burst())
		cost -= part
		now := p.now()
		timer := time.NewTimer(p.limit.ReserveN(now, part).DelayFrom(now))
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			err = p.ctx.Err()
		}
		timer.Stop()
	}
	return n, err
}

// lineCost is what reading a line costs besides its bytes, as bytes.
const lineCost = 1 << 10

func read(ctx context.Context, conn *channel.Conn, lines chan<- channel.Read) error {
	for {
		line, err := conn.Next()
		if err != nil {
			return err
		}
		select {
		case lines <- line:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func write(ctx context.Context, conn *channel.Conn, messages <-chan channel.Message) error {
	for {
		select {
		case m := <-messages:
			if err := conn.Write(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
