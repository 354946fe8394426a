// Package vm boots real machines through the product's own path (package machine), and
// holds what the host's side says of each boot: a good one, one that the firmware
// refuses, and every case of the negative matrix ([Cases]).
//
// It shows what integrity monitoring notices on this firmware and these boot loaders.
// Guests are emulated, and their own: nothing here treats a guest as hostile. Start with
// [Host.Boot].
//
// QEMU 7.2, OVMF 2022.11, shim 16, GRUB 2.06, systemd-stub 252.
package vm

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/uefi/keyset"
)

// Patience is how long a boot may take: emulated, on a machine that others use too, one
// of fifteen seconds has taken two minutes.
const Patience = 180 * time.Second

// ErrMissing is a program or file that this machine lacks; make setup installs all of
// them.
var ErrMissing = errors.New("not on this machine")

// Tools reports what booting a machine needs and is not there.
func Tools() error {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	f := machine.DefaultFirmware()
	for _, name := range []string{f.Code, f.SecureCode, f.Variables} {
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("%w: %w", ErrMissing, err)
		}
	}
	return nil
}

// Parts reads what guests are made of, with init as their program.
func Parts(init []byte) (*demovm.Parts, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	p, err := demovm.Open(filepath.Join(cache, demovm.CacheFolder), init)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return p, err
}

// BuildAgent builds the program that is the whole of a guest above its kernel, the
// product's own agent, in a folder, and returns it.
func BuildAgent(dir string) ([]byte, error) { return BuildGuest(dir, "cmd/assay-agent") }

// BuildGuest builds a program of this project for a guest, in a folder, and returns it.
func BuildGuest(dir, source string) ([]byte, error) {
	program, err := build(dir, source)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(program)
}

// BuildProgram builds the product's program in a folder, and returns its file.
func BuildProgram(dir string) (string, error) { return build(dir, "cmd/assay") }

// build builds a program of this project, a static one as guests need it.
func build(dir, source string) (string, error) {
	program := filepath.Join(dir, filepath.Base(source))
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/assay-project/assay/"+source)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", source, err, out)
	}
	return program, nil
}

// A Host runs machines, one at a time.
type Host struct {
	Root *machine.Root
	dir  string

	mu      sync.Mutex // guards what follows
	sets    map[string]*keyset.Set
	notices []integrity.Notice // of the boot that runs
	reports []health.Report    // of its agent
	more    chan struct{}      // closed when there is another notice or report
}

// local is a key provider in memory.
type local struct{ *keyprovider.Local }

// Close leaves the keys: the next machine needs them.
func (local) Close() error { return nil }

// NewHost makes a host in a folder, whose name must be short: the path of a socket has
// 107 bytes at most.
func NewHost(ctx context.Context, dir string) (*Host, error) {
	h := &Host{dir: dir, sets: map[string]*keyset.Set{}, more: make(chan struct{})}
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	keys, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		return nil, err
	}
	provider := func(context.Context, string) (vtpm.Provider, error) { return local{keys}, nil }
	tpms, err := vtpm.OpenRoot(ctx, vtpm.Config{Dir: filepath.Join(dir, "t"), Provider: provider, Random: rand.Reader, Now: time.Now})
	if err != nil {
		return nil, err
	}
	matrix, err := fleet.DefaultMatrix()
	if err != nil {
		return nil, err
	}
	h.Root, err = machine.OpenRoot(machine.Config{
		Dir: filepath.Join(dir, "m"), TPMs: tpms, Provider: provider, DefaultProvider: func() string { return "memory" },
		Keyset: h.keyset, Matrix: matrix, Accelerator: qemu.TCG, Random: rand.Reader, Now: time.Now, Event: h.event, Heard: h.heard,
	})
	return h, err
}

// AddKeys makes a key set known to the host's machines.
func (h *Host) AddKeys(s *keyset.Set) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sets[s.Name] = s
}

func (h *Host) keyset(name string) (*keyset.Set, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.sets[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return s, nil
}

func (h *Host) event(n integrity.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notices = append(h.notices, n)
	close(h.more)
	h.more = make(chan struct{})
}

func (h *Host) heard(_ string, _ uint64, r health.Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reports = append(h.reports, r)
	close(h.more)
	h.more = make(chan struct{})
}

// Reports are what the agent of the boot that runs said that it saw, the oldest first.
func (h *Host) Reports() []health.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]health.Report(nil), h.reports...)
}

// Disk is the file of a machine's disk.
func (h *Host) Disk(name string) string { return filepath.Join(h.dir, name+".raw") }

// Create makes a machine with the three options and an agent, under a key set.
func (h *Host) Create(ctx context.Context, name, keys string) error {
	text, err := json.Marshal(fleet.Definition{
		Name: name, Keyset: keys, GuestOS: "linux", CPUs: 1, MemoryMiB: 512, Agent: true,
		Shielded: fleet.Shielded{SecureBoot: true, VTPM: true, IntegrityMonitoring: true},
		Disks:    []fleet.Disk{{File: h.Disk(name), Format: "raw", Boot: true}},
	})
	if err != nil {
		return err
	}
	d, err := fleet.ParseDefinition(text)
	if err != nil {
		return err
	}
	_, err = h.Root.Create(ctx, "test", machine.CreateOptions{Definition: d})
	return err
}

// A Boot is one that runs.
type Boot struct {
	host  *Host
	name  string
	ended chan struct{}
	err   error // of Run, once ended is closed
}

// Boot starts a machine.
func (h *Host) Boot(ctx context.Context, name string) (*Boot, error) {
	h.mu.Lock()
	h.notices, h.reports = nil, nil
	h.mu.Unlock()
	b := &Boot{host: h, name: name, ended: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		b.err = h.Root.Run(ctx, "test", name, machine.RunOptions{Ready: func() error { close(ready); return nil }})
		close(b.ended)
	}()
	select {
	case <-ready:
		return b, nil
	case <-b.ended:
		return nil, b.err
	}
}

// Await waits until f holds of what happened in this boot, and returns that.
func (b *Boot) Await(f func([]integrity.Notice) bool) ([]integrity.Notice, error) {
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	for {
		notices, more := b.notices()
		if f(notices) {
			return notices, nil
		}
		select {
		case <-more:
		case <-b.ended:
			return notices, fmt.Errorf("the machine ended: %w", b.err)
		case <-patience.C:
			return notices, fmt.Errorf("nothing more happened in %v", Patience)
		}
	}
}

func (b *Boot) notices() ([]integrity.Notice, <-chan struct{}) {
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	return append([]integrity.Notice(nil), b.host.notices...), b.host.more
}

// Stop ends the machine at once, and returns all that happened in this boot.
func (b *Boot) Stop(ctx context.Context) ([]integrity.Notice, error) {
	err := b.host.Root.Stop(ctx, "test", b.name, true)
	<-b.ended
	notices, _ := b.notices()
	return notices, errors.Join(err, b.err)
}

// Close ends a machine that still runs, as when its test has failed.
func (b *Boot) Close() error {
	select {
	case <-b.ended:
		return nil
	default:
	}
	_, err := b.Stop(context.Background())
	return err
}
