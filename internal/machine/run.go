// Package machine keeps the virtual machines of one host: the home of each, which is
// encrypted, and its life, from the start of its firmware to its end.
//
// One process supervises one machine ([Run]): it holds the machine's home, runs its
// TPM, starts the hypervisor, watches the boot by the TPM's own journal (package
// integrity), and keeps what happened. It believes nothing that the guest says; what
// the guest prints is shown as words. What lies in a home in the clear, a [Card], is a
// claim, and the sealed [Home] decides. Whoever is root on the host is not kept out.
//
// Read [Root] first, then [Home], then [Run].
package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/qemu/qmp"
	"github.com/assay-project/assay/internal/serial"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// The sockets of a running machine, in its run folder. Their names are short: a socket's
// path has at most 107 bytes.
const (
	controlSocket = "control"
	tpmSocket     = "tpm"
	consoleSocket = "console"
	agentSocket   = "agent"
	monitorSocket = "qmp"
)

// maxSocket is the longest path of a socket in bytes, without its closing zero (unix(7)).
const maxSocket = 107

// reachable refuses the name of a machine whose sockets could not be made.
func (r *Root) reachable(name string) error {
	for _, socket := range []string{controlSocket, tpmSocket, consoleSocket, agentSocket, monitorSocket} {
		if path := filepath.Join(r.dir(name), runFolder, socket); len(path) > maxSocket {
			return fmt.Errorf("the path of socket %q has %d bytes, at most %d fit (unix(7)): %w", path, len(path), maxSocket, ErrLong)
		}
	}
	return nil
}

// keepEvery is how often variables that the firmware changed are written back while the
// machine runs. They are also after each moment of a boot, and at the end.
const keepEvery = 30 * time.Second

// A supervisor is one running machine.
type supervisor struct {
	root       *Root
	home       *Home
	definition *fleet.Definition
	history    *integrity.History
	monitor    *integrity.Monitor
	variables  *memory
	expected   *expectation
	tpm        *vtpm.Instance // nil without one
	hypervisor *qemu.Process
	console    *console
	journal    *queue
	qmp        chan qmp.Event
	asked      chan asked
	todo       chan func()
	agent      *attestation                     // nil without one
	reference  atomic.Pointer[health.Reference] // nil while it is not known
	health     *HealthStatus                    // nil before the first assessment of the boot
	deadline   *time.Timer
	timed      bool        // the deadline runs: for all starts until the operating system's
	late       time.Time   // when it ends
	quiet      *time.Timer // runs while words of a refusal wait to be believed
	unkept     error       // what happened last could not be kept
	counts     map[EventCount]uint64
	ending     *ending // who ends the machine, and why; nil for the guest
	tpmLost    bool
	moving     bool       // the machine's memory is on its way somewhere
	leaving    *departure // to another host; nil for one that stays
	going      *goingBack // the machine waits for its memory; nil for one that boots
	waiting    bool       // for all of a machine that comes from another host: nothing is judged
	doubt      string     // whether the machine is another host's
	leftFor    string     // who gave it to another host, which runs it; empty for nobody
	boot       BootStatus
	failed     error // why the machine was stopped by its supervisor
	serving    sync.WaitGroup
}

// RunOptions say how to run a machine.
type RunOptions struct {
	// Ready is called once the machine runs; an error stops it. May be nil.
	Ready func() error
}

// Run starts a machine and supervises it until it ends or ctx does, which stops it. The
// error is nil after the guest's or the operator's end.
func (r *Root) Run(ctx context.Context, actor, name string, o RunOptions) (err error) {
	h, err := r.openSoon(ctx, name)
	if err != nil {
		return err
	}
	s := newSupervisor(r, h)
	defer func() { err = errors.Join(err, h.Close(), s.vacate(ctx)) }()
	// What the machine is served by ends after it, and before the home is given back.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer s.serving.Wait()
	defer stop()
	if err := s.prepare(ctx); err != nil {
		return errors.Join(fmt.Errorf("machine %q: %w", name, err), s.close())
	}
	if err := s.serve(serving, actor); err != nil {
		return errors.Join(fmt.Errorf("machine %q: %w", name, err), s.release())
	}
	if err := s.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("machine %q: %w", name, err), s.release())
	}
	switch {
	case s.going != nil:
		s.arrive(o.Ready)
	case o.Ready != nil:
		if err := o.Ready(); err != nil {
			s.hypervisor.Kill()
			s.failed = err
		}
	}
	s.follow(ctx)
	return s.finish()
}

