package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/vtpm"
)

// instead listens where the supervisor of a machine does, and has f answer each question.
func (h *host) instead(name string, f func(c net.Conn)) {
	h.Helper()
	path := filepath.Join(h.dir, "vms", name, runFolder, controlSocket)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		h.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if _, err := bufio.NewReader(c).ReadBytes('\n'); err == nil {
					f(c)
				}
			})
		}
	})
	h.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
}

// silent is a supervisor that takes every question and answers none.
func silent(c net.Conn) { io.Copy(io.Discard, c) } //nolint:errcheck // until who asked has gone

// says is a supervisor that answers every question with the same.
func says(text string) func(net.Conn) {
	return func(c net.Conn) { io.WriteString(c, text) } //nolint:errcheck // who asked may have gone
}

// named makes machines without a TPM.
func (h *host) named(names ...string) {
	h.Helper()
	for _, name := range names {
		h.create(func(d *fleet.Definition) {
			d.Name, d.Shielded, d.Labels = name, fleet.Shielded{}, map[string]string{"of": name}
		})
	}
}

// All supervisors are asked before the first has answered.
func TestStatusesAsksAllAtTheSameTime(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	names := []string{"a", "b", "c", "d"}
	h.named(names...)
	var asked sync.WaitGroup
	asked.Add(len(names))
	for _, name := range names {
		h.instead(name, func(c net.Conn) {
			asked.Done()
			asked.Wait()
			fmt.Fprintf(c, `{"result":{"name":%q,"state":"running"}}`+"\n", name)
		})
	}
	h.root.patience = time.Minute
	got, err := h.root.Statuses(t.Context())
	if err != nil || len(got) != len(names) {
		t.Fatalf("%v, %v", got, err)
	}
	for i, s := range got {
		if s.Name != names[i] || s.State != StateRunning {
			t.Errorf("%d: %+v", i, s)
		}
	}
}

