package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrCopy is a disk that was not copied; it is wrapped with QEMU's words.
var ErrCopy = errors.New("the disk is not copied")

// The states of a job (QMP, JobStatus) that matter: it makes a pause, before it was ready or
// since, or has ended and stays to be asked for.
const (
	jobPaused    = "paused"
	jobStandby   = "standby"
	jobConcluded = "concluded"
)

// The states of a job's disks (QMP, BlockDeviceIoStatus) that say something: none of them
// failed, or one is full.
const (
	disksOK      = "ok"
	disksNoSpace = "nospace"
)

// Sizes are how many bytes the guest sees of each disk, by its number.
func (p *Process) Sizes(ctx context.Context) (map[int]int64, error) {
	blocks, err := p.blocks(ctx)
	out := map[int]int64{}
	for number, b := range blocks {
		out[number] = b.Inserted.Image.Size
	}
	return out, err
}

// A block is what QEMU knows of a disk (QMP, BlockInfo).
type block struct {
	Device   string `json:"device"`
	Inserted *struct {
		Node  string `json:"node-name"`
		Image struct {
			Size int64 `json:"virtual-size"`
		} `json:"image"`
	} `json:"inserted"`
}

// blocks are the disks of the machine.
func (p *Process) blocks(ctx context.Context) (map[int]block, error) {
	var list []block
	if err := p.ask(ctx, "query-block", nil, &list); err != nil {
		return nil, err
	}
	out := map[int]block{}
	for _, b := range list {
		var number int
		if n, _ := fmt.Sscanf(b.Device, "disk%d", &number); n == 1 && b.Inserted != nil && b.Device == deviceOf(number) {
			out[number] = b
		}
	}
	return out, nil
}

func deviceOf(disk int) string { return fmt.Sprintf("disk%d", disk) }

// Export lets others write disks of a machine that waits for its memory, over NBD at a Unix
// socket that it makes: so many connections, and these disks by the names of their devices.
func (p *Process) Export(ctx context.Context, socket string, disks []int) error {
	blocks, err := p.blocks(ctx)
	if err != nil {
		return err
	}
	start := map[string]any{"addr": map[string]any{"type": "unix", "data": map[string]any{"path": socket}}, "max-connections": len(disks)}
	if err := p.ask(ctx, "nbd-server-start", start, nil); err != nil {
		return err
	}
	for _, disk := range disks {
		b, ok := blocks[disk]
		if !ok {
			return fmt.Errorf("%w: QEMU has no %s", ErrCopy, deviceOf(disk))
		}
		export := map[string]any{"type": "nbd", "id": deviceOf(disk), "name": deviceOf(disk), "node-name": b.Inserted.Node, "writable": true}
		if err := p.ask(ctx, "block-export-add", export, nil); err != nil {
			return err
		}
	}
	return nil
}

// EndExport ends all connections of [Process.Export]: what came over them has been written,
// and nothing more can come.
func (p *Process) EndExport(ctx context.Context) error {
	return p.ask(ctx, "nbd-server-stop", nil, nil)
}

// copyOf is what the other host's disk, and the job that writes it, are called here.
func copyOf(disk int) string { return fmt.Sprintf("copy%d", disk) }

// Copy begins to copy a disk into the one of the same number that is exported at a Unix
// socket, and goes on with what the guest writes. What fails there does not reach the guest.
func (p *Process) Copy(ctx context.Context, disk int, socket string) error {
	there := map[string]any{
		"driver": "nbd", "node-name": copyOf(disk), "export": deviceOf(disk), "discard": "unmap",
		"server": map[string]any{"type": "unix", "path": socket},
	}
	if err := p.ask(ctx, "blockdev-add", there, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrCopy, err)
	}
	// The job stays when it has ended, so that how it did can be asked for. Of what fails it
	// makes a pause: one that ends by itself while QEMU stops the guest leaves its node above
	// the disk's, which can never be copied again (seen in QEMU 7.2).
	job := map[string]any{
		"job-id": copyOf(disk), "device": deviceOf(disk), "target": copyOf(disk), "sync": "full", "auto-dismiss": false,
		"on-source-error": "stop", "on-target-error": "stop",
	}
	if err := p.ask(ctx, "blockdev-mirror", job, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrCopy, err)
	}
	return nil
}

// A CopyState is how far the copy of a disk has come.
type CopyState struct {
	Disk int
	// Done and Total are in bytes; a guest that writes makes both grow.
	Done, Total int64
	// Ready is set when all that the disk had was copied, and what the guest writes follows.
	Ready bool

	ended bool
	why   error // it failed
}

// A blockJob is what QEMU says of a job (QMP, BlockJobInfo).
type blockJob struct {
	ID     string `json:"device"`
	Status string `json:"status"`
	Ready  bool   `json:"ready"`
	Paused bool   `json:"paused"`
	Done   int64  `json:"offset"`
	Total  int64  `json:"len"`
	Disks  string `json:"io-status"`
	Error  string `json:"error"`
}