// vacate deletes what is left of a machine that another host has; its home was given back.
func (s *supervisor) vacate(ctx context.Context) error {
	if s.leftFor == "" {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	s.root.departed(ctx, s.home.Name())
	return s.root.deleteGiven(ctx, s.leftFor, s.home.Name())
}

func newSupervisor(r *Root, h *Home) *supervisor {
	return &supervisor{root: r, home: h, journal: newQueue(), qmp: make(chan qmp.Event, 64), asked: make(chan asked), todo: make(chan func()), console: newConsole()}
}

// prepare reads the home and refuses what must not run.
func (s *supervisor) prepare(ctx context.Context) (err error) {
	f, err := s.root.found(s.home.card)
	if err != nil {
		return err
	}
	if f.alive {
		return fmt.Errorf("its hypervisor, process %d, runs without a supervisor: assay vm stop --force ends it: %w", f.PID, ErrBusy)
	}
	if f.unknown {
		return fmt.Errorf("%s; assay vm stop --force says that none runs: %w", f.problem(), ErrBusy)
	}
	if err := s.root.reachable(s.home.Name()); err != nil {
		return err // the root was moved
	}
	if err := s.home.notGiven(); err != nil {
		return err
	}
	if s.definition, err = s.home.Definition(); err != nil {
		return err
	}
	if err := s.root.cfg.Place.Check(s.definition); err != nil {
		return err
	}
	if reasons := s.root.cfg.Matrix.Judge(s.definition, s.root.cfg.Accelerator); len(reasons) > 0 {
		return &RefusedError{s.home.Name(), reasons}
	}
	if err := errors.Join(disksThere(s.definition), s.root.settleSnapshots(ctx, s.home, s.definition)); err != nil {
		return err
	}
	variables, err := s.home.Variables()
	if err != nil {
		return err
	}
	if err := checkVariables(variables, s.definition); err != nil {
		return err
	}
	if s.history, err = s.home.History(); err != nil {
		return err
	}
	if s.variables, err = newMemory(variables); err != nil {
		return err
	}
	s.expected = s.expect(ctx, variables)
	if s.monitor, err = s.root.newMonitor(s.definition, s.history, s.name); err != nil {
		return err
	}
	if err := s.goesBack(); err != nil {
		return err
	}
	s.refer()
	s.deadline, s.quiet = stoppedTimer(), stoppedTimer()
	if !f.was {
		return nil
	}
	// Nobody saw how the last run ended.
	return errors.Join(s.tell([]integrity.Notice{{
		Type: integrity.EventLost, Instance: s.home.Name(), Time: s.root.cfg.Now(), BootCounter: s.history.BootCounter,
		Reasons: []evidence.Reason{reason(codeLost, "nobody saw the end of the machine's last run: the host or its supervisor went down")},
	}}), s.home.forget())
}

// goesBack finds out whether the machine's start is the end of its way back.
func (s *supervisor) goesBack() error {
	on, err := s.home.shelf()
	if err != nil || on.Going == nil {
		return err
	}
	s.going = on.Going
	boot := on.tagged(s.going.Tag).Boot
	s.boot = BootStatus{Counter: boot, Phase: PhaseFirmware}
	return s.monitor.GoOn(boot)
}

// stoppedTimer is a timer that does not run.
func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// newMonitor makes the judge of a machine's boots.
func (r *Root) newMonitor(d *fleet.Definition, history *integrity.History, names integrity.Namer) (*integrity.Monitor, error) {
	profile, err := baseline.ProfileNamed(d.Policy)
	if err != nil {
		return nil, err
	}
	return integrity.NewMonitor(history, integrity.Config{
		Instance: d.Name, Off: !d.Shielded.IntegrityMonitoring, Profile: profile, ApproveFirst: d.ApproveFirst, Names: names, Now: r.cfg.Now,
		Shape: baseline.Shape{Machine: d.MachineType, VCPUs: d.CPUs, MemoryMiB: d.MemoryMiB},
	})
}

// serve opens all that the hypervisor and operators connect to.
func (s *supervisor) serve(ctx context.Context, actor string) error {
	if err := os.MkdirAll(s.home.RunDir(), 0o700); err != nil {
		return err
	}
	if s.definition.Shielded.VTPM {
		if err := s.serveTPM(ctx, actor); err != nil {
			return err
		}
	}
	if err := s.listen(ctx, consoleSocket, s.console.serve); err != nil {
		return err
	}
	if err := s.serveAgent(ctx); err != nil {
		return err
	}
	return s.listen(ctx, controlSocket, s.control)
}

// listen serves a socket of the run folder until ctx ends.
func (s *supervisor) listen(ctx context.Context, name string, serve func(context.Context, *net.UnixConn)) error {
	path := filepath.Join(s.home.RunDir(), name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("socket %q: %w", path, err)
	}
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		l.Close()
		close(closed)
	})
	s.serving.Go(func() {
		for {
			c, err := frontend.Accept(ctx, l.AcceptUnix)
			if err != nil {
				<-closed // with it the socket's name is gone
				return
			}
			s.serving.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				serve(ctx, c)
			})
		}
	})
	return nil
}

