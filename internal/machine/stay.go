package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu"
)

// standsStill is the problem of a machine whose hypervisor takes long to let it go on.
const standsStill = "it stands still: its hypervisor has not let it go on yet, and is still asked to"

// goOn has the machine go on that is this host's now, or is what it was in its snapshot. No
// time that it had for its way ends that, and no slow disk or busy host costs it its memory:
// QEMU does what it was told in the end, and what takes long is a problem in the status.
func (s *supervisor) goOn(ctx context.Context) error {
	ctx, stop := s.whileItRuns(context.WithoutCancel(ctx))
	defer stop()
	goes := false // in the machine's loop, as the problem
	late := time.AfterFunc(s.root.pace.answer, func() {
		s.inLoop(ctx, func() {
			if !goes && s.doubt == "" {
				s.doubt = standsStill
			}
		})
	})
	defer late.Stop()
	if err := s.hypervisor.Continue(ctx); err != nil {
		return err
	}
	s.agent.rest(false)
	s.inLoop(ctx, func() {
		goes = true
		if s.doubt == standsStill {
			s.doubt = ""
		}
	})
	return nil
}

// stay has the machine go on here, unless it may run elsewhere. Its hypervisor is asked to
// until it does so or ends, however long that takes; whoever asked for the move hears it before.
func (d *departure) stay(ctx context.Context, why error) error {
	if d.given.Load() {
		return why
	}
	if d.tpm != nil {
		d.tpm.TravelAsEver()
	}
	ctx, stop := d.whileItRuns(ctx)
	defer stop()
	went := make(chan error, 1)
	d.serving.Go(func() { went <- d.goOnHere(ctx) })
	late := time.NewTimer(d.root.pace.answer)
	defer late.Stop()
	select {
	case err := <-went:
		return d.stayed(ctx, why, err)
	case <-late.C:
	}
	err := d.within(ctx, func() error {
		d.leaving, d.doubt = nil, standsStill
		return d.tell([]integrity.Notice{d.didNotGo("is on this host, and stands still until its hypervisor lets it go on", why)})
	})
	d.early(errors.Join(fmt.Errorf("the machine is on this host, and stands still until its hypervisor lets it go on: %w", why), err))
	return d.stayed(ctx, why, <-went)
}

// stayed says that the machine goes on here.
func (d *departure) stayed(ctx context.Context, why, err error) error {
	if err != nil {
		return errors.Join(why, fmt.Errorf("the machine is on this host, and does not go on: %w", err))
	}
	err = d.within(ctx, func() error {
		d.moving, d.leaving, d.doubt = false, nil, ""
		if d.unbelieved {
			d.quiet.Reset(quietTime)
		}
		if d.said && d.timed {
			d.endsBy(d.left)
		}
		return d.tell([]integrity.Notice{d.didNotGo("runs on here", why)})
	})
	return errors.Join(fmt.Errorf("the machine runs on here: %w", why), err)
}

// didNotGo is the event of a move that failed.
func (d *departure) didNotGo(is string, why error) integrity.Notice {
	return integrity.Notice{
		Type: integrity.EventMigrated, Instance: d.home.Name(), Time: d.root.cfg.Now(), BootCounter: d.monitor.BootCounter(), Actor: d.actor,
		Reasons: []evidence.Reason{reason(codeStayed, fmt.Sprintf("the machine did not go to %s, and %s: %v", d.ticket.Address, is, why))},
	}
}

// goOnHere asks the hypervisor until the machine runs, or ctx ends with it.
func (d *departure) goOnHere(ctx context.Context) error {
	for {
		err := d.backToLife(ctx)
		if err == nil {
			return nil
		}
		d.root.cfg.Log.Warn("a machine that did not move does not go on yet", slog.String("machine", d.home.Name()), slog.Any("error", err))
		t := time.NewTimer(askAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// backToLife ends what there is of the move, and lets the machine run. A question that is late
// is answered after those before it.
func (d *departure) backToLife(ctx context.Context) error {
	if err := d.hypervisor.CancelMove(ctx); errors.Is(err, qemu.ErrSilent) {
		return err // it may still be under way; other errors say that there is none
	}
	now, err := d.hypervisor.Status(ctx)
	if err == nil && now != qemu.Running {
		err = d.hypervisor.Continue(ctx)
	}
	return err
}
