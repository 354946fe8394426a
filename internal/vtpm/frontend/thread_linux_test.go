package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// socketPair returns the two ends of a stream.
func socketPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Cleanup(func() { conns[0].Close() })
	return conns[0], conns[1]
}

// onThreads serves a TPM to one client with n threads.
func onThreads(t *testing.T, n int) (client net.Conn, s *threadStream, threads *Threads, done chan error) {
	t.Helper()
	threads = NewThreads(n)
	client, s, done = serveOn(t, threads)
	return client, s, threads, done
}

// serveOn serves a TPM to one client with these threads.
func serveOn(t *testing.T, threads *Threads) (client net.Conn, s *threadStream, done chan error) {
	t.Helper()
	client, server := socketPair(t)
	s, ok := newThreadStream(server, threads, time.Now).(*threadStream)
	if !ok {
		t.Fatal("a socket gets no thread")
	}
	tpm, _ := newSWTPM()
	done = make(chan error, 1)
	go func() {
		err := tpm.data(linkOf(s, time.Now))
		done <- errors.Join(err, s.Close())
	}()
	return client, s, done
}

// until waits for a condition that no event tells of.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10000 {
		if f() {
			return
		}
		<-tick.C
	}
	t.Fatalf("%s: not within ten seconds", what)
}

// Who passes a socket may keep it, and what O_NONBLOCK says is both's to set.
func TestAClientThatMakesTheSocketBlockHoldsNothingUp(t *testing.T) {
	client, server := socketPair(t)
	raw, err := server.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	kept := dup(raw)
	defer syscall.Close(kept)
	s, ok := newThreadStream(server, NewThreads(0), time.Now).(*threadStream)
	if !ok {
		t.Fatal("no stream")
	}
	defer s.Close()
	if err := syscall.SetNonblock(kept, false); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1), time.Now().Add(50*time.Millisecond))
		done <- err
	}()
	select {
	case err = <-done:
	case <-time.After(10 * time.Second):
		client.Close() // which alone ends it
		<-done
		err = errors.New("it waits for ever")
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v", err)
	}
}

// So is what SO_RCVTIMEO says, by which a silent client gives its thread back.
func TestAClientThatMakesTheSocketWaitLosesItsThread(t *testing.T) {
	client, server := socketPair(t)
	raw, err := server.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	kept := dup(raw)
	defer syscall.Close(kept)
	threads := NewThreads(1)
	threads.every = time.Hour // the test looks
	s, ok := newThreadStream(server, threads, time.Now).(*threadStream)
	if !ok {
		t.Fatal("no stream")
	}
	tpm, _ := newSWTPM()
	done := make(chan error, 1)
	go func() {
		err := tpm.data(linkOf(s, time.Now))
		done <- errors.Join(err, s.Close())
	}()
	for range 3 {
		ask(t, client, getRandom, "80010000000b0000017b00")
		if err := syscall.SetsockoptTimeval(kept, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, new(syscall.Timeval)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the connection waits on its thread", func() bool { return len(threads.free) == 1 && s.waits()%2 == 1 })
	threads.look()
	threads.look()
	select {
	case err := <-done:
		t.Fatalf("ended by %v, which a pause of this process could have looked like", err)
	case <-time.After(2 * quiet):
	}
	threads.look()
	select {
	case err := <-done:
		if !errors.Is(err, errHeld) {
			t.Errorf("ended by %v", err)
		}
	case <-time.After(10 * time.Second):
		client.Close()
		t.Fatalf("it holds the thread; ended by %v", <-done)
	}
	if len(threads.free) != 0 || len(threads.held) != 0 {
		t.Error("a connection that ended has a place")
	}
}

// A client that is busy is never taken for one that holds its thread.
func TestABusyConnectionIsNotEvicted(t *testing.T) {
	client, s, threads, done := onThreads(t, 1)
	for range 20 {
		ask(t, client, getRandom, "80010000000b0000017b00")
		for range maxSeen - 1 {
			threads.look()
		}
	}
	if s.evicted.Load() {
		t.Error("it was evicted")
	}
	client.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("ended by %v", err)
	}
}

func TestABusyConnectionHasAThreadAndASilentOneHasNone(t *testing.T) {
	client, _, threads, done := onThreads(t, 1)
	for range 2 {
		for range 50 {
			ask(t, client, getRandom, "80010000000b0000017b00")
		}
		until(t, "a silent client gives its place back", func() bool { return len(threads.free) == 0 })
	}
	client.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("ended by %v", err)
	}
	if len(threads.free) != 0 {
		t.Error("a connection that ended has a place")
	}
}

func TestAClientThatGoesWhileItIsBusyFreesItsThread(t *testing.T) {
	client, _, threads, done := onThreads(t, 1)
	ask(t, client, getRandom, "80010000000b0000017b00")
	client.Close()
	if err := <-done; !errors.Is(err, io.EOF) || len(threads.free) != 0 {
		t.Errorf("ended by %v, %d places taken", err, len(threads.free))
	}
}