// start starts the hypervisor, and notes that it runs.
func (s *supervisor) start(ctx context.Context) (err error) {
	if err := s.home.intend(s.root.cfg.Now()); err != nil {
		return err
	}
	s.hypervisor, err = qemu.Start(ctx, qemu.Config{
		Program: s.root.cfg.Program, Dir: s.home.RunDir(), Machine: s.machine(), Files: []*os.File{s.variables.file},
		Event: func(e qmp.Event) { s.qmp <- e },
	})
	if err != nil {
		return errors.Join(startFault(err), s.home.forget())
	}
	// One that has ended already is seen by the loop.
	if err := s.home.note(s.hypervisor.PID(), s.root.cfg.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.hypervisor.Kill()
		s.drain()
		return errors.Join(err, s.home.forget())
	}
	return nil
}

// drain reads the events of a hypervisor that is to end, so that it can.
func (s *supervisor) drain() {
	for {
		select {
		case <-s.qmp:
		case <-s.hypervisor.Done():
			return
		}
	}
}

// machine is what the hypervisor is told.
func (s *supervisor) machine() qemu.Machine {
	m := s.root.hypervised(s.definition, s.home.card.ID)
	m.Incoming = s.going != nil || s.waiting
	m.Paused = m.Incoming
	return m
}

// hypervised is a machine as a hypervisor is told of it, to boot.
func (r *Root) hypervised(d *fleet.Definition, id string) qemu.Machine {
	f := r.cfg.Firmware
	m := qemu.Machine{
		Name: d.Name, UUID: id, Accelerator: r.cfg.Accelerator, CPUs: d.CPUs, MemoryMiB: d.MemoryMiB,
		Firmware: qemu.Firmware{Code: f.Code, Variables: "/dev/fdset/1"},
		Serial:   consoleSocket, Monitor: monitorSocket,
		Protection: qemu.Protection{IOMMU: d.Virtualization, Nested: d.Virtualization && r.cfg.Accelerator == qemu.KVM},
	}
	if d.Shielded.SecureBoot {
		m.Firmware.Code, m.Firmware.Secure = f.SecureCode, true
	}
	if d.Shielded.VTPM {
		m.TPM = &qemu.TPM{Socket: tpmSocket, Interface: map[string]string{"crb": qemu.CRB, "tis": qemu.TIS}[d.TPM]}
	}
	if d.Agent {
		m.Agent = agentSocket
	}
	for _, disk := range d.Disks {
		m.Disks = append(m.Disks, qemu.Disk{File: disk.File, Format: disk.Format, Bus: disk.Bus, ReadOnly: disk.ReadOnly, Shared: disk.Shared, Ephemeral: disk.Ephemeral, Bootable: disk.Boot})
	}
	for _, n := range d.Networks {
		m.Networks = append(m.Networks, qemu.Network{Kind: n.Kind, Device: n.Device, MAC: n.MAC})
	}
	return m
}

