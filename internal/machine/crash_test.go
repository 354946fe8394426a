package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/varstore"
)

// told has the root log into a text.
func (h *host) told() *strings.Builder {
	b := new(strings.Builder)
	h.root.cfg.Log = slog.New(slog.NewTextHandler(b, nil))
	return b
}

func noTPM(d *fleet.Definition) { d.Shielded.VTPM, d.Shielded.IntegrityMonitoring = false, false }

// foreignTPM makes a TPM called web-1 for another machine.
func (h *host) foreignTPM() {
	h.Helper()
	_, err := h.root.cfg.TPMs.Create(h.Context(), "bob", vtpm.CreateOptions{Name: "web-1", Provider: "main", VM: &vtpm.VM{
		Name: "other", UUID: "0badc0de-0000-4000-8000-000000000001", Firmware: "efi", HardwareVersion: 14, GuestOS: "linux", EncryptedHome: "yes",
	}})
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) tpms() int {
	h.Helper()
	names, err := h.root.cfg.TPMs.Names()
	if err != nil {
		h.Fatal(err)
	}
	return len(names)
}

func (h *host) noFolder() {
	h.Helper()
	entries, err := os.ReadDir(filepath.Join(h.dir, "vms"))
	if err != nil || len(entries) != 0 {
		h.Errorf("left: %v, %v", entries, err)
	}
}

func (h *host) update(change func(*fleet.Definition)) []fleet.Effect {
	h.Helper()
	effects, err := h.root.Update(h.Context(), "bob", "web-1", UpdateOptions{Confirm: true, Reason: "the auditor", Change: func(d *fleet.Definition) error {
		change(d)
		return nil
	}})
	if err != nil {
		h.Fatal(err)
	}
	return effects
}

func same(*fleet.Definition) {}

// Of two that make a machine of one name the first one's is kept.
func TestAMachineThatWasMadeMeanwhileIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	keysets, once := h.root.cfg.Keyset, false
	h.root.cfg.Keyset = func(name string) (*keyset.Set, error) {
		if !once {
			once = true
			h.create()
		}
		return keysets(name)
	}
	if _, err := h.root.Create(t.Context(), "bob", CreateOptions{Definition: definition()}); !errors.Is(err, ErrExists) {
		t.Errorf("Create = %v", err)
	}
	h.run(boot(t, "good-uki"))
}

func TestATPMOfAnotherIsNeitherRemovedNorCleared(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	told := h.told()
	h.create(noTPM)
	h.foreignTPM()
	if err := h.root.ClearTPM(t.Context(), "alice", "web-1"); err == nil || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("ClearTPM = %v", err)
	}
	before, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	h.update(func(d *fleet.Definition) { d.CPUs = 2 })
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	after, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
	if err != nil || after.VM == nil || after.VM.Name != "other" || after.Secrets != before.Secrets {
		t.Errorf("the other's TPM is %+v, %v", after, err)
	}
	if !strings.Contains(told.String(), "belongs to another") {
		t.Errorf("log %q", told)
	}
	h.noFolder()
}

// A TPM that its operator detached is kept: the machine has it no more.
func TestADetachedTPMDoesNotHoldUpDelete(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	told := h.told()
	h.create()
	if err := h.root.cfg.TPMs.Detach(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	if h.tpms() != 1 || !strings.Contains(told.String(), "is left") {
		t.Errorf("%d TPMs, log %q", h.tpms(), told)
	}
	h.noFolder()
}

// dropping is the state between the two steps of a TPM's removal.
func (h *host) dropping() {
	h.Helper()
	rec, err := h.root.cfg.TPMs.Owned(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	for _, err := range []error{
		h.root.setCustody("web-1", custody{rec.VM.UUID, rec.ID.String()}),
		h.root.cfg.TPMs.Detach(h.Context(), "alice", "web-1"),
	} {
		if err != nil {
			h.Fatal(err)
		}
	}
}

func TestADeleteThatWasCutShortIsCompleted(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*host){
		"before the TPM is deleted": (*host).dropping,
		"with a state that does not open": func(h *host) {
			h.dropping()
			state := h.root.cfg.TPMs.StatePath("web-1")
			if err := os.WriteFile(state, []byte("damaged"), 0o600); err != nil {
				h.Fatal(err)
			}
		},
		"with a damaged card": func(h *host) { h.writeFile(cardFile, []byte("{")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			cut(h)
			if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
				t.Fatal(err)
			}
			if n := h.tpms(); n != 0 {
				t.Errorf("%d TPMs are left", n)
			}
			h.noFolder()
			if err := h.root.Delete(t.Context(), "alice", "web-1"); !errors.Is(err, ErrUnknown) {
				t.Errorf("Delete again = %v", err)
			}
		})
	}
}

