package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/diskcopy"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
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
		// Copy are the disks that the destination is to make, and gets what is in them.
		Copy []diskcopy.Disk `json:"copy,omitempty"`
		Go   string          `json:"go,omitempty"`
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

// A Migration is a machine that is on its way to another host, or went there.
type Migration struct {
	// Address is the other host's.
	Address string `json:"address"`
	// Disks are those that are copied.
	Disks  []DiskProgress `json:"disks,omitempty"`
	DryRun bool           `json:"dryRun,omitempty"`
}

// DiskProgress is how far the copy of a disk is, in bytes.
type DiskProgress struct {
	File string `json:"file"`
	Size int64  `json:"size"`
	// Copied and Total are of what was to be copied until now: a guest that writes makes
	// both grow.
	Copied int64 `json:"copied"`
	Total  int64 `json:"total"`
	// Stays says that the file on this host is left when the machine is gone, for this
	// program did not make it.
	Stays bool `json:"stays"`
}

// Bytes are how many are copied of how many, of all disks.
func (m *Migration) Bytes() (done, total int64) {
	for _, d := range m.Disks {
		done, total = done+d.Copied, total+d.Total
	}
	return done, total
}

// A departure is a machine on its way to another host.
type departure struct {
	*supervisor
	actor  string
	ticket *move.Ticket
	copies []diskcopy.Disk // that go along; none where both hosts reach them
	given  atomic.Bool     // the point of no return
	// stop ends the departure before that; called off says that somebody did.
	stop      context.CancelCauseFunc
	calledOff bool
	progress  []DiskProgress
	// said is set when all was said of the machine: what is decided of it later does not go
	// along. It stands still then, and its boot has left what it had of its time.
	said bool
	left time.Duration
	// unbelieved are words of a refusal that wait for what follows them, as the machine
	// stands still.
	unbelieved bool
	// early answers who asked for the move before its end.
	early func(error)
}

