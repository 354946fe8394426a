package machine

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/uefi/keyset"
)

// supervisorEnv makes the test binary the supervisor of web-1, which a test can kill.
const supervisorEnv = "MACHINE_TEST_SUPERVISOR"

// A supervision is what such a process is told.
type supervision struct {
	Dir, Key, KeyID string
	Ticket          string // the file for the ticket of a host that awaits the machine; empty for one that runs it
	Copies          bool
}

// isSupervisor runs this program as that. It says when the machine runs, or is awaited.
func isSupervisor() (is bool, err error) {
	text := os.Getenv(supervisorEnv)
	if text == "" {
		return false, nil
	}
	var s supervision
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return true, err
	}
	key, err := hex.DecodeString(s.Key)
	if err != nil {
		return true, err
	}
	ctx := context.Background()
	cfg, err := hostConfig(ctx, s.Dir, seal.Key{ID: s.KeyID, Secret: seal.NewSecret(key)}, new(keyset.Set))
	if err != nil {
		return true, err
	}
	root, err := OpenRoot(cfg)
	if err != nil {
		return true, err
	}
	ready := func() error { _, err := fmt.Println("ready"); return err }
	if s.Ticket == "" {
		return true, root.Run(ctx, "alice", "web-1", RunOptions{Ready: ready})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return true, err
	}
	now := time.Now()
	ticket, tls, err := move.NewTicket(move.Terms{Machine: "web-1", Address: l.Addr().String(), Now: now, Expires: now.Add(time.Hour), Random: rand.Reader})
	if err != nil {
		return true, err
	}
	ticketText, err := ticket.Text()
	if err != nil {
		return true, err
	}
	if err := os.WriteFile(s.Ticket, ticketText, 0o600); err != nil {
		return true, err
	}
	return true, root.Receive(ctx, "dora", ReceiveOptions{Name: "web-1", Listener: l, TLS: tls, Expires: now.Add(time.Hour), Ready: ready, CopyDisks: s.Copies})
}

// apart has web-1 supervised by a process of its own, which awaits it where there is a ticket
// to write. What it leaves is ended with the test.
func (h *host) apart(ticket string) *exec.Cmd {
	h.Helper()
	text, err := json.Marshal(supervision{h.dir, hex.EncodeToString(h.key.Secret.Expose()), h.key.ID, ticket, h.copies})
	if err != nil {
		h.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), supervisorEnv+"="+string(text))
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it has ended then
		cmd.Wait()         //nolint:errcheck // however it did
		h.endHypervisor()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		h.Fatalf("the supervisor says %q, %v", line, err)
	}
	return cmd
}

// endHypervisor kills the hypervisor that a host has, if it has one.
func (h *host) endHypervisor() {
	if f, err := h.root.foundBy("web-1"); err == nil && f.alive {
		f.end() //nolint:errcheck // it has ended then
	}
}

// hypervisorOf is the process of the host's hypervisor.
func (h *host) hypervisorOf() int {
	h.Helper()
	f, err := h.root.foundBy("web-1")
	if err != nil || !f.alive {
		h.Fatalf("there is no hypervisor: %+v, %v", f, err)
	}
	return f.PID
}

// A crossing is a move between two hosts, each with a supervisor in a process of its own.
type crossing struct {
	a, b     *host
	from, to *exec.Cmd
	gone     chan error // the end of the command
	quit     context.CancelFunc
}

// cross begins a move which stops at a command of the hypervisor of one host.
func cross(t *testing.T, copies bool, stopsAt func(*crossing) *host, command string) *crossing {
	t.Helper()
	c := &crossing{a: newHost(t), b: newHost(t), gone: make(chan error, 1)}
	c.a.copies, c.b.copies = copies, copies
	c.a.createWithDisks()
	c.a.put(c.a.inRun(bootFile), boot(t, "good-uki")+"await go\noff\n")
	c.from = c.a.apart("")
	c.a.judgedIn(1)
	c.b.script("await go\noff\n")
	file := filepath.Join(c.b.dir, "ticket")
	c.to = c.b.apart(file)
	at := stopsAt(c)
	at.put(at.inRun(faultFile), command+": wait\n")
	ticket := c.b.get(file)
	ctx, quit := context.WithCancel(t.Context())
	c.quit = quit
	go func() { c.gone <- c.a.gives(ctx, "carol", []byte(ticket)) }()
	t.Cleanup(quit)
	if err := awaitFile(at.inRun(waitsFile)); err != nil {
		t.Fatal(err)
	}
	return c
}