func TestWithoutAFreePlaceTheConnectionWorks(t *testing.T) {
	client, s, threads, done := onThreads(t, 0)
	for range 50 {
		ask(t, client, getRandom, "80010000000b0000017b00")
	}
	if s.fd >= 0 || len(threads.free) != 0 {
		t.Error("it took a thread that there is not")
	}
	client.Close()
	<-done
}

func TestStopEndsAReadWhereverItWaits(t *testing.T) {
	for _, places := range []int{0, 1} {
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			client, s, _, done := onThreads(t, places)
			ask(t, client, getRandom, "80010000000b0000017b00")
			begun := time.Now()
			s.stop()
			if err := <-done; !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ended by %v", err)
			}
			if d := time.Since(begun); d > stopTime {
				t.Errorf("ended after %v", d)
			}
		})
	}
}

// A client that went on sending held a server up that stopped while its connection
// was on the way from the poller to a thread.
func TestAServerThatStopsGivesNoThreads(t *testing.T) {
	_, server := socketPair(t)
	threads := NewThreads(1)
	s := newThreadStream(server, threads, time.Now).(*threadStream)
	defer s.Close()
	s.stop()
	s.unpark()
	if s.fd >= 0 || len(threads.free) != 0 {
		t.Error("a connection that was stopped is on a thread")
	}
	if _, err := s.Read(make([]byte, 1), time.Time{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read = %v", err)
	}
}

func TestHalfACommandOnAThreadHasADeadline(t *testing.T) {
	client, server := socketPair(t)
	var late time.Duration
	now := func() time.Time { return time.Now().Add(late) }
	s := newThreadStream(server, NewThreads(1), now).(*threadStream)
	defer s.Close()
	if _, err := client.Write([]byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	l := linkOf(s, now)
	if err := l.begin(); err != nil || s.fd < 0 {
		t.Fatalf("begin = %v, on a thread %v", err, s.fd >= 0)
	}
	l.due = now()
	late = time.Second
	if err := l.fill(10); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("fill = %v, want a deadline", err)
	}
	if s.fd < 0 {
		t.Error("a client that sends byte by byte would hold the thread beyond the deadline")
	}
}

// streams are those over sockets: with a thread to be had and without, and alone.
var streams = map[string]func(server net.Conn, threads *Threads) stream{
	"thread": func(server net.Conn, threads *Threads) stream { return newThreadStream(server, threads, time.Now) },
	"none":   func(server net.Conn, _ *Threads) stream { return newThreadStream(server, NewThreads(0), time.Now) },
	"alone":  func(server net.Conn, _ *Threads) stream { return newAloneStream(server, one(), time.Now) },
}

func TestAClientThatDoesNotReadIsLeft(t *testing.T) {
	for name, over := range streams {
		t.Run(name, func(t *testing.T) {
			client, server := socketPair(t)
			threads := NewThreads(1)
			s := over(server, threads)
			*patienceOf(s) = 20 * time.Millisecond
			client.Write([]byte{1})
			if _, err := s.Read(make([]byte, 1), time.Time{}); err != nil {
				t.Fatal(err)
			}
			big := make([]byte, 16<<20)
			n, err := s.Write(big)
			if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n >= len(big) {
				t.Errorf("Write = %d, %v, want a deadline", n, err)
			}
			if len(threads.free) != 0 {
				t.Error("it holds a thread")
			}
			s.Close()
		})
	}
}

// patienceOf is how long a stream waits for its client to read.
func patienceOf(s stream) *time.Duration {
	if t, ok := s.(*threadStream); ok {
		return &t.patience
	}
	return &s.(*aloneStream).patience
}

func TestALongAnswerArrivesWhole(t *testing.T) {
	for name, over := range streams {
		t.Run(name, func(t *testing.T) {
			client, server := socketPair(t)
			s := over(server, NewThreads(1))
			client.Write([]byte{1})
			if _, err := s.Read(make([]byte, 1), time.Time{}); err != nil {
				t.Fatal(err)
			}
			want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			go func() {
				s.Write(want)
				s.Close()
			}()
			got, err := io.ReadAll(client)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived of %d, %v", len(got), len(want), err)
			}
		})
	}
}

func TestOnlySocketsOfTheirOwnGetThreads(t *testing.T) {
	_, server := socketPair(t)
	defer server.Close()
	type wrapped struct{ net.Conn }
	if s := newThreadStream(wrapped{server}, NewThreads(1), time.Now); s != nil {
		t.Error("a wrapper's Read and Write are passed by")
	}
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	if s := newThreadStream(pipe, NewThreads(1), time.Now); s != nil {
		t.Errorf("a pipe in memory gets a thread: %s", cmp.Diff(nil, s))
	}
	if s := newAloneStream(wrapped{server}, one(), time.Now); s != nil {
		t.Error("a wrapper's Read and Write are passed by where a TPM is alone")
	}
}
