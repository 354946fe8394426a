package machine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// custodyFile says in the clear which machine a folder was made for, before its TPM is
// made, and which TPM is being removed. It is how what a crash cut short is completed:
// the folder may have no card then, and the TPM no machine.
const custodyFile = "tpm.json"

// A custody is the content of a custodyFile. It is a claim: a TPM is removed only where
// its own sealed record says the same.
type custody struct {
	Machine  string `json:"machine"`            // UUID
	Dropping string `json:"dropping,omitempty"` // id of a TPM
}

var custodyRules = strictjson.Rules{Bytes: 4 << 10, Depth: 2, Members: 4, Values: 8, FoldNames: true}

// custody reads what is known; nothing of a file that is missing or damaged.
func (r *Root) custody(name string) custody {
	text, err := readFile(filepath.Join(r.dir(name), custodyFile))
	var c custody
	if err == nil {
		_, err = strictjson.Parse(text, custodyRules)
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.cfg.Log.Warn("whose a machine's TPM is cannot be read", slog.String("machine", name), slog.Any("error", err))
		return custody{}
	}
	return c
}

func (r *Root) setCustody(name string, c custody) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(r.dir(name), custodyFile), text, 0o600)
}

// hardwareVersion is what a machine of this program counts as (SPEC V8: 14 or later).
const hardwareVersion = 14

// vmOf is what a TPM is told of its machine.
func vmOf(d *fleet.Definition, id string) *vtpm.VM {
	return &vtpm.VM{Name: d.Name, UUID: id, Firmware: "efi", HardwareVersion: hardwareVersion, GuestOS: d.GuestOS, EncryptedHome: "yes"}
}

// makeTPM makes the TPM of a machine, or takes over the one that a crash left: it is this
// machine's by its sealed record.
func (r *Root) makeTPM(ctx context.Context, h *Home, d *fleet.Definition, actor string) error {
	if err := r.setCustody(d.Name, custody{Machine: h.card.ID}); err != nil {
		return err
	}
	_, err := r.cfg.TPMs.Create(ctx, actor, vtpm.CreateOptions{
		Name: d.Name, Provider: h.card.Provider,
		VM: vmOf(d, h.card.ID),
	})
	if !errors.Is(err, vtpm.ErrExists) {
		return err
	}
	rec, owned := r.cfg.TPMs.Owned(ctx, d.Name)
	if owned == nil && belongs(rec, h.card.ID) {
		return nil
	}
	return errors.Join(err, owned)
}

// HasTPM reports whether a TPM is here that has one of the names, or that is, as it says,
// of a machine with one of them.
func (r *Root) HasTPM(ctx context.Context, names ...string) (bool, error) {
	list, err := r.cfg.TPMs.List(ctx)
	return slices.ContainsFunc(list, func(s vtpm.Summary) bool {
		return slices.Contains(names, s.Name) || slices.Contains(names, s.VM)
	}), err
}

// belongs reports whether a TPM is that of a machine.
func belongs(rec *vtpm.Record, machine string) bool {
	return machine != "" && rec.VM != nil && rec.VM.UUID == machine
}

// dropTPM removes the TPM of a machine, with all that it protects, or completes that. A
// TPM of the name that is not the machine's, or cannot be proved to be, is left and told
// of. The caller has the home.
func (r *Root) dropTPM(ctx context.Context, name, machine, actor string) error {
	if _, err := r.Card(name); errors.Is(err, ErrUnknown) {
		defer r.cfg.TPMs.Withhold(name)() // the machine never was here: its TPM may be another host's
	}
	c := r.custody(name)
	rec, err := r.cfg.TPMs.Owned(ctx, name)
	switch {
	case errors.Is(err, vtpm.ErrUnknown):
		return nil
	case mayOpenLater(err) || ctx.Err() != nil:
		return err
	case err != nil:
		return r.dropUnopened(ctx, name, actor, c, err)
	case belongs(rec, machine):
		if err := r.setCustody(name, custody{Machine: machine, Dropping: rec.ID.String()}); err != nil {
			return err
		}
		return r.cfg.TPMs.DeleteWith(ctx, actor, name, machine)
	case rec.VM != nil || rec.ID.String() != c.Dropping:
		r.leave(name, "it belongs to another machine, or was detached")
		return nil
	}
	return r.cfg.TPMs.Delete(ctx, actor, name)
}