func TestOnlyAFolderThatIsNoMachineIsALeftover(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	for name, card := range map[string][]byte{"whole": h.readFile(cardFile), "damaged": []byte("{")} {
		h.writeFile(cardFile, card)
		if err := h.root.DeleteLeftovers(t.Context(), "alice", "web-1"); !errors.Is(err, ErrExists) {
			t.Errorf("%s card: DeleteLeftovers = %v", name, err)
		}
	}
	if err := os.Remove(h.file(cardFile)); err != nil {
		t.Fatal(err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); !errors.Is(err, ErrLeftover) || !errors.Is(err, ErrUnknown) {
		t.Errorf("Delete = %v", err)
	}
	if n := h.tpms(); n != 1 {
		t.Fatalf("%d TPMs", n)
	}
	if err := h.root.DeleteLeftovers(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	if n := h.tpms(); n != 0 {
		t.Errorf("%d TPMs are left", n)
	}
	h.noFolder()
	if err := h.root.DeleteLeftovers(t.Context(), "alice", "web-1"); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrLeftover) {
		t.Errorf("DeleteLeftovers again = %v", err)
	}
}

func TestATPMWhoseStateDoesNotOpenDoesNotHoldUpDelete(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	told := h.told()
	h.create()
	if err := os.WriteFile(h.root.cfg.TPMs.StatePath("web-1"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(told.String(), "cannot be proved") {
		t.Errorf("log %q", told)
	}
	h.noFolder()
}

func TestWhatAFolderWasEmptiedOfIsRemovedAtTheNextOpening(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	gone := filepath.Join(h.dir, "vms", deletedPrefix+"web-1")
	if err := os.MkdirAll(filepath.Join(gone, runFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRoot(h.root.cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Lstat = %v", err)
	}
}

func TestACreateThatWasCutShortIsNoMachineAndIsMadeAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	old, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	h.writeFile(oldEventsFile, h.readFile(eventsFile))
	if err := os.Remove(h.file(cardFile)); err != nil {
		t.Fatal(err)
	}
	if names, err := h.root.Names(); err != nil || len(names) != 0 {
		t.Errorf("Names = %q, %v", names, err)
	}
	h.create()
	rec, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
	if err != nil || rec.ID == old.ID {
		t.Errorf("the TPM is %+v, %v", rec, err)
	}
	if _, err := os.Lstat(h.file(oldEventsFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old events: %v", err)
	}
	h.run(boot(t, "good-uki"))
}

// A machine of a damaged card may run.
func TestADamagedCardHidesNoHypervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	c := sleeper(t)
	home := h.home()
	if err := home.note(c.Process.Pid, time.Now()); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	for name, text := range map[string]string{"damaged": "{", "missing": ""} {
		h.writeFile(cardFile, []byte(text))
		if text == "" {
			if err := os.Remove(h.file(cardFile)); err != nil {
				t.Fatal(err)
			}
			if _, err := h.root.Create(t.Context(), "alice", CreateOptions{Definition: definition()}); err == nil || !strings.Contains(err.Error(), "hypervisor runs") {
				t.Errorf("Create = %v", err)
			}
		}
		remove := map[string]func(context.Context, string, string) error{"damaged": h.root.Delete, "missing": h.root.DeleteLeftovers}[name]
		if err := remove(t.Context(), "alice", "web-1"); err == nil || !strings.Contains(err.Error(), "hypervisor runs") {
			t.Errorf("%s: Delete = %v", name, err)
		}
	}
}

func TestATPMThatACrashLeftIsTakenOver(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(noTPM)
	home := h.home()
	if err := h.root.makeTPM(t.Context(), home, definition(), "bob"); err != nil { // and no definition
		t.Fatal(err)
	}
	h.close(home)
	old, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	h.update(func(d *fleet.Definition) { d.Shielded = definition().Shielded })
	if rec, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1"); err != nil || rec.ID != old.ID {
		t.Errorf("the TPM is %+v, %v", rec, err)
	}
	h.run(boot(t, "good-uki"))
}

func TestATPMOfAnotherIsNotTakenOver(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(noTPM)
	h.foreignTPM()
	_, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error {
		d.Shielded = definition().Shielded
		return nil
	}})
	if !errors.Is(err, vtpm.ErrExists) {
		t.Errorf("Update = %v", err)
	}
	if d, err := h.root.Describe(t.Context(), "web-1"); err != nil || d.Definition.Shielded.VTPM {
		t.Errorf("Describe = %+v, %v", d, err)
	}
}

// After the definition and before the removal: the operator said yes to it.
func TestATPMThatWasToBeRemovedIsRemovedByTheNextUpdate(t *testing.T) {
	t.Parallel()
	for _, next := range []func(*fleet.Definition){same, func(d *fleet.Definition) { d.Shielded = definition().Shielded }} {
		h := newHost(t)
		h.create()
		old, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
		if err != nil {
			t.Fatal(err)
		}
		home := h.home()
		for _, err := range []error{h.root.setCustody("web-1", custody{old.VM.UUID, old.ID.String()}), home.setDefinition(definition(noTPM))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		h.close(home)
		h.update(next)
		rec, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
		if err == nil && rec.ID == old.ID {
			t.Error("the TPM is still there")
		}
		if c := h.root.custody("web-1"); c.Dropping != "" {
			t.Errorf("custody = %+v", c)
		}
	}
}

// Before the definition: the machine is the old one.
func TestATPMThatWasNotRemovedStays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	rec, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.root.setCustody("web-1", custody{rec.VM.UUID, rec.ID.String()}); err != nil {
		t.Fatal(err)
	}
	h.update(same)
	if c := h.root.custody("web-1"); c.Dropping != "" {
		t.Errorf("custody = %+v", c)
	}
	h.run(boot(t, "good-uki"))
}

// Variables are written before the definition: a crash between the two leaves secure
// boot demanded and switched off.
func TestVariablesThatDoNotFitAreMendedByTheNextUpdate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		damage func(*testing.T, *host, *Home)
		was    string
	}{
		"switched off": {func(t *testing.T, h *host, home *Home) {
			text, err := home.Variables()
			if err != nil {
				t.Fatal(err)
			}
			text, err = h.root.enrolled(text, definition(func(d *fleet.Definition) { d.Shielded.SecureBoot = false }))
			if err != nil {
				t.Fatal(err)
			}
			if err := home.SetVariables(text); err != nil {
				t.Fatal(err)
			}
		}, "not as the definition says"},
		"without keys": {func(t *testing.T, h *host, home *Home) {
			text, err := os.ReadFile(h.root.cfg.Firmware.Variables)
			if err != nil {
				t.Fatal(err)
			}
			if err := home.SetVariables(text); err != nil {
				t.Fatal(err)
			}
		}, "not as the definition says"},
		"damaged": {func(t *testing.T, _ *host, home *Home) {
			if err := home.SetVariables([]byte("damaged")); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			home := h.home()
			tc.damage(t, h, home)
			h.close(home)
			effects := h.update(same)
			if len(effects) != 1 || effects[0].Member != "variables" || effects[0].Old != tc.was {
				t.Errorf("effects %+v", effects)
			}
			store, err := varstore.Parse(h.variables())
			if err != nil || !keyset.SecureBoot(store) {
				t.Errorf("secure boot is off, %v", err)
			}
			h.want("0 " + integrity.EventConfig)
			if effects := h.update(same); len(effects) != 0 {
				t.Errorf("effects again %+v", effects)
			}
			h.run(boot(t, "good-uki"))
		})
	}
}

