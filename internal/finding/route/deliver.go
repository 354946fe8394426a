package route

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/finding"
)

const (
	poll         = time.Second     // how often the queue is looked at
	lockWait     = 5 * time.Second // how often another's end is looked for
	refreshEvery = time.Minute     // Alertmanager keeps nothing over its own restart
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Minute
	giveUp       = 24 * time.Hour
	passTime     = 30 * time.Second // after which a route lets the others go on
)

// A Deliverer sends the changes of a store along its routes. All exported members are required.
type Deliverer struct {
	Store *finding.Store
	// Host is the name of this machine, for people.
	Host string
	Now  func() time.Time
	Log  *slog.Logger

	grave sync.Mutex // guards the file of what was given up
}

// Run delivers until ctx ends, and returns its error. One process at a time delivers
// for a store: others wait for the end of that one.
func (d *Deliverer) Run(ctx context.Context) error {
	for wait := time.Duration(0); ; wait = lockWait {
		if err := pause(ctx, wait); err != nil {
			return err
		}
		lock, err := d.lock(ctx)
		if err != nil {
			return err
		}
		err = errors.Join(d.serve(ctx), lock.Close())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.Log.ErrorContext(ctx, "deliver findings", slog.Any("error", err))
	}
}

// serve delivers until something of this machine fails. While nobody writes the book
// or the routes, and no attempt is due, a look at both is all.
func (d *Deliverer) serve(ctx context.Context) error {
	var seen string
	var wake, refreshed time.Time
	for {
		stamp, err := d.stamp()
		if now := d.Now(); err == nil && (stamp != seen || !now.Before(wake)) {
			seen = stamp
			wake, err = d.pass(ctx)
		}
		if now := d.Now(); err == nil && now.Sub(refreshed) >= refreshEvery {
			refreshed, err = now, d.refresh(ctx)
		}
		if err == nil {
			err = pause(ctx, poll)
		}
		if err != nil {
			return err
		}
	}
}

