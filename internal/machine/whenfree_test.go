package machine

import (
	"errors"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/fleet"
)

// Who only looks at a machine that is off has its home for a moment: a change waits for that.
// Of a machine that runs it is refused at once.
func TestALookKeepsNobodyFromAChange(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.root.pace.look = time.Minute
	h.create()
	h.run(boot(t, "good-uki"))
	change := func() error {
		_, err := h.root.Update(t.Context(), "alice", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error {
			d.MemoryMiB *= 2
			return nil
		}})
		return err
	}
	closed := func(c interface{ Close() error }, err error) error {
		if err != nil {
			return err
		}
		return c.Close()
	}
	for _, tc := range []struct {
		name string
		do   func() error
	}{
		{"update", change},
		{"clear the TPM", func() error { return h.root.ClearTPM(t.Context(), "alice", "web-1") }},
		{"read the variables", func() error {
			_, err := h.root.Variables(t.Context(), "web-1")
			return err
		}},
		{"back up", func() error { return closed(h.root.Depart(t.Context(), "web-1")) }},
		{"take an approval back", func() error { return h.root.DropPlan(t.Context(), "alice", "web-1") }},
		{"delete", func() error { return h.root.Delete(t.Context(), "alice", "web-1") }},
	} {
		looks := h.home()
		looked := make(chan error, 1)
		time.AfterFunc(100*time.Millisecond, func() { looked <- looks.Close() })
		if err := tc.do(); err != nil && (tc.name != "take an approval back" || errors.Is(err, ErrBusy)) { // there is none
			t.Errorf("%s: %v", tc.name, err)
		}
		if err := <-looked; err != nil {
			t.Fatal(err)
		}
	}
	h.create()
	s := h.start("await never\n")
	if err := change(); !errors.Is(err, ErrBusy) {
		t.Errorf("of one that runs: %v", err)
	}
	tries := 0
	err := h.root.whenFree(t.Context(), "web-1", func() error {
		tries++
		return ErrBusy
	})
	if !errors.Is(err, ErrBusy) || tries != 1 {
		t.Errorf("of one that runs: %v after %d tries", err, tries)
	}
	h.stop(s)
}