// follow is the machine's life: everything that changes what is known of it happens
// here, one thing at a time.
func (s *supervisor) follow(ctx context.Context) {
	keep := time.NewTicker(keepEvery)
	defer keep.Stop()
	defer s.deadline.Stop()
	defer s.quiet.Stop()
	if s.going == nil { // one that waits for its memory is timed from when it has it
		s.armDeadline()
	}
	stopping := ctx.Done()
	for {
		select {
		case <-s.journal.ready:
			s.measured()
		case f := <-s.console.found:
			s.printed(f)
		case e := <-s.qmp:
			s.happened(e)
		case a := <-s.asked:
			s.handle(a)
		case do := <-s.todo:
			do()
		case <-keep.C:
			s.keepVariables()
			s.lookAtTPM()
			s.root.unpack(ctx, s.home)
		case <-s.quiet.C:
			s.refused()
		case <-s.deadline.C:
			s.stuck()
		case <-stopping:
			stopping = nil
			s.ending = &ending{actor: "system", reason: reason(codeStopped, "the supervisor was told to end")}
			s.halt()
		case <-s.hypervisor.Done():
			return
		}
	}
}

// An ending is who ends a machine, and why.
type ending struct {
	actor  string
	reason evidence.Reason
}

// The times that a guest and its hypervisor have to end.
const (
	haltTime = 20 * time.Second
	cutTime  = 5 * time.Second
)

// halt stops the machine: its guest is asked first. The loop goes on meanwhile.
func (s *supervisor) halt() {
	s.end(haltTime+cutTime, func(ctx context.Context) error { return s.hypervisor.Stop(ctx, haltTime) })
}

// cut takes the machine's power.
func (s *supervisor) cut() { s.end(cutTime, s.hypervisor.Quit) }

// end ends the hypervisor, also one that does not answer.
func (s *supervisor) end(patience time.Duration, stop func(context.Context) error) {
	s.serving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := stop(ctx); err != nil {
			s.hypervisor.Kill()
		}
	})
}

// finish is after the hypervisor's end.
func (s *supervisor) finish() error {
	end := s.hypervisor.End()
	s.measured()
	for more := true; more; {
		select {
		case f := <-s.console.found:
			s.printed(f)
		default:
			more = false
		}
	}
	n := s.monitor.Shutdown()
	err := s.failed
	switch {
	case s.ending != nil:
		n.Actor, n.Reasons = s.ending.actor, []evidence.Reason{s.ending.reason}
	case err != nil:
		n.Reasons = []evidence.Reason{reason(codeHypervisor, fmt.Sprintf("the hypervisor did not go on, and was ended: %s", err))}
	case end.Err != nil:
		err = fmt.Errorf("machine %q: its hypervisor ended: %w", s.home.Name(), end.Err)
		n.Reasons = []evidence.Reason{reason(codeHypervisor, fmt.Sprintf("the hypervisor failed: %s", end.Err))}
	}
	return errors.Join(s.tell([]integrity.Notice{n}), s.release(), s.home.forget(), err)
}

// release gives back what prepare and serve took, and keeps what the machine left.
func (s *supervisor) release() error {
	var errs []error
	if s.tpm != nil {
		errs = append(errs, s.tpm.Close())
	}
	errs = append(errs, s.variables.save(s.home), s.close(), s.home.write(consoleFile, []byte(s.console.log.Text())))
	return errors.Join(errs...)
}

// close gives the memory back that prepare took.
func (s *supervisor) close() error {
	if s.variables == nil {
		return nil
	}
	s.expected.stop()
	return s.variables.file.Close()
}

func (s *supervisor) keepVariables() {
	if err := s.variables.save(s.home); err != nil {
		s.root.cfg.Log.Error("the variables of a machine are not kept", slog.String("machine", s.home.Name()), slog.Any("error", err))
	}
}

// consoleFile has what the machine printed last.
const consoleFile = "console.sealed"

// newConsole is the console of a machine.
func newConsole() *console {
	return &console{log: new(serial.Log), found: make(chan serial.Finding, maxFindings), readers: map[chan []byte]bool{}, typed: make(chan []byte, maxPieces)}
}