// mayOpenLater reports whether a TPM that does not open may do so by itself.
func mayOpenLater(err error) bool {
	return errors.Is(err, vtpm.ErrBusy) || errors.Is(err, state.ProviderDown) || errors.Is(err, keyprovider.ErrUnavailable)
}

// dropUnopened is dropTPM for a state that does not open.
func (r *Root) dropUnopened(ctx context.Context, name, actor string, c custody, why error) error {
	list, err := r.cfg.TPMs.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.Name == name && s.VM == "" && !s.ID.IsZero() && s.ID.String() == c.Dropping {
			return r.cfg.TPMs.Delete(ctx, actor, name) // it was ours, and detached
		}
	}
	r.leave(name, fmt.Sprintf("whose it is cannot be proved: %v", why))
	return nil
}

func (r *Root) leave(name, why string) {
	r.cfg.Log.Warn("the TPM of that name is left", slog.String("machine", name), slog.String("reason", why))
}

// settleTPM completes the removal of a TPM that a crash cut short in a change of the
// machine, or takes its note back where the machine has the TPM still.
func (r *Root) settleTPM(ctx context.Context, h *Home, d *fleet.Definition, actor string) error {
	c := r.custody(h.Name())
	if c.Dropping == "" {
		return nil
	}
	if !d.Shielded.VTPM {
		if err := r.dropTPM(ctx, h.Name(), h.card.ID, actor); err != nil {
			return err
		}
		return r.setCustody(h.Name(), custody{Machine: h.card.ID})
	}
	if rec, err := r.cfg.TPMs.Owned(ctx, h.Name()); err != nil || !belongs(rec, h.card.ID) {
		return nil //nolint:nilerr // the note stays: the machine may be on its way out
	}
	return r.setCustody(h.Name(), custody{Machine: h.card.ID})
}

// serveTPM takes the machine's TPM and offers it to the hypervisor.
func (s *supervisor) serveTPM(ctx context.Context, actor string) error {
	i, err := s.root.cfg.TPMs.Prepare(ctx, s.home.Name(), actor)
	if errors.Is(err, vtpm.ErrUnknown) {
		return fmt.Errorf("its TPM is gone: assay vtpm import or restore brings it back from a backup; assay vm update --no-vtpm, then --vtpm, makes another, without the secrets: %w", err)
	}
	if err != nil {
		return err
	}
	s.tpm = i
	i.Follow(s.journal.put)
	if err := i.Machine().Load(); err != nil {
		return err
	}
	rec, _ := i.Record()
	if rec.VM == nil || rec.VM.Name != s.home.Name() || rec.VM.UUID != s.home.card.ID {
		return fmt.Errorf("the TPM %q belongs to another machine than %s", s.home.Name(), s.home.card.ID)
	}
	return s.listen(ctx, tpmSocket, s.talk)
}

// talk serves the hypervisor. The TPM of a machine that runs must not end: its control
// channel does when the hypervisor itself ends, and else a while before.
func (s *supervisor) talk(ctx context.Context, c *net.UnixConn) {
	cfg := frontend.Config{Now: s.root.cfg.Now, Log: s.root.cfg.Log}
	err := frontend.ServeControl(ctx, s.tpm.Machine(), c, frontend.SWTPMConfig{FileKey: true, MigrationKey: true}, cfg)
	late := time.NewTimer(cutTime)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return
	case <-late.C:
	}
	if err == nil {
		err = errors.New("the hypervisor closed its channel")
	}
	s.inLoop(ctx, func() { s.lostTPM(err) })
}

// lookAtTPM tells of a TPM that is in failure because its state could not be kept.
func (s *supervisor) lookAtTPM() {
	if s.tpm == nil {
		return
	}
	if err := s.tpm.Machine().Err(); err != nil {
		s.lostTPM(err)
	}
}

// lostTPM tells once that the machine's TPM ended under it.
func (s *supervisor) lostTPM(why error) {
	if s.tpmLost {
		return
	}
	s.tpmLost = true
	n := integrity.Notice{Type: integrity.EventTPMLost, Instance: s.home.Name(), Time: s.root.cfg.Now(), BootCounter: s.monitor.Counter()}
	n.Reasons = append(n.Reasons, reason(codeTPMLost, "the TPM of the machine ended while it ran: "+why.Error()))
	s.tell([]integrity.Notice{n}) //nolint:errcheck // said there
}