// depart gives the machine to another host while it runs. An error says where it is: until
// the point of no return it goes on here.
func (s *supervisor) depart(ctx context.Context, q *request, early func(error)) (*Migration, error) {
	t, err := move.ParseTicket([]byte(q.Ticket))
	if err != nil {
		return nil, err
	}
	d := &departure{supervisor: s, actor: q.Actor, ticket: t, early: early}
	ctx, d.stop = context.WithCancelCause(ctx)
	defer d.stop(nil)
	if q.CopyDisks {
		if err := d.measure(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.within(ctx, func() error { return d.begin(q.DryRun) }); err != nil {
		return nil, err
	}
	if q.DryRun {
		return d.outcome(true), d.ask(ctx)
	}
	err = d.leave(ctx)
	if why := context.Cause(ctx); err != nil && errors.Is(why, errCalledOff) {
		err = why
	}
	if d.given.Load() {
		settling, cancel := context.WithTimeout(ctx, s.root.pace.settle)
		defer cancel()
		err = d.settle(settling, err)
	}
	if err == nil {
		var out *Migration
		err := s.within(ctx, func() error { out = d.outcome(false); d.gone(); return nil })
		return out, err
	}
	return nil, d.stay(context.WithoutCancel(ctx), err)
}

// begin refuses what cannot move. From then on, but for one that only asks, nothing else moves.
func (d *departure) begin(asks bool) error {
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
		if d.copies != nil {
			continue // all that the guest writes; what it reads is the other host's own file
		}
		if in, err := d.root.inHome(d.home.Name(), disk.File); in || err != nil {
			return errors.Join(fmt.Errorf("disk %q is in the machine's home, which is deleted here when the machine has gone: assay vm receive and assay vm migrate with --copy-disks take it along", disk.File), err)
		}
	}
	if !asks {
		d.moving, d.leaving = true, d
	}
	return nil
}

// ask finds out whether the destination would take the machine.
func (d *departure) ask(ctx context.Context) error {
	return d.root.question(ctx, d.ticket, func(link *move.Link) error {
		_, err := d.propose(link)
		return err
	})
}

// leave goes through all steps of the source, each in its time.
func (d *departure) leave(ctx context.Context) error {
	link, err := d.root.dial(ctx, d.ticket)
	if err != nil {
		return err
	}
	defer link.Close()
	end, pace := func() { link.Close() }, &d.root.pace
	if err := inTime(ctx, pace.memory, end, func(ctx context.Context) error { return d.pack(ctx, link) }); err != nil {
		return err
	}
	if err := inTime(ctx, pace.sending(d.copies != nil), end, func(ctx context.Context) error { return d.sendAll(ctx, link) }); err != nil {
		return err
	}
	return inTime(ctx, pace.still, end, func(ctx context.Context) error { return d.handOver(ctx, link) })
}

// handOver says what is left to be said of the machine, which stands still, and gives it away.
func (d *departure) handOver(ctx context.Context, link *move.Link) (err error) {
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

// sendAll sends the memory, and before it the disks that go along.
func (d *departure) sendAll(ctx context.Context, link *move.Link) error {
	still := qemu.MustStandStill(d.root.cfg.Accelerator)
	if d.copies == nil {
		return d.sendMemory(ctx, qemu.Terms{Asking: true, Still: still}, func(conn *net.UnixConn) error { return link.Carry(ctx, conn) })
	}
	s := diskcopy.Source{Hypervisor: d.hypervisor, Link: link, Dir: d.home.RunDir(), Memory: moveSocket, Still: still, Disks: d.copies}
	s.Progress = func(list []qemu.CopyState) {
		progress := d.progressOf(list)
		d.inLoop(ctx, func() { d.progress = progress })
	}
	return s.Leave(ctx)
}

// propose offers the machine, and returns whom the state of its TPM is to be encrypted for.
func (d *departure) propose(link *move.Link) (to accepted, err error) {
	o := offer{Format: moveFormat, ID: d.home.card.ID, Accelerator: d.root.cfg.Accelerator, Definition: d.definition, Copy: d.copies}
	if err := link.Send(o); err != nil {
		return to, err
	}
	return to, link.Receive(&to)
}

// pack offers the machine, and sends what the destination needs before its memory.
func (d *departure) pack(ctx context.Context, link *move.Link) error {
	to, err := d.propose(link)
	if err != nil {
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
	d.said = true
	d.times(&out)
	out.Events, err = d.home.Events()
	return out, err
}

// times are what the machine's boot and its agent have left of theirs: a move gives no more.
func (d *departure) times(out *lastWords) {
	if d.timed {
		d.deadline.Stop() // no time of its boot passes while it stands still
		d.left = max(d.late.Sub(d.root.cfg.Now()), 0)
		out.BootLeft = &d.left
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
	if d.calledOff {
		return errCalledOff
	}
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

// gone ends what is left of the machine on this host. The other has it: an event that cannot
// be kept here, as on a disk that is full, keeps nothing of it here.
func (d *departure) gone() {
	d.leftFor, d.doubt = d.actor, ""
	d.ending = &ending{actor: d.actor, reason: reason(codeLeft, fmt.Sprintf("the machine went on at %s", d.ticket.Address))}
	d.tell([]integrity.Notice{{ //nolint:errcheck // said there
		Type: integrity.EventMigrated, Instance: d.home.Name(), Time: d.root.cfg.Now(), BootCounter: d.monitor.BootCounter(), Actor: d.actor,
		Reasons: []evidence.Reason{d.ending.reason},
	}})
}

// measure finds out which disks go along, and how large they are.
func (d *departure) measure(ctx context.Context) error {
	numbers, err := diskcopy.Chosen(d.definition)
	if err != nil {
		return err
	}
	sizes, err := d.hypervisor.Sizes(ctx)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		d.copies = append(d.copies, diskcopy.Disk{Number: n, Size: sizes[n]})
	}
	d.progress = d.progressOf(nil)
	return nil
}

func (d *departure) progressOf(list []qemu.CopyState) []DiskProgress {
	out := []DiskProgress{}
	for _, c := range d.copies {
		p := DiskProgress{File: d.definition.Disks[c.Number].File, Size: c.Size}
		p.Stays = filepath.Dir(p.File) != filepath.Join(d.home.dir, diskFolder)
		for _, now := range list {
			if now.Disk == c.Number {
				p.Copied, p.Total = now.Done, now.Total
			}
		}
		out = append(out, p)
	}
	return out
}

func (d *departure) outcome(dry bool) *Migration {
	return &Migration{Address: d.ticket.Address, Disks: d.progress, DryRun: dry}
}

// notSaid refuses, in the machine's loop, to decide what the other host would not hear: all was
// said of the machine, and what is here of it is deleted when it has gone.
func (s *supervisor) notSaid() error {
	if s.leaving == nil || !s.leaving.said {
		return nil
	}
	return &StateError{"the machine stands still on its way to another host, which would not hear of this: decide it there when it has gone, or here if it has not"}
}

// onItsWay is what there is to say of a machine that leaves, in its loop.
func (s *supervisor) onItsWay() *Migration {
	if s.leaving == nil {
		return nil
	}
	return s.leaving.outcome(false)
}

// errCalledOff is a move that somebody ended.
var errCalledOff = errors.New("the move was called off")

// callOff ends a move, in the machine's loop, which is where it comes to its point of no
// return.
func (s *supervisor) callOff(actor string) error {
	switch {
	case s.leaving == nil:
		return &StateError{"the machine is not on its way to another host"}
	case s.leaving.given.Load():
		return &StateError{"the machine is the other host's already"}
	}
	s.leaving.calledOff = true
	s.leaving.stop(fmt.Errorf("%w by %s", errCalledOff, actor))
	return nil
}
