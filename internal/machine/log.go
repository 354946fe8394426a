package machine

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/seal"
)

// Limits of the log of events. A guest that restarts for ever makes events for ever:
// the file before the current one is kept, and no more.
const (
	maxEventLine = 1 << 20
	maxEventFile = 16 << 20
)

// oldEventsFile has the events before those of eventsFile.
const oldEventsFile = "events.old.sealed"

// logHeader begins the file, before the number of its first event.
const logHeader = "assay machine events 1 "

// An eventLog is a file of events: a header, and a line for each event, sealed under
// its number, so that none can be altered, moved, or left out between others. A last
// line that a crash tore was not acknowledged and is dropped.
type eventLog struct {
	file  logFile
	first int   // number of the file's first event
	next  int   // number of the event that comes
	size  int64 // of the file, bytes
	// dropped is set when the last line was whole and did not open.
	dropped bool
	// unknown is why it is not known what the file holds; nil while it is.
	unknown error
}

// A logFile is what a log needs of a file.
type logFile interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// eventContext binds a line to its place.
func (h *Home) eventContext(n int) seal.Context {
	c := h.context(eventsFile)
	c.Purpose += " " + strconv.Itoa(n)
	return c
}

// openLog opens the log for more. A last line that does not open is dropped: of a write
// that a crash cut short any part may be missing, its beginning too.
func (h *Home) openLog() error {
	name := filepath.Join(h.dir, eventsFile)
	text, err := readFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	if err != nil {
		return err
	}
	first, lines, err := splitLog(text)
	if err != nil {
		return err
	}
	l := &eventLog{first: first, next: first + len(lines), size: int64(bytes.LastIndexByte(text, '\n') + 1)}
	if n := len(lines) - 1; n >= 0 && l.size == int64(len(text)) {
		if _, err := h.event(first+n, lines[n]); err != nil {
			l.next, l.size, l.dropped = l.next-1, l.size-int64(len(lines[n])+1), true
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if l.size < int64(len(text)) {
		if err := errors.Join(f.Truncate(l.size), f.Sync()); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	l.file = f
	h.log = l
	return nil
}

// splitLog returns the number of the first event and the whole lines of all.
func splitLog(text []byte) (first int, lines [][]byte, err error) {
	end := bytes.LastIndexByte(text, '\n')
	head, rest, _ := bytes.Cut(text[:end+1], []byte("\n"))
	number, ok := strings.CutPrefix(string(head), logHeader)
	if first, err = strconv.Atoi(number); !ok || err != nil || first < 0 {
		return 0, nil, fmt.Errorf("%s: line 1 is no header: %w", eventsFile, ErrDamaged)
	}
	if len(rest) == 0 {
		return first, nil, nil
	}
	return first, bytes.Split(rest[:len(rest)-1], []byte("\n")), nil
}

func logHead(first int) []byte { return fmt.Appendf(nil, "%s%d\n", logHeader, first) }

// close ends a log, which may have none or no longer a file.
func (l *eventLog) close() error {
	if l == nil || l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// errNoLog is a home whose log is not open.
var errNoLog = fmt.Errorf("log event: %s could not be opened: %w", eventsFile, ErrDamaged)

// Log keeps an event, which is durable when it returns.
func (h *Home) Log(n integrity.Notice) error {
	if h.log == nil {
		return errNoLog
	}
	n.Bound()
	line, err := h.line(h.log.next, &n)
	if err != nil {
		return err
	}
	if h.log.size+int64(len(line)) > maxEventFile {
		if err := h.turnLog(); err != nil {
			return fmt.Errorf("log event: %w", err)
		}
	}
	if err := h.log.add(line); err != nil {
		return fmt.Errorf("log event: %w", err)
	}
	return nil
}

// line is an event as its file has it.
func (h *Home) line(number int, n *integrity.Notice) ([]byte, error) {
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Seal(h.random, h.key, h.eventContext(number), text)
	if err != nil {
		return nil, err
	}
	line := append(base64.StdEncoding.AppendEncode(nil, sealed), '\n')
	if len(line) > maxEventLine {
		return nil, fmt.Errorf("an event of %d bytes is more than %d", len(line), maxEventLine)
	}
	return line, nil
}

// add puts a line at the end, or leaves the file as it was.
func (l *eventLog) add(line []byte) error {
	if l.unknown != nil {
		return fmt.Errorf("the log takes no more events until it is opened anew: %w", l.unknown)
	}
	_, err := l.file.WriteAt(line, l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		// What is there of the line must become neither an event nor the beginning of one.
		l.unknown = l.file.Truncate(l.size)
		return errors.Join(err, l.unknown)
	}
	l.next++
	l.size += int64(len(line))
	return nil
}

// turnLog begins another file. The old one keeps its name until it is complete.
func (h *Home) turnLog() error {
	name := filepath.Join(h.dir, eventsFile)
	text, err := readFile(name)
	if err != nil {
		return err
	}
	// Only the file that is open takes the place of the old events.
	if first, _, err := splitLog(text); err != nil || first != h.log.first || int64(len(text)) != h.log.size {
		return errors.Join(err, fmt.Errorf("%s is not the file that is open: %w", eventsFile, ErrDamaged))
	}
	if err := durable.WriteFile(filepath.Join(h.dir, oldEventsFile), text, 0o600); err != nil {
		return err
	}
	// After a failure the name holds one file or the other: the one that it holds is opened.
	return h.logAnew(durable.WriteFile(name, logHead(h.log.next), 0o600))
}

// logAnew opens the log whose file was to be replaced; err is why it was not. A log that cannot
// be opened takes no more events, and the home knows the number of the next all the same.
func (h *Home) logAnew(err error) error {
	before := h.log
	err = errors.Join(err, before.close())
	opened := h.openLog()
	if opened != nil && before != nil {
		before.unknown = opened
	}
	return errors.Join(err, opened)
}

// Events reads what is kept of the log, the oldest first. With an error come the events
// before what is damaged.
func (h *Home) Events() ([]integrity.Notice, error) {
	first, old, err := h.eventsOf(oldEventsFile)
	if errors.Is(err, fs.ErrNotExist) {
		first, err = 0, nil // the log begins with the first event
	}
	if err != nil {
		return old, err
	}
	next, events, err := h.eventsOf(eventsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return old, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	if next > first+len(old) {
		return old, errors.Join(err, fmt.Errorf("%s begins with event %d, and the ones from %d are gone: %w", eventsFile, next, first+len(old), ErrDamaged))
	}
	// A crash between the two writes of [Home.turnLog] leaves the same events in both.
	return append(old[:max(next-first, 0)], events...), err
}

// eventsOf reads one file, up to the first line that does not open.
func (h *Home) eventsOf(file string) (first int, out []integrity.Notice, err error) {
	text, err := readFile(filepath.Join(h.dir, file))
	if err != nil {
		return 0, nil, err
	}
	first, lines, err := splitLog(text)
	if err != nil {
		return 0, nil, err
	}
	out = make([]integrity.Notice, 0, len(lines))
	for i, line := range lines {
		n, err := h.event(first+i, line)
		if err != nil {
			return first, out, fmt.Errorf("%s: event %d: %w: %w", file, first+i, err, ErrDamaged)
		}
		out = append(out, *n)
	}
	return first, out, nil
}

func (h *Home) event(number int, line []byte) (*integrity.Notice, error) {
	sealed, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if err != nil {
		return nil, err
	}
	e, err := seal.Parse(sealed)
	if err != nil {
		return nil, err
	}
	text, err := e.Open(h.key, h.eventContext(number))
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	out := new(integrity.Notice)
	return out, json.Unmarshal(text.Expose(), out)
}

// setLog makes the log of a home that has no card yet hold these events, in the files in
// which [Home.Log] would have put them: the last two are kept.
func (h *Home) setLog(events []integrity.Notice) error {
	old, now := []byte(nil), logHead(0)
	for n := range events {
		line, err := h.line(n, &events[n])
		if err != nil {
			return err
		}
		if len(now)+len(line) > maxEventFile {
			old, now = now, logHead(n)
		}
		now = append(now, line...)
	}
	if old != nil {
		if err := durable.WriteFile(filepath.Join(h.dir, oldEventsFile), old, 0o600); err != nil {
			return err
		}
	}
	return h.logAnew(durable.WriteFile(filepath.Join(h.dir, eventsFile), now, 0o600))
}

// shelved is the content of parcelFile. Before there was a Came it was the parcel alone.
type shelved struct {
	Came   time.Time `json:"came"`
	Event  int       `json:"event"` // number of the first that is of this host
	Parcel []byte    `json:"parcel"`
}

// shelve keeps what came with a machine, whose log has what happened elsewhere.
func (h *Home) shelve(parcel []byte, came time.Time) error {
	text, err := json.Marshal(shelved{came.UTC(), h.log.next, parcel})
	if err != nil {
		return err
	}
	return h.write(parcelFile, text)
}

// unshelve reads what came with a machine, and what happened to it since.
func (h *Home) unshelve(text []byte) (parcel []byte, since Stay) {
	var was shelved
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&was); err != nil {
		return text, Stay{} // an older version wrote it
	}
	since.Began = was.Came
	events, err := h.Events()
	if err != nil { // damage is told where the log is read; no finding waits for it
		return was.Parcel, since
	}
	here := len(events) - (h.log.next - was.Event) // less than 0 where the log has lost some
	since.Events = events[min(max(here, 0), len(events)):]
	return was.Parcel, since
}

// wentBack is the event of a machine that is what it was.
func (r *Root) wentBack(h *Home, s *Snapshot, g *goingBack) integrity.Notice {
	what := "disks and variables are those"
	if g.Memory {
		what = "memory, disks and variables are those"
	}
	n := integrity.Notice{
		Type: integrity.EventWentBack, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: s.Boot, Actor: g.Actor,
		Reasons: []evidence.Reason{reason(codeWentBack, fmt.Sprintf("%s of snapshot %q, made at %s by %s in boot %d", what, s.Name, s.Made.Format(time.RFC3339), s.By, s.Boot))},
	}
	if s.TPM > 0 {
		n.Reasons = append(n.Reasons, reason(codeTPMBack, fmt.Sprintf("the TPM was at generation %d of its state and is back at %d: what it counted and stored since is undone", g.Before, s.TPM)))
	}
	return n
}

// turnKey is that of the turn in a context.
type turnKey struct{}

// WithTurn has whoever asks a machine for something that may be long, with the context that
// is returned, call enter before it takes any of it: once the answer begins to come, so
// that nobody waits for a silent supervisor in his turn. An error of enter is that of the
// question. It is called for each question.
func WithTurn(ctx context.Context, enter func() error) context.Context {
	return context.WithValue(ctx, turnKey{}, enter)
}

// turn waits for the turn of a request whose answer may be long.
func (q *request) turn(ctx context.Context) error {
	if enter, ok := ctx.Value(turnKey{}).(func() error); ok && q.most() == maxLong {
		return enter()
	}
	return nil
}