// stageTPM makes the machine's TPM, under this host's key provider.
func (a *arrival) stageTPM(ctx context.Context, h *Home, keys *age.X25519Identity) error {
	if !a.offer.Definition.Shielded.VTPM {
		return nil
	}
	path := filepath.Join(h.dir, tpmFile)
	if err := durable.WriteFile(path, a.bags.TPM, 0o600); err != nil {
		return err
	}
	keysFor := vtpm.KeysFor{Identities: [][]byte{[]byte(keys.String())}}
	brought, err := a.root.cfg.TPMs.Verify(ctx, path, keysFor)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	a.compareTPM(brought[0])
	// What runs is the TPM, also where this host knows a newer state: that is told.
	report, err := a.root.cfg.TPMs.Restore(ctx, a.actor, vtpm.RestoreOptions{
		From: path, Name: h.Name(), Provider: h.card.Provider, Import: true, Cold: true, AllowRollback: true,
		Keys: keysFor, VM: vmOf(a.offer.Definition, h.card.ID),
	})
	if err == nil && len(report.Warnings) > 0 {
		err = fmt.Errorf("the machine's TPM: %s", report.Warnings[0])
	}
	return errors.Join(err, os.Remove(path))
}

// compareTPM says when a TPM is older than this host knew it.
func (a *arrival) compareTPM(is *vtpm.BackupReport) {
	if is.Older {
		a.older = []evidence.Reason{reason(codeTPMBack, fmt.Sprintf("the TPM came at generation %d of its state, and this host knew generation %d: what it counted and stored in between is undone", is.Generation, is.Known))}
	}
}