func TestAChangeWithoutEffectsIsMadeAndLoggedWithItsReason(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.update(func(d *fleet.Definition) { d.Labels, d.Site = map[string]string{"team": "blue"}, "north" })
	d, err := h.root.Describe(t.Context(), "web-1")
	if err != nil || d.Definition.Labels["team"] != "blue" || d.Definition.Site != "north" {
		t.Errorf("Describe = %+v, %v", d, err)
	}
	events, err := h.root.Events(t.Context(), "web-1")
	if err != nil || len(events) != 1 {
		t.Fatalf("events %+v, %v", events, err)
	}
	said := fmt.Sprint(events[0].Reasons)
	for _, want := range []string{"labels: ", "blue", "site: ", "north", "why: the auditor"} {
		if !strings.Contains(said, want) {
			t.Errorf("reasons %s, want %q", said, want)
		}
	}
	h.update(same)
	h.want("0 " + integrity.EventConfig)
}

// What package fleet has no words for is a change too.
func TestEveryMemberThatDiffersIsAChange(t *testing.T) {
	t.Parallel()
	c := &change{before: definition(), after: definition(func(d *fleet.Definition) { d.Site, d.CPUs = "north", 2 })}
	got, err := c.others([]fleet.Effect{{Member: "cpus"}})
	if err != nil || len(got) != 1 || got[0].Member != "site" || got[0].New != `"north"` || got[0].Old != "nothing" {
		t.Errorf("others = %+v, %v", got, err)
	}
}

