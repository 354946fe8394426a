package apiserver

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound what callers may cost. Zero members mean the defaults below; a
// caller is a principal, or the address (IPv6: the /64) of one without a credential.
type Limits struct {
	Rate          float64       // requests a second of a principal; 0 means 1,000
	Burst         int           // of a principal; 0 means 2,000
	StrangerRate  float64       // requests a second of an address; 0 means 20
	StrangerBurst int           // of an address; 0 means 40
	PerCaller     int           // requests of a principal at once; 0 means a quarter of InFlight
	PerStranger   int           // requests of an address at once; 0 means 16
	Callers       int           // callers remembered; 0 means 16,384
	InFlight      int           // requests carried out at once; 0 means 256
	Queue         int           // requests that wait for their turn; 0 means 512
	Wait          time.Duration // for that turn at most; 0 means 2 seconds
	BodyMemory    int64         // bytes of request bodies held at once; 0 means 256 MiB
	CallerMemory  int64         // of them by a principal; 0 means a quarter
	AddressMemory int64         // of them by an address; 0 means a sixteenth
	Answer        time.Duration // for the work of one request, once its body is there; 0 means 20 seconds
	Newcomers     int           // credentials not seen before looked up at once; 0 means 4
}

// LargestBody is a request that one caller alone always has room for: some 1 MiB of log,
// 1 MiB of IMA list and certificates, in base64.
const LargestBody = 4 << 20

func (l Limits) withDefaults() Limits {
	l.Rate, l.Burst = or(l.Rate, 1000), or(l.Burst, 2000)
	l.StrangerRate, l.StrangerBurst = or(l.StrangerRate, 20), or(l.StrangerBurst, 40)
	l.Callers, l.InFlight, l.Queue = or(l.Callers, 16384), or(l.InFlight, 256), or(l.Queue, 512)
	// One principal alone must not be able to take every turn.
	l.PerCaller, l.PerStranger = or(l.PerCaller, max(l.InFlight/4, 1)), or(l.PerStranger, 16)
	l.Wait, l.BodyMemory, l.Newcomers = or(l.Wait, 2*time.Second), or(l.BodyMemory, 256<<20), or(l.Newcomers, 4)
	l.Answer = or(l.Answer, 20*time.Second)
	// One caller alone must not be able to take all memory, and must have room for a
	// request of the largest size.
	largest := min(l.BodyMemory, LargestBody)
	l.CallerMemory, l.AddressMemory = or(l.CallerMemory, max(l.BodyMemory/4, largest)), or(l.AddressMemory, max(l.BodyMemory/16, largest))
	return l
}

func or[T int | int64 | float64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// A caller's limits as they stand. The mutex of callers guards it.
type caller struct {
	key      string
	rate     *rate.Limiter
	denials  *rate.Limiter // audit entries that its denied requests may make
	inFlight int
	most     int
	held     int64 // bytes of bodies
	mostHeld int64
	place    *list.Element
}

// callers remembers the limits of those seen last. Who was forgotten starts anew
// with a full bucket: the memory is bounded, the limit of a flood of addresses is
// the gate's.
type callers struct {
	limits Limits

	mu    sync.Mutex // guards all below
	byKey map[string]*caller
	used  *list.List // of *caller, latest first
}

func newCallers(l Limits) *callers {
	return &callers{limits: l, byKey: map[string]*caller{}, used: list.New()}
}

// Audit entries of one caller's denied requests: some at once, then one every ten
// seconds, so that nobody can fill the chain with them.
const (
	denialBurst = 20
	denialRate  = 0.1
)

// find returns the caller of a key; the mutex is held.
func (c *callers) find(key string, known bool) *caller {
	if one, ok := c.byKey[key]; ok {
		c.used.MoveToFront(one.place)
		return one
	}
	one := &caller{key: key, most: c.limits.PerStranger, mostHeld: c.limits.AddressMemory, denials: rate.NewLimiter(denialRate, denialBurst)}
	one.rate = rate.NewLimiter(rate.Limit(c.limits.StrangerRate), c.limits.StrangerBurst)
	if known {
		one.rate, one.most, one.mostHeld = rate.NewLimiter(rate.Limit(c.limits.Rate), c.limits.Burst), c.limits.PerCaller, c.limits.CallerMemory
	}
	c.byKey[key], one.place = one, c.used.PushFront(one)
	c.forget()
	return one
}

// forget drops the caller seen longest ago that has no request under way.
func (c *callers) forget() {
	for e := c.used.Back(); e != nil && len(c.byKey) > c.limits.Callers; {
		one, before := e.Value.(*caller), e.Prev()
		if one.inFlight == 0 {
			c.used.Remove(e)
			delete(c.byKey, one.key)
		}
		e = before
	}
}

// spend takes one request off a caller's rate; wait is above zero when there is
// none left, and then nothing was taken.
func (c *callers) spend(key string, known bool, now time.Time) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.find(key, known).rate.ReserveN(now, 1)
	wait = r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// refund gives back what spend took off an address's rate.
func (c *callers) refund(key string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.find(key, false).rate.AllowN(now, -1) // a bucket is never fuller than its burst
}

// A place is one request's share of its caller's limits. A caller with a request
// under way is not forgotten.
type place struct {
	all      *callers
	caller   *caller
	mostHeld int64
}

// enter counts a request under way, or reports that the caller has too many.
func (c *callers) enter(key string, known bool) (p *place, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.find(key, known)
	if one.inFlight >= one.most {
		return nil, false
	}
	one.inFlight++
	return &place{c, one, one.mostHeld}, true
}

func (p *place) leave() {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	p.caller.inFlight--
}

// take takes n bytes off the caller's share of the memory, or reports that there
// are not as many.
func (p *place) take(n int64) bool {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if p.caller.held+n > p.mostHeld {
		return false
	}
	p.caller.held += n
	return true
}

func (p *place) give(n int64) {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	p.caller.held -= n
}

// mayRecord reports whether one more denial of this caller goes to the audit chain.
func (c *callers) mayRecord(key string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(key, true).denials.AllowN(now, 1)
}

// strangerKey is the address of a caller without a credential. An IPv6 site has
// 2^64 addresses of its own: it counts as one.
func strangerKey(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "address:"
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64) // never fails: 64 is within an IPv6 address
		return "address:" + p.String()
	}
	return "address:" + addr.String()
}

// A gate lets a number of requests be carried out at once, and a number wait.
type gate struct {
	slots, queue chan struct{}
	wait         time.Duration
}

// newcomersWait is how many credentials not seen before wait for each that is looked up.
const newcomersWait = 16

// newcomersGate is what look-ups of credentials not seen before pass.
func newcomersGate(l Limits) *gate {
	return newGate(Limits{InFlight: l.Newcomers, Queue: newcomersWait * l.Newcomers, Wait: l.Wait})
}

func newGate(l Limits) *gate {
	return &gate{slots: make(chan struct{}, l.InFlight), queue: make(chan struct{}, l.Queue), wait: l.Wait}
}

// enter waits for a turn; false means that there is none in time.
func (g *gate) enter(ctx context.Context) bool {
	select {
	case g.slots <- struct{}{}:
		return true
	default:
	}
	select {
	case g.queue <- struct{}{}:
		defer func() { <-g.queue }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, g.wait)
	defer cancel()
	select {
	case g.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *gate) leave() { <-g.slots }

// A budget is the memory that request bodies may take together.
type budget struct {
	mu   sync.Mutex // guards left
	left int64
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}
