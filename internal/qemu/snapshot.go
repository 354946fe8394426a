package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// ErrNoSnapshot is a disk that cannot have snapshots: they lie inside a qcow2 image.
var ErrNoSnapshot = errors.New("only a qcow2 disk can have snapshots: qemu-img convert -O qcow2 makes one of a raw disk")

// Kept says which disks a snapshot of a machine holds: all that the guest may write and
// that stay. The error is of one that cannot be held.
func Kept(disks []Disk) ([]int, error) {
	var out []int
	for i := range disks {
		switch d := &disks[i]; {
		case d.ReadOnly || d.Ephemeral:
		case d.Format != "qcow2":
			return nil, fmt.Errorf("disk %q: %w", d.File, ErrNoSnapshot)
		default:
			out = append(out, i)
		}
	}
	return out, nil
}

// SnapshotDisks makes a snapshot of the disks with these numbers, of all or of none
// (QMP, transaction). The machine should be paused.
func (p *Process) SnapshotDisks(ctx context.Context, disks []int, tag string) error {
	if len(disks) == 0 {
		return nil
	}
	var actions []any
	for _, i := range disks {
		actions = append(actions, map[string]any{"type": "blockdev-snapshot-internal-sync", "data": snapshotOf(i, tag)})
	}
	return p.monitor.Do(ctx, "transaction", map[string]any{"actions": actions}, nil)
}

// DropSnapshot removes a snapshot from the disks that have it.
func (p *Process) DropSnapshot(ctx context.Context, disks []int, tag string) error {
	var errs []error
	for _, i := range disks {
		err := p.monitor.Do(ctx, "blockdev-snapshot-delete-internal-sync", snapshotOf(i, tag), nil)
		if err != nil && !strings.Contains(err.Error(), "not found") && !strings.Contains(err.Error(), "does not exist") {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func snapshotOf(disk int, tag string) map[string]any {
	return map[string]any{"device": fmt.Sprintf("disk%d", disk), "name": tag}
}

// Images is the program that changes the images of machines which do not run. Its zero
// value is qemu-img of the path.
type Images struct{ Program string }

// The operations of qemu-img snapshot.
const (
	makeSnapshot  = "-c"
	applySnapshot = "-a"
	dropSnapshot  = "-d"
)

// Snapshot makes a snapshot of a disk.
func (m Images) Snapshot(ctx context.Context, d *Disk, tag string) error {
	return m.snapshot(ctx, makeSnapshot, d, tag)
}

// Apply sets a disk back to what it was in a snapshot.
func (m Images) Apply(ctx context.Context, d *Disk, tag string) error {
	return m.snapshot(ctx, applySnapshot, d, tag)
}

// Drop removes a snapshot from a disk, if it has it.
func (m Images) Drop(ctx context.Context, d *Disk, tag string) error {
	tags, err := m.Tags(ctx, d)
	if err != nil || !slices.Contains(tags, tag) {
		return err
	}
	return m.snapshot(ctx, dropSnapshot, d, tag)
}

func (m Images) snapshot(ctx context.Context, what string, d *Disk, tag string) error {
	_, err := m.run(ctx, d, "snapshot", what, tag)
	return err
}

// Tags are the names of the snapshots that a disk has.
func (m Images) Tags(ctx context.Context, d *Disk) ([]string, error) {
	return m.tags(ctx, d)
}

// TagsInUse are those of a disk that a machine may have.
func (m Images) TagsInUse(ctx context.Context, d *Disk) ([]string, error) {
	return m.tags(ctx, d, "--force-share")
}

func (m Images) tags(ctx context.Context, d *Disk, more ...string) ([]string, error) {
	out, err := m.run(ctx, d, append([]string{"info", "--output=json"}, more...)...)
	if err != nil {
		return nil, err
	}
	var info struct {
		Snapshots []struct {
			Name string `json:"name"`
		} `json:"snapshots"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return nil, fmt.Errorf("answer of qemu-img about %q: %w", d.File, err)
	}
	var tags []string
	for _, s := range info.Snapshots {
		tags = append(tags, s.Name)
	}
	return tags, nil
}

// run runs qemu-img on one image. Its format is said and the image looked at before:
// what a guest wrote must not lead to another file.
func (m Images) run(ctx context.Context, d *Disk, args ...string) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("disk %q: %w", d.File, err)
	}
	if err := checkImage("", d.File, nil); err != nil {
		return nil, fmt.Errorf("disk %q: %w", d.File, err)
	}
	return m.exec(ctx, d, args[0], append(args[1:], "--image-opts", option("driver="+d.Format, "file.driver=file", "file.filename="+d.File))...)
}

// Create makes an empty disk of so many bytes, which must not be there.
func (m Images) Create(ctx context.Context, d *Disk, size int64) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("disk %q: %w", d.File, err)
	}
	// Also keeps the name from being another file's.
	f, err := os.OpenFile(d.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if d.Format == "raw" {
		err = f.Truncate(size)
	}
	if err = errors.Join(err, f.Close()); err != nil || d.Format == "raw" {
		return err
	}
	_, err = m.exec(ctx, d, "create", "-q", "-f", d.Format, d.File, fmt.Sprint(size))
	return err
}

func (m Images) exec(ctx context.Context, d *Disk, what string, args ...string) ([]byte, error) {
	program := m.Program
	if program == "" {
		program = "qemu-img"
	}
	cmd := exec.CommandContext(ctx, program, append([]string{what}, args...)...)
	cmd.WaitDelay = time.Second
	said := new(tail)
	cmd.Stderr = said
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("qemu-img %s of disk %q: %w%s", what, d.File, err, said)
	}
	return out.Bytes(), nil
}
