package machine

import (
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/varstore"
)

// A host is a root of machines with a fake hypervisor, its TPMs and its key provider.
type host struct {
	testing.TB
	root *Root
	dir  string
	key  seal.Key
	// copies is whether machines come and go with copies of their disks.
	copies bool

	clock  atomic.Int64 // how far its clock is ahead
	mu     sync.Mutex
	events []integrity.Notice
}

// downFile in the folder of a host has its key provider give no key.
const downFile = "provider-down"

type testProvider struct {
	*keyprovider.Local
	down string // the path of downFile
}

func (p testProvider) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	if _, err := os.Lstat(p.down); err == nil {
		return seal.Secret{}, keyprovider.ErrUnavailable
	}
	return p.Local.Unwrap(ctx, c, wrapped)
}

func newHost(t testing.TB) *host {
	t.Helper()
	// A socket's path has 107 bytes, and names of tests are long.
	dir, err := os.MkdirTemp("", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{TB: t, dir: dir}
	if h.key, err = keyprovider.NewKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(self, filepath.Join(dir, "fake-qemu")), os.Symlink(self, filepath.Join(dir, "fake-qemu-img"))); err != nil {
		t.Fatal(err)
	}
	template, err := varstore.New(varstore.OVMF4M).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vars.fd"), template, 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := ownKeys()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := hostConfig(t.Context(), dir, h.key, set)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.TPMs.Close() })
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(h.clock.Load())) }
	cfg.Event = func(n integrity.Notice) {
		h.mu.Lock()
		h.events = append(h.events, n)
		h.mu.Unlock()
	}
	if h.root, err = OpenRoot(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// hostConfig is that of a host in a folder, also for a process that is to be killed.
func hostConfig(ctx context.Context, dir string, key seal.Key, set *keyset.Set) (cfg Config, err error) {
	provider := func(_ context.Context, spec string) (vtpm.Provider, error) {
		if spec != "main" {
			return nil, keyprovider.ErrNoProvider
		}
		l, err := keyprovider.NewLocal(rand.Reader, seal.Key{ID: key.ID, Secret: key.Secret.Clone()})
		return testProvider{l, filepath.Join(dir, downFile)}, err
	}
	cfg = Config{
		Dir: filepath.Join(dir, "vms"), Provider: provider, DefaultProvider: func() string { return "main" },
		Keyset: func(name string) (*keyset.Set, error) {
			if name != "own" {
				return nil, fmt.Errorf("no key set %q", name)
			}
			return set, nil
		},
		Firmware: Firmware{"/code.fd", "/secure.fd", filepath.Join(dir, "vars.fd")}, Accelerator: qemu.TCG,
		Program: filepath.Join(dir, "fake-qemu"), Images: qemu.Images{Program: filepath.Join(dir, "fake-qemu-img")},
		Random: rand.Reader, Now: time.Now,
	}
	if cfg.TPMs, err = vtpm.OpenRoot(ctx, vtpm.Config{Dir: filepath.Join(dir, "tpms"), Provider: provider, Random: rand.Reader, Now: time.Now}); err != nil {
		return cfg, err
	}
	cfg.Matrix, err = fleet.DefaultMatrix()
	return cfg, err
}

// ownKeys is one key set for all tests: its keys take long to make.
var ownKeys = sync.OnceValues(func() (*keyset.Set, error) {
	set, _, err := keyset.New("own", keyset.Options{Kind: keyset.Own, Now: time.Now(), Random: rand.Reader})
	return set, err
})

func definition(change ...func(*fleet.Definition)) *fleet.Definition {
	d, err := fleet.ParseDefinition([]byte(`{"name": "web-1", "shieldedInstanceConfig": {"enableSecureBoot": true, "enableVtpm": true, "enableIntegrityMonitoring": true},
		"keyset": "own", "guestOS": "linux", "cpus": 1, "memoryMiB": 512}`))
	if err != nil {
		panic(err)
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func (h *host) create(change ...func(*fleet.Definition)) {
	h.Helper()
	if _, err := h.root.Create(h.Context(), "alice", CreateOptions{Definition: definition(change...)}); err != nil {
		h.Fatal(err)
	}
}

// boot is the script of a recorded boot.
func boot(tb testing.TB, scenario string) string {
	tb.Helper()
	l, err := eventlog.Parse(evidencetest.File(tb, scenario+"/eventlog.bin"))
	if err != nil {
		tb.Fatal(err)
	}
	var b strings.Builder
	for e := range l.All() {
		if e.Measured() {
			fmt.Fprintf(&b, "%d %x %x %x %x\n", e.PCR, e.Digest(tpm2.AlgSHA256), e.Digest(tpm2.AlgSHA1), e.Digest(tpm2.AlgSHA384), sha512.Sum512(e.Data))
		}
	}
	return b.String()
}

// A started machine runs in this process.
type started struct {
	h   *host
	end chan error
}

// start runs web-1 with a script and waits until it is ready.
func (h *host) start(script string) *started {
	h.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, "vms", "web-1", runFolder, bootFile), []byte(script), 0o600); err != nil {
		h.Fatal(err)
	}
	s := &started{h, make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		s.end <- h.root.Run(h.Context(), "alice", "web-1", RunOptions{Ready: func() error {
			close(ready)
			return nil
		}})
	}()
	select {
	case <-ready:
	case err := <-s.end:
		h.Fatalf("the machine did not start: %v", err)
	}
	return s
}

func (s *started) wait() error {
	s.h.Helper()
	select {
	case err := <-s.end:
		return err
	case <-time.After(time.Minute):
		s.h.Fatal("the machine does not end")
		return nil
	}
}

// approve makes a baseline of what is reviewed at once.
func (h *host) approve(name, why string) ([]integrity.Notice, error) {
	h.Helper()
	r, err := h.root.Review(h.Context(), name)
	if err != nil {
		h.Fatal(err)
	}
	return h.root.Approve(h.Context(), "bob", name, r.Seen, why)
}

// run runs web-1 to its end.
func (h *host) run(script string) {
	h.Helper()
	if err := h.start(script + "off\n").wait(); err != nil {
		h.Fatal(err)
	}
}

// types are the events of the log, with P or F for what a report says.
func (h *host) types() []string {
	h.Helper()
	events, err := h.root.Events(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	var out []string
	for _, n := range events {
		text := fmt.Sprintf("%d %s", n.BootCounter, n.Type)
		if n.Report != nil {
			text += map[bool]string{true: " pass", false: " fail"}[n.Passed()]
		}
		out = append(out, text)
	}
	return out
}

func (h *host) want(want ...string) {
	h.Helper()
	if diff := cmp.Diff(want, h.types()); diff != "" {
		h.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestABootIsJudgedFromTheHostAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	h.run(boot(t, "bad-uki-cmdline"))
	h.want(
		"1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass", "1 shutdownEvent",
		"2 startupEvent", "2 earlyBootReportEvent fail", "2 lateBootReportEvent fail", "2 shutdownEvent",
	)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) != 8 {
		t.Errorf("%d events were told, want 8", len(h.events))
	}
}

func TestTheLastBootIsApprovedWhileTheMachineRunsOrNot(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running %v", running), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			h.run(boot(t, "good-uki"))
			s := h.start(boot(t, "good-uki-update"))
			h.await("lateBootReportEvent", 2)
			if !running {
				h.stop(s)
			}
			r, err := h.root.Review(t.Context(), "web-1")
			if err != nil || r.Boot != 2 || len(r.Changes) == 0 {
				t.Fatalf("Review = %+v, %v", r, err)
			}
			if _, err := h.root.Approve(t.Context(), "bob", "web-1", integrity.Seen{Boot: 1, Digest: r.Digest}, "an update"); err == nil {
				t.Error("a boot that was not reviewed was approved")
			}
			if _, err := h.root.Approve(t.Context(), "bob", "web-1", r.Seen, "an update"); err != nil {
				t.Fatal(err)
			}
			if running {
				h.stop(s)
			}
			h.run(boot(t, "good-uki-update"))
			var got []string
			for _, e := range h.types() {
				if !strings.Contains(e, "shutdown") && !strings.HasPrefix(e, "1 ") {
					got = append(got, e)
				}
			}
			want := []string{
				"2 startupEvent", "2 earlyBootReportEvent fail", "2 lateBootReportEvent fail",
				"2 setShieldedVmIntegrityPolicy", "2 earlyBootReportEvent pass", "2 lateBootReportEvent pass",
				"3 startupEvent", "3 earlyBootReportEvent pass", "3 lateBootReportEvent pass",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			d, err := h.root.Describe(t.Context(), "web-1")
			if err != nil || len(d.Baselines) != 2 || d.Baselines[1].Actor != "bob" || d.Baselines[1].Reason != "an update" {
				t.Errorf("Describe = %+v, %v", d, err)
			}
		})
	}
}

