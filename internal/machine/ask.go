package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// Stop stops a machine that runs: its guest is asked to, and after a while it is ended.
// With force it is ended at once, and so is a hypervisor without a supervisor. It returns
// when the machine has ended.
func (r *Root) Stop(ctx context.Context, actor, name string, force bool) error {
	card, err := r.Card(name)
	if err != nil {
		return err
	}
	_, _, err = r.call(ctx, name, request{Verb: verbStop, Actor: actor, Force: force}, nil)
	if err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	if err != nil {
		f, ferr := r.found(card)
		if ferr == nil && f.unknown && force {
			return r.forget(ctx, name)
		}
		if ferr != nil || !f.alive {
			return errors.Join(err, ferr)
		}
		if !force {
			return fmt.Errorf("machine %q: its hypervisor, process %d, runs without a supervisor: --force ends it", name, f.PID)
		}
		if err := f.end(); err != nil {
			return err
		}
	}
	return r.awaitEnd(ctx, card)
}

// forget takes an operator's word that no hypervisor of a machine runs.
func (r *Root) forget(ctx context.Context, name string) error {
	h, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(h.forget(), h.Close())
}

// awaitEnd waits until nobody has the home and no hypervisor is left.
func (r *Root) awaitEnd(ctx context.Context, card *Card) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if r.isGone(card) {
			return nil // it went to another host, or was deleted, as soon as it had ended
		}
		if r.hasEnded(ctx, card) {
			// What follows finds the home free.
			if lock, err := durable.LockDir(r.dir(card.Name)); err == nil {
				return lock.Close()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("machine %q has not ended yet: %w", card.Name, ctx.Err())
		}
	}
}

// hasEnded reports whether a machine has neither a supervisor that answers nor a hypervisor.
func (r *Root) hasEnded(ctx context.Context, card *Card) bool {
	_, _, err := r.call(ctx, card.Name, request{Verb: verbStatus}, nil)
	f, ferr := r.found(card)
	return errors.Is(err, errNotRunning) && ferr == nil && !f.alive
}

// Reset presses the reset button of a machine.
func (r *Root) Reset(ctx context.Context, actor, name string) error {
	if _, err := r.Card(name); err != nil {
		return err
	}
	_, _, err := r.call(ctx, name, request{Verb: verbReset, Actor: actor}, nil)
	return err
}

// Console attaches to the first serial port of a machine that runs.
func (r *Root) Console(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	if _, err := r.Card(name); err != nil {
		return nil, err
	}
	conn, in, err := r.call(ctx, name, request{Verb: verbConsole}, nil)
	if err != nil {
		return nil, err
	}
	return &attached{in, conn}, nil
}

// attached is a console: what came with the answer is read first.
type attached struct {
	in io.Reader
	io.WriteCloser
}

func (a *attached) Read(b []byte) (int, error) { return a.in.Read(b) }

// ask has the supervisor of a machine answer, or where there is none, offline, with the
// home opened here.
func ask[T any](ctx context.Context, r *Root, name string, q request, offline func(*Home) (T, error)) (out T, err error) {
	if _, err := r.Card(name); err != nil {
		return out, err
	}
	if _, _, err = r.call(ctx, name, q, &out); !errors.Is(err, errNotRunning) {
		return out, err
	}
	if err := q.turn(ctx); err != nil {
		return out, err
	}
	h, err := r.openSoon(ctx, name)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return offline(h)
}

// Events are what happened to a machine, the oldest first.
func (r *Root) Events(ctx context.Context, name string) ([]integrity.Notice, error) {
	return ask(ctx, r, name, request{Verb: verbReadLog}, (*Home).Events)
}

// ConsoleText is what a machine printed in its last boot, words of the guest.
func (r *Root) ConsoleText(ctx context.Context, name string) (string, error) {
	return ask(ctx, r, name, request{Verb: verbConsoleOf}, func(h *Home) (string, error) {
		text, err := h.open(consoleFile)
		if err != nil {
			return "", err
		}
		defer text.Destroy()
		return string(text.Expose()), nil
	})
}

// History are the baselines and boots of a machine.
func (r *Root) History(ctx context.Context, name string) (*integrity.History, error) {
	text, err := ask(ctx, r, name, request{Verb: verbHistory}, func(h *Home) (*rawHistory, error) {
		history, err := h.History()
		return &rawHistory{history}, err
	})
	if err != nil {
		return nil, err
	}
	return text.History, nil
}

// rawHistory is read as strictly from a supervisor as from the home.
type rawHistory struct{ *integrity.History }

