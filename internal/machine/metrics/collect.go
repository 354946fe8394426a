package metrics

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-project/assay/internal/machine"
)

// A writer takes the values of one collection.
type writer struct {
	out chan<- prometheus.Metric
	now time.Time
}

func (w *writer) put(m metric, value float64, labels ...string) {
	made, err := prometheus.NewConstMetric(m.desc, m.kind, value, labels...)
	if err != nil { // of the whole collection this one value is missing
		made = prometheus.NewInvalidMetric(m.desc, err)
	}
	w.out <- made
}

// one puts 1 for the label that is so, and 0 for the others.
func (w *writer) one(m metric, name string, labels []string, is string) {
	for _, l := range labels {
		w.put(m, number(l == is), name, l)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// machines tells of all machines, and how many are in each state. It returns their names.
func (c *Collector) machines(w *writer) (told []string) {
	names, err := c.cfg.Machines.Names()
	w.put(machinesListed, number(err == nil))
	omitted := max(0, len(names)-c.cfg.Limit)
	w.put(machinesOmitted, float64(omitted))
	names = names[:len(names)-omitted]
	seen := c.observe(names)
	states := map[string]float64{}
	for _, name := range names {
		o, there := seen[name]
		if !there {
			continue // deleted meanwhile
		}
		states[stateOf(o)]++
		w.machine(name, o)
		told = append(told, name)
	}
	for _, s := range stateLabels {
		w.put(machines, states[s], s)
	}
	return told
}

// atOnce is how many machines are asked at the same time.
const atOnce = 64

// An answer is what is known of a machine.
type answer struct {
	name string
	seen *machine.Observation
	err  error
}

// observe asks all machines at once, those that did not answer the last time after the
// others, and waits no longer than it may. A machine without an answer has a nil
// observation; one that is there no more has none.
func (c *Collector) observe(names []string) map[string]*machine.Observation {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Patience)
	defer cancel()
	out := make(map[string]*machine.Observation, len(names))
	for _, name := range names {
		out[name] = nil
	}
	asked := c.toAsk(names)
	answers, slots := make(chan answer, len(asked)), make(chan struct{}, atOnce)
	go func() {
		for _, name := range asked {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				c.mu.Lock()
				delete(c.asked, name) // it had no turn, and is no slower for it
				c.mu.Unlock()
				answers <- answer{name, nil, ctx.Err()}
				continue
			}
			go func() {
				defer func() { <-slots }()
				answers <- c.ask(ctx, name)
			}()
		}
	}()
	for range asked {
		select {
		case a := <-answers:
			if out[a.name] = a.seen; errors.Is(a.err, machine.ErrUnknown) {
				delete(out, a.name)
			}
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// ask asks one machine. Half of the patience is for it, so that others have their turn.
func (c *Collector) ask(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Patience/2)
	defer cancel()
	c.mu.Lock()
	known := c.known[name]
	c.mu.Unlock()
	seen, err := c.cfg.Machines.Observe(ctx, name, known)
	if err != nil {
		seen = nil
	}
	c.answered(name, seen)
	return answer{name, seen, err}
}

// toAsk returns the machines that are to be asked now, and forgets those that are gone.
// One that has not answered the last question, as with a home on a disk that hangs, is
// not asked another.
func (c *Collector) toAsk(names []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	there := make(map[string]bool, len(names))
	var first, later []string
	for _, name := range names {
		there[name] = true
		switch {
		case c.asked[name]:
			continue
		case c.slow[name]:
			later = append(later, name)
		default:
			first = append(first, name)
		}
		c.asked[name] = true
	}
	for name := range c.known {
		if !there[name] {
			delete(c.known, name)
		}
	}
	for name := range c.slow {
		if !there[name] {
			delete(c.slow, name)
		}
	}
	return slices.Concat(first, later)
}

// answered keeps what a machine said; nil for nothing.
func (c *Collector) answered(name string, seen *machine.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, name)
	if seen == nil {
		c.slow[name] = true
		return
	}
	delete(c.slow, name)
	c.known[name] = seen
}
