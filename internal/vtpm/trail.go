package vtpm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/assay-project/assay/internal/audit"
)

// A Trail is the audit chain of a root, one entry of package audit a line. Its
// writer holds the root's lock; readers need none.
type Trail struct{ path string }

// maxLine bounds a line of the trail in bytes.
const maxLine = 64 << 10

// Append links e to the end of the trail. What a crash left of an entry that was
// being written is cut off, which an entry before e says. With durable, e has
// reached the disk on return.
func (t Trail) append(e audit.Entry, durable bool) (err error) {
	f, err := os.OpenFile(t.path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open audit trail: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, head, torn, err := end(f)
	if err != nil {
		return fmt.Errorf("read the end of the audit trail: %w", err)
	}
	var lines []byte
	if torn > 0 {
		cut := audit.Link(head, audit.Entry{
			Time: e.Time, Actor: "service", Action: "auditTornEvent", Outcome: OutcomeDone,
			Detail: fmt.Appendf(nil, `{"bytes":%d}`, torn),
		})
		lines, head = appendLine(lines, cut), cut.Head()
	}
	lines = appendLine(lines, audit.Link(head, e))
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("write audit trail: %w", err)
	}
	if _, err := f.WriteAt(lines, size); err != nil {
		return fmt.Errorf("write audit trail: %w", errors.Join(err, f.Truncate(size)))
	}
	if durable {
		err = f.Sync()
	}
	return err
}

func appendLine(b []byte, e audit.Entry) []byte {
	line, err := json.Marshal(e)
	if err != nil {
		panic("unreachable: an audit entry does not marshal: " + err.Error())
	}
	return append(append(b, line...), '\n')
}

// end finds how long f is in whole lines, the head of the chain there, and how
// many bytes of an unfinished line follow.
func end(f *os.File) (size int64, head audit.Head, torn int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, head, 0, err
	}
	tail := make([]byte, min(info.Size(), 2*maxLine))
	at := info.Size() - int64(len(tail))
	if _, err := f.ReadAt(tail, at); err != nil {
		return 0, head, 0, err
	}
	last := bytes.LastIndexByte(tail, '\n')
	torn = int64(len(tail) - last - 1)
	if last < 0 {
		if at > 0 {
			return 0, head, 0, &audit.BreakError{Why: fmt.Sprintf("the last %d bytes of the trail are no entry", len(tail))}
		}
		return 0, head, torn, nil
	}
	var e audit.Entry
	if err := json.Unmarshal(tail[bytes.LastIndexByte(tail[:last], '\n')+1:last], &e); err != nil {
		return 0, head, 0, &audit.BreakError{Why: fmt.Sprintf("the last line of the trail is no entry: %v", err)}
	}
	return at + int64(last) + 1, e.Head(), torn, nil
}

// AuditHead is the last whole entry.
func (t Trail) AuditHead(context.Context) (audit.Head, error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Head{}, nil
	}
	if err != nil {
		return audit.Head{}, err
	}
	defer f.Close()
	_, head, _, err := end(f)
	return head, err
}

// AuditEntries reads in order, above the sequence number after.
func (t Trail) AuditEntries(ctx context.Context, after uint64, limit int) ([]audit.Entry, error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &trailReader{lines: bufio.NewReaderSize(f, maxLine)}
	var out []audit.Entry
	for len(out) < limit && ctx.Err() == nil {
		e, err := r.next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if e.Seq > after {
			out = append(out, e)
		}
	}
	return out, ctx.Err()
}

// trailReader reads a trail from its start.
type trailReader struct {
	lines *bufio.Reader
	n     uint64 // entries read
}

// next returns the next entry. A last line without an end is not one yet.
func (r *trailReader) next() (audit.Entry, error) {
	line, err := r.lines.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return audit.Entry{}, io.EOF
	case errors.Is(err, bufio.ErrBufferFull):
		return audit.Entry{}, &audit.BreakError{Seq: r.n + 1, Why: fmt.Sprintf("is longer than %d bytes", maxLine)}
	case err != nil:
		return audit.Entry{}, err
	}
	r.n++
	var e audit.Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return audit.Entry{}, &audit.BreakError{Seq: r.n, Why: "was altered: it cannot be read"}
	}
	return e, nil
}

// Check proves the trail whole, as [audit.Check] does.
func (t Trail) Check(ctx context.Context, noted []audit.Head, progress func(seq uint64)) (audit.Head, error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Check(ctx, t, noted, progress)
	}
	if err != nil {
		return audit.Head{}, err
	}
	defer f.Close()
	return audit.Check(ctx, &trailWalk{Trail: t, r: trailReader{lines: bufio.NewReaderSize(f, maxLine)}}, noted, progress)
}

// trailWalk is a trail whose pages are read in order, once each.
type trailWalk struct {
	Trail
	r trailReader
}

// AuditEntries reads the next page.
func (w *trailWalk) AuditEntries(ctx context.Context, _ uint64, limit int) ([]audit.Entry, error) {
	var out []audit.Entry
	for len(out) < limit {
		e, err := w.r.next()
		if errors.Is(err, io.EOF) {
			return out, ctx.Err()
		}
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, ctx.Err()
}
