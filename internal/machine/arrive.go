package machine

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/diskcopy"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/seal"
)

// ReceiveOptions say which machine is awaited, and how.
type ReceiveOptions struct {
	Name string
	// Provider is the key provider of the machine's new home; empty is the default.
	Provider string
	// Listener and TLS are those of the machine's ticket.
	Listener net.Listener
	TLS      *tls.Config
	// Expires is when nobody is awaited any more.
	Expires time.Time
	// CopyDisks awaits the machine with a copy of its disks, which are made in its home. Of
	// the disks of this host it gets the Known alone, to read.
	CopyDisks bool
	Known     []string
	// Overcommit takes disks that fit into what is free, whatever the disks of the machines
	// here may still grow to: when they do, there may be no room for what a guest writes.
	Overcommit bool
	// Ready is called once the machine is awaited. May be nil.
	Ready func() error
}

// Receive waits for a machine that another host gives away, and supervises it here until
// it ends, as [Root.Run] does. Until the other host has said that it is this one's,
// nothing that failed is left here, and another try is awaited.
func (r *Root) Receive(ctx context.Context, actor string, o ReceiveOptions) error {
	defer o.Listener.Close()
	if err := r.noMachine(o.Name); err != nil {
		return err
	}
	if o.Provider == "" && r.cfg.DefaultProvider != nil {
		o.Provider = r.cfg.DefaultProvider()
	}
	if o.Provider == "" {
		return ErrProvider
	}
	if o.Ready != nil {
		if err := o.Ready(); err != nil {
			return err
		}
	}
	if err := r.checkKnown(&o); err != nil {
		return err
	}
	awaited, cancel := context.WithTimeoutCause(ctx, o.Expires.Sub(r.cfg.Now()), move.ErrExpired)
	defer cancel()
	for {
		link, err := move.Accept(awaited, o.Listener, o.TLS, r.cfg.Now)
		if err != nil {
			return fmt.Errorf("machine %q did not come: %w", o.Name, err)
		}
		a := &arrival{root: r, actor: actor, o: &o, link: link}
		err = a.take(ctx)
		if a.mine {
			return err
		}
		r.cfg.Log.Warn("a machine did not arrive", slog.String("machine", o.Name), slog.Any("error", err))
		if ctx.Err() != nil {
			return err
		}
	}
}

// An arrival is one try of another host to give its machine.
type arrival struct {
	root  *Root
	actor string
	o     *ReceiveOptions
	link  *move.Link
	offer offer
	bags  luggage
	*supervisor
	// older is why the TPM is not as new as the one that this host knows; nil when it is.
	older []evidence.Reason
	// mine is set, by the machine's loop, once the machine is this host's: its card is
	// written after the other host has given it up.
	mine bool
}

// take answers one try. What it says to the other host in the end is true: nothing is left
// here then.
func (a *arrival) take(ctx context.Context) (err error) {
	defer func() {
		if !a.mine && err != nil {
			a.link.Refuse(err) //nolint:errcheck // it has gone then
		}
		a.link.Close()
	}()
	stop := context.AfterFunc(ctx, a.link.Interrupt)
	defer stop()
	var keys *age.X25519Identity
	err = inTime(ctx, a.root.pace.memory, a.link.Interrupt, func(ctx context.Context) (err error) {
		keys, err = a.greet(ctx)
		return err
	})
	if err != nil {
		return err
	}
	lock, err := a.claim()
	if err != nil {
		return err
	}
	// Until the machine is this host's the ledger knows what it knew: a try that fails makes
	// nothing older that stays where it is.
	defer a.root.cfg.TPMs.Withhold(a.o.Name)()
	h, err := a.stage(ctx, lock, keys)
	if err != nil {
		return errors.Join(err, a.clear())
	}
	err = a.run(ctx, h)
	err = errors.Join(err, h.Close())
	if !a.mine {
		return errors.Join(err, a.clear())
	}
	return errors.Join(err, a.vacate(ctx))
}

