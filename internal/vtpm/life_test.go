package vtpm

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/state"
)

func good() *VM {
	return &VM{Name: "web-1", Firmware: "efi", HardwareVersion: 14, GuestOS: "linux", EncryptedHome: "yes"}
}

func TestATPMKeepsWhatItsGuestStored(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "a secret of the guest")
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 21); err != nil || got != "a secret of the guest" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}

func TestStateIsNeverInTheClear(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, c := f.started("web")
	defer i.Close()
	remember(t, c, "PLAINTEXTPLAINTEXT")
	found := 0
	err := filepath.WalkDir(f.Dir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		found++
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "PLAINTEXT") {
			t.Errorf("%s holds what the guest stored", path)
		}
		return err
	})
	if err != nil || found < 3 {
		t.Errorf("%d files, %v", found, err)
	}
}

func TestNoProviderNoTPM(t *testing.T) {
	f := newFixture(t)
	f.cfg.DefaultProvider = nil
	f.reopen()
	for name, tc := range map[string]struct {
		provider string
		want     error
	}{
		"none":    {"", ErrNoProvider},
		"unknown": {"nobody", keyprovider.ErrNoProvider},
	} {
		if _, err := f.Create(context.Background(), tester, CreateOptions{Name: "web", Provider: tc.provider}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if names, err := f.Names(); len(names) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestNamesCannotLeaveTheFolder(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "-flag", "a b", "a\x00", strings.Repeat("a", 65), "ü"} {
		if _, err := f.Create(context.Background(), tester, CreateOptions{Name: name}); !errors.Is(err, ErrName) {
			t.Errorf("Create(%q) = %v, want %v", name, err, ErrName)
		}
	}
	for verb, call := range map[string]func(string) error{
		"describe": func(n string) error { _, err := f.Describe(context.Background(), n); return err },
		"open":     func(n string) error { _, err := f.Open(context.Background(), n, tester); return err },
		"delete":   func(n string) error { return f.Delete(context.Background(), tester, n) },
		"clear":    func(n string) error { _, err := f.Clear(context.Background(), tester, n); return err },
		"rotate":   func(n string) error { return f.RotateKey(context.Background(), tester, n, "main") },
	} {
		if err := call("../run"); !errors.Is(err, ErrName) {
			t.Errorf("%s: %v, want %v", verb, err, ErrName)
		}
		if err := call("nobody"); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, want %v", verb, err, ErrUnknown)
		}
	}
}

func TestANameIsTakenOnce(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	before, err := f.Describe(context.Background(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(context.Background(), tester, CreateOptions{Name: "web"}); !errors.Is(err, ErrExists) {
		t.Errorf("second Create = %v, want %v", err, ErrExists)
	}
	after, err := f.Describe(context.Background(), "web")
	if err != nil || after.ID != before.ID || after.Generation != before.Generation {
		t.Errorf("it changed: %+v, %v", after, err)
	}
}

func TestAttachAndDetach(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web", "db")
	if err := f.Attach(ctx, tester, "web", *good()); err != nil {
		t.Fatal(err)
	}
	other := *good()
	other.Name = "web-2"
	if err := f.Attach(ctx, tester, "web", other); !errors.Is(err, ErrAttached) {
		t.Errorf("Attach to a second machine = %v, want %v", err, ErrAttached)
	}
	if err := f.Attach(ctx, tester, "db", *good()); err == nil || !strings.Contains(err.Error(), `has TPM "web" already`) {
		t.Errorf("a second TPM for the machine: %v", err)
	}
	if err := f.Delete(ctx, tester, "web"); !errors.Is(err, ErrAttached) {
		t.Errorf("Delete = %v, want %v", err, ErrAttached)
	}
	f.reopen()
	d, err := f.Describe(ctx, "web")
	if err != nil || !d.Proved || d.VM != "web-1" || d.Record.VM == nil || *d.Record.VM != *good() {
		t.Fatalf("Describe = %+v, %v", d, err)
	}
	if err := f.Detach(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	if err := f.Detach(ctx, tester, "web"); err == nil {
		t.Error("it is detached twice")
	}
	d, err = f.Describe(ctx, "web")
	if err != nil || d.VM != "" || len(d.Record.Lineage) != 1 || d.Record.Lineage[0].From != "web-1" {
		t.Errorf("after Detach: %+v, %v", d.Record, err)
	}
	if err := f.Delete(ctx, tester, "web"); err != nil {
		t.Error(err)
	}
	if _, known, err := f.anchor.Last(d.Record.ID); !known || err != nil {
		t.Errorf("the ledger forgot what a deleted TPM told: %v", err)
	}
	if names, err := f.Names(); !slices.Equal(names, []string{"db"}) || err != nil {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestClearMakesANewTPM(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "lost")
	i.Close()
	before, err := f.Describe(ctx, "web")
	if err != nil || !slices.Contains(before.Contents.NV, "01800001") {
		t.Fatalf("Describe = %+v, %v", before, err)
	}
	if _, err := f.Clear(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	if e := f.last("web"); e.Type != "clearTPMEvent" || e.Outcome != OutcomeDone || e.Actor != tester {
		t.Errorf("event %+v", e)
	}
	info, err := state.Inspect(f.StatePath("web"))
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, slot := range info.Slots {
		if slot.Condition == "whole" {
			whole++
		}
	}
	if whole != 1 {
		t.Errorf("%d generations are in the file, want the new one only", whole)
	}
	f.reopen()
	after, err := f.Describe(ctx, "web")
	if err != nil || after.ID != before.ID || after.Record.Secrets == before.Record.Secrets || len(after.Record.Lineage) != 1 {
		t.Fatalf("Describe = %+v, %v", after.Record, err)
	}
	if len(after.Record.Identity) == 0 {
		t.Error("it has no endorsement keys")
	}
	for n, k := range after.Record.Identity {
		if k.Name == before.Record.Identity[n].Name {
			t.Errorf("endorsement key %s is the old one", k.Kind)
		}
	}
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 4); err == nil {
		t.Errorf("it still holds %q", got)
	}
}

func TestClones(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "mine")
	i.Close()
	for mode, want := range map[string]string{"copy": "mine", "replace": ""} {
		rec, err := f.Clone(ctx, tester, CloneOptions{From: "web", To: mode, Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		if rec.ID == i.card.ID || len(rec.Lineage) != 1 || rec.Lineage[0].FromID != i.card.ID || rec.Lineage[0].Mode != mode || rec.Lineage[0].Generation == 0 {
			t.Errorf("%s: %+v", mode, rec)
		}
		x, c := f.started(mode)
		got, err := recall(c, 4)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s holds %q, %v, want %q", mode, got, err, want)
		}
		x.Close()
	}
	list, err := f.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, s := range list {
		for _, f := range s.Findings {
			got[s.Name] = append(got[s.Name], string(f.Code))
		}
	}
	want := map[string][]string{"web": {"vtpm.shared-secrets"}, "copy": {"vtpm.shared-secrets"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if _, err := f.Clear(ctx, tester, "copy"); err != nil {
		t.Fatal(err)
	}
	if list, _ = f.List(ctx); len(list[0].Findings)+len(list[1].Findings)+len(list[2].Findings) != 0 {
		t.Errorf("after Clear: %+v", list)
	}
	if _, err := f.Clone(ctx, tester, CloneOptions{From: "web", To: "x", Mode: "steal"}); err == nil {
		t.Error("any mode is taken")
	}
}

func TestRequirementsAreNamedBeforeAnythingIsMade(t *testing.T) {
	f := newFixture(t)
	for name, tc := range map[string]struct {
		change func(*VM)
		want   []string
	}{
		"nothing said":     {func(v *VM) { *v = VM{Name: "web-1"} }, []string{"vtpm.firmware", "vtpm.hardware-version", "vtpm.guest-os", "vtpm.encrypted-home"}},
		"BIOS":             {func(v *VM) { v.Firmware = "bios" }, []string{"vtpm.firmware"}},
		"old hardware":     {func(v *VM) { v.HardwareVersion = 13 }, []string{"vtpm.hardware-version"}},
		"Windows Vista":    {func(v *VM) { v.GuestOS = "windows-vista" }, []string{"vtpm.guest-os"}},
		"Windows 2003":     {func(v *VM) { v.GuestOS = "windows-server-2003" }, []string{"vtpm.guest-os"}},
		"Windows 2000":     {func(v *VM) { v.GuestOS = "windows-2000" }, []string{"vtpm.guest-os"}},
		"another system":   {func(v *VM) { v.GuestOS = "plan9" }, []string{"vtpm.guest-os"}},
		"clear home":       {func(v *VM) { v.EncryptedHome = "no" }, []string{"vtpm.encrypted-home"}},
		"old libvirt":      {func(v *VM) { v.Manager = "libvirt 8.10.0" }, []string{"vtpm.management-version"}},
		"unknown manager":  {func(v *VM) { v.Manager = "xen 4" }, []string{"vtpm.management-version"}},
		"vSphere, Linux":   {func(v *VM) { v.Manager = "vsphere 7.0.1" }, []string{"vtpm.management-version"}},
		"vSphere, Windows": {func(v *VM) { v.Manager, v.GuestOS = "vsphere 6.7", "windows-7" }, nil},
		"Windows 2008":     {func(v *VM) { v.GuestOS = "windows-server-2008r2" }, nil},
		"Windows 8.1":      {func(v *VM) { v.GuestOS = "windows-8.1" }, nil},
		"libvirt":          {func(v *VM) { v.Manager = "libvirt 10.0" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			vm := good()
			tc.change(vm)
			var got []string
			for _, r := range vm.Requirements("main") {
				if !r.Met {
					got = append(got, string(r.Code))
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("not met (-want +got):\n%s", diff)
			}
			if tc.want == nil {
				return
			}
			_, err := f.Create(context.Background(), tester, CreateOptions{Name: "web", VM: vm})
			var e *RequirementError
			if !errors.As(err, &e) || len(e.Failed) != len(tc.want) || !strings.Contains(err.Error(), tc.want[0]) {
				t.Errorf("Create = %v", err)
			}
			if e := f.last("web"); e.Type != EventCreate || e.Outcome != OutcomeDenied || e.Actor != tester || !strings.Contains(string(e.Detail), tc.want[0]) {
				t.Errorf("the trail has %+v", e)
			}
		})
	}
	if names, _ := f.Names(); len(names) != 0 {
		t.Errorf("made: %v", names)
	}
	if got := good().Requirements(""); got[3].Met {
		t.Error("no key provider satisfies")
	}
}

// A guest does not wait for a key provider that takes its time over a new key.
func TestTheGuestGoesOnWhileItsKeyIsWrappedAnew(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, c := f.started("web")
	done := make(chan struct{})
	f.p.thinks = sync.OnceFunc(func() {
		go func() {
			defer close(done)
			remember(t, c, "meanwhile")
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the guest waits for the key provider")
		}
	})
	if err := f.RotateKey(context.Background(), tester, "web", ""); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 9); got != "meanwhile" || err != nil {
		t.Errorf("recall = %q, %v", got, err)
	}
}

func TestRotatedKeysOpenAndOldOnesAreNotNeeded(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web", "db")
	i, c := f.started("web")
	f.p.rotate("main")
	for _, name := range []string{"web", "db"} { // one runs
		if err := f.RotateKey(ctx, tester, name, ""); err != nil {
			t.Fatal(err)
		}
	}
	remember(t, c, "after")
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	f.p.drop("main", 1)
	f.reopen()
	i, c = f.started("web")
	if got, err := recall(c, 5); got != "after" || err != nil {
		t.Errorf("recall = %q, %v", got, err)
	}
	if err := f.RotateKey(ctx, tester, "web", "other"); err != nil {
		t.Fatal(err)
	}
	i.Close()
	f.p.fail("main", keyprovider.ErrUnavailable)
	f.reopen()
	d, err := f.Describe(ctx, "web")
	if err != nil || !d.Proved || d.Provider != "other" {
		t.Errorf("Describe = %+v, %v", d, err)
	}
	if d, _ = f.Describe(ctx, "db"); d.Proved || !strings.Contains(d.Problem, "cannot be reached") {
		t.Errorf("Describe = %+v", d)
	}
}

func TestEveryOperationIsInTheTrail(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web")
	if err := f.Attach(ctx, tester, "web", *good()); err != nil {
		t.Fatal(err)
	}
	if err := f.RotateKey(ctx, tester, "web", "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Clone(ctx, tester, CloneOptions{From: "web", To: "copy"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Clear(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	if err := f.Detach(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	entries, err := f.Trail().AuditEntries(ctx, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Actor+" "+e.Action+" "+e.Subject+" "+e.Outcome)
		if !json.Valid(e.Detail) {
			t.Errorf("detail %q", e.Detail)
		}
	}
	want := []string{
		tester + " createTPMEvent web done", tester + " attachTPMEvent web done", tester + " rotateKeyTPMEvent web done",
		tester + " cloneTPMEvent copy done", tester + " clearTPMEvent web done", tester + " detachTPMEvent web done",
		tester + " deleteTPMEvent web done",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trail (-want +got):\n%s", diff)
	}
	if head, err := f.Trail().Check(ctx, nil, func(uint64) {}); err != nil || head.Seq != 7 {
		t.Errorf("Check = %v, %v", head, err)
	}
}

func TestARunningTPMIsNotChanged(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web")
	i, _ := f.started("web")
	defer i.Close()
	other, err := OpenRoot(ctx, f.cfg) // as another process does
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, tc := range map[string]struct {
		r    *Root
		want error
	}{"this process": {f.Root, ErrBusy}, "another": {other, state.Locked}} {
		for verb, call := range map[string]func() error{
			"open":   func() error { _, err := tc.r.Open(ctx, "web", tester); return err },
			"clear":  func() error { _, err := tc.r.Clear(ctx, tester, "web"); return err },
			"attach": func() error { return tc.r.Attach(ctx, tester, "web", *good()) },
			"delete": func() error { return tc.r.Delete(ctx, tester, "web") },
			"clone": func() error {
				_, err := tc.r.Clone(ctx, tester, CloneOptions{From: "web", To: "x"})
				return err
			},
		} {
			if err := call(); !errors.Is(err, tc.want) {
				t.Errorf("%s by %s: %v, want %v", verb, name, err, tc.want)
			}
		}
	}
	if d, err := f.Describe(ctx, "web"); err != nil || !d.Proved || !d.Running {
		t.Errorf("Describe = %+v, %v", d, err)
	}
}

func TestAFolderUnderAnotherNameIsRefused(t *testing.T) {
	f := newFixture(t)
	f.create("web", "db")
	if err := os.Rename(f.dir("web"), f.dir("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(context.Background(), "x", tester); !errors.Is(err, ErrRecord) {
		t.Errorf("Open = %v, want %v", err, ErrRecord)
	}
	// With a card that fits the name the sealed record still tells.
	card, err := os.ReadFile(f.cardPath("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.cardPath("x"), []byte(strings.Replace(string(card), `"name": "web"`, `"name": "x"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(f.dir("x"), "web.nvram"), f.StatePath("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(context.Background(), "x", tester); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), `it is the state of TPM "web"`) {
		t.Errorf("Open = %v, want %v", err, ErrRecord)
	}
	// Another TPM's state in its place, the card left as it is.
	text, err := os.ReadFile(filepath.Join(f.dir("x"), "web.nvram"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.StatePath("db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(context.Background(), "db", tester); !errors.Is(err, state.Foreign) {
		t.Errorf("Open = %v, want %v", err, state.Foreign)
	}
}

// A card is in the clear: what it says against the sealed record does not count.
func TestTheCardDecidesNothing(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web")
	if err := f.Attach(ctx, tester, "web", *good()); err != nil {
		t.Fatal(err)
	}
	c, err := f.readCard("web")
	if err != nil {
		t.Fatal(err)
	}
	c.VM = "evil"
	if err := f.writeCard(c); err != nil {
		t.Fatal(err)
	}
	d, err := f.Describe(ctx, "web")
	if err != nil || d.Record.VM.Name != "web-1" {
		t.Errorf("Describe = %+v, %v", d.Record, err)
	}
	if c, err = f.readCard("web"); err != nil || c.VM != "web-1" {
		t.Errorf("the card still says %q, %v", c.VM, err)
	}
}

func TestSuspendedStateOutlivesTheProcess(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, c := f.started("web")
	if _, err := c.Run(extend(16)); err != nil {
		t.Fatal(err)
	}
	want := pcr(t, c, 16)
	if err := i.Machine().StoreVolatile(); err != nil {
		t.Fatal(err)
	}
	i.file.Close() // as when the process is killed
	f.mu.Lock()
	f.Root.claimed, f.Root.running = map[string]string{}, map[string]*Instance{}
	f.mu.Unlock()
	i, err := f.Open(context.Background(), "web", tester)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Machine().Init(true); err != nil {
		t.Fatal(err)
	}
	if got := pcr(t, newClient(i), 16); got != want || got == strings.Repeat("0", 64) {
		t.Errorf("PCR 16 is %s, want %s", got, want)
	}
}

// A card is a claim: whose a TPM is, its sealed record says.
func TestWhoOwnsATPMIsReadFromItsState(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.create("web")
	if err := f.Attach(ctx, tester, "web", *good()); err != nil {
		t.Fatal(err)
	}
	card, err := f.readCard("web")
	if err != nil {
		t.Fatal(err)
	}
	card.VM = "web-2"
	if err := f.writeCard(card); err != nil {
		t.Fatal(err)
	}
	rec, err := f.Owned(ctx, "web")
	if err != nil || rec.VM == nil || *rec.VM != *good() {
		t.Errorf("Owned = %+v, %v", rec, err)
	}
	if _, err := f.Owned(ctx, "db"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Owned of none = %v", err)
	}
	f.started("web")
	if _, err := f.Owned(ctx, "web"); !errors.Is(err, ErrBusy) {
		t.Errorf("Owned of one that runs = %v", err)
	}
}