func TestAMachineWhoseSupervisorIsAtFaultIsUnknown(t *testing.T) {
	t.Parallel()
	endless := func(c net.Conn) {
		for text := strings.Repeat("x", 64<<10); ; {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
	h := newHost(t)
	h.root.patience = time.Minute
	type fault struct {
		answer         func(net.Conn)
		state, problem string
		err            error
	}
	faults := map[string]fault{
		"endless": {endless, StateUnknown, "what its supervisor answers cannot be read", ErrGarbled},
		"garbage": {says("hello\n"), StateUnknown, "what its supervisor answers cannot be read", ErrGarbled},
		"nothing": {says("{}\n"), StateUnknown, "what its supervisor answers cannot be read", ErrGarbled},
		"shape":   {says(`{"result":[]}` + "\n"), StateUnknown, "what its supervisor answers cannot be read", ErrGarbled},
		"empty":   {says(`{"result":{}}` + "\n"), StateUnknown, "what its supervisor answers cannot be read", ErrGarbled},
		"another": {says(`{"result":{"name":"x","state":"running"}}` + "\n"), StateUnknown, "what its supervisor answers cannot be read", ErrGarbled},
		"dies":    {says(`{"result":{"name":"dies","sta`), StateStopped, "", nil},
	}
	h.named("off")
	for name, f := range faults {
		h.named(name)
		h.instead(name, f.answer)
	}
	faults["off"] = fault{nil, StateStopped, "", nil}
	got, err := h.root.Statuses(t.Context())
	if err != nil || len(got) != len(faults) {
		t.Fatalf("%v, %v", got, err)
	}
	for _, s := range got {
		want := faults[s.Name]
		if s.State != want.state || s.Problem != want.problem || s.LastKnown != nil || s.ID == "" {
			t.Errorf("%+v, want %+v", s, want)
		}
		if _, err := h.root.Status(t.Context(), s.Name); !errors.Is(err, want.err) {
			t.Errorf("%s: %v, want %v", s.Name, err, want.err)
		}
	}
}

// A silent supervisor costs its time once, whatever there is of them.
func TestNobodyWaitsLongForASilentSupervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.named("web-1", "web-2")
	h.instead("web-1", silent)
	h.root.patience = 50 * time.Millisecond
	got := h.root.StatusesOf(t.Context(), []string{"web-1", "none"})
	if len(got) != 1 || got[0].State != StateUnknown || got[0].Problem != "its supervisor does not answer" || got[0].LastKnown != nil {
		t.Errorf("%+v", got)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.root.Status(ended, "web-1"); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("whoever asks has no time: %v", err)
	}
	if got = h.root.StatusesOf(t.Context(), []string{"web-2"}); len(got) != 1 || got[0].State != StateStopped {
		t.Errorf("%+v", got)
	}
}

// What a machine was when it was last seen is told as that, and not as what it is.
func TestAnUnknownMachineIsShownWithWhatWasLastKnown(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.root.patience = time.Minute
	h.named("web-1")
	var mu sync.Mutex
	answers := true
	h.instead("web-1", func(c net.Conn) {
		mu.Lock()
		ok := answers
		mu.Unlock()
		if !ok {
			says("?\n")(c)
			return
		}
		says(`{"result":{"name":"web-1","state":"running","boot":{"bootCounter":"4","phase":"system"}}}` + "\n")(c)
	})
	one := func() *Status {
		t.Helper()
		got := h.root.StatusesOf(t.Context(), []string{"web-1", "none"})
		if len(got) != 1 {
			t.Fatalf("%v", got)
		}
		return got[0]
	}
	if s := one(); s.State != StateRunning || s.LastKnown != nil {
		t.Errorf("%+v", s)
	}
	mu.Lock()
	answers = false
	mu.Unlock()
	s := one()
	if s.State != StateUnknown || s.Boot != nil || s.LastKnown == nil || s.LastKnown.State != StateRunning || s.LastKnown.Boot == nil || s.LastKnown.Seen.IsZero() {
		t.Errorf("%+v", s)
	}
	// A process that has not seen it has the note of who started the hypervisor.
	c := sleeper(t)
	start, err := startOf(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	booted, err := hostBoot()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().UTC()
	h.left(running{c.Process.Pid, start, booted, began})
	h.root.seen.only(nil)
	if s = one(); s.State != StateUnknown || s.PID != c.Process.Pid || s.LastKnown == nil || s.LastKnown.State != StateRunning || !s.LastKnown.Seen.Equal(began) {
		t.Errorf("%+v, %+v", s, s.LastKnown)
	}
	h.left(running{c.Process.Pid, start + 1, booted, began})
	if s = one(); s.State != StateUnknown || s.LastKnown != nil || !strings.Contains(s.Problem, "its hypervisor has ended") {
		t.Errorf("%+v", s)
	}
}

func TestDescribeReadsTheHomeOfAMachineWhoseSupervisorIsSilent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.named("web-1")
	h.instead("web-1", says("?\n"))
	d, err := h.root.Describe(t.Context(), "web-1")
	if err != nil || d.State != StateUnknown || d.Definition == nil || d.Definition.Labels["of"] != "web-1" || d.Problem != ErrGarbled.Error() {
		t.Errorf("%+v, %v", d, err)
	}
	h.named("web-2")
	h.instead("web-2", silent)
	h.root.patience = 50 * time.Millisecond
	if d, err := h.root.Describe(t.Context(), "web-2"); err != nil || d.State != StateUnknown || d.Definition == nil || d.Problem != ErrNoAnswer.Error() || d.Detail != "" {
		t.Errorf("%+v, %v", d, err)
	}
	text, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(text), `"baselines":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestDefinedAsksNoSupervisor also counts how often the key provider is asked.
func TestDefinedAsksNoSupervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.named("web-1")
	h.instead("web-1", silent)
	asked := 0
	provider := h.root.cfg.Provider
	h.root.cfg.Provider = func(ctx context.Context, spec string) (vtpm.Provider, error) {
		asked++
		return provider(ctx, spec)
	}
	first, err := h.root.Defined(t.Context(), "web-1", nil)
	if err != nil || first.Labels["of"] != "web-1" {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := h.root.Defined(t.Context(), "web-1", first); err != nil || again != first || asked != 1 {
		t.Errorf("%+v, %v: asked %d times", again, err, asked)
	}
	home := h.home()
	if err := home.setDefinition(definition(func(d *fleet.Definition) { d.Labels = map[string]string{"of": "all"} })); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	if now, err := h.root.Defined(t.Context(), "web-1", first); err != nil || now.Labels["of"] != "all" {
		t.Errorf("after a change: %+v, %v", now, err)
	}
	if _, err := h.root.Defined(t.Context(), "none", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("of none: %v", err)
	}
}