func (h *rawHistory) UnmarshalJSON(b []byte) (err error) {
	h.History, err = integrity.ParseHistory(b)
	return err
}

// Describe says all that is known of a machine. Of one whose supervisor does not answer it
// reads the home, whoever has it.
func (r *Root) Describe(ctx context.Context, name string) (*Description, error) {
	soon, cancel := context.WithTimeout(ctx, r.patience)
	status, err := r.Status(soon, name)
	cancel()
	if unanswering(err) {
		return r.describeSilent(ctx, r.unanswered(name, err))
	}
	if err != nil {
		return nil, err
	}
	if status.State == StateDamaged {
		return &Description{Status: *status}, nil
	}
	return ask(ctx, r, name, request{Verb: verbDescribe}, func(h *Home) (*Description, error) { return describe(h, status) })
}

// describe is a machine by its home.
func describe(h *Home, status *Status) (*Description, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, err
	}
	history, err := h.History()
	if err != nil {
		return nil, err
	}
	status.Shield = &d.Shielded
	return &Description{Status: *status, Definition: d, Baselines: versionsOf(history), LastBoot: last(BootsOf(history))}, nil
}

func (r *Root) describeSilent(ctx context.Context, status *Status) (out *Description, err error) {
	card, err := r.Card(status.Name)
	if err != nil {
		return nil, err
	}
	err = r.glance(ctx, card, func(h *Home) (err error) {
		out, err = describe(h, status)
		return err
	})
	return out, err
}

func last(boots []BootSummary) *BootSummary {
	if len(boots) == 0 {
		return nil
	}
	return &boots[len(boots)-1]
}

// Review says what would change if the latest boot of a machine became its baseline.
func (r *Root) Review(ctx context.Context, name string) (*Review, error) {
	return ask(ctx, r, name, request{Verb: verbReview}, func(h *Home) (*Review, error) {
		m, history, err := r.offline(h)
		if err != nil {
			return nil, err
		}
		return review(m, history)
	})
}

// Approve makes the boot that was reviewed the baseline of a machine.
func (r *Root) Approve(ctx context.Context, actor, name string, seen integrity.Seen, why string) ([]integrity.Notice, error) {
	return r.judgeAnew(ctx, name, request{Verb: verbApprove, Actor: actor, Seen: &seen, Reason: why}, func(m *integrity.Monitor) ([]integrity.Notice, error) {
		return m.Approve(seen, actor, why)
	})
}

// Restore puts an earlier baseline of a machine in force again.
func (r *Root) Restore(ctx context.Context, actor, name string, number int, why string) ([]integrity.Notice, error) {
	return r.judgeAnew(ctx, name, request{Verb: verbRestore, Actor: actor, Baseline: number, Reason: why}, func(m *integrity.Monitor) ([]integrity.Notice, error) {
		return m.Restore(number, actor, why)
	})
}

func (r *Root) judgeAnew(ctx context.Context, name string, q request, change func(*integrity.Monitor) ([]integrity.Notice, error)) ([]integrity.Notice, error) {
	return ask(ctx, r, name, q, func(h *Home) ([]integrity.Notice, error) {
		if err := h.notGiven(); err != nil {
			return nil, err
		}
		m, history, err := r.offline(h)
		if err != nil {
			return nil, err
		}
		notices, err := change(m)
		if err != nil {
			return nil, err
		}
		return r.keepAll(h, history, notices)
	})
}

// keepAll keeps the record of a machine that does not run, and the events that belong to it,
// which it returns where the record is kept.
func (r *Root) keepAll(h *Home, history *integrity.History, notices []integrity.Notice) ([]integrity.Notice, error) {
	if err := h.keep(history, notices); err != nil {
		return nil, err
	}
	return notices, r.logLast(h, notices...)
}

// offline is the judge of a machine that does not run, over its last boot.
func (r *Root) offline(h *Home) (*integrity.Monitor, *integrity.History, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, nil, err
	}
	history, err := h.History()
	if err != nil {
		return nil, nil, err
	}
	m, err := r.newMonitor(d, history, nil)
	return m, history, err
}

// logAll keeps events of a machine that does not run.
func (r *Root) logAll(h *Home, notices []integrity.Notice) error {
	for _, n := range notices {
		n.Bound()
		if err := h.Log(n); err != nil {
			return err
		}
		if r.cfg.Event != nil {
			r.cfg.Event(n)
		}
	}
	return nil
}

// callTime is how long a supervisor may take for an answer; less than a request over HTTP has.
const callTime = 15 * time.Second

