package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const greeting = `{"QMP": {"version": {"qemu": {"micro": 18, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// qemu is the far side: it greets, accepts the capabilities, and then gives to
// each command what answer says.
func qemu(t *testing.T, answer func(command, id string) []string) *Client {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go func() {
		fmt.Fprintln(theirs, greeting)
		for s := bufio.NewScanner(theirs); s.Scan(); {
			var r struct{ Execute, ID string }
			if json.Unmarshal(s.Bytes(), &r) != nil {
				return
			}
			lines := []string{fmt.Sprintf(`{"return": {}, "id": %q}`, r.ID)}
			if r.Execute != "qmp_capabilities" {
				lines = answer(r.Execute, r.ID)
			}
			for _, line := range lines {
				if _, err := fmt.Fprintln(theirs, line); err != nil {
					return
				}
			}
		}
	}()
	c, err := New(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAnswersBelongToTheirCommands(t *testing.T) {
	var late string
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := qemu(t, func(command, id string) []string {
		switch command {
		case "query-status":
			return []string{
				`{"event": "RESUME", "timestamp": {"seconds": 7, "microseconds": 5}, "data": {"x": 1}}`,
				fmt.Sprintf(`{"return": {"status": "running"}, "id": %q}`, id),
			}
		case "slow":
			late = id
			cancel()
			return nil
		case "after":
			return []string{fmt.Sprintf(`{"return": {"of": "slow"}, "id": %q}`, late), fmt.Sprintf(`{"return": {"of": "after"}, "id": %q}`, id)}
		default:
			return []string{fmt.Sprintf(`{"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}, "id": %q}`, id)}
		}
	})
	var status struct{ Status string }
	if err := c.Do(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("query-status = %v, %q", err, status.Status)
	}
	if e := <-c.Events(); e.Name != "RESUME" || string(e.Data) != `{"x": 1}` || e.Time.Unix() != 7 {
		t.Errorf("event %+v", e)
	}
	var refused *Error
	if err := c.Do(t.Context(), "x", map[string]int{"a": 1}, nil); !errors.As(err, &refused) || refused.Class != "CommandNotFound" || refused.Command != "x" {
		t.Errorf("unknown command: %v", err)
	}
	if err := c.Do(ctx, "slow", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a command that was given up: %v", err)
	}
	var of struct{ Of string }
	if err := c.Do(t.Context(), "after", nil, &of); err != nil || of.Of != "after" {
		t.Errorf("the next one: %v, %q", err, of.Of)
	}
	if err := c.Do(t.Context(), "query-status", nil, new(int)); err == nil {
		t.Error("an answer of another shape was taken")
	}
}

func TestWhatIsNotTheProtocolEndsTheClient(t *testing.T) {
	for name, tc := range map[string]struct{ say, want string }{
		"no JSON":         {"hello", "message of QEMU"},
		"stranger":        {`{"return": {}, "id": "77"}`, "nobody gave"},
		"no number":       {`{"return": {}}`, "neither answer nor event"},
		"nothing":         {`{}`, "neither answer nor event"},
		"endless line":    {strings.Repeat("x", maxMessage+1), "exceeds"},
		"number not text": {`{"return": {}, "id": 1}`, "message of QEMU"},
	} {
		t.Run(name, func(t *testing.T) {
			c := qemu(t, func(string, string) []string { return []string{tc.say} })
			err := c.Do(t.Context(), "stop", nil, nil)
			if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Do = %v, want ErrClosed with %q", err, tc.want)
			}
			if err := c.Do(t.Context(), "cont", nil, nil); !errors.Is(err, ErrClosed) {
				t.Errorf("afterwards: %v", err)
			}
			for range c.Events() {
			}
		})
	}
}

// deaf is a QEMU that stops reading after bytes of the first command, and tells.
func deaf(t *testing.T, bytes int, stopped func()) *Client {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { theirs.Close() })
	go func() {
		fmt.Fprintln(theirs, greeting)
		r := bufio.NewReaderSize(theirs, 16)
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		fmt.Fprintln(theirs, `{"return": {}, "id": "1"}`)
		io.CopyN(io.Discard, theirs, int64(bytes)) //nolint:errcheck // the client may have ended
		stopped()
	}()
	c, err := New(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAQEMUThatDoesNotReadHoldsNothingUp(t *testing.T) {
	c := deaf(t, 0, func() {})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) {
		t.Errorf("Do = %v, want the context's end", err)
	}
	// One command waits for QEMU for ever, another for the first: the end of the
	// client ends both.
	errs := make(chan error)
	for range 2 {
		go func() { errs <- c.Do(context.Background(), "stop", nil, nil) }()
	}
	for len(c.writing) == 0 {
		runtime.Gosched()
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Do(ctx, "cont", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Do = %v, want the context's end", err)
	}
	c.Close()
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("Do = %v, want ErrClosed", err)
		}
	}
}

func TestHalfACommandEndsTheClient(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := deaf(t, 5, cancel)
	defer c.Close()
	if err := c.Do(ctx, "stop", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Do = %v, want the context's end", err)
	}
	if err := c.Do(t.Context(), "cont", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Do = %v, want ErrClosed", err)
	}
}

func TestEventsThatNobodyReadsHoldNothingUp(t *testing.T) {
	c := qemu(t, func(_, id string) []string {
		var out []string
		for range maxEvents + 9 {
			out = append(out, `{"event": "RTC_CHANGE", "timestamp": {"seconds": 1, "microseconds": 0}}`)
		}
		return append(out, fmt.Sprintf(`{"return": {}, "id": %q}`, id))
	})
	if err := c.Do(t.Context(), "query-status", nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := c.Dropped(); got != 9 {
		t.Errorf("%d events dropped, want 9", got)
	}
}

func TestWhoDoesNotGreetIsNoQEMU(t *testing.T) {
	for name, say := range map[string]string{"another": `{"return": {}}`, "nothing": "", "half": `{"QMP"`} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				fmt.Fprint(theirs, say)
				if name == "another" {
					fmt.Fprintln(theirs)
				}
				theirs.Close()
			}()
			if _, err := New(t.Context(), ours); err == nil {
				t.Error("a client was made")
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := New(ctx, ours); !errors.Is(err, context.Canceled) {
			t.Errorf("New = %v, want the context's end", err)
		}
	})
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("connected to nothing")
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(`{"return": {}, "id": "2"}` + "\n"))
	f.Add([]byte(`{"event": "STOP"}` + "\n" + `{"error": {"class": "a", "desc": "b"}, "id": "2"}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			r := bufio.NewReader(theirs)
			fmt.Fprintln(theirs, greeting)
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			fmt.Fprintln(theirs, `{"return": {}, "id": "1"}`)
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			theirs.Write(in) //nolint:errcheck // the client may have ended
		}()
		c, err := New(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		c.Do(t.Context(), "stop", nil, nil) //nolint:errcheck // any answer will do
		c.Close()
	})
}
