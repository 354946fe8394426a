package move

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pipe is both ends of a link.
func pipe(t *testing.T) (*Link, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return NewLink(a), b
}

func TestATicketIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k, _, err := NewTicket(Terms{Machine: "web-1", Address: "127.0.0.1:7000", Now: now, Expires: now.Add(time.Minute), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseTicket(text)
	if err != nil || again.Machine != k.Machine || !bytes.Equal(again.Seed, k.Seed) || !again.Expires.Equal(k.Expires) {
		t.Fatalf("ParseTicket = %+v, %v", again, err)
	}
	for i := range len(text) - 2 { // the last bytes are the bracket and the line's end
		if _, err := ParseTicket(text[:i]); !errors.Is(err, ErrTicket) {
			t.Fatalf("the first %d bytes: %v", i, err)
		}
	}
	for name, change := range map[string][2]string{
		"a version": {`"version": 1`, `"version": 2`}, "a member more": {`"version": 1`, `"version": 1, "x": 1`},
		"an address": {"127.0.0.1:7000", "127.0.0.1"}, "no machine": {"web-1", ""},
	} {
		if _, err := ParseTicket(bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1)); !errors.Is(err, ErrTicket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := NewTicket(Terms{Machine: "web-1", Now: now, Expires: now, Random: rand.Reader}); err == nil {
		t.Error("a ticket that has expired is made")
	}
}

// Only the holder of the ticket is heard, and it speaks to the ticket's maker alone.
func TestOnlyTheTicketsHolderIsHeard(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	terms := Terms{Machine: "web-1", Address: l.Addr().String(), Now: time.Now(), Expires: time.Now().Add(time.Minute), Random: rand.Reader}
	ticket, cfg, err := NewTicket(terms)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan string, 8)
	ended := make(chan error, 1)
	go func() {
		for {
			link, err := Accept(ctx, l, cfg, time.Now)
			if err != nil {
				ended <- err
				return
			}
			var text string
			if link.Receive(&text) == nil {
				heard <- text
			}
			link.Close()
		}
	}()
	clock := Clock{rand.Reader, time.Now}
	say := func(k *Ticket, text string) error {
		link, err := k.Dial(t.Context(), clock)
		if err != nil {
			return err
		}
		defer link.Close()
		if err := link.Send(text); err != nil {
			return err
		}
		return link.Receive(new(string)) // in TLS 1.3 a refusal comes with the first answer
	}
	wrong := *ticket
	wrong.Seed = slices.Clone(ticket.Seed)
	wrong.Seed[0] ^= 1
	say(&wrong, "a stranger") //nolint:errcheck // the answer is that nobody hears it
	wrong = *ticket
	wrong.Server = slices.Clone(ticket.Server)
	wrong.Server[0] ^= 1
	if err := say(&wrong, "to a stranger"); !errors.Is(err, ErrStranger) {
		t.Errorf("another server: %v", err)
	}
	plain, err := net.Dial("tcp", ticket.Address)
	if err != nil {
		t.Fatal(err)
	}
	plain.Write([]byte("GET / HTTP/1.0\r\n\r\n")) //nolint:errcheck // it is sent away
	io.Copy(io.Discard, plain)                    //nolint:errcheck // it is sent away
	plain.Close()
	say(ticket, "the holder") //nolint:errcheck // nobody answers
	if got := <-heard; got != "the holder" {
		t.Errorf("heard %q", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Accept ends with %v", err)
	}
}

func TestALinkTakesWhatWasAgreedAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		frame string
		want  error
	}{
		"a message":         {"M\x00\x00\x00\x03\"a\"", nil},
		"another type":      {"M\x00\x00\x00\x011", ErrLink},
		"a stream":          {"S\x00\x00\x00\x011", ErrLink},
		"an unknown kind":   {"X\x00\x00\x00\x011", ErrLink},
		"a length too much": {"M\xff\xff\xff\xff", ErrLink},
		"a frame cut short": {"M\x00\x00\x00\x03\"a", ErrLink},
		"nothing":           {"", ErrLink},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, other := pipe(t)
			go func() {
				other.Write([]byte(tc.frame)) //nolint:errcheck // it is read or not
				other.Close()
			}()
			var text string
			if err := l.Receive(&text); !errors.Is(err, tc.want) || err == nil && text != "a" {
				t.Errorf("Receive = %q, %v, want %v", text, err, tc.want)
			}
		})
	}
	l, other := pipe(t)
	go NewLink(other).Refuse(errors.New(strings.Repeat("no ", 4000))) //nolint:errcheck // it is read
	var said *PeerError
	if err := l.Receive(new(string)); !errors.As(err, &said) || len(said.Words) != maxRefusal {
		t.Errorf("a refusal is %v", err)
	}
}