// await waits for the nth event of a type.
func (h *host) await(kind string, nth int) {
	h.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		h.mu.Lock()
		n := 0
		for _, e := range h.events {
			if e.Type == kind {
				n++
			}
		}
		h.mu.Unlock()
		if n >= nth {
			return
		}
		if _, err := h.root.Status(h.Context(), "web-1"); err != nil {
			h.Fatal(err)
		}
	}
	h.Fatalf("no %s: %q", kind, h.types())
}

func (h *host) stop(s *started) {
	h.Helper()
	if err := h.root.Stop(h.Context(), "alice", "web-1", true); err != nil {
		h.Fatal(err)
	}
	if err := s.wait(); err != nil {
		h.Fatal(err)
	}
}

const refusal = `print BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x1,0x0): Access Denied` + "\n"

func TestARefusedImageIsSaidWithTheFirmwaresWords(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.BootDeadline = 1 })
	s := h.start(refusal)
	h.await(integrity.EventStuck, 1)
	status, err := h.root.Status(t.Context(), "web-1")
	if err != nil || status.State != StateRunning || status.Boot.Phase != PhaseStuck {
		t.Fatalf("Status = %+v, %v", status, err)
	}
	text, err := h.root.ConsoleText(t.Context(), "web-1")
	if err != nil || !strings.Contains(text, "UEFI: Failed to load image") || !strings.Contains(text, "Status: Security Violation") {
		t.Errorf("console %q, %v", text, err)
	}
	h.stop(s)
	events, err := h.root.Events(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(events, func(n integrity.Notice) bool { return n.Type == integrity.EventStuck })
	var codes []string
	for _, r := range events[i].Reasons {
		codes = append(codes, string(r.Code))
	}
	if diff := cmp.Diff([]string{"integrity.boot-deadline", "serial.secure-boot-refused"}, codes); diff != "" {
		t.Error(diff)
	}
	if text, err := h.root.ConsoleText(t.Context(), "web-1"); err != nil || !strings.Contains(text, "Access Denied") {
		t.Errorf("console of a machine that is off: %q, %v", text, err)
	}
}