// packTPM encrypts the state of the machine's TPM for the destination.
func (r *Root) packTPM(ctx context.Context, h *Home, actor, recipient string) ([]byte, error) {
	path := filepath.Join(h.RunDir(), tpmFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if _, err := r.cfg.TPMs.Backup(ctx, actor, vtpm.BackupOptions{Name: h.Name(), To: path, Recipients: []string{recipient}}); err != nil {
		return nil, err
	}
	text, err := readFile(path)
	return text, errors.Join(err, os.Remove(path))
}

// givenFile says, once it is there, that the machine is another host's: the point of no
// return.
const givenFile = "given.sealed"

// A given is what is known of a machine that was given away.
type given struct {
	Ticket *move.Ticket `json:"ticket"`
	Actor  string       `json:"actor"`
	Time   time.Time    `json:"time"`
}

// ErrGiven is a machine that was given to another host.
var ErrGiven = errors.New("the machine was given to another host")

// given reads whether the machine was given away; nil when it was not.
func (h *Home) given() (*given, error) {
	text, err := h.open(givenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	g := new(given)
	if err := json.Unmarshal(text.Expose(), g); err != nil || g.Ticket == nil {
		return nil, fmt.Errorf("%s: %w", givenFile, errors.Join(err, ErrDamaged))
	}
	return g, nil
}

// askWhereItIs is what to do about a machine that was given away.
const askWhereItIs = "assay vm migrate --settle asks whether it has it; --take-back takes your word that it never will, and --give-up that it has"

// notGiven refuses what is not to be done with a machine that is another host's.
func (h *Home) notGiven() error {
	g, err := h.given()
	if g != nil {
		err = fmt.Errorf("%w, at %s: %s", ErrGiven, g.Ticket.Address, askWhereItIs)
	}
	return err
}

// ours is for who changes or copies a machine: a home that was opened is closed again where
// the machine was given to another host. What is here may be all that there is of it, or old.
func ours(h *Home, err error) (*Home, error) {
	if err != nil {
		return nil, err
	}
	if err := h.notGiven(); err != nil {
		return nil, errors.Join(fmt.Errorf("machine %q: %w", h.Name(), err), h.Close())
	}
	return h, nil
}

// givenAway says without the home's key whether a machine was given away.
func (r *Root) givenAway(name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(r.dir(name), givenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (h *Home) take() error { return durable.Remove(filepath.Join(h.dir, givenFile)) }

// The pauses between tries to hear from the destination.
const (
	askSoon  = 20 * time.Millisecond
	askAgain = 2 * time.Second
)

// settle finds out what became of a machine that was given away. The destination's refusal
// is final: it has nothing of the machine then. When the time is over, nothing of the machine
// goes on here but by the word of either, and its home is given back.
func (d *departure) settle(ctx context.Context, err error) error {
	for pause := askSoon; ; pause = min(2*pause, askAgain) {
		var refused *move.PeerError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused):
			if terr := d.home.take(); terr != nil {
				return errors.Join(err, terr)
			}
			d.given.Store(false)
			return err
		case pause == askSoon:
			doubt := fmt.Sprintf("it was given to %s, which has not confirmed: %v", d.ticket.Address, err)
			d.inLoop(ctx, func() { d.doubt = doubt })
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			why := reason(codeStopped, fmt.Sprintf("the machine was given to %s, which has not confirmed, and stood still here", d.ticket.Address))
			d.finally(func() { d.ending = cmp.Or(d.ending, &ending{actor: d.actor, reason: why}) })
			return fmt.Errorf("%w, which has not confirmed: assay vm migrate --settle asks again: %w", ErrGiven, err)
		}
		err = d.root.deliver(ctx, d.ticket, d.home.card.ID)
	}
}

// deliver says again that a machine was given away.
func (r *Root) deliver(ctx context.Context, t *move.Ticket, id string) error {
	return r.question(ctx, t, func(link *move.Link) error { return tellGo(link, id) })
}

// Settle asks the host that a machine was given to whether it has it. Where it does,
// nothing of the machine is left here; where it says that it does not, the machine can be
// started here. An error leaves it as unknown as it was.
func (r *Root) Settle(ctx context.Context, actor, name string) (there bool, err error) {
	h, g, err := r.openGiven(ctx, name)
	if err != nil {
		return false, err
	}
	err = r.deliver(ctx, g.Ticket, h.card.ID)
	var refused *move.PeerError
	switch {
	case err == nil:
		r.departed(ctx, name)
		return true, errors.Join(h.Close(), r.deleteGiven(ctx, actor, name))
	case errors.As(err, &refused):
		words := fmt.Sprintf("the machine was given to %s, which says that it does not have it, and can be started here: %v", g.Ticket.Address, refused)
		return false, errors.Join(r.takeBack(h, actor, words), h.Close())
	}
	return false, errors.Join(err, h.Close())
}

// TakeBack takes an operator's word that a machine which was given away runs on no other
// host, and never will: it can be started here.
func (r *Root) TakeBack(ctx context.Context, actor, name string) error {
	h, g, err := r.openGiven(ctx, name)
	if err != nil {
		return err
	}
	words := fmt.Sprintf("the machine was given to %s, and was taken back by the word of an operator that it does not run there", g.Ticket.Address)
	return errors.Join(r.takeBack(h, actor, words), h.Close())
}

// takeBack makes a machine this host's again that was given away, with its event.
func (r *Root) takeBack(h *Home, actor, words string) error {
	history, err := h.History()
	if err != nil {
		return err
	}
	n := integrity.Notice{
		Type: integrity.EventMigrated, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor,
		Reasons: []evidence.Reason{reason(codeStayed, words)},
	}
	if err := h.pend(&pending{Taken: true, Notices: []integrity.Notice{n}}); err != nil {
		return err
	}
	if err := h.take(); err != nil {
		return err
	}
	return r.logLast(h, n)
}

// GiveUp takes an operator's word that a machine which was given away is the other host's,
// as where that cannot say so any more: nothing of it is left here.
func (r *Root) GiveUp(ctx context.Context, actor, name string) error {
	h, _, err := r.openGiven(ctx, name)
	if err != nil {
		return err
	}
	r.departed(ctx, name)
	return errors.Join(h.Close(), r.deleteGiven(ctx, actor, name))
}

func (r *Root) openGiven(ctx context.Context, name string) (*Home, *given, error) {
	h, err := r.openSoon(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	g, err := h.given()
	if err == nil && g == nil {
		err = fmt.Errorf("machine %q was given to no other host", name)
	}
	if err == nil {
		err = r.notAlive(name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, h.Close())
	}
	return h, g, nil
}