// stamp changes when the book or the routes are written.
func (d *Deliverer) stamp() (string, error) {
	book, err := d.Store.Stamp()
	if err != nil {
		return "", err
	}
	routes, err := durable.Stamp(filepath.Join(d.Store.Dir, routesFile))
	return book + " " + routes, err
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// lock waits until no other process delivers for this store.
func (d *Deliverer) lock(ctx context.Context) (*durable.Lock, error) {
	if err := os.MkdirAll(deliveryDir(d.Store), 0o700); err != nil {
		return nil, err
	}
	for {
		lock, err := durable.LockDir(deliveryDir(d.Store))
		if !errors.Is(err, durable.ErrLocked) {
			if err == nil {
				err = durable.Sweep(deliveryDir(d.Store))
			}
			return lock, err
		}
		if err := pause(ctx, lockWait); err != nil {
			return nil, err
		}
	}
}

// ErrBusy is a store for which another process delivers now.
var ErrBusy = errors.New("another process delivers the findings of this folder")

// Once tries each route once, those that wait for another attempt too, and returns how
// many changes are left. It is for commands; Run does the same for ever.
func (d *Deliverer) Once(ctx context.Context) (left int, err error) {
	if err := os.MkdirAll(deliveryDir(d.Store), 0o700); err != nil {
		return 0, err
	}
	lock, err := durable.LockDir(deliveryDir(d.Store))
	if errors.Is(err, durable.ErrLocked) {
		return 0, ErrBusy
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	routes, err := Load(d.Store.Dir)
	if err != nil {
		return 0, err
	}
	for _, r := range routes {
		c, err := d.cursor(&r)
		if err != nil {
			return 0, err
		}
		if c.NotBefore = (time.Time{}); c.Failures > 0 {
			if err := d.keep(&r, c); err != nil {
				return 0, err
			}
		}
	}
	if _, err := d.pass(ctx); err != nil {
		return 0, err
	}
	if err := d.refresh(ctx); err != nil {
		return 0, err
	}
	return d.left()
}

// left counts what is queued.
func (d *Deliverer) left() (int, error) {
	b, err := d.Store.Load()
	if err != nil {
		return 0, err
	}
	all, err := d.Store.Queued(b.Changes())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return len(all), err
}

// never is when a pass has nothing to come back for.
func never(now time.Time) time.Time { return now.Add(24 * time.Hour) }

// pass takes each route as far as it gets now, removes what all of them have had, and
// returns when to come back even if nothing new is written.
func (d *Deliverer) pass(ctx context.Context) (wake time.Time, err error) {
	routes, err := Load(d.Store.Dir)
	if err != nil || len(routes) == 0 {
		return never(d.Now()), err
	}
	b, wake, err := d.settle(ctx)
	if err != nil {
		return wake, err
	}
	queue, err := d.Store.Queued(b.Changes())
	if err != nil || len(queue) == 0 {
		return wake, err
	}
	stands := make([]stand, len(routes))
	var all sync.WaitGroup
	for i := range routes {
		all.Go(func() { stands[i] = d.route(ctx, &routes[i], queue) })
	}
	all.Wait()
	done := stands[0].next
	for _, s := range stands {
		err = errors.Join(err, s.err)
		done = min(done, s.next)
		if s.next <= queue[len(queue)-1] && s.again.Before(wake) {
			wake = s.again
		}
	}
	if err != nil {
		return wake, err
	}
	for _, n := range queue {
		if n >= done {
			break
		}
		if err := d.Store.Delivered(n); err != nil {
			return wake, err
		}
	}
	return wake, nil
}

// settle opens the findings again whose suppression is over, and ends the one about
// the queue; it returns the book, and when the next suppression ends.
func (d *Deliverer) settle(ctx context.Context) (b *finding.Book, wake time.Time, err error) {
	now := d.Now()
	if b, err = d.Store.Load(); err != nil {
		return nil, wake, err
	}
	due, ok := b.Due()
	full := finding.QueueFull()
	if lasts := b.Lasts(full); ok && !now.Before(due) || lasts {
		full.Ends = true
		err = d.Store.Update(ctx, now, func(next *finding.Book) error {
			b = next
			if waiting, err := d.Store.Queued(next.Changes()); err != nil || len(waiting) > 0 || !lasts {
				next.Settle(now)
				return err
			}
			return next.Apply(now, full)
		})
		due, ok = b.Due()
	}
	if wake = never(now); ok && due.Before(wake) {
		wake = due
	}
	return b, wake, err
}

// A stand is how far a route has come, and when it is to be tried again.
type stand struct {
	next  uint64
	again time.Time
	err   error
}

// route sends what a route has not had.
func (d *Deliverer) route(ctx context.Context, r *Route, queue []uint64) stand {
	c, err := d.cursor(r)
	if err != nil {
		return stand{err: err}
	}
	began := d.Now()
	for _, n := range queue {
		if n < c.Next {
			continue
		}
		if now := d.Now(); now.Before(c.NotBefore) || now.Sub(began) > passTime {
			return stand{n, c.NotBefore, nil}
		}
		if err := d.send(ctx, r, c, n); err != nil || c.Failures > 0 {
			return stand{n, c.NotBefore, err}
		}
	}
	return stand{next: queue[len(queue)-1] + 1}
}

// send tries one change, and notes in the cursor how that went. Its error is one of
// this machine; that of a receiver is only noted.
func (d *Deliverer) send(ctx context.Context, r *Route, c *cursor, n uint64) error {
	origin, change, err := d.Store.Change(n)
	if errors.Is(err, fs.ErrNotExist) { // its last route was removed
		*c = cursor{Version: formatVersion, Next: n + 1, Lost: c.Lost}
		return nil
	}
	if errors.Is(err, finding.ErrFormat) {
		*c = cursor{Version: formatVersion, Next: n + 1, Lost: true}
		return errors.Join(d.keep(r, c), d.tell(ctx, r, true, err))
	}
	if err != nil {
		return err
	}
	if !r.wants(&change.Finding) {
		*c = cursor{Version: formatVersion, Next: n + 1, Lost: c.Lost}
		return d.keep(r, c)
	}
	m := &message{source{origin, d.Host}, change, d.Now()}
	err = transmit(ctx, r, m)
	if ctx.Err() != nil {
		return ctx.Err() // neither delivered nor refused
	}
	if err == nil {
		recovered := c.Lost
		*c = cursor{Version: formatVersion, Next: n + 1}
		return errors.Join(d.keep(r, c), d.tell(ctx, r, recovered, nil))
	}
	return d.missed(ctx, r, c, m, err)
}

// wants reports whether a finding is sent along r. That r itself does not work is for
// the others to tell.
func (r *Route) wants(f *finding.Finding) bool {
	return f.Severity >= r.Minimum && (f.Kind != finding.DeliveryFailed || f.Component != component(r))
}

// component is what the finding about a route that does not work is about.
func component(r *Route) string { return "route " + r.Name }

// missed notes an attempt that failed: there is another one later, or the change is
// given up.
func (d *Deliverer) missed(ctx context.Context, r *Route, c *cursor, m *message, why error) error {
	if c.Failures == 0 {
		c.Since = m.at
	}
	c.Failures++
	c.Problem = problem(why)
	if permanent := new(permanentError); errors.As(why, permanent) || m.at.Sub(c.Since) >= giveUp {
		return d.bury(ctx, r, c, m)
	}
	c.NotBefore = m.at.Add(min(firstBackoff<<min(c.Failures-1, 20), maxBackoff))
	d.Log.WarnContext(ctx, "finding not delivered", slog.String("route", r.Name), slog.Uint64("change", m.change.Number), slog.Int("attempts", c.Failures), slog.String("error", c.Problem))
	return d.keep(r, c)
}

// problem is an error in at most 200 bytes.
func problem(err error) string {
	s := bare(err).Error()
	return s[:min(len(s), 200)]
}

// transmit sends a message in the manner of its route.
func transmit(ctx context.Context, r *Route, m *message) error {
	switch r.Type {
	case Webhook:
		return sendWebhook(ctx, r, m)
	case Alertmanager:
		if m.change.Event == finding.EventMoved && m.change.Finding.State == finding.Resolved {
			return nil // the alert lasts: the host that has the machine now renews it
		}
		return sendAlerts(ctx, r, m.source, []finding.Finding{m.change.Finding}, m.at)
	case Syslog:
		return sendSyslog(ctx, r, m)
	}
	return fmt.Errorf("type %q: %w", r.Type, ErrRoute)
}

// tell keeps in the book whether a route loses changes.
func (d *Deliverer) tell(ctx context.Context, r *Route, was bool, lost error) error {
	s := finding.Signal{Kind: finding.DeliveryFailed, Component: component(r), Ends: lost == nil}
	if lost != nil {
		s.Reasons = []evidence.Reason{{Code: finding.DeliveryFailed, Message: lost.Error(), Component: r.Name}}
	} else if !was {
		return nil
	}
	return d.Store.Update(ctx, d.Now(), func(b *finding.Book) error { return b.Apply(d.Now(), s) })
}

// refresh tells each Alertmanager of all that lasts: it keeps alerts in memory only.
func (d *Deliverer) refresh(ctx context.Context) error {
	routes, err := Load(d.Store.Dir)
	if err != nil {
		return err
	}
	b, err := d.Store.Load()
	if err != nil {
		return err
	}
	from, now := source{b.Origin(), d.Host}, d.Now()
	for _, r := range routes {
		if r.Type != Alertmanager {
			continue
		}
		c, err := d.cursor(&r)
		if err != nil {
			return err
		}
		lasting := slices.DeleteFunc(b.Findings(now), func(f finding.Finding) bool {
			return !r.wants(&f) || f.State != finding.Open && f.State != finding.Acknowledged
		})
		if c.Failures > 0 || len(lasting) == 0 { // its queue has its own attempts
			continue
		}
		if err := sendAlerts(ctx, &r, from, lasting, now); err != nil {
			d.Log.WarnContext(ctx, "alerts not renewed", slog.String("route", r.Name), slog.String("error", problem(err)))
		}
	}
	return ctx.Err()
}

// An Outcome is what became of a test alert.
type Outcome struct {
	Route   string `json:"route"`
	Sent    bool   `json:"sent"`
	Problem string `json:"problem,omitempty"`
}

// Try sends a test alert along each route, or the one called name, now and without the
// queue.
func (d *Deliverer) Try(ctx context.Context, name string) ([]Outcome, error) {
	routes, err := Load(d.Store.Dir)
	if err != nil {
		return nil, err
	}
	b, err := d.Store.Load()
	if err != nil {
		return nil, err
	}
	now, out := d.Now(), []Outcome{}
	m := &message{source{b.Origin(), d.Host}, finding.Change{Time: now, Event: "test", Finding: finding.TestFinding(now)}, now}
	for i := range routes {
		if name != "" && routes[i].Name != name {
			continue
		}
		o := Outcome{Route: routes[i].Name, Sent: true}
		if err := transmit(ctx, &routes[i], m); err != nil {
			o.Sent, o.Problem = false, problem(err)
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q: %w", cmp.Or(name, "any"), ErrNone)
	}
	return out, nil
}

func deliveryDir(s *finding.Store) string { return filepath.Join(s.Dir, "delivery") }