// greet hears which machine it is, and says where its secrets are to be sealed for.
func (a *arrival) greet(ctx context.Context) (*age.X25519Identity, error) {
	if err := a.link.Receive(&a.offer); err != nil {
		return nil, err
	}
	if err := a.check(ctx); err != nil {
		return nil, err
	}
	keys, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	if err := a.link.Send(accepted{keys.Recipient().String()}); err != nil {
		return nil, err
	}
	return keys, a.link.Receive(&a.bags)
}

// check refuses a machine that was not awaited, or that cannot run here.
func (a *arrival) check(ctx context.Context) error {
	f, d := &a.offer, a.offer.Definition
	if err := a.root.noMachine(a.o.Name); err != nil { // nor one that was made meanwhile
		return err
	}
	switch {
	case f.Format != moveFormat:
		return fmt.Errorf("the other host speaks format %d of moves, this one %d", f.Format, moveFormat)
	case f.Go != "":
		return fmt.Errorf("machine %q is not here", a.o.Name)
	case d == nil || d.Name != a.o.Name:
		return fmt.Errorf("the machine %q is awaited, and no other", a.o.Name)
	case f.Accelerator != a.root.cfg.Accelerator:
		return fmt.Errorf("the machine runs under %s, and machines here run under %s", f.Accelerator, a.root.cfg.Accelerator)
	case !homecard.ValidID(f.ID):
		return fmt.Errorf("the machine has the id %.40q", f.ID)
	}
	d.Complete()
	if err := d.Check(); err != nil {
		return err
	}
	if reasons := a.root.cfg.Matrix.Judge(d, a.root.cfg.Accelerator); len(reasons) > 0 {
		return &RefusedError{d.Name, reasons}
	}
	if _, err := a.root.cfg.Keyset(d.Keyset); err != nil {
		return fmt.Errorf("key set %q: %w", d.Keyset, err)
	}
	return a.checkDisks(ctx)
}

// checkDisks refuses a machine whose disks are not here, and cannot be made.
func (a *arrival) checkDisks(ctx context.Context) error {
	d, copied := a.offer.Definition, a.offer.Copy
	switch {
	case len(copied) == 0 && a.o.CopyDisks:
		return errors.New("the machine is awaited with a copy of its disks: assay vm migrate --copy-disks brings it")
	case len(copied) > 0 && !a.o.CopyDisks:
		return errors.New("the machine is awaited on disks that both hosts reach: assay vm receive --copy-disks awaits it with a copy of them")
	case len(copied) > 0:
		if err := a.checkRoom(ctx); err != nil {
			return err
		}
	}
	for i := range d.Disks {
		disk := &d.Disks[i]
		switch {
		case len(copied) == 0:
		case !disk.ReadOnly:
			continue // it is made
		case !diskcopy.Find(a.o.Known, disk, ownDisk(d.Name, disk.File)):
			return fmt.Errorf("disk %q is only read, and not copied: assay vm receive --with-disk lets the machine have the one that is here", disk.File)
		}
		if err := a.root.stays(a.o.Name, disk.File); err != nil {
			return err
		}
		if info, err := os.Stat(disk.File); err != nil || info.IsDir() {
			return errors.Join(fmt.Errorf("disk %q is not here: both hosts must have it under this path", disk.File), err)
		}
	}
	return nil
}