// The shell is on no disk of the machine; every refused boot starts it.
func TestWhatIsOnNoDiskHasTheNameOfTheIndex(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	h.run(boot(t, "bad-uki-unsigned"))
	events, err := h.root.Events(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, n := range events {
		for _, d := range n.Differences {
			words = append(words, d.Words)
			if strings.Contains(d.Component, "shell inside OVMF") && (!d.Hint || d.Kind != eventlog.KindBootLoader || !d.Judged) {
				t.Errorf("difference %+v", d)
			}
		}
	}
	if all := strings.Join(words, "\n"); !strings.Contains(all, "shell inside OVMF, which it starts when nothing else boots (known by Debian 12, ovmf 2022.11-6+deb12u2; a hint) in PCR 4 ") {
		t.Errorf("what differs is\n%s", all)
	}
}

func TestAFirmwareThatHasNothingLeftIsAnEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.start(refusal + "print BdsDxe: No bootable option or device was found.\nprint BdsDxe: No bootable option or device was found.\n")
	h.await(integrity.EventRefused, 1)
	if status, err := h.root.Status(t.Context(), "web-1"); err != nil || status.Boot.Phase != PhaseRefused || len(status.Boot.Refused) < 2 {
		t.Errorf("Status = %+v, %v", status, err)
	}
	h.stop(s)
	h.want("1 startupEvent", "1 bootRefusedEvent", "1 shutdownEvent")
}

// GRUB goes on to the commands that follow a refused kernel, measures them, and stops.
func TestCommandsAfterARefusedKernelHideItNot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.start("print error: bad shim signature.\nawait go\n8 " + strings.Repeat("a5", 32) + "\n")
	for end := time.Now().Add(time.Minute); h.status().Boot == nil || len(h.status().Boot.Refused) == 0; {
		if time.Now().After(end) {
			t.Fatal("the words are not heard")
		}
	}
	h.put(h.inRun("go"), "")
	h.await(integrity.EventRefused, 1)
	h.stop(s)
	h.want("1 startupEvent", "1 bootRefusedEvent", "1 shutdownEvent")
}

