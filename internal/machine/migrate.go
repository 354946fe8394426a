package machine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MigrateOptions say where a machine goes, and with what.
type MigrateOptions struct {
	Ticket []byte
	// CopyDisks is for hosts that have no storage in common: the destination makes disks of
	// its own, and gets what is in the machine's.
	CopyDisks bool
	// DryRun only asks the destination.
	DryRun bool
}

// Migrate gives a machine that runs to the host whose ticket it is. It returns when the
// machine runs there and nothing of it is left here but disks that this program did not
// make; an error says where it is.
func (r *Root) Migrate(ctx context.Context, actor, name string, o MigrateOptions) (*Migration, error) {
	card, err := r.Card(name)
	if err != nil {
		return nil, err
	}
	out := new(Migration)
	q := request{Verb: verbMigrate, Actor: actor, Ticket: string(o.Ticket), CopyDisks: o.CopyDisks, DryRun: o.DryRun}
	if _, _, err := r.call(ctx, name, q, out); err != nil || o.DryRun {
		return out, err
	}
	return out, r.awaitGone(ctx, card)
}

// awaitGone waits until nothing of a machine is here that another host has. Its supervisor
// deletes it soon after the machine's end; where that does not succeed, an error says so.
func (r *Root) awaitGone(ctx context.Context, card *Card) error {
	tick := time.NewTicker(askSoon)
	defer tick.Stop()
	var late <-chan time.Time // from its end on, where that can be seen
	for {
		if r.isGone(card) {
			return nil
		}
		if late == nil && (r.hasEnded(ctx, card) || r.unreadable(card)) {
			t := time.NewTimer(r.pace.vacate)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-tick.C:
		case <-late:
			why := r.whyHere(ctx, card.Name)
			if r.isGone(card) {
				return nil
			}
			if given, err := r.givenAway(card.Name); err == nil && !given {
				return fmt.Errorf("machine %q was given to the other host, and was taken back meanwhile: it is here", card.Name)
			}
			return fmt.Errorf("machine %q runs on the other host, and what is left of it here is not deleted: %w; assay vm migrate --settle does that when this is mended, and --give-up where the other host does not answer any more",
				card.Name, why)
		case <-ctx.Done():
			return fmt.Errorf("machine %q runs on the other host, and is not deleted here yet: %w", card.Name, ctx.Err())
		}
	}
}

// unreadable reports whether what says that a machine runs is damaged: its end will not be
// seen then.
func (r *Root) unreadable(card *Card) bool {
	_, err := r.found(card)
	return err != nil
}

// isGone reports whether there is no such machine any more, or another of its name.
func (r *Root) isGone(card *Card) bool {
	now, err := r.Card(card.Name)
	return errors.Is(err, ErrUnknown) || err == nil && now.ID != card.ID
}

// whyHere is what keeps the home of a machine from being deleted, as far as it can be seen from
// beside the supervisor that tries.
func (r *Root) whyHere(ctx context.Context, name string) (err error) {
	lock, err := takeHome(r.dir(name)) // who deletes it waits for that; for its TPM he would not
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := r.notAlive(name); err != nil {
		return err
	}
	if _, err := r.cfg.TPMs.Owned(ctx, name); mayOpenLater(err) {
		return fmt.Errorf("its TPM: %w", err)
	}
	return errors.New("its supervisor said why when it ended")
}
