package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm"
)

// moveFormat is that of the messages of a move.
const moveFormat = 2 // 1 left findings and the console's text behind

// The messages of a move, in their order; between stepWaits and stepLoaded is the memory.
type (
	// An offer says which machine is to move, or, with Go, that one which is prepared at the
	// destination is that host's now.
	offer struct {
		Format      int               `json:"format"`
		ID          string            `json:"id,omitempty"`
		Accelerator string            `json:"accelerator,omitempty"`
		Definition  *fleet.Definition `json:"definition,omitempty"`
		Go          string            `json:"go,omitempty"`
	}
	// accepted names whom the state of the TPM is to be encrypted for.
	accepted struct {
		Recipient string `json:"recipient"`
	}
	// luggage is what the destination needs before the memory: the key is that of the
	// TPM's state inside the memory.
	luggage struct {
		Variables []byte `json:"variables"`
		TPM       []byte `json:"tpm,omitempty"`
		Journey   []byte `json:"journey"`
	}
	// lastWords are all that is known of the machine when it stands still for good.
	lastWords struct {
		History   json.RawMessage    `json:"history"`
		Events    []integrity.Notice `json:"events"`
		Variables []byte             `json:"variables"`
		Boot      uint64             `json:"bootCounter,string"`
		Actor     string             `json:"actor"`
		// Findings are those of [Findings.Pack]; Console is what the machine printed.
		Findings []byte `json:"findings,omitempty"`
		Console  []byte `json:"console,omitempty"`
		// Phase is that of a boot that gets nowhere, which was said.
		Phase string `json:"phase,omitempty"`
		// Refused are the console's words of a refusal; Unbelieved says that they are not old
		// enough to be believed.
		Refused    []evidence.Reason `json:"refused,omitempty"`
		Unbelieved bool              `json:"unbelieved,omitempty"`
		// BootLeft and AgentLeft are what the boot and the agent had of their time, in
		// nanoseconds; nil where none runs, and 0 for an agent that nothing is waited for of.
		BootLeft  *time.Duration `json:"bootLeft,omitempty"`
		AgentLeft *time.Duration `json:"agentLeft,omitempty"`
	}
	step struct {
		At string `json:"at"`
	}
)

// The steps of the destination.
const (
	stepWaits    = "waits"
	stepLoaded   = "loaded"
	stepPrepared = "prepared"
	stepRuns     = "runs"
)

// hear waits for a step of the destination.
func hear(l *move.Link, want string) error {
	var s step
	if err := l.Receive(&s); err != nil {
		return err
	}
	if s.At != want {
		return fmt.Errorf("the other host is at step %.20q, and not at %q", s.At, want)
	}
	return nil
}

// A departure is a machine on its way to another host.
type departure struct {
	*supervisor
	actor  string
	ticket *move.Ticket
	given  atomic.Bool // the point of no return
	// unbelieved are words of a refusal that wait for what follows them, as the machine
	// stands still.
	unbelieved bool
}

// depart gives the machine to another host while it runs. An error says where it is: until
// the point of no return it goes on here.
func (s *supervisor) depart(ctx context.Context, actor, ticket string) error {
	t, err := move.ParseTicket([]byte(ticket))
	if err != nil {
		return err
	}
	d := &departure{supervisor: s, actor: actor, ticket: t}
	if err := s.within(ctx, d.begin); err != nil {
		return err
	}
	err = d.leave(ctx)
	if d.given.Load() {
		err = d.settle(ctx, err)
	}
	if err == nil {
		return s.within(ctx, d.gone)
	}
	return d.stay(context.WithoutCancel(ctx), err)
}

// begin refuses what cannot move.
func (d *departure) begin() error {
	on, err := d.home.shelf()
	switch {
	case err != nil:
		return err
	case d.moving:
		return errMoving
	case d.ticket.Machine != d.home.Name():
		return fmt.Errorf("the ticket is for machine %q", d.ticket.Machine)
	case d.home.packed():
		return errors.New("the findings that came with the machine are not in this host's book yet")
	case len(on.Snapshots) > 0:
		return fmt.Errorf("the machine has %d snapshots, which would stay behind: delete them first", len(on.Snapshots))
	}
	for _, disk := range d.definition.Disks {
		if disk.Ephemeral {
			return fmt.Errorf("disk %q is ephemeral: what the guest wrote is on this host alone", disk.File)
		}
	}
	d.moving = true
	return nil
}

