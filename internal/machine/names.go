package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/uefi/launch"
	"github.com/assay-project/assay/uefi/varstore"
)

// ErrNoDisk is a machine without a disk that it boots from.
var ErrNoDisk = errors.New("the machine has no disk that it boots from")

// A Forecast is what is expected of the boot of a disk.
type Forecast struct {
	File       string
	Format     disk.Format
	Machine    *launch.Machine
	Prediction *launch.Prediction
}

// forecast says what a boot of a machine will measure, by its disk and its variables.
func forecast(ctx context.Context, d *fleet.Definition, variables []byte) (*Forecast, error) {
	boot := bootDisk(d)
	if boot == nil {
		return nil, ErrNoDisk
	}
	return forecastOf(ctx, d, variables, Image{File: boot.File, Format: boot.Format})
}

// An Image is a disk in a file, which may be none of a machine's.
type Image struct {
	File   string `json:"file"`
	Format string `json:"format"`
	// Name is NAME@VERSION of one of the gallery.
	Name string `json:"name,omitempty"`
}

// words name an image in events, which are told to others than who may know where files of
// this host lie.
func (i *Image) words() string {
	if i.Name != "" {
		return i.Name
	}
	return strconv.Quote(filepath.Base(i.File))
}

// forecastOf says that of a machine which boots from an image.
func forecastOf(ctx context.Context, d *fleet.Definition, variables []byte, image Image) (*Forecast, error) {
	store, err := varstore.Parse(variables)
	if err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	m, err := launch.MachineOf(store)
	if err != nil {
		return nil, err
	}
	m.SecureBoot = d.Shielded.SecureBoot
	return predict(ctx, m, image.File, disk.Format(image.Format))
}

// predict says what a machine will measure that boots from a disk.
func predict(ctx context.Context, m *launch.Machine, file string, format disk.Format) (_ *Forecast, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not stall us
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	image, err := disk.Open(f, info.Size(), format)
	if err != nil {
		return nil, fmt.Errorf("disk %q: %w", file, err)
	}
	read, err := launch.ReadDisk(image)
	if err != nil {
		return nil, fmt.Errorf("disk %q: %w", file, err)
	}
	p, err := launch.Predict(ctx, m, read)
	if err != nil {
		return nil, fmt.Errorf("disk %q: %w", file, err)
	}
	return &Forecast{file, format, m, p}, nil
}

// CheckDisk says of a disk that is in no use whether it boots under a key set, with secure
// boot or without, and what that will measure.
func (r *Root) CheckDisk(ctx context.Context, file string, format disk.Format, keyset string, secureBoot bool) (*Forecast, error) {
	set, err := r.cfg.Keyset(keyset)
	if err != nil {
		return nil, fmt.Errorf("key set %q: %w", keyset, err)
	}
	return predict(ctx, &launch.Machine{Variables: set.Variables(), SecureBoot: secureBoot}, file, format)
}

// Forecast says of a machine that is not made yet whether it will boot, and what that will
// measure.
func (r *Root) Forecast(ctx context.Context, d *fleet.Definition, variables []byte) (*Forecast, error) {
	return forecast(ctx, d, variables)
}

// bootDisk is the disk that firmware tries first.
func bootDisk(d *fleet.Definition) *fleet.Disk {
	for i := range d.Disks {
		if d.Disks[i].Boot {
			return &d.Disks[i]
		}
	}
	return nil
}

// disksThere refuses a machine with a disk that is not there.
func disksThere(d *fleet.Definition) error {
	for i := range d.Disks {
		if _, err := os.Stat(d.Disks[i].File); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("disk %q: %w", d.Disks[i].File, &StateError{fmt.Sprintf("disks[%d] of the machine is not there", i)})
		}
	}
	return nil
}

// startFault names what is known of a hypervisor that did not start.
func startFault(err error) error {
	if strings.Contains(err.Error(), "Failed to get \"write\" lock") { // QEMU's file-posix.c
		return fmt.Errorf("%w: %w", &StateError{"a disk of the machine is in use by another process"}, err)
	}
	return err
}

// Check says of a machine that is off whether it will boot, and what that will measure.
func (r *Root) Check(ctx context.Context, name string) (*Forecast, error) {
	h, err := r.openOff(ctx, name)
	if err != nil {
		return nil, err
	}
	var variables []byte
	d, err := h.Definition()
	if err == nil {
		variables, err = h.Variables()
	}
	// To read the disk takes long: the home is free meanwhile for who changes the machine.
	if err := errors.Join(err, h.Close()); err != nil {
		return nil, err
	}
	return forecast(ctx, d, variables)
}

// namesWait is how long a report waits for the names of what was measured.
const namesWait = 2 * time.Second

// An expectation is what the machine's disk and variables said, at its start, of the boot
// to come. It is read beside the start of the firmware.
type expectation struct {
	stop  func()
	done  chan *launch.Prediction
	known *launch.Prediction // nil when it could not be read
	asked bool
}

// expect begins to read, until stop is called; a guest's disk may take long.
func (s *supervisor) expect(ctx context.Context, variables []byte) *expectation {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	e := &expectation{done: make(chan *launch.Prediction, 1), stop: stop}
	d := s.definition
	s.serving.Go(func() {
		f, err := forecast(ctx, d, variables)
		if err != nil {
			s.root.cfg.Log.Info("what the machine boots from is not read", slog.String("machine", d.Name), slog.Any("reason", err))
			e.done <- nil
			return
		}
		e.done <- f.Prediction
	})
	return e
}

// prediction waits a moment for what was read; nil when there is nothing.
func (e *expectation) prediction() *launch.Prediction {
	if e == nil {
		return nil
	}
	if !e.asked {
		e.asked = true
		late := time.NewTimer(namesWait)
		defer late.Stop()
		select {
		case e.known = <-e.done:
		case <-late.C:
		}
	}
	return e.known
}

// name names what is measured by what was found on the disk. It says that a file of this
// content was there at the start; its path is the guest's word.
func (e *expectation) name(pcr int, digest []byte) (integrity.Name, bool) {
	p := e.prediction()
	if p == nil {
		return integrity.Name{}, false
	}
	n, ok := p.Find(integrity.Bank, pcr, digest)
	return integrity.Name{Kind: n.Kind, Name: n.Name, Detail: n.Detail, Signer: n.Signer, Proven: true}, ok
}

// name names what is measured: by the machine's own disk and variables, or by the index of
// known components, which is a hint that says who gave it.
func (s *supervisor) name(pcr int, digest []byte) (integrity.Name, bool) {
	if n, ok := s.expected.name(pcr, digest); ok {
		return n, true
	}
	c, ok := s.root.cfg.Components.Find(digest)
	return integrity.Name{Kind: c.Kind, Name: c.Name + " (known by " + c.Source + baseline.HintMark}, ok
}

// refusal is why the machine's own disk is not expected to boot: read by the host, where
// the console's lines are the guest's.
func (e *expectation) refusal() []evidence.Reason {
	p := e.prediction()
	if p == nil || p.Verdict != launch.Refused {
		return nil
	}
	return p.Reasons
}
