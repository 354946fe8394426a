package machine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/uefi/keyset"
)

// The variables of a machine that runs are in its hypervisor, and not in its home.
func TestVariablesAreReadOfAMachineThatIsOff(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	want := h.variables()
	got, err := h.root.Variables(t.Context(), "web-1")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("Variables = %d bytes, %v, want %d", len(got), err, len(want))
	}
	s := h.start("await off\noff\n")
	if _, err := h.root.Variables(t.Context(), "web-1"); !errors.Is(err, ErrBusy) {
		t.Errorf("of a machine that runs: %v", err)
	}
	// Whether it has the keys of its set is known all the same.
	if lag, err := h.root.KeysetLag(t.Context(), "web-1"); err != nil || !lag.Known || lag.Keyset != "own" || len(lag.Lacks) != 0 {
		t.Errorf("KeysetLag = %+v, %v", lag, err)
	}
	h.put(h.inRun("off"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// What cannot be compared is no lag, and no absence of one.
func TestAKeySetThatIsGoneSaysNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	gone := errors.New("gone")
	h.root.cfg.Keyset = func(string) (*keyset.Set, error) { return nil, gone }
	if _, err := h.root.KeysetLag(t.Context(), "web-1"); !errors.Is(err, gone) {
		t.Errorf("KeysetLag = %v", err)
	}
	own, err := ownKeys()
	if err != nil {
		t.Fatal(err)
	}
	h.root.cfg.Keyset = func(string) (*keyset.Set, error) { return own, nil }
	h.update(func(d *fleet.Definition) { d.Shielded.SecureBoot = false })
	h.root.cfg.Keyset = func(string) (*keyset.Set, error) { return nil, gone }
	if lag, err := h.root.KeysetLag(t.Context(), "web-1"); err != nil || !lag.Known || len(lag.Lacks) != 0 {
		t.Errorf("with secure boot off: %+v, %v", lag, err)
	}
}
