package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrMigration is a memory that did not leave or did not arrive; it is wrapped with
// QEMU's words.
var ErrMigration = errors.New("the machine's memory did not move")

// The states of a migration (QMP, MigrationStatus) that are its end.
const (
	migrationDone      = "completed"
	migrationFailed    = "failed"
	migrationCancelled = "cancelled"
)

// migrationHeld is a migration whose machine stands still, and that waits for a word.
const migrationHeld = "pre-switchover"

// The limits of a migration: no network is spared, for the one that pays for it is who
// asked, and a guest is held up for half a second at most where it is live.
const (
	bandwidth = 64 << 30 // bytes a second
	downtime  = 500      // milliseconds
	pollEvery = 20 * time.Millisecond
)

// answerTime is how long QEMU may take for one answer about a move: more than what a mirror
// has in flight (10 MiB) takes on a slow network. Whoever has it wait for another host, as it
// does when it stops a guest whose disks are copied there, holds up the guest, too.
const answerTime = 20 * time.Second

// ErrSilent is a QEMU that does not answer.
var ErrSilent = errors.New("QEMU does not answer")

// ask is a question about a move: another host may keep QEMU from an answer, and this gives
// up soon. QEMU does all that it was told in the end, in that order.
func (p *Process) ask(ctx context.Context, command string, arguments, result any) error {
	short, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	err := p.monitor.Do(short, command, arguments, result)
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w within %s", command, ErrSilent, p.patience)
	}
	return err
}

// Terms are how a machine's memory leaves.
type Terms struct {
	// Asking is whether the other end says that it has all of it before this one counts it
	// as gone: without that, QEMU takes what it has sent as arrived.
	Asking bool
	// Held has the machine stand still before the last of it leaves, until [Process.LetGo].
	Held bool
	// Still has it stand still from the beginning, as [Process.Pause] does; it stays so if
	// it does not leave.
	Still bool
}

// MustStandStill reports whether a machine must do so while its memory leaves. TCG loses
// writes of a guest that runs meanwhile: of 34 guests that QEMU 7.2 moved by itself, three
// went on with a stack or a list that was not theirs.
func MustStandStill(accelerator string) bool { return accelerator == TCG }

// Send begins to write the machine's memory and devices to a Unix socket that listens.
func (p *Process) Send(ctx context.Context, socket string, t Terms) error {
	// What an earlier move set is still set.
	if err := p.prepareMove(ctx, map[string]bool{"return-path": t.Asking, "pause-before-switchover": t.Held}); err != nil {
		return err
	}
	if t.Still {
		if err := p.ask(ctx, "stop", nil, nil); err != nil {
			return err
		}
	}
	limits := map[string]any{"max-bandwidth": bandwidth, "downtime-limit": downtime}
	if err := p.ask(ctx, "migrate-set-parameters", limits, nil); err != nil {
		return err
	}
	return p.ask(ctx, "migrate", map[string]any{"uri": "unix:" + socket}, nil)
}

// Receive has a machine that was started as Incoming and Paused listen on a Unix socket
// that it makes. It touches its disks when it continues, and not before.
func (p *Process) Receive(ctx context.Context, socket string, asking bool) error {
	if err := p.prepareMove(ctx, map[string]bool{"return-path": asking, "late-block-activate": true}); err != nil {
		return err
	}
	return p.ask(ctx, "migrate-incoming", map[string]any{"uri": "unix:" + socket}, nil)
}

// prepareMove says of one end how the two speak.
func (p *Process) prepareMove(ctx context.Context, set map[string]bool) error {
	var list []any
	for name, state := range set {
		list = append(list, map[string]any{"capability": name, "state": state})
	}
	return p.ask(ctx, "migrate-set-capabilities", map[string]any{"capabilities": list}, nil)
}

// Moved waits until the memory has left or arrived, whichever end this is.
func (p *Process) Moved(ctx context.Context) error { return p.migration(ctx, migrationDone) }

// Held waits until the machine stands still, in a move that is to be held there.
func (p *Process) Held(ctx context.Context) error { return p.migration(ctx, migrationHeld) }

// LetGo has a move go on that was held.
func (p *Process) LetGo(ctx context.Context) error {
	return p.ask(ctx, "migrate-continue", map[string]any{"state": migrationHeld}, nil)
}

// migration waits until a migration is in one state.
func (p *Process) migration(ctx context.Context, want string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var s struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := p.ask(ctx, "query-migrate", nil, &s); err != nil {
			return fmt.Errorf("%w: %w", ErrMigration, err)
		}
		switch s.Status {
		case want:
			return nil
		case migrationDone, migrationFailed, migrationCancelled:
			return fmt.Errorf("%w: QEMU says %s: %.300q", ErrMigration, s.Status, s.Error)
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("%w: QEMU ended", ErrMigration)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrMigration, ctx.Err())
		}
	}
}

// CancelMove ends a migration that has not ended, and waits until it has: the machine can go
// on here.
func (p *Process) CancelMove(ctx context.Context) error {
	if err := p.ask(ctx, "migrate_cancel", nil, nil); err != nil {
		return err
	}
	// One that was cancelled, or had ended before; no state is that of none.
	err := p.migration(ctx, "")
	if errors.Is(err, ErrMigration) && ctx.Err() == nil {
		return nil
	}
	return err
}