// copyState is what a job says of the copy of a disk; ok is false for any other job.
func (j *blockJob) copyState() (c CopyState, ok bool) {
	if n, _ := fmt.Sscanf(j.ID, "copy%d", &c.Disk); n != 1 || j.ID != copyOf(c.Disk) {
		return c, false
	}
	c.Done, c.Total, c.Ready, c.ended = j.Done, j.Total, j.Ready, j.Status == jobConcluded
	var why string
	switch {
	case j.Error != "":
		why = fmt.Sprintf("QEMU says %.300q", j.Error)
	case j.Disks == disksNoSpace:
		why = "there is no room for it on the other host"
	case j.Disks != disksOK, j.Paused && (j.Status == jobPaused || j.Status == jobStandby): // the disks are "ok" again when the guest goes on
		why = "it cannot be read here, or not be written on the other host"
	default:
		return c, true
	}
	c.why = fmt.Errorf("%w: %s: %s", ErrCopy, deviceOf(c.Disk), why)
	return c, true
}

// Copies are the copies of the machine's disks that have begun. An error is also one of them
// that failed.
func (p *Process) Copies(ctx context.Context) ([]CopyState, error) {
	list, err := p.copies(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.why != nil {
			return nil, c.why
		}
		if c.ended {
			return nil, fmt.Errorf("%w: the copy of %s has ended", ErrCopy, deviceOf(c.Disk))
		}
	}
	return list, nil
}

func (p *Process) copies(ctx context.Context) ([]CopyState, error) {
	var list []blockJob
	if err := p.ask(ctx, "query-block-jobs", nil, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCopy, err)
	}
	var out []CopyState
	for i := range list {
		if c, ok := list[i].copyState(); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// EndCopies completes the copies of a machine that stands still: when it returns, they have
// all that its disks have, and that is on the disks there (NBD_CMD_FLUSH). Before a copy is
// ready it cannot be completed.
func (p *Process) EndCopies(ctx context.Context) error {
	list, err := p.Copies(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if !c.Ready {
			return fmt.Errorf("%w: %s is not ready", ErrCopy, deviceOf(c.Disk))
		}
		// Without force, a mirror that is ready ends when both disks are the same.
		if err := p.ask(ctx, "block-job-cancel", map[string]any{"device": copyOf(c.Disk), "force": false}, nil); err != nil {
			return fmt.Errorf("%w: %w", ErrCopy, err)
		}
	}
	if list, err = p.ended(ctx, true); err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		errs = append(errs, c.why)
		if c.Done != c.Total {
			errs = append(errs, fmt.Errorf("%w: %s: %d of %d bytes", ErrCopy, deviceOf(c.Disk), c.Done, c.Total))
		}
	}
	return errors.Join(errors.Join(errs...), p.dropCopies(ctx, list))
}

// ended waits until all copies have ended, however. Well is set where one that has failed
// ends the wait: it goes on only when it is told to.
func (p *Process) ended(ctx context.Context, well bool) ([]CopyState, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		list, err := p.copies(ctx)
		if err != nil {
			return nil, err
		}
		left := 0
		for _, c := range list {
			if c.ended {
				continue
			}
			if well && c.why != nil {
				return nil, c.why
			}
			left++
		}
		if left == 0 {
			return list, nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return nil, fmt.Errorf("%w: QEMU ended", ErrCopy)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrCopy, context.Cause(ctx))
		}
	}
}

// dropCopies forgets jobs that have ended, and closes their connections.
func (p *Process) dropCopies(ctx context.Context, list []CopyState) error {
	var errs []error
	for _, c := range list {
		errs = append(errs,
			p.ask(ctx, "job-dismiss", map[string]any{"id": copyOf(c.Disk)}, nil),
			p.ask(ctx, "blockdev-del", map[string]any{"node-name": copyOf(c.Disk)}, nil))
	}
	return errors.Join(errs...)
}

// CancelCopies ends what there is of copies of these disks, wherever they are: the machine's
// own disks are as if there had been none.
func (p *Process) CancelCopies(ctx context.Context, disks []int) error {
	list, err := p.copies(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if !c.ended { // one that ends meanwhile is looked at below
			p.ask(ctx, "block-job-cancel", map[string]any{"device": copyOf(c.Disk), "force": true}, nil) //nolint:errcheck // see above
		}
	}
	if list, err = p.ended(ctx, false); err != nil {
		return err
	}
	for _, c := range list {
		if err := p.ask(ctx, "job-dismiss", map[string]any{"id": copyOf(c.Disk)}, nil); err != nil {
			return err
		}
	}
	var errs []error
	for _, disk := range disks {
		err := p.ask(ctx, "blockdev-del", map[string]any{"node-name": copyOf(disk)}, nil)
		if err != nil && !strings.Contains(err.Error(), "Failed to find node") { // it was never added
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