// run supervises the machine, from when it waits for its memory.
func (a *arrival) run(ctx context.Context, h *Home) (err error) {
	s := newSupervisor(a.root, h)
	a.supervisor, s.waiting = s, true
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer s.serving.Wait()
	defer stop()
	if err := s.prepare(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	if err := s.serve(serving, a.actor); err != nil {
		return errors.Join(err, s.release())
	}
	if s.tpm != nil {
		s.tpm.TravelUnder(seal.Key{ID: "journey", Secret: seal.NewSecret(a.bags.Journey)})
	}
	if err := s.start(ctx); err != nil {
		return errors.Join(err, s.release())
	}
	pace := &a.root.pace
	s.asideFor(pace.whole(len(a.offer.Copy) > 0), func(ctx context.Context) {
		defer context.AfterFunc(ctx, a.link.Interrupt)()
		if err := a.complete(ctx); err != nil {
			s.fail(err)
			return
		}
		ctx, cancel := context.WithTimeout(ctx, pace.heard)
		defer cancel()
		a.confirm(ctx)
	})
	s.follow(ctx)
	if !a.mine {
		end := s.hypervisor.End()
		// Also one that ended well has not come.
		return cmp.Or(errors.Join(s.failed, end.Err, s.release(), h.forget()), context.Cause(ctx), errEnded)
	}
	return s.finish()
}

// complete takes the memory, then all that was last said of the machine, and then the
// machine itself.
func (a *arrival) complete(ctx context.Context) error {
	if err := a.link.Send(step{At: stepWaits}); err != nil {
		return err
	}
	pace := &a.root.pace
	if err := inTime(ctx, pace.sending(len(a.offer.Copy) > 0), a.link.Interrupt, a.takeAll); err != nil {
		return err
	}
	var last lastWords
	if err := inTime(ctx, pace.still, a.link.Interrupt, func(ctx context.Context) error { return a.hearLast(ctx, &last) }); err != nil {
		return err
	}
	if err := inTime(ctx, pace.given, a.link.Interrupt, a.awaitGo); err != nil {
		return err
	}
	if err := a.within(ctx, func() error { return a.own(&last) }); err != nil {
		return err
	}
	a.tpmAsEver()
	went := make(chan error, 1)
	a.serving.Go(func() { went <- a.goOn(ctx) })
	late := time.NewTimer(pace.answer)
	defer late.Stop()
	var err error
	select {
	case err = <-went:
	case <-late.C:
		a.serving.Go(func() {
			if err := <-went; err != nil {
				a.fail(err)
			}
		})
	}
	a.link.Send(step{At: stepRuns}) //nolint:errcheck // it is asked again; and the machine is here, if it runs or not
	return err
}

// hearLast takes all that was last said of the machine, and keeps it.
func (a *arrival) hearLast(ctx context.Context, last *lastWords) error {
	if err := a.link.Send(step{At: stepLoaded}); err != nil {
		return err
	}
	if err := a.link.Receive(last); err != nil {
		return err
	}
	if err := a.within(ctx, func() error { return a.adopt(last) }); err != nil {
		return err
	}
	return a.link.Send(step{At: stepPrepared})
}

// takeAll takes the memory, and before it the disks that are copied.
func (a *arrival) takeAll(ctx context.Context) error {
	copied := a.offer.Copy
	if len(copied) == 0 {
		return a.feed(ctx, true, func(conn *net.UnixConn) error { return a.link.Carry(ctx, conn) })
	}
	d := diskcopy.Destination{Hypervisor: a.hypervisor, Link: a.link, Dir: a.home.RunDir(), Memory: moveSocket, Disks: copied}
	if err := d.Arrive(ctx); err != nil {
		return err
	}
	return diskcopy.Sync(a.definition, copied)
}

func (a *arrival) tpmAsEver() {
	if a.tpm != nil {
		a.tpm.TravelAsEver()
	}
}

// adopt takes what was said of the machine until now.
func (a *arrival) adopt(last *lastWords) (err error) {
	if a.history, err = integrity.ParseHistory(last.History); err != nil {
		return err
	}
	if a.monitor, err = a.root.newMonitor(a.definition, a.history, a.name); err != nil {
		return err
	}
	if err := a.monitor.GoOn(last.Boot); err != nil {
		return err
	}
	a.supervisor.boot = BootStatus{Counter: last.Boot, Phase: PhaseFirmware}
	a.console.log.Restore(string(last.Console))
	if err := a.home.setLog(last.Events); err != nil {
		return err
	}
	return errors.Join(
		a.home.SetHistory(a.history), a.home.SetVariables(last.Variables),
		a.home.write(consoleFile, []byte(a.console.log.Text())), a.root.shelveFindings(a.home, last.Findings),
	)
}

// awaitGo waits until the other host has given the machine up. When the connection is lost
// meanwhile, it is for that host to come again: until it does, the machine runs nowhere.
func (a *arrival) awaitGo(ctx context.Context) error {
	for {
		var q offer
		err := a.link.Receive(&q)
		if err == nil && q.Go != a.home.card.ID {
			err = errors.New("the other host goes on with something else")
		}
		if err == nil || !errors.Is(err, move.ErrLink) || ctx.Err() != nil {
			return err
		}
		a.link.Close()
		link, err := move.Accept(ctx, a.o.Listener, a.o.TLS, a.root.cfg.Now)
		if err != nil {
			return err
		}
		a.link = link
		defer context.AfterFunc(ctx, a.link.Interrupt)()
	}
}

// own makes the machine this host's.
func (a *arrival) own(last *lastWords) error {
	text, err := a.home.card.Text()
	if err != nil {
		return err
	}
	file := filepath.Join(a.home.dir, cardFile)
	if err := durable.CreateFile(file, text, 0o600); err != nil {
		// It may be there all the same. The home is this arrival's and had none, and the
		// other host is told that the machine did not come: it must not start here.
		if rerr := os.Remove(file); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	a.mine, a.waiting = true, false
	if err := a.root.cfg.TPMs.Tell(a.home.Name()); err != nil {
		a.root.cfg.Log.Warn("the ledger of TPMs is not told yet of one that came", slog.String("machine", a.home.Name()), slog.Any("error", err))
	}
	a.root.unpack(context.Background(), a.home) // before anything begins or ends here
	a.recall()
	a.measured()
	a.goesOnIn(last)
	// The machine is nowhere else now: an event that cannot be kept is a problem of a
	// machine that runs, and no reason to end it.
	a.tell([]integrity.Notice{{ //nolint:errcheck // said there
		Type: integrity.EventMigrated, Instance: a.home.Name(), Time: a.root.cfg.Now(), BootCounter: last.Boot, Actor: last.Actor,
		Reasons: append([]evidence.Reason{reason(codeArrived, fmt.Sprintf("the machine came from another host, and goes on here; %s awaited it", a.actor))}, a.older...),
	}})
	return nil
}

// goesOnIn gives the machine's boot and its agent what they had left of their time, and says
// nothing again that was said of a boot which gets nowhere.
func (a *arrival) goesOnIn(last *lastWords) {
	b := &a.supervisor.boot
	if b.Phase == PhaseFirmware || b.Phase == PhaseLoader {
		a.armDeadline()
		if last.BootLeft != nil && a.timed {
			a.endsBy(min(*last.BootLeft, time.Duration(a.definition.BootDeadline)*time.Second))
		}
		b.Refused = nil
		for _, r := range last.Refused[:min(len(last.Refused), maxFindings)] {
			words := integrity.Notice{Reasons: []evidence.Reason{r}}
			words.Bound() // another host's
			b.Refused = append(b.Refused, words.Reasons...)
		}
		if last.Phase == PhaseStuck || last.Phase == PhaseRefused {
			b.Phase = last.Phase
		}
		if last.Unbelieved && b.Phase != PhaseRefused {
			a.quiet.Reset(quietTime) // anew: that the machine stood still proves nothing
		}
		if last.Phase == PhaseStuck {
			a.timed = false
			a.deadline.Stop()
		}
	}
	if a.agent != nil && last.AgentLeft != nil {
		a.agent.arrived(*last.AgentLeft)
	}
}

// confirm says for a while that the machine is here, to a host that did not hear it.
func (a *arrival) confirm(ctx context.Context) {
	for {
		link, err := move.Accept(ctx, a.o.Listener, a.o.TLS, a.root.cfg.Now)
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, link.Interrupt)
		var q offer
		if err := link.Receive(&q); err == nil && q.Go == a.home.card.ID {
			link.Send(step{At: stepRuns}) //nolint:errcheck // it asks again
		}
		stop()
		link.Close()
	}
}