// leave goes through all steps of the source.
func (d *departure) leave(ctx context.Context) error {
	link, err := d.ticket.Dial(ctx, d.root.clock())
	if err != nil {
		return err
	}
	defer link.Close()
	defer link.Until(ctx)()
	if err := d.pack(ctx, link); err != nil {
		return err
	}
	if err := d.sendMemory(ctx, true, func(conn *net.UnixConn) error { return link.Carry(ctx, conn) }); err != nil {
		return err
	}
	if err := hear(link, stepLoaded); err != nil {
		return err
	}
	var last lastWords
	if err := d.within(ctx, func() (err error) { last, err = d.lastWords(); return err }); err != nil {
		return err
	}
	if last.Findings, err = d.root.pack(ctx, d.home.Name()); err != nil {
		return err
	}
	if err := link.Send(last); err != nil {
		return err
	}
	if err := hear(link, stepPrepared); err != nil {
		return err
	}
	if err := d.within(ctx, d.give); err != nil {
		return err
	}
	return d.tellGo(link)
}

// pack offers the machine, and sends what the destination needs before its memory.
func (d *departure) pack(ctx context.Context, link *move.Link) error {
	err := link.Send(offer{Format: moveFormat, ID: d.home.card.ID, Accelerator: d.root.cfg.Accelerator, Definition: d.definition})
	if err != nil {
		return err
	}
	var to accepted
	if err := link.Receive(&to); err != nil {
		return err
	}
	bags := luggage{Journey: make([]byte, seal.KeySize)}
	if _, err := io.ReadFull(d.root.cfg.Random, bags.Journey); err != nil {
		return err
	}
	err = d.within(ctx, func() error {
		d.keepVariables()
		bags.Variables = d.variables.kept
		return nil
	})
	if err != nil {
		return err
	}
	if d.tpm != nil {
		if bags.TPM, err = d.root.packTPM(ctx, d.home, d.actor, to.Recipient); err != nil {
			return err
		}
		d.tpm.TravelUnder(seal.Key{ID: "journey", Secret: seal.NewSecret(bags.Journey)})
	}
	if err := link.Send(bags); err != nil {
		return err
	}
	return hear(link, stepWaits)
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

// lastWords are what is to be said of the machine, which stands still now.
func (d *departure) lastWords() (out lastWords, err error) {
	d.measured()
	d.overhear()
	d.keepVariables()
	if out.History, err = json.Marshal(d.history); err != nil {
		return out, err
	}
	out.Variables, out.Boot, out.Actor = d.variables.kept, d.monitor.BootCounter(), d.actor
	out.Console = []byte(d.console.log.Text())
	d.times(&out)
	out.Events, err = d.home.Events()
	return out, err
}

// times are what the machine's boot and its agent have left of theirs: a move gives no more.
func (d *departure) times(out *lastWords) {
	if d.timed {
		left := max(d.late.Sub(d.root.cfg.Now()), 0)
		out.BootLeft = &left
	}
	if m := d.agent.get(); m != nil {
		left := m.Left()
		out.AgentLeft = &left
	}
	if b := &d.supervisor.boot; b.Phase == PhaseStuck || b.Phase == PhaseRefused {
		out.Phase = b.Phase
	}
	out.Refused = d.supervisor.boot.Refused
	// Who stands still measures nothing, and that says nothing of the words.
	d.unbelieved = d.quiet.Stop()
	out.Unbelieved = d.unbelieved
}

// give is the point of no return.
func (d *departure) give() error {
	text, err := json.Marshal(given{d.ticket, d.actor, d.root.cfg.Now().UTC()})
	if err != nil {
		return err
	}
	if err := d.home.write(givenFile, text); err != nil {
		return errors.Join(err, d.home.take())
	}
	d.given.Store(true)
	return nil
}

// tellGo gives the machine away, and hears that it runs there.
func (d *departure) tellGo(link *move.Link) error { return tellGo(link, d.home.card.ID) }

func tellGo(link *move.Link, id string) error {
	if err := link.Send(offer{Format: moveFormat, Go: id}); err != nil {
		return err
	}
	return hear(link, stepRuns)
}

// The pauses between tries to hear from the destination.
const (
	askSoon  = 20 * time.Millisecond
	askAgain = 2 * time.Second
)

// settle finds out what became of a machine that was given away. The destination's refusal
// is final: it has nothing of the machine then.
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
			return fmt.Errorf("%w, which has not confirmed: assay vm migrate --settle asks again: %w", ErrGiven, err)
		}
		err = d.root.deliver(ctx, d.ticket, d.home.card.ID)
	}
}

