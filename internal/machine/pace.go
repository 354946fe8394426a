package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/assay-project/assay/internal/move"
)

// memoryTime is how long the memory of a machine may take on its way.
const memoryTime = 30 * time.Minute

// paces are how long the parts of a move between hosts may take, each, and how long a home is
// waited for. Another host that says
// nothing more has the machine stand still for the last two of them.
type paces struct {
	memory time.Duration // home and TPM; and then the memory
	disks  time.Duration // beside that, where they are copied: given up long before if they do not get on
	still  time.Duration // what is said last, when all of the memory has gone
	settle time.Duration // until the other host has said that it has the machine, which was given to it
	answer time.Duration // of the hypervisor here, after which somebody hears that it takes long
	reach  time.Duration // until the other host has been reached, and for one question beside a move
	vacate time.Duration // of what is left here of a machine that has gone and ended, until whoever gave it hears so
	// The host that it is given to hears its source longer than that may ask: until it is given,
	// and then for whoever has not heard that it is there.
	given, heard time.Duration
	look         time.Duration // until a home is given back by who only looks at a machine
}

func usualPaces() paces {
	p := paces{memory: memoryTime, disks: 7 * 24 * time.Hour, still: 5 * time.Minute, settle: memoryTime, answer: 20 * time.Second, reach: time.Minute, vacate: 15 * time.Second, look: 2 * time.Second}
	p.given = p.still + p.settle + time.Minute
	p.heard = p.given
	return p
}

// sending is the time of the memory, and of the disks that are copied before it.
func (p paces) sending(disks bool) time.Duration {
	if disks {
		return p.disks + p.memory
	}
	return p.memory
}

// whole is more than the time of all parts, on either host.
func (p paces) whole(disks bool) time.Duration {
	return p.memory + p.sending(disks) + p.still + p.settle + p.given + p.heard
}

// inTime does a part of a move. What it may wait for ends with its time.
func inTime(ctx context.Context, most time.Duration, end func(), do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("the other host took longer than %s", most))
	defer cancel()
	defer context.AfterFunc(ctx, end)()
	err := do(ctx)
	if errors.Is(err, move.ErrLink) && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// dial connects to the destination of a ticket, in its time.
func (r *Root) dial(ctx context.Context, t *move.Ticket) (*move.Link, error) {
	soon, cancel := context.WithTimeout(ctx, r.pace.reach)
	defer cancel()
	link, err := t.Dial(soon, move.Clock{Random: r.cfg.Random, Now: r.cfg.Now})
	var late net.Error
	switch {
	case err == nil:
		return link, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case soon.Err() != nil || errors.As(err, &late) && late.Timeout(): // a socket may see it first
		return nil, fmt.Errorf("the other host took longer than %s: %w", r.pace.reach, err)
	}
	return nil, err
}

// question asks the destination of a ticket one thing, over a connection of its own.
func (r *Root) question(ctx context.Context, t *move.Ticket, ask func(*move.Link) error) error {
	link, err := r.dial(ctx, t)
	if err != nil {
		return err
	}
	defer link.Close()
	return inTime(ctx, r.pace.reach, func() { link.Close() }, func(context.Context) error { return ask(link) })
}