// What is measured after the words of a refusal tells whether the boot goes on.
func TestOnlyABootLoadersCommandsLetARefusalStand(t *testing.T) {
	t.Parallel()
	extend := func(pcrs ...uint8) (out []engine.JournalRecord) {
		for _, p := range pcrs {
			out = append(out, engine.JournalRecord{Kind: engine.JournalExtend, PCR: p})
		}
		return out
	}
	for name, c := range map[string]struct {
		m    vtpm.Measured
		want bool
	}{
		"a command":               {vtpm.Measured{Records: extend(8)}, false},
		"commands":                {vtpm.Measured{Records: extend(8, 8)}, false},
		"a command and a file":    {vtpm.Measured{Records: extend(8, 9)}, true},
		"an image":                {vtpm.Measured{Records: extend(4)}, true},
		"a start":                 {vtpm.Measured{Records: []engine.JournalRecord{{Kind: engine.JournalInit, PCR: 8}}}, true},
		"more than was kept":      {vtpm.Measured{Lost: true}, true},
		"the state of a snapshot": {vtpm.Measured{Restored: true}, true},
	} {
		if got := goesOn(c.m); got != c.want {
			t.Errorf("%s: goes on is %v", name, got)
		}
	}
}

// What a guest prints once its system runs changes nothing.
func TestAGuestForgesNoRefusal(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	h.run(boot(t, "good-uki") + "print BdsDxe: No bootable option or device was found.\n")
	if got := h.types(); slices.ContainsFunc(got, func(e string) bool { return strings.Contains(e, "Refused") }) {
		t.Errorf("events %q", got)
	}
}

func TestAMachineThatFailsIsStoppedWhereItsDefinitionSaysSo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.StopOnFailure = true })
	h.run(boot(t, "good-uki"))
	s := h.start(boot(t, "bad-uki-cmdline")) // runs on by itself
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

func TestEachRestartIsABoot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki") + "reset\n" + boot(t, "good-uki"))
	h.want(
		"1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass",
		"2 startupEvent", "2 earlyBootReportEvent pass", "2 lateBootReportEvent pass", "2 shutdownEvent",
	)
	boots, err := h.root.History(t.Context(), "web-1")
	if err != nil || len(boots.Boots) != 2 || boots.Boots[0].Late != integrity.Learned || boots.Boots[1].Late != integrity.Passed {
		t.Errorf("%+v, %v", BootsOf(boots), err)
	}
}

func TestWhatTheFirmwareWroteIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	before := h.variables()
	h.run("variable X\n")
	after := h.variables()
	if after[100_000] != 'X' {
		t.Errorf("byte %q", after[100_000])
	}
	after[100_000] = before[100_000]
	if !slices.Equal(before, after) {
		t.Error("more than the firmware wrote has changed")
	}
}

func (h *host) variables() []byte {
	h.Helper()
	home, err := h.root.Open(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	defer home.Close()
	b, err := home.read(variablesFile)
	if err != nil {
		h.Fatal(err)
	}
	return b.Expose()
}

func TestAHomeHasNothingInTheClear(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.Labels = map[string]string{"secret": "squirrel"} })
	h.run(boot(t, "good-uki") + "print a secret squirrel\n")
	err := filepath.WalkDir(filepath.Join(h.dir, "vms"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == bootFile {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, word := range []string{"squirrel", "earlyBoot", "UEFI", "P\x00K\x00"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s has %q in the clear", e.Name(), word)
			}
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm() != 0o600 && e.Name() != "lock" {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestADamagedHomeIsNamedAndNotStarted(t *testing.T) {
	t.Parallel()
	for _, file := range []string{definitionFile, variablesFile, integrityFile, eventsFile, cardFile} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			h.run("")
			name := filepath.Join(h.dir, "vms", "web-1", file)
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for what, damaged := range map[string][]byte{
				"cut":   text[:len(text)/2],
				"other": append(slices.Clone(text[:len(text)-3]), text[len(text)-3]^1, text[len(text)-2], text[len(text)-1]),
				"empty": {},
			} {
				if err := os.WriteFile(name, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{})
				if file == eventsFile && what != "empty" && err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: Run = %v", what, err)
				} else if file != eventsFile && !errors.Is(err, ErrDamaged) {
					t.Errorf("%s: Run = %v, want %v", what, err, ErrDamaged)
				}
				if got, err := os.ReadFile(name); file != eventsFile && (err != nil || !slices.Equal(got, damaged)) {
					t.Errorf("%s: the file was changed: %v", what, err)
				}
			}
		})
	}
}