func TestTheEventOfAChangeThatWasCutShortIsNotLost(t *testing.T) {
	t.Parallel()
	n := &integrity.Notice{Type: integrity.EventConfig, Instance: "web-1", Actor: "bob"}
	after := definition(func(d *fleet.Definition) { d.CPUs = 2 })
	for name, tc := range map[string]struct {
		steps []func(*Home) error
		want  int
	}{
		"before the definition": {nil, 0},
		"before the event":      {[]func(*Home) error{func(h *Home) error { return h.setDefinition(after) }}, 1},
		"after the event":       {[]func(*Home) error{func(h *Home) error { return h.setDefinition(after) }, func(h *Home) error { return h.Log(*n) }}, 1},
	} {
		h := newHost(t)
		h.create()
		after.Complete()
		home := h.home()
		if err := home.pend(&pending{After: after, Notice: n}); err != nil {
			t.Fatal(err)
		}
		for _, step := range tc.steps {
			if err := step(home); err != nil {
				t.Fatal(err)
			}
		}
		h.close(home)
		for range 2 {
			if got := h.types(); len(got) != tc.want {
				t.Errorf("%s: events %q, want %d", name, got, tc.want)
			}
		}
	}
}

func TestAHypervisorThatMayHaveBeenStartedIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	if err := home.intend(time.Now()); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	if s := h.state(); s.State != StateLost || !strings.Contains(s.Problem, "one may run") {
		t.Errorf("Status = %+v", s)
	}
	var n running
	if err := json.Unmarshal(h.readFile(runningFile), &n); err != nil {
		t.Fatal(err)
	}
	n.Host = "0badc0de"
	h.left(n)
	if s := h.state(); s.State != StateLost || strings.Contains(s.Problem, "one may run") {
		t.Errorf("after another start of the host: Status = %+v", s)
	}
	home = h.home()
	if err := home.forget(); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	if s := h.state(); s.State != StateStopped {
		t.Errorf("Status = %+v", s)
	}
}

func TestAFolderThatIsHeldIsNotDeleted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	l, err := durable.LockDir(filepath.Join(h.dir, "vms", "web-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.file(cardFile)); err != nil {
		t.Fatal(err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); !errors.Is(err, ErrBusy) {
		t.Errorf("Delete = %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
