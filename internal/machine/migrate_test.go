package machine

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/vtpm"
)

// An awaiting host waits for web-1.
type awaiting struct {
	*host
	ticket []byte
	end    chan error
	stop   context.CancelFunc
}

// awaits has a host wait for web-1, and returns when it does.
func (h *host) awaits() *awaiting {
	h.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.Fatal(err)
	}
	now := time.Now()
	ticket, cfg, err := move.NewTicket(move.Terms{Machine: "web-1", Address: l.Addr().String(), Now: now, Expires: now.Add(time.Hour), Random: rand.Reader})
	if err != nil {
		h.Fatal(err)
	}
	text, err := ticket.Text()
	if err != nil {
		h.Fatal(err)
	}
	ctx, stop := context.WithCancel(h.Context())
	a := &awaiting{host: h, ticket: text, end: make(chan error, 1), stop: stop}
	ready := make(chan struct{})
	go func() {
		a.end <- h.root.Receive(ctx, "dora", ReceiveOptions{
			Name: "web-1", Listener: l, TLS: cfg, Expires: now.Add(time.Hour), CopyDisks: h.copies,
			Ready: func() error { close(ready); return nil },
		})
	}()
	select {
	case <-ready:
	case err := <-a.end:
		h.Fatalf("the machine is not awaited: %v", err)
	}
	return a
}

// gives gives web-1 to a host that awaits it.
func (h *host) gives(ctx context.Context, actor string, ticket []byte) error {
	_, err := h.root.Migrate(ctx, actor, "web-1", MigrateOptions{Ticket: ticket, CopyDisks: h.copies})
	return err
}

// over waits until nobody is awaited any more, or the machine that came has ended.
func (a *awaiting) over() error {
	a.Helper()
	a.stop()
	select {
	case err := <-a.end:
		return err
	case <-time.After(time.Minute):
		a.Fatal("the awaiting host does not end")
		return nil
	}
}

// hasNothing looks for anything of web-1 on a host that does not have it.
func (h *host) hasNothing() {
	h.Helper()
	if _, err := h.root.Card("web-1"); !errors.Is(err, ErrUnknown) {
		h.Errorf("there is a card: %v", err)
	}
	entries, err := os.ReadDir(filepath.Join(h.dir, "vms", "web-1")) // the test's own run folder may be there
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.Error(err)
	}
	for _, e := range entries {
		if e.Name() != runFolder {
			h.Errorf("there is %s", e.Name())
		}
	}
	if list, err := h.root.cfg.TPMs.List(h.Context()); err != nil || len(list) != 0 {
		h.Errorf("there are %d TPMs: %v", len(list), err)
	}
}

// script is what the guest of the destination does when the machine runs there.
func (h *host) script(text string) {
	h.Helper()
	if err := os.MkdirAll(filepath.Dir(h.inRun(bootFile)), 0o700); err != nil {
		h.Fatal(err)
	}
	h.put(h.inRun(bootFile), text)
}

func TestAMachineGoesToAnotherHostAndBack(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.createWithDisks()
	a.put(a.inRun(ramFile), "memory")
	s := a.start(boot(t, "good-uki") + "variable 7\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	card, err := a.root.Card("web-1")
	if err != nil {
		t.Fatal(err)
	}

	there := b.awaits()
	b.script("await reset\nreset\n" + boot(t, "good-uki") + "await more\n")
	if err := a.gives(t.Context(), "carol", there.ticket); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Errorf("the source: %v", err)
	}
	a.hasNothing()
	now, err := b.root.Card("web-1")
	if err != nil || now.ID != card.ID {
		t.Fatalf("the card there is %+v, %v", now, err)
	}
	status := b.status()
	if status.State != StateRunning || status.Problem != "" || status.Boot.Counter != 1 || status.Boot.Late == nil || !*status.Boot.Late || status.Boot.Phase != PhaseSystem {
		t.Errorf("the status there is %+v of boot %+v", status, status.Boot)
	}
	if got := b.get(b.inRun(ramFile)); got != "memory" {
		t.Errorf("the memory there holds %q", got)
	}
	n := b.awaitEvent(integrity.EventMigrated, 1)
	if n.BootCounter != 1 || n.Actor != "carol" || n.Reasons[0].Code != codeArrived || !strings.Contains(n.Reasons[0].Message, "dora") {
		t.Errorf("the event there is %+v", n)
	}
	if n := a.awaitEvent(integrity.EventMigrated, 1); n.BootCounter != 1 || n.Actor != "carol" || n.Reasons[0].Code != codeLeft {
		t.Errorf("the event here is %+v", n)
	}
	b.put(b.inRun("reset"), "")
	b.awaitEvent(integrity.EventLateReport, 1) // of boot 2; that of boot 1 was told by the other

	back := a.awaits()
	a.script("await off\noff\n")
	if err := b.gives(t.Context(), "erik", back.ticket); err != nil {
		t.Fatal(err)
	}
	if err := there.over(); err != nil {
		t.Errorf("there: %v", err)
	}
	b.hasNothing()
	a.put(a.inRun("off"), "")
	select {
	case err := <-back.end:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the machine does not end")
	}
	back.stop()
	a.want(
		"1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass", "1 migrationEvent",
		"2 startupEvent", "2 earlyBootReportEvent pass", "2 lateBootReportEvent pass", "2 migrationEvent",
		"2 shutdownEvent",
	)
	if got := a.variable(); got != '7' {
		t.Errorf("variable %q", got)
	}
}

