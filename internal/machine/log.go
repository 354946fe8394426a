package machine

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
// line that a crash tore off was not acknowledged and is dropped.
type eventLog struct {
	file *os.File
	next int   // number of the event that comes
	size int64 // of the file, bytes
}

// eventContext binds a line to its place.
func (h *Home) eventContext(n int) seal.Context {
	c := h.context(eventsFile)
	c.Purpose += " " + strconv.Itoa(n)
	return c
}

// openLog opens the log for more.
func (h *Home) openLog() error {
	name := filepath.Join(h.dir, eventsFile)
	text, err := readFile(name)
	if err != nil {
		return err
	}
	first, lines, err := splitLog(text)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	end := int64(bytes.LastIndexByte(text, '\n') + 1)
	if end < int64(len(text)) {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, 0)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	h.log = &eventLog{f, first + len(lines), end}
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

func (l *eventLog) close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}

// Log keeps an event, which is durable when it returns.
func (h *Home) Log(n integrity.Notice) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	sealed, err := seal.Seal(h.random, h.key, h.eventContext(h.log.next), text)
	if err != nil {
		return err
	}
	line := append(base64.StdEncoding.AppendEncode(nil, sealed), '\n')
	if len(line) > maxEventLine {
		return fmt.Errorf("an event of %d bytes is more than %d", len(line), maxEventLine)
	}
	if h.log.size+int64(len(line)) > maxEventFile {
		if err := h.turnLog(); err != nil {
			return fmt.Errorf("log event: %w", err)
		}
	}
	if _, err := h.log.file.Write(line); err != nil {
		// What is there of the line must not become the beginning of the next.
		return fmt.Errorf("log event: %w", errors.Join(err, h.log.file.Truncate(h.log.size)))
	}
	if err := h.log.file.Sync(); err != nil {
		return fmt.Errorf("log event: %w", err)
	}
	h.log.next++
	h.log.size += int64(len(line))
	return nil
}

// turnLog begins another file. The old one keeps its name until it is complete.
func (h *Home) turnLog() error {
	name, next := filepath.Join(h.dir, eventsFile), h.log.next
	text, err := readFile(name)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(h.dir, oldEventsFile), text, 0o600); err != nil {
		return err
	}
	if err := durable.WriteFile(name, logHead(next), 0o600); err != nil {
		return err
	}
	if err := h.log.close(); err != nil {
		return err
	}
	return h.openLog()
}

// Events reads what is kept of the log, the oldest first.
func (h *Home) Events() ([]integrity.Notice, error) {
	old, err := h.eventsOf(oldEventsFile, -1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	events, err := h.eventsOf(eventsFile, len(old))
	return append(old, events...), err
}

// eventsOf reads one file.
func (h *Home) eventsOf(file string, before int) ([]integrity.Notice, error) {
	text, err := readFile(filepath.Join(h.dir, file))
	if err != nil {
		return nil, err
	}
	first, lines, err := splitLog(text)
	if err != nil {
		return nil, err
	}
	if before == 0 && first != 0 {
		return nil, fmt.Errorf("%s begins with event %d, and the ones before are gone: %w", file, first, ErrDamaged)
	}
	out := make([]integrity.Notice, 0, len(lines))
	for i, line := range lines {
		n, err := h.event(first+i, line)
		if err != nil {
			return nil, fmt.Errorf("%s: event %d: %w: %w", file, first+i, err, ErrDamaged)
		}
		out = append(out, *n)
	}
	return out, nil
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
