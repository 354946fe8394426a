package move

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// sockets makes both ends of a local stream.
func sockets(t testing.TB) (mine, theirs *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
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
	t.Cleanup(func() { mine.Close(); theirs.Close() })
	return mine, theirs
}

// opens is a lane of a stream that is there.
func opens(c *net.UnixConn) Lane {
	return func(context.Context) (*net.UnixConn, error) { return c, nil }
}

// Many streams share a link, each whole and both ways, and the link has messages after them.
func TestStreamsShareALink(t *testing.T) {
	t.Parallel()
	const n = 5
	a, b := net.Pipe()
	here, there := NewLink(a), NewLink(b)
	var ours, theirs []*net.UnixConn
	var leading, following []Lane
	for range n {
		mine, lane := sockets(t)
		ours, leading = append(ours, mine), append(leading, opens(lane))
		mine, lane = sockets(t)
		theirs, following = append(theirs, mine), append(following, opens(lane))
	}
	ended := make(chan error, 2)
	go func() { ended <- here.Lead(t.Context(), leading) }()
	go func() { ended <- there.Follow(t.Context(), following) }()
	var all sync.WaitGroup
	for i := range n {
		text := bytes.Repeat([]byte{byte('a' + i)}, 300_000+i)
		all.Go(func() {
			ours[i].Write(text)  //nolint:errcheck // the other end says what came
			ours[i].CloseWrite() //nolint:errcheck // likewise
			if got, err := io.ReadAll(ours[i]); err != nil || string(got) != fmt.Sprint("all of ", i) {
				t.Errorf("stream %d: back came %q, %v", i, got, err)
			}
			ours[i].Close()
		})
		all.Go(func() {
			if got, err := io.ReadAll(theirs[i]); err != nil || !bytes.Equal(got, text) {
				t.Errorf("stream %d: %d bytes came, %v", i, len(got), err)
			}
			fmt.Fprint(theirs[i], "all of ", i)
			theirs[i].Close()
		})
	}
	all.Wait()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
	}
	go here.Send("after") //nolint:errcheck // it is read
	var text string
	if err := there.Receive(&text); err != nil || text != "after" {
		t.Errorf("Receive = %q, %v", text, err)
	}
	a.Close()
	b.Close()
}

// Whatever else the other end says ends all streams.
func TestAStrangeFrameAmongStreamsEndsThem(t *testing.T) {
	t.Parallel()
	var said *PeerError
	for name, tc := range map[string]struct {
		frames string
		leads  bool
		want   any
	}{
		"a lane that is not there":     {"O\x00\x00\x00\x01\x01", false, nil},
		"a lane without a number":      {"O\x00\x00\x00\x00", false, nil},
		"a lane twice":                 {"O\x00\x00\x00\x01\x00O\x00\x00\x00\x01\x00", false, nil},
		"a lane of who leads":          {"O\x00\x00\x00\x01\x00", true, nil},
		"more of one that is not":      {"L\x00\x00\x00\x02\x00x", false, nil},
		"the end of one that is not":   {"X\x00\x00\x00\x01\x00", false, nil},
		"more after the end":           {"O\x00\x00\x00\x01\x00X\x00\x00\x00\x01\x00L\x00\x00\x00\x02\x00x", false, nil},
		"too much at once":             {"O\x00\x00\x00\x01\x00L\x00\x04\x00\x02\x00", false, nil},
		"a message":                    {"O\x00\x00\x00\x01\x00M\x00\x00\x00\x02{}", false, nil},
		"a stream that shares nothing": {"S\x00\x00\x00\x01x", false, nil},
		"the end of the link":          {"O\x00\x00\x00\x01\x00", false, nil},
		"a refusal":                    {"R\x00\x00\x00\x02no", false, &said},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, other := pipe(t)
			go func() {
				other.Write([]byte(tc.frames)) //nolint:errcheck // it is read or not
				other.Close()
			}()
			_, lane := sockets(t)
			_, second := sockets(t) // a second one, so that the first alone is not all
			share := l.Follow
			if tc.leads {
				share = l.Lead
			}
			lanes := []Lane{opens(lane)}
			if tc.frames[0] != 'O' || tc.frames[4] != 1 || tc.frames[5] != 1 {
				lanes = append(lanes, opens(second))
			}
			err := share(t.Context(), lanes)
			if tc.want != nil {
				if !errors.As(err, tc.want) {
					t.Errorf("it ends with %v", err)
				}
				return
			}
			if !errors.Is(err, ErrLink) {
				t.Errorf("it ends with %v", err)
			}
		})
	}
	l, _ := pipe(t)
	for _, n := range []int{0, MaxLanes + 1} {
		if err := l.Lead(t.Context(), make([]Lane, n)); err == nil {
			t.Errorf("%d streams share a link", n)
		}
	}
}

// Nobody who takes no more, or is not there, keeps the others from their end.
func TestALaneThatIsNotTakenEndsAlone(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	mine, lane := sockets(t)
	gone, deaf := sockets(t)
	gone.Close()
	ended := make(chan error, 2)
	go func() { ended <- NewLink(a).Lead(t.Context(), []Lane{opens(lane)}) }()
	go func() { ended <- NewLink(b).Follow(t.Context(), []Lane{opens(deaf)}) }()
	for { // until the other end says that nobody reads
		if _, err := mine.Write(make([]byte, 1<<16)); err != nil {
			break
		}
		if n, err := mine.Read(make([]byte, 1)); n == 0 && err != nil {
			break
		}
	}
	mine.Close()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("it ends with %v", err)
		}
	}

	c, d := net.Pipe()
	defer c.Close()
	nobody := errors.New("nobody listens")
	_, lane = sockets(t)
	go func() { ended <- NewLink(c).Lead(t.Context(), []Lane{opens(lane)}) }()
	if err := NewLink(d).Follow(t.Context(), []Lane{func(context.Context) (*net.UnixConn, error) { return nil, nobody }}); !errors.Is(err, nobody) {
		t.Errorf("Follow = %v", err)
	}
	d.Close()
	if err := <-ended; !errors.Is(err, ErrLink) {
		t.Errorf("Lead = %v", err)
	}
}

// The end of a context ends what a lane waits for.
func TestALaneThatNobodyOpensEndsWithItsContext(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan bool)
	link := NewLink(a)
	defer context.AfterFunc(ctx, func() { link.Close() })()
	ended := make(chan error, 1)
	go func() {
		ended <- link.Lead(ctx, []Lane{func(ctx context.Context) (*net.UnixConn, error) {
			close(waits)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	}()
	<-waits
	cancel()
	if err := <-ended; !errors.Is(err, ErrLink) {
		t.Errorf("Lead = %v", err)
	}
}

func FuzzLanes(f *testing.F) {
	f.Add([]byte("O\x00\x00\x00\x01\x00L\x00\x00\x00\x02\x00xX\x00\x00\x00\x01\x00"))
	f.Add([]byte("O\x00\x00\x00\x01\x01R\x00\x00\x00\x02no"))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		var sent sync.WaitGroup
		sent.Go(func() {
			there.Write(b) //nolint:errcheck // it is read or not
			there.Close()
		})
		sent.Go(func() { io.Copy(io.Discard, there) }) //nolint:errcheck // nobody asks what is said
		var lanes []Lane
		for range 2 {
			mine, lane := sockets(t)
			mine.Close()
			lanes = append(lanes, opens(lane))
		}
		NewLink(here).Follow(t.Context(), lanes) //nolint:errcheck // it ends
		here.Close()
		sent.Wait()
	})
}