// Whatever fails before the point of no return, on either side, the machine goes on where
// it was, and nothing is left on the other host.
func TestAMoveThatFailsLeavesTheMachineWhereItWas(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, source, destination string
	}{
		{"the source does not set its capabilities", "migrate-set-capabilities: fail\n", ""},
		{"the source does not send", "migrate: fail\n", ""},
		{"the source's memory breaks off", "send: fail\n", ""},
		{"the source does not say how it went", "query-migrate: fail\n", ""},
		{"the destination does not wait", "", "migrate-incoming: fail\n"},
		{"the destination does not load", "", "load: fail\n"},
		{"the destination does not say how it went", "", "query-migrate: fail\n"},
		{"the destination dies when it is to wait", "", "migrate-incoming: die\n"},
		{"the destination dies when it loads", "", "load: die\n"},
		{"the destination dies when it has loaded", "", "query-migrate: die\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.createWithDisks()
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			there := b.awaits()
			b.script("await never\n")
			a.put(a.inRun(faultFile), tc.source)
			b.put(b.inRun(faultFile), tc.destination)
			err := a.gives(t.Context(), "carol", there.ticket)
			if err == nil || !strings.Contains(err.Error(), "runs on here") {
				t.Fatalf("Migrate = %v", err)
			}
			a.put(a.inRun(faultFile), "")
			if n := a.awaitEvent(integrity.EventMigrated, 1); n.BootCounter != 1 || n.Reasons[0].Code != codeStayed {
				t.Errorf("the event is %+v", n)
			}
			if status := a.status(); status.State != StateRunning || status.Problem != "" {
				t.Errorf("the status is %+v", status)
			}
			if err := there.over(); err == nil {
				t.Error("the other host has a machine")
			}
			b.hasNothing()
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Errorf("the machine's end: %v", err)
			}
			if types := a.types(); types[len(types)-1] != "1 shutdownEvent" {
				t.Errorf("events %q", types)
			}
		})
	}
}