// Two hypervisors speak through two links as through a socket.
func TestStreamsAreCarriedBothWays(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	dir := t.TempDir()
	local := func(name string) (mine, theirs *net.UnixConn) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if mine, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
			t.Fatal(err)
		}
		if theirs, err = l.AcceptUnix(); err != nil {
			t.Fatal(err)
		}
		return mine, theirs
	}
	source, outA := local("a")
	destination, outB := local("b")
	done := make(chan error, 2)
	go func() { done <- NewLink(a).Carry(t.Context(), outA) }()
	go func() { done <- NewLink(b).Carry(t.Context(), outB) }()
	memory := bytes.Repeat([]byte("memory"), 100_000)
	go func() {
		source.Write(memory) //nolint:errcheck // the other end says what came
		source.CloseWrite()  //nolint:errcheck // likewise
	}()
	got, err := io.ReadAll(destination)
	if err != nil || !bytes.Equal(got, memory) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	destination.Write([]byte("all of it")) //nolint:errcheck // the other end says what came
	destination.Close()
	if got, err = io.ReadAll(source); err != nil || string(got) != "all of it" {
		t.Errorf("back came %q, %v", got, err)
	}
	source.Close()
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("Carry = %v", err)
		}
	}
	a.Close()
	b.Close()
}

func FuzzLink(f *testing.F) {
	f.Add([]byte("M\x00\x00\x00\x03\"a\""))
	f.Add([]byte("S\x00\x00\x00\x01xE\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() {
			there.Write(b) //nolint:errcheck // it is read or not
			there.Close()
		}()
		l := NewLink(here)
		for l.Receive(new(string)) == nil {
		}
		l.Close()
	})
}

func FuzzTicket(f *testing.F) {
	f.Add([]byte(`{"version": 1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseTicket(b)
		if err != nil {
			return
		}
		text, err := k.Text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTicket(text); err != nil {
			t.Errorf("%q is not read again: %v", text, err)
		}
	})
}

// Strangers who connect and say nothing keep nobody waiting who has the ticket, and stay no
// longer than he needs.
func TestSilentStrangersHoldUpNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now := time.Now()
	ticket, cfg, err := NewTicket(Terms{Machine: "web-1", Address: l.Addr().String(), Now: now, Expires: now.Add(time.Hour), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the listener is as it was
		var strangers []net.Conn
		for range maxStrangers + 2 {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			strangers = append(strangers, c)
		}
		began := time.Now()
		sent := make(chan error, 1)
		go func() {
			link, err := Accept(t.Context(), l, cfg, time.Now)
			if err == nil {
				err = errors.Join(link.Send("hello"), link.Close())
			}
			sent <- err
		}()
		link, err := ticket.Dial(t.Context(), Clock{rand.Reader, time.Now})
		if err != nil {
			t.Fatal(err)
		}
		var said string
		if err := errors.Join(link.Receive(&said), <-sent); err != nil || said != "hello" {
			t.Errorf("%q, %v", said, err)
		}
		link.Close()
		if took := time.Since(began); took >= maxHandshake {
			t.Errorf("who has the ticket waited %s", took)
		}
		for _, c := range strangers {
			if err := c.SetDeadline(time.Now().Add(maxHandshake / 2)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("a stranger is still there: %v", err)
			}
		}
	}
}
