package route

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/strictjson"
)

// A cursor is how far a route has come.
type cursor struct {
	Version   int       `json:"version"`
	Next      uint64    `json:"next,string"` // number of the change that comes
	Failures  int       `json:"failures,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	Problem   string    `json:"problem,omitempty"`
	// Lost is set while the last change before Next was given up.
	Lost bool `json:"lost,omitempty"`
}

func cursorFile(s *finding.Store, name string) string {
	return filepath.Join(deliveryDir(s), name+".json")
}

var cursorRules = strictjson.Rules{Bytes: 4 << 10, Depth: 2, Members: 8, Values: 16, FoldNames: true}

// cursor reads how far a route has come. A new one begins with what is queued, and so
// does one whose file is damaged: a change arrives once at least.
func (d *Deliverer) cursor(r *Route) (*cursor, error) {
	name := cursorFile(d.Store, r.Name)
	text, err := finding.ReadFile(name, int64(cursorRules.Bytes))
	if errors.Is(err, fs.ErrNotExist) {
		return &cursor{Version: formatVersion}, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := parseCursor(text)
	if err != nil {
		d.Log.Warn("begin with the queue again", slog.String("route", r.Name), slog.String("error", err.Error()))
		return &cursor{Version: formatVersion}, nil
	}
	return c, nil
}

func parseCursor(text []byte) (*cursor, error) {
	if _, err := strictjson.Parse(text, cursorRules); err != nil {
		return nil, fmt.Errorf("%w: %w", finding.ErrFormat, err)
	}
	c := new(cursor)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", finding.ErrFormat, err)
	}
	if c.Version != formatVersion || c.Failures < 0 {
		return nil, fmt.Errorf("%w: version %d, %d failures", finding.ErrFormat, c.Version, c.Failures)
	}
	return c, nil
}

// keep writes a cursor.
func (d *Deliverer) keep(r *Route, c *cursor) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return durable.WriteFile(cursorFile(d.Store, r.Name), append(text, '\n'), 0o600)
}

// The file of what was given up, and the one before it.
const (
	deadFile    = "dead-letter.jsonl"
	oldDeadFile = "dead-letter.old.jsonl"
	maxDead     = 16 << 20
)

// dead is a line of that file.
type dead struct {
	Time     time.Time      `json:"time"`
	Route    string         `json:"route"`
	Attempts int            `json:"attempts"`
	Problem  string         `json:"problem"`
	Origin   string         `json:"origin"`
	Change   finding.Change `json:"change"`
}

// bury gives a change up: first it is written down, then the route goes on.
func (d *Deliverer) bury(ctx context.Context, r *Route, c *cursor, m *message) error {
	text, err := json.Marshal(dead{d.Now(), r.Name, c.Failures, c.Problem, m.origin, m.change})
	if err != nil {
		return err
	}
	d.grave.Lock()
	err = appendLine(deliveryDir(d.Store), text)
	d.grave.Unlock()
	if err != nil {
		return err
	}
	lost := fmt.Errorf("a change was given up: %s", c.Problem)
	*c = cursor{Version: formatVersion, Next: m.change.Number + 1, Lost: true}
	if err := d.keep(r, c); err != nil {
		return err
	}
	return d.tell(ctx, r, true, lost)
}

// appendLine adds a durable line to the dead letters. A line that a crash tore off is
// closed first.
func appendLine(dir string, text []byte) (err error) {
	name := filepath.Join(dir, deadFile)
	if info, err := os.Lstat(name); err == nil && info.Size()+int64(len(text)) > maxDead {
		if err := os.Rename(name, filepath.Join(dir, oldDeadFile)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if last := make([]byte, 1); info.Size() > 0 {
		if _, err := f.ReadAt(last, info.Size()-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	return durable.Synced(f.Sync())
}