// A machine is not given to a host that does not await it, and awaits no other.
func TestAMachineThatIsNotAwaitedIsRefused(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	there := b.awaits()
	ticket, err := move.ParseTicket(there.ticket)
	if err != nil {
		t.Fatal(err)
	}
	text := func(change func(*move.Ticket)) []byte {
		c := *ticket
		c.Seed, c.Server = slices.Clone(c.Seed), slices.Clone(c.Server)
		change(&c)
		b, err := c.Text()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, ticket := range map[string][]byte{
		"another machine's": text(func(t *move.Ticket) { t.Machine = "db-1" }),
		"another key":       text(func(t *move.Ticket) { t.Seed[0] ^= 1 }),
		"another host":      text(func(t *move.Ticket) { t.Server[0] ^= 1 }),
		"none":              []byte("{}"),
	} {
		if err := a.gives(t.Context(), "carol", ticket); err == nil {
			t.Errorf("%s: the machine goes", name)
		}
	}
	if err := os.Rename(a.disks()[1], a.disks()[1]+".away"); err != nil {
		t.Fatal(err)
	}
	if err := a.gives(t.Context(), "carol", there.ticket); err == nil || !strings.Contains(err.Error(), "is not here") {
		t.Errorf("without its disk: %v", err)
	}
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	b.hasNothing()
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// A TPM that is older than the host knew it comes all the same, as the machine runs with it;
// the event says so. One that is as it was known is not older, and a try that failed makes
// none older.
func TestAMachineThatComesWithAnOlderTPMSaysSo(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]bool{"older": true, "as it was known": false, "the second try": false, "the second ticket": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.createWithDisks()
			if older {
				b.knowsNewer(a)
			}
			s := a.start(boot(t, "good-uki"))
			a.awaitEvent(integrity.EventLateReport, 1)
			if name == "as it was known" {
				b.knowsAll(a)
			}
			there := b.awaits()
			if strings.HasPrefix(name, "the second") {
				b.script("await never\n")
				b.put(b.inRun(faultFile), "query-migrate: die\n")
				if err := a.gives(t.Context(), "carol", there.ticket); err == nil {
					t.Fatal("the first try succeeds")
				}
			}
			if name == "the second ticket" {
				if err := there.over(); err == nil {
					t.Fatal("the first ticket brought a machine")
				}
				there = b.awaits()
			}
			b.script("await never\n")
			b.put(b.inRun(faultFile), "")
			if err := a.gives(t.Context(), "carol", there.ticket); err != nil {
				t.Fatal(err)
			}
			if err := s.wait(); err != nil {
				t.Error(err)
			}
			var codes []evidence.Code
			n := b.awaitEvent(integrity.EventMigrated, 1)
			for _, r := range n.Reasons {
				codes = append(codes, r.Code)
			}
			want := []evidence.Code{codeArrived}
			if older {
				want = append(want, codeTPMBack)
			}
			if !slices.Equal(codes, want) {
				t.Errorf("the event has %q, want %q", n.Reasons, want)
			}
			if err := there.over(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is left of an arrival whose process was killed is taken away without a word to the
// ledger: the TPM is where it was, and no older than this host knows it.
func TestATPMThatDidNotComeIsNotKnown(t *testing.T) {
	t.Parallel()
	keys, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	a, b := newHost(t), newHost(t)
	a.createWithDisks()
	card, err := a.root.Card("web-1")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tpm")
	if _, err := a.root.cfg.TPMs.Backup(t.Context(), "alice", vtpm.BackupOptions{Name: "web-1", To: path, Recipients: []string{keys.Recipient().String()}}); err != nil {
		t.Fatal(err)
	}
	keysFor := vtpm.KeysFor{Identities: [][]byte{[]byte(keys.String())}}
	if err := os.MkdirAll(b.root.dir("web-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.root.setCustody("web-1", custody{Machine: card.ID}); err != nil {
		t.Fatal(err)
	}
	killed := b.root.cfg.TPMs.Withhold("web-1")
	_, err = b.root.cfg.TPMs.Restore(t.Context(), "dora", vtpm.RestoreOptions{
		From: path, Name: "web-1", Provider: "main", Import: true, Cold: true, Keys: keysFor,
	})
	if err != nil {
		t.Fatal(err)
	}
	killed()
	if err := b.root.DeleteLeftovers(t.Context(), "dora", "web-1"); err != nil {
		t.Fatal(err)
	}
	b.hasNothing()
	report, err := b.root.cfg.TPMs.Verify(t.Context(), path, keysFor)
	if err != nil {
		t.Fatal(err)
	}
	if report[0].Older || report[0].Known != 0 {
		t.Errorf("the TPM is older than generation %d, which never was here", report[0].Known)
	}
}

// knowsAll has the ledger of a host know of TPMs what that of another does.
func (h *host) knowsAll(of *host) {
	h.Helper()
	if err := os.CopyFS(filepath.Join(h.dir, "tpms", "anchors"), os.DirFS(filepath.Join(of.dir, "tpms", "anchors"))); err != nil {
		h.Fatal(err)
	}
}

// knowsNewer has the ledger of a host know more generations of a TPM than there are.
func (h *host) knowsNewer(of *host) {
	h.Helper()
	keys, err := age.GenerateX25519Identity()
	if err != nil {
		h.Fatal(err)
	}
	card, err := of.root.Card("web-1")
	if err != nil {
		h.Fatal(err)
	}
	path := filepath.Join(h.TempDir(), "tpm")
	if _, err := of.root.cfg.TPMs.Backup(h.Context(), "alice", vtpm.BackupOptions{Name: "web-1", To: path, Recipients: []string{keys.Recipient().String()}}); err != nil {
		h.Fatal(err)
	}
	for range 5 {
		_, err := h.root.cfg.TPMs.Restore(h.Context(), "alice", vtpm.RestoreOptions{
			From: path, Name: "web-1", Provider: "main", Import: true, Cold: true, AllowRollback: true,
			Keys: vtpm.KeysFor{Identities: [][]byte{[]byte(keys.String())}},
		})
		if err != nil {
			h.Fatal(err)
		}
		if err := h.root.cfg.TPMs.DeleteWith(h.Context(), "alice", "web-1", card.ID); err != nil {
			h.Fatal(err)
		}
	}
}
