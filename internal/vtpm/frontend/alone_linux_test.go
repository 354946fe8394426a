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

// Bursts, each longer than a client may keep the others from the processor, with silences
// between that end in the poller.
func TestATPMAloneAnswersBurstsAndAfterSilence(t *testing.T) {
	t.Parallel()
	client, _, done := alone(t)
	for range 3 {
		for begin := time.Now(); time.Since(begin) < 2*yieldTime; {
			ask(t, client, getRandom, "80010000000b0000017b00")
		}
		<-time.After(2 * hold)
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

// Who comes beside a quick client is not kept waiting, and takes the processor from it.
func TestASecondClientEndsTheHold(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t)
	clients := one()
	s := newAloneStream(server, clients, time.Now).(*aloneStream)
	defer s.Close()
	if _, err := client.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if !s.mayHold(s.yielded, time.Time{}) {
		t.Error("a quick client may not hold the processor")
	}
	clients.Add(1)
	if s.mayHold(s.yielded, time.Time{}) {
		t.Error("it holds the processor beside another")
	}
}

func TestStopEndsAReadOfATPMAlone(t *testing.T) {
	for name, wait := range map[string]time.Duration{"quick": 0, "silent": 2 * hold} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, s, done := alone(t)
			for range 3 {
				ask(t, client, getRandom, "80010000000b0000017b00")
			}
			<-time.After(wait)
			begin := time.Now()
			s.stop()
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
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
	<-time.After(2 * yieldTime)
	s.stop()
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended by %v", err)
	}
	<-sent
}

func TestHalfACommandToATPMAloneHasADeadline(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t)
	s := newAloneStream(server, one(), time.Now).(*aloneStream)
	defer s.Close()
	l := linkOf(s, time.Now)
	for range 2 { // the second of a client that is quick
		if _, err := client.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.take(1); err != nil {
			t.Fatal(err)
		}
	}
	if !s.quick {
		t.Fatal("the client was not quick enough for this test")
	}
	l.due = time.Now().Add(2 * hold)
	if err := l.fill(10); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("fill = %v, want a deadline", err)
	}
	l.due = time.Now().Add(-time.Second)
	client.Write(make([]byte, 10))
	if err := l.fill(10); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("fill = %v after the deadline, want it", err)
	}
}

// Where there is always something to read, the others get the processor every yieldTime,
// and every sleepTime those, too, that wait for the poller.
func TestAClientThatNeverWaitsIsMadeTo(t *testing.T) {
	client, server := socketPair(t)
	var clock time.Time
	s := newAloneStream(server, one(), func() time.Time { return clock }).(*aloneStream)
	defer s.Close()
	if _, err := client.Write(make([]byte, 200)); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(time.Hour)
	slept := map[time.Time]bool{}
	for i := range 100 {
		clock = clock.Add(yieldTime)
		if _, err := s.Read(make([]byte, 1), time.Time{}); err != nil {
			t.Fatal(i, err)
		}
		if !s.yielded.Equal(clock) {
			t.Fatalf("read %d held the processor", i)
		}
		slept[s.slept] = true
	}
	if want := 100 * int(yieldTime) / int(sleepTime); len(slept) < want || len(slept) > want+1 {
		t.Errorf("slept %d times, want %d", len(slept), want)
	}
}