// deliver says again that a machine was given away.
func (r *Root) deliver(ctx context.Context, t *move.Ticket, id string) error {
	link, err := t.Dial(ctx, r.clock())
	if err != nil {
		return err
	}
	defer link.Close()
	defer link.Until(ctx)()
	return tellGo(link, id)
}

func (r *Root) clock() move.Clock { return move.Clock{Random: r.cfg.Random, Now: r.cfg.Now} }

// stay has the machine go on here, unless it may run elsewhere.
func (d *departure) stay(ctx context.Context, why error) error {
	if d.given.Load() {
		return why
	}
	if d.tpm != nil {
		d.tpm.TravelAsEver()
	}
	ctx, cancel := context.WithTimeout(ctx, cutTime)
	defer cancel()
	d.hypervisor.CancelMove(ctx) //nolint:errcheck // there may be none
	now, err := d.hypervisor.Status(ctx)
	if err == nil && now != qemu.Running {
		err = d.hypervisor.Continue(ctx)
	}
	if err != nil {
		return errors.Join(why, fmt.Errorf("the machine is on this host, and does not go on: %w", err))
	}
	n := integrity.Notice{
		Type: integrity.EventMigrated, Instance: d.home.Name(), Time: d.root.cfg.Now(), Actor: d.actor,
		Reasons: []evidence.Reason{reason(codeStayed, fmt.Sprintf("the machine did not go to %s, and runs on here: %v", d.ticket.Address, why))},
	}
	err = d.within(ctx, func() error {
		d.moving, d.doubt = false, ""
		if d.unbelieved {
			d.quiet.Reset(quietTime)
		}
		n.BootCounter = d.monitor.BootCounter()
		return d.tell([]integrity.Notice{n})
	})
	return errors.Join(fmt.Errorf("the machine runs on here: %w", why), err)
}

// gone ends what is left of the machine on this host.
func (d *departure) gone() error {
	d.leftFor, d.doubt = d.actor, ""
	d.ending = &ending{actor: d.actor, reason: reason(codeLeft, fmt.Sprintf("the machine went on at %s", d.ticket.Address))}
	return d.tell([]integrity.Notice{{
		Type: integrity.EventMigrated, Instance: d.home.Name(), Time: d.root.cfg.Now(), BootCounter: d.monitor.BootCounter(), Actor: d.actor,
		Reasons: []evidence.Reason{d.ending.reason},
	}})
}

// Migrate gives a machine that runs to the host whose ticket it is. It returns when the
// machine runs there and nothing of it is left here; an error says where it is.
func (r *Root) Migrate(ctx context.Context, actor, name string, ticket []byte) error {
	card, err := r.Card(name)
	if err != nil {
		return err
	}
	if _, _, err := r.call(ctx, name, request{Verb: verbMigrate, Actor: actor, Ticket: string(ticket)}, nil); err != nil {
		return err
	}
	tick := time.NewTicker(askSoon)
	defer tick.Stop()
	for {
		if now, err := r.Card(name); errors.Is(err, ErrUnknown) || err == nil && now.ID != card.ID {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the machine runs on the other host, and is not deleted here yet: %w", ctx.Err())
		}
	}
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
		return false, errors.Join(h.take(), h.Close())
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
	history, err := h.History()
	if err != nil {
		return errors.Join(err, h.Close())
	}
	n := integrity.Notice{
		Type: integrity.EventMigrated, Instance: name, Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor,
		Reasons: []evidence.Reason{reason(codeStayed, fmt.Sprintf("the machine was given to %s, and was taken back by the word of an operator that it does not run there", g.Ticket.Address))},
	}
	return errors.Join(r.logAll(h, []integrity.Notice{n}), h.take(), h.Close())
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
