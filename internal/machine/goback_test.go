package machine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
)

// What would refuse a way back is known while the machine runs, which goes on.
func TestAMachineThatRunsIsAskedWhetherItMayGoBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	s := h.start(boot(t, "good-uki") + "await off\noff\n")
	may := func(snapshot string, want error) {
		t.Helper()
		err := h.root.MayGoBack(t.Context(), "web-1", snapshot, true)
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("MayGoBack(%q) = %v, want %v", snapshot, err, want)
		}
	}
	may("good", nil)
	may("other", ErrNoSnapshot)
	tag, err := filepath.Glob(h.disks()[1] + ".assay-*")
	if err != nil || len(tag) != 1 {
		t.Fatalf("%q, %v", tag, err)
	}
	if err := os.Rename(tag[0], tag[0]+".away"); err != nil {
		t.Fatal(err)
	}
	var state *StateError
	if err := h.root.MayGoBack(t.Context(), "web-1", "good", true); !errors.As(err, &state) {
		t.Errorf("without the snapshot of a disk: %v", err)
	}
	if err := os.Rename(tag[0]+".away", tag[0]); err != nil {
		t.Fatal(err)
	}
	if status := h.status(); status.State != StateRunning {
		t.Errorf("the machine is %s", status.State)
	}
	h.put(h.inRun("off"), "")
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error { d.MemoryMiB = 1024; return nil }}); err != nil {
		t.Fatal(err)
	}
	may("good", ErrHardware)
}