func TestFilesOfAHomeCannotBeExchanged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	dir := filepath.Join(h.dir, "vms", "web-1")
	text, err := os.ReadFile(filepath.Join(dir, integrityFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, definitionFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("Run = %v", err)
	}
}

// A last event that a crash tore off is written again, where the record says that it was to
// be logged; else it was not acknowledged. All before it stay.
func TestATornLogGoesOn(t *testing.T) {
	t.Parallel()
	for name, pending := range map[string]bool{"it is known what it was": true, "it is not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			h.run(boot(t, "good-uki"))
			text := h.readFile(eventsFile)
			h.writeFile(eventsFile, text[:len(text)-20])
			want := []string{"1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass"}
			if pending {
				want = append(want, "1 shutdownEvent")
			} else if err := os.Remove(h.file(pendingFile)); err != nil {
				t.Fatal(err)
			}
			h.run(boot(t, "good-uki"))
			h.want(append(want, "2 startupEvent", "2 earlyBootReportEvent pass", "2 lateBootReportEvent pass", "2 shutdownEvent")...)
		})
	}
}

func TestAnEventLeftOutIsSeen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	name := filepath.Join(h.dir, "vms", "web-1", eventsFile)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(name, []byte(strings.Join(slices.Delete(lines, 2, 3), "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.root.Events(t.Context(), "web-1"); !errors.Is(err, ErrDamaged) {
		t.Errorf("Events = %v", err)
	}
}

func TestAHypervisorThatDiesIsReported(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	err := h.start(boot(t, "good-uki") + "crash\n").wait()
	if err == nil || !strings.Contains(err.Error(), "hypervisor ended") {
		t.Errorf("Run = %v", err)
	}
	if status, err := h.root.Status(t.Context(), "web-1"); err != nil || status.State != StateStopped {
		t.Errorf("Status = %+v, %v", status, err)
	}
	h.run(boot(t, "good-uki"))
}

func TestASecondSupervisorIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.start("")
	if err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("Run = %v", err)
	}
	if _, err := h.root.Update(t.Context(), "alice", "web-1", UpdateOptions{Change: func(*fleet.Definition) error { return nil }}); !errors.Is(err, ErrBusy) {
		t.Errorf("Update = %v", err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); !errors.Is(err, ErrBusy) {
		t.Errorf("Delete = %v", err)
	}
	h.stop(s)
}

func TestTheConsoleGoesBothWays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.start("")
	c, err := h.root.Console(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	h.stop(s)
}

func TestAChangeSaysWhatItBringsAndIsLogged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	off := UpdateOptions{Change: func(d *fleet.Definition) error {
		d.Shielded.SecureBoot = false
		return nil
	}, DryRun: true}
	effects, err := h.root.Update(t.Context(), "bob", "web-1", off)
	if err != nil || len(effects) != 1 || effects[0].Member != "enableSecureBoot" {
		t.Fatalf("dry run: %+v, %v", effects, err)
	}
	if len(h.types()) != 0 {
		t.Error("a dry run was logged")
	}
	off.DryRun = false
	if _, err := h.root.Update(t.Context(), "bob", "web-1", off); err != nil {
		t.Fatal(err)
	}
	h.want("0 " + integrity.EventConfig)
	store, err := varstore.Parse(h.variables())
	if err != nil || keyset.SecureBoot(store) {
		t.Errorf("secure boot is on in the variables, %v", err)
	}
}

func TestATPMIsMadeAndRemovedWithItsOption(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	none := func(d *fleet.Definition) error {
		d.Shielded.VTPM, d.Shielded.IntegrityMonitoring = false, false
		return nil
	}
	h.create()
	if _, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Change: none}); !errors.Is(err, ErrConfirm) {
		t.Fatalf("Update = %v, want a question", err)
	}
	if _, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Change: none, Confirm: true}); err != nil {
		t.Fatal(err)
	}
	if names, err := h.root.cfg.TPMs.Names(); err != nil || len(names) != 0 {
		t.Errorf("TPMs %q, %v", names, err)
	}
	h.run("")
	all := func(d *fleet.Definition) error {
		d.Shielded = fleet.Shielded{SecureBoot: true, VTPM: true, IntegrityMonitoring: true}
		return nil
	}
	if _, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Change: all}); err != nil {
		t.Fatal(err)
	}
	h.run(boot(t, "good-uki"))
}

func TestAClearedTPMIsAnEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if err := h.root.ClearTPM(t.Context(), "bob", "web-1"); err != nil {
		t.Fatal(err)
	}
	h.want("0 " + integrity.EventClearTPM)
	h.run(boot(t, "good-uki"))
}

// A machine whose TPM is another's does not start: the guest would find other secrets,
// and the other machine's would be in its hands.
func TestAForeignTPMIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	ctx := t.Context()
	for _, err := range []error{
		h.root.cfg.TPMs.Detach(ctx, "x", "web-1"),
		h.root.cfg.TPMs.Attach(ctx, "x", "web-1", vtpm.VM{Name: "web-1", UUID: "0badc0de-0000-4000-8000-000000000001", Firmware: "efi", HardwareVersion: 14, GuestOS: "linux", EncryptedHome: "yes"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := h.root.Run(ctx, "alice", "web-1", RunOptions{}); err == nil || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("Run = %v", err)
	}
}

func TestADeletedMachineLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	names, err := h.root.Names()
	tpms, err2 := h.root.cfg.TPMs.Names()
	if err != nil || err2 != nil || len(names)+len(tpms) != 0 {
		t.Errorf("left: %q %q, %v %v", names, tpms, err, err2)
	}
	h.create()
}

func TestMachinesThatAreRefusedLeaveNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for name, tc := range map[string]struct {
		change   func(*fleet.Definition)
		provider string
		want     string
	}{
		"unsupported":    {func(d *fleet.Definition) { d.GuestOS = "beos" }, "", "is not supported"},
		"bad name":       {func(d *fleet.Definition) { d.Name = "Web" }, "", "name"},
		"no key set":     {func(d *fleet.Definition) { d.Keyset = "none" }, "", "key set"},
		"no such holder": {func(*fleet.Definition) {}, "other", "provider"},
	} {
		_, err := h.root.Create(t.Context(), "alice", CreateOptions{Definition: definition(tc.change), Provider: tc.provider})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Create = %v, want %q in it", name, err, tc.want)
		}
		if names, err := h.root.cfg.TPMs.Names(); err != nil || len(names) != 0 {
			t.Errorf("%s: TPMs %q, %v", name, names, err)
		}
		if _, err := h.root.Card("web-1"); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: Card = %v", name, err)
		}
	}
	h.create()
	if _, err := h.root.Create(t.Context(), "alice", CreateOptions{Definition: definition()}); !errors.Is(err, ErrExists) {
		t.Errorf("a second Create = %v", err)
	}
}

func TestSocketsThatDoNotFitAreRefusedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	cfg := h.root.cfg
	for {
		cfg.Dir = filepath.Join(cfg.Dir, "d")
		if (&Root{cfg: cfg}).reachable("a") != nil {
			break
		}
	}
	if _, err := OpenRoot(cfg); !errors.Is(err, ErrLong) {
		t.Errorf("OpenRoot(%q) = %v", cfg.Dir, err)
	}
	if _, err := os.Lstat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	cfg.Dir = filepath.Dir(cfg.Dir)
	r, err := OpenRoot(cfg)
	if err != nil {
		t.Fatalf("OpenRoot(%q) = %v", cfg.Dir, err)
	}
	d := definition(func(d *fleet.Definition) { d.Name = strings.Repeat("n", 30) })
	if _, err := r.Create(t.Context(), "alice", CreateOptions{Definition: d}); !errors.Is(err, ErrLong) {
		t.Errorf("Create = %v", err)
	}
	if entries, err := os.ReadDir(cfg.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A firmware that never reaches its TPM has begun no boot.
func TestWhatHappensBeforeTheFirstStartupBelongsToNoBoot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.BootDeadline = 1 })
	h.run(boot(t, "good-uki"))
	s := h.start("hang\n")
	h.await("bootDeadlineEvent", 1)
	h.stop(s)
	h.run(boot(t, "good-uki"))
	h.want("1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass", "1 shutdownEvent",
		"0 bootDeadlineEvent", "0 shutdownEvent",
		"2 startupEvent", "2 earlyBootReportEvent pass", "2 lateBootReportEvent pass", "2 shutdownEvent")
}

func FuzzSplitLog(f *testing.F) {
	f.Add([]byte("assay machine events 1 0\nAAAA\nBBBB\nCC"))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, lines, err := splitLog(text)
		if err == nil && (first < 0 || len(lines) > len(text)) {
			t.Errorf("%d lines of %d bytes, the first is %d", len(lines), len(text), first)
		}
	})
}