// judgedIn waits until the machine runs in a boot that has passed.
func (h *host) judgedIn(boot uint64) {
	h.Helper()
	h.awaitStatus(fmt.Sprintf("boot %d that passed", boot), func(s *Status) bool {
		return s.State == StateRunning && s.Boot.Counter == boot && s.Boot.Late != nil && *s.Boot.Late
	})
}

func (h *host) awaitStatus(what string, is func(*Status) bool) {
	h.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var s *Status
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if s, err = h.root.Status(h.Context(), "web-1"); err == nil && is(s) {
			return
		}
	}
	h.Fatalf("the status is %+v, %v, want %s", s, err, what)
}

// kill ends a process and waits until it is gone.
func (c *crossing) kill(pid int) {
	c.a.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.a.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{c.from, c.to} {
		if cmd.Process.Pid == pid {
			cmd.Wait() //nolint:errcheck // it was killed
		}
	}
}

func here(c *crossing) *host  { return c.a }
func there(c *crossing) *host { return c.b }

// Whichever process of a move is killed, at whatever step: the machine runs on one host at
// most, where it does not both say why, and it boots again.
func TestAProcessThatIsKilledInAMoveLosesNoMachine(t *testing.T) {
	t.Parallel()
	const (
		before = "migrate"       // here: the other host waits for the memory
		loaded = "query-migrate" // here: the other host has the memory
		mine   = "cont"          // there: the machine is that host's, and does not run yet

		// Where disks are copied:
		copying = "written"          // there
		still   = "block-job-cancel" // here: the machine stands still for the last of its disks
		ended   = "nbd-server-stop"  // there: the other host has all
	)
	for name, tc := range map[string]struct {
		at     func(*crossing) *host
		step   string
		dies   func(*crossing) int
		check  func(*crossing)
		copies bool
	}{
		"the supervisor here, before the memory":  {here, before, (*crossing).supervisorHere, (*crossing).isLostHere, false},
		"the supervisor here, after the memory":   {here, loaded, (*crossing).supervisorHere, (*crossing).isLostHere, false},
		"the supervisor here, after the end":      {there, mine, (*crossing).supervisorHere, (*crossing).isThereAndDoubted, false},
		"the supervisor there, before the memory": {here, before, (*crossing).supervisorThere, (*crossing).runsOnHere, false},
		"the supervisor there, after the memory":  {here, loaded, (*crossing).supervisorThere, (*crossing).runsOnHere, false},
		"the supervisor there, after the end":     {there, mine, (*crossing).supervisorThere, (*crossing).isLostThere, false},
		"the hypervisor here, before the memory":  {here, before, (*crossing).hypervisorHere, (*crossing).endedHere, false},
		"the hypervisor here, after the end":      {there, mine, (*crossing).hypervisorHere, (*crossing).isThereAndEnded, false},
		"the hypervisor there, after the end":     {there, mine, (*crossing).hypervisorThere, (*crossing).endedThere, false},
		"the command, before the memory":          {here, before, nil, (*crossing).runsThere, false},

		"the supervisor here, at the last of its disks":   {here, still, (*crossing).supervisorHere, (*crossing).isLostHere, true},
		"the supervisor here, after disks and memory":     {there, ended, (*crossing).supervisorHere, (*crossing).isLostHere, true},
		"the supervisor there, while disks are copied":    {there, copying, (*crossing).supervisorThere, (*crossing).runsOnHere, true},
		"the supervisor there, after the end, with disks": {there, mine, (*crossing).supervisorThere, (*crossing).isLostThere, true},
		"the hypervisor here, at the last of its disks":   {here, still, (*crossing).hypervisorHere, (*crossing).endedHere, true},
		"the hypervisor there, while disks are copied":    {there, copying, (*crossing).hypervisorThere, (*crossing).runsOnHere, true},
		"the hypervisor there, at the last of the disks":  {here, still, (*crossing).hypervisorThere, (*crossing).runsOnHere, true},
		"the hypervisor there, after disks and memory":    {there, ended, (*crossing).hypervisorThere, (*crossing).runsOnHere, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cross(t, tc.copies, tc.at, tc.step)
			if tc.dies == nil {
				c.quit()
				<-c.gone
			} else {
				c.kill(tc.dies(c))
			}
			at := tc.at(c)
			at.put(at.inRun(faultFile), "")
			at.put(at.inRun(goOnFile), "")
			tc.check(c)
		})
	}
}

