package frontend

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// one is a server's only client.
func one() *atomic.Int32 {
	n := new(atomic.Int32)
	n.Store(1)
	return n
}

// alone serves a TPM to one client by an aloneStream.
func alone(t *testing.T) (client net.Conn, s *aloneStream, done chan error) {
	t.Helper()
	client, server := socketPair(t)
	s, ok := newAloneStream(server, one(), time.Now).(*aloneStream)
	if !ok {
		t.Fatal("a socket gets no stream")
	}
	tpm, _ := newSWTPM()
	done = make(chan error, 1)
	go func() {
		err := tpm.data(linkOf(s, time.Now))
		done <- errors.Join(err, s.Close())
	}()
	return client, s, done
}

// Bursts with silences between, which end in the poller.
func TestATPMAloneAnswersBurstsAndAfterSilence(t *testing.T) {
	t.Parallel()
	client, _, done := alone(t)
	for range 3 {
		for range 50 {
			ask(t, client, getRandom, "80010000000b0000017b00")
		}
		<-time.After(5 * brief)
	}
	client.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("ended by %v", err)
	}
}

// Go stops a sleep that holds a processor by a signal, which takes no command.
func TestCollectionsTakeNoCommand(t *testing.T) {
	client, _, done := alone(t)
	stop := make(chan struct{})
	collected := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				collected <- n
				return
			default:
				runtime.GC()
			}
		}
	}()
	for range 500 {
		ask(t, client, getRandom, "80010000000b0000017b00")
	}
	close(stop)
	if n := <-collected; n == 0 {
		t.Error("nothing was collected meanwhile")
	}
	client.Close()
	if err := <-done; !errors.Is(err, io.EOF) {
		t.Errorf("ended by %v", err)
	}
}

// quickRead has a client send a byte that is read, until it holds a processor.
func quickRead(t *testing.T, client net.Conn, s *aloneStream) {
	t.Helper()
	for range 10 * trusted {
		if _, err := client.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(make([]byte, 1), time.Time{}); n != 1 || err != nil {
			t.Fatalf("Read = %d, %v", n, err)
		}
		if s.holds {
			return
		}
	}
	t.Fatal("a quick client does not hold a processor")
}

// A quick client sends more at once than is read at once: the rest is read, too, though
// nothing comes that would tell of it.
func TestWhatWasLeftUnreadIsRead(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t)
	s := newAloneStream(server, one(), time.Now).(*aloneStream)
	defer s.Close()
	quickRead(t, client, s)
	if _, err := client.Write(make([]byte, 30)); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, s.stop)
	defer late.Stop()
	for n := range 3 {
		if got, err := s.Read(make([]byte, 10), time.Time{}); got != 10 || err != nil || !s.holds {
			t.Fatalf("read %d: %d bytes, %v; it holds a processor: %v", n+1, got, err, s.holds)
		}
	}
}

// Who comes beside a quick client takes the processor from it, and so does silence that
// Go's monitor sees: it asks for the processor by a signal.
func TestAProcessorIsGivenBack(t *testing.T) {
	client, server := socketPair(t)
	clients := one()
	s := newAloneStream(server, clients, time.Now).(*aloneStream)
	defer s.Close()
	quickRead(t, client, s)
	clients.Add(1)
	client.Write([]byte{1})
	if _, err := s.Read(make([]byte, 1), time.Time{}); err != nil || s.holds {
		t.Errorf("beside another client it holds a processor: %v, %v", s.holds, err)
	}
	clients.Add(-1)
	quickRead(t, client, s)
	read := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1), time.Time{})
		read <- err
	}()
	for range 20 { // each stops the sleep, if nothing else does
		runtime.GC()
	}
	client.Write([]byte{1})
	if err := <-read; err != nil || s.holds {
		t.Errorf("after a silence it holds a processor: %v, %v", s.holds, err)
	}
}

func TestStopEndsAReadOfATPMAlone(t *testing.T) {
	for name, wait := range map[string]time.Duration{"quick": 0, "silent": 5 * brief} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, s, done := alone(t)
			for range 2 * trusted {
				ask(t, client, getRandom, "80010000000b0000017b00")
			}
			<-time.After(wait)
			begin := time.Now()
			s.stop()
			if err := <-done; !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ended by %v", err)
			}
			if d := time.Since(begin); d > stopTime {
				t.Errorf("ended after %v", d)
			}
		})
	}
}

// A client that sends one command after the other and never waits for an answer is no
// reason to go on when the server stops.
func TestStopEndsAClientThatNeverWaits(t *testing.T) {
	t.Parallel()
	client, s, done := alone(t)
	go io.Copy(io.Discard, client)
	command := unhex(t, getRandom)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			if _, err := client.Write(command); err != nil {
				return
			}
		}
	}()
	<-time.After(20 * time.Millisecond)
	s.stop()
	if err := <-done; !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended by %v", err)
	}
	<-sent
}

func TestHalfACommandToATPMAloneHasADeadline(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t)
	s := newAloneStream(server, one(), time.Now).(*aloneStream)
	defer s.Close()
	quickRead(t, client, s)
	l := linkOf(s, time.Now)
	if _, err := client.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	l.due = time.Now().Add(2 * brief)
	if err := l.fill(10); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("fill = %v, want a deadline", err)
	}
}

// A stream that is stopped waits for room no longer than it may.
func TestAnAnswerUnderWayEndsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"stopped before": true, "stopped meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, server := socketPair(t)
			s := newAloneStream(server, one(), time.Now).(*aloneStream)
			s.patience = time.Hour
			defer s.Close()
			if before {
				s.stop()
			}
			wrote := make(chan error, 1)
			go func() {
				_, err := s.Write(make([]byte, 16<<20))
				wrote <- err
			}()
			if !before {
				until(t, "it waits for room", func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return s.writing
				})
				s.stop()
			}
			if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write = %v, want a deadline", err)
			}
		})
	}
}

// A sleep ends when the stream is stopped, also of one who waited for room before: what
// wakes it is that the socket has no more to read.
func TestStopEndsASleepAfterALongAnswer(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t)
	s := newAloneStream(server, one(), time.Now).(*aloneStream)
	defer s.Close()
	wrote := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 4<<20))
		wrote <- err
	}()
	if _, err := io.CopyN(io.Discard, client, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil || !s.writing {
		t.Fatalf("Write = %v, waited %v", err, s.writing)
	}
	s.stop()
	if n, err := receiveOwn(s.fd, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("the socket has %d bytes, %v: who sleeps for it would go on", n, err)
	}
}

// Who passes a socket may have it, too, and hold up who reads it in the kernel, while Go's
// scheduler must not be kept from its processor: a read of it is one that Go is told of,
// and it gets no thread to be held up on.
func TestAPassedSocketHoldsNoProcessor(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"accepted": true, "passed": false} {
		_, conn := socketPair(t)
		s := newServer(t.Context(), Config{Now: time.Now, Alone: true, Threads: NewThreads(1)})
		link := s.link
		if !want {
			link = s.passedLink
		}
		l := link(conn)
		defer l.Close()
		if _, alone := l.stream.(*aloneStream); alone != want {
			t.Errorf("a socket that was %s has a %T", name, l.stream)
		}
		if s, ok := l.stream.(*threadStream); ok && cap(s.threads.free) != 0 {
			t.Errorf("a socket that was %s may have %d threads", name, cap(s.threads.free))
		}
	}
}