// patience is how long the answer to a request may take.
func (q *request) patience() time.Duration {
	switch q.Verb {
	case verbSnapshot, verbDropSnapshot:
		return callTime + memoryTime
	case verbMigrate:
		return callTime + usualPaces().whole(q.CopyDisks)
	}
	return callTime
}

// Limits of an answer in bytes: how a machine is, and its log or history.
const (
	maxShort = 1 << 20
	maxLong  = 2 * maxFile
)

// most is how long the answer to a request may be.
func (q *request) most() int64 {
	switch q.Verb {
	case verbReadLog, verbHistory, verbConsoleOf, verbReview, verbDescribe, verbSnapshots, verbApprove, verbRestore:
		return maxLong
	}
	return maxShort
}

// errNotRunning is a machine without a supervisor.
var errNotRunning = errors.New("the machine does not run")

// The errors of supervisors that are there and at fault. What they were asked to do may be
// done all the same.
var (
	ErrNoAnswer = errors.New("its supervisor does not answer")
	ErrGarbled  = errors.New("what its supervisor answers cannot be read")
)

// call sends a request to the supervisor of a machine. With a console the connection is
// returned, else nil.
func (r *Root) call(ctx context.Context, name string, q request, result any) (*net.UnixConn, *bufio.Reader, error) {
	path := filepath.Join(r.dir(name), runFolder, controlSocket)
	raw, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil, fmt.Errorf("machine %q: %w", name, errNotRunning)
	}
	if err != nil && ctx.Err() != nil || errors.Is(err, syscall.EAGAIN) { // those who asked before wait still
		err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("machine %q: %w", name, err)
	}
	conn := raw.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(r.cfg.Now().Add(q.patience())); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	in, err := exchange(conn, q, result, func() error {
		if err := q.turn(ctx); err != nil {
			return err
		}
		return conn.SetDeadline(r.cfg.Now().Add(q.patience()))
	})
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("machine %q: %w", name, err)
	}
	if q.Verb == verbConsole {
		return conn, in, conn.SetDeadline(time.Time{})
	}
	return nil, nil, conn.Close()
}

// exchange asks one question, and calls ready when its answer begins to come.
func exchange(conn *net.UnixConn, q request, result any, ready func() error) (*bufio.Reader, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(text, '\n')); errors.Is(err, syscall.EPIPE) {
		return nil, errNotRunning
	} else if err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	line, err := readAnswer(in, q.most(), ready)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		if q.Verb == verbSnapshot {
			return nil, errEnded // one without its memory is not what was asked for
		}
		return nil, errNotRunning // it ended meanwhile
	}
	if err != nil && !errors.Is(err, ErrGarbled) {
		err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if err != nil {
		return nil, err
	}
	var got response
	if err := json.Unmarshal(line, &got); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGarbled, err)
	}
	if got.Error != "" {
		return nil, got.err()
	}
	if result == nil {
		return in, nil
	}
	if err := json.Unmarshal(got.Result, result); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGarbled, err)
	}
	return in, nil
}

// readAnswer reads one line of bounded length, and calls ready when it begins to come.
func readAnswer(in *bufio.Reader, most int64, ready func() error) (line []byte, err error) {
	if _, err := in.Peek(1); err != nil {
		return nil, err
	}
	if err := ready(); err != nil {
		return nil, err
	}
	for {
		part, err := in.ReadSlice('\n')
		if int64(len(line)+len(part)) > most {
			return nil, fmt.Errorf("%w: it has more than %d bytes", ErrGarbled, most)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// unanswering reports whether an error is that of a supervisor which is there and at fault.
func unanswering(err error) bool { return errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrGarbled) }

// A Defined is a machine's definition as its home has it, whoever has that.
type Defined struct {
	*fleet.Definition
	stamp string // of the files that it was read from
}

// Defined reads the definition of a machine, and asks no supervisor: it does not change
// while the machine runs. The home is opened only when its files are others than those of
// known, which is what Defined returned before; nil for nothing.
func (r *Root) Defined(ctx context.Context, name string, known *Defined) (*Defined, error) {
	if !nameRule().MatchString(name) {
		return nil, fmt.Errorf("machine %q: %w", name, ErrName)
	}
	stamp, err := r.stamp(name, cardFile, definitionFile)
	if err != nil {
		return nil, err
	}
	if known != nil && known.stamp == stamp {
		return known, nil
	}
	card, err := r.Card(name)
	if err != nil {
		return nil, err
	}
	out := &Defined{stamp: stamp}
	err = r.glance(ctx, card, func(h *Home) (err error) {
		out.Definition, err = h.Definition()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	return out, nil
}