func (c *crossing) supervisorHere() int  { return c.from.Process.Pid }
func (c *crossing) supervisorThere() int { return c.to.Process.Pid }
func (c *crossing) hypervisorHere() int  { return c.a.hypervisorOf() }
func (c *crossing) hypervisorThere() int { return c.b.hypervisorOf() }

// nothingThere finds nothing of the machine on the other host, which still awaits it.
func (c *crossing) nothingThere() {
	c.b.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		entries, err := os.ReadDir(filepath.Join(c.b.dir, "vms"))
		if err != nil {
			c.b.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
	}
	c.b.hasNothing()
}

// boots starts the machine on a host that has it, in the boot with a number.
func (c *crossing) boots(h *host, number uint64) {
	h.Helper()
	s := h.start(boot(h, "good-uki") + "off\n")
	if err := s.wait(); err != nil {
		h.Error(err)
	}
	if want, types := fmt.Sprintf("%d shutdownEvent", number), h.types(); types[len(types)-1] != want {
		h.Errorf("events %q, want %s at the end", types, want)
	}
}

// isLostHere: nobody supervises the hypervisor here, which is told and ended; the other host
// has nothing.
func (c *crossing) isLostHere() {
	if err := <-c.gone; err == nil {
		c.a.Error("Migrate says that the machine moved")
	}
	c.nothingThere()
	c.a.awaitStatus("unsupervised", func(s *Status) bool { return s.State == StateUnsupervised && s.Problem != "" })
	if err := c.a.root.Stop(c.a.Context(), "alice", "web-1", true); err != nil {
		c.a.Fatal(err)
	}
	c.boots(c.a, 2)
}

// runsOnHere: the other host is as if nothing had come, for another try, too.
func (c *crossing) runsOnHere() {
	if err := <-c.gone; err == nil || !strings.Contains(err.Error(), "runs on here") {
		c.a.Errorf("Migrate = %v", err)
	}
	c.a.judgedIn(1)
	if s := c.a.status(); s.Problem != "" {
		c.a.Errorf("the status is %+v", s)
	}
	if names, err := c.b.root.Names(); err != nil || len(names) != 0 {
		c.b.Errorf("there are %q, %v", names, err)
	}
	c.to.Process.Kill() //nolint:errcheck // it was killed before, or awaits the machine still
	c.to.Wait()         //nolint:errcheck // however it did
	c.b.script("await go\noff\n")
	again := c.b.awaits()
	if err := c.a.gives(c.a.Context(), "carol", again.ticket); err != nil {
		c.a.Fatal(err)
	}
	c.a.hasNothing()
	c.b.judgedIn(1)
	if err := again.over(); err != nil {
		c.b.Error(err)
	}
}

// runsThere: the machine moved, though nobody waits for it any more.
func (c *crossing) runsThere() {
	c.b.judgedIn(1)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if _, err := c.a.root.Card("web-1"); errors.Is(err, ErrUnknown) {
			break
		}
	}
	c.a.hasNothing()
}

// isThereAndDoubted: the machine runs there, and is told here until this host asks.
func (c *crossing) isThereAndDoubted() {
	if err := <-c.gone; err == nil {
		c.a.Error("Migrate says that the machine moved")
	}
	c.b.judgedIn(1)
	c.a.awaitStatus("unsupervised and in doubt", func(s *Status) bool {
		return s.State == StateUnsupervised && strings.Contains(s.Problem, "given to another host")
	})
	if err := c.a.root.Stop(c.a.Context(), "alice", "web-1", true); err != nil {
		c.a.Fatal(err)
	}
	c.settles()
}

// isThereAndEnded is that with a supervisor which saw the end of its hypervisor here.
func (c *crossing) isThereAndEnded() {
	<-c.gone
	c.b.judgedIn(1)
	if err := c.from.Wait(); err == nil { // it heard in time that the machine is there
		c.a.hasNothing()
		return
	}
	c.settles()
}

func (c *crossing) settles() {
	if err := c.a.root.Run(c.a.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrGiven) {
		c.a.Errorf("Run = %v", err)
	}
	book := c.a.keepsFindings("one is open")
	if at, err := c.a.root.Settle(c.a.Context(), "carol", "web-1"); !at || err != nil {
		c.a.Errorf("Settle = %v, %v", at, err)
	}
	if book.text != "" {
		c.a.Error("the findings of the machine are still here")
	}
	c.a.hasNothing()
}

// isLostThere: the machine is the other host's, which tells that nobody supervises it; here it
// is not started, and goes by an operator's word.
func (c *crossing) isLostThere() {
	c.b.awaitStatus("unsupervised", func(s *Status) bool { return s.State == StateUnsupervised && s.Problem != "" })
	c.a.awaitStatus("in doubt", func(s *Status) bool {
		return s.State == StateRunning && strings.Contains(s.Problem, "has not confirmed")
	})
	if err := c.b.root.Stop(c.b.Context(), "alice", "web-1", true); err != nil {
		c.b.Fatal(err)
	}
	c.boots(c.b, 2)
	if err := c.a.root.GiveUp(c.a.Context(), "carol", "web-1"); err == nil {
		c.a.Error("a machine that is supervised is given up")
	}
	if err := c.a.root.Stop(c.a.Context(), "alice", "web-1", true); err != nil {
		c.a.Fatal(err)
	}
	<-c.gone
	if err := c.a.root.Run(c.a.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrGiven) {
		c.a.Errorf("Run = %v", err)
	}
	book := c.a.keepsFindings("one is open")
	if err := c.a.root.GiveUp(c.a.Context(), "carol", "web-1"); err != nil || book.text != "" {
		c.a.Errorf("GiveUp = %v, findings %q", err, book.text)
	}
	c.a.hasNothing()
}

// endedHere: the machine is off here, and its end was seen.
func (c *crossing) endedHere() {
	if err := <-c.gone; err == nil {
		c.a.Error("Migrate says that the machine moved")
	}
	if err := c.from.Wait(); err == nil {
		c.a.Error("the supervisor says that all is well")
	}
	c.nothingThere()
	if s := c.a.status(); s.State != StateStopped || s.Problem != "" {
		c.a.Errorf("the status is %+v", s)
	}
	c.boots(c.a, 2)
}

// endedThere: the machine is the other host's and off there, where its end was seen.
func (c *crossing) endedThere() {
	if err := <-c.gone; err != nil {
		c.a.Errorf("Migrate = %v", err)
	}
	c.a.hasNothing()
	if err := c.to.Wait(); err == nil {
		c.b.Error("the supervisor says that all is well")
	}
	if s := c.b.status(); s.State != StateStopped || s.Problem != "" {
		c.b.Errorf("the status is %+v", s)
	}
	if n, err := c.b.root.Events(c.b.Context(), "web-1"); err != nil || n[len(n)-1].Type != integrity.EventShutdown || len(n[len(n)-1].Reasons) == 0 || n[len(n)-1].Reasons[0].Code != codeHypervisor {
		c.b.Errorf("events %+v, %v", n, err)
	}
	c.boots(c.b, 2)
}
