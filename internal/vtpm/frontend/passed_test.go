//go:build linux

package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// A channel is a client's end of a control channel.
type channel struct {
	*net.UnixConn
	t *testing.T
}

// qemu serves a TPM to one client of the control channel.
func qemu(t *testing.T, sw SWTPMConfig) (*channel, chan error) {
	t.Helper()
	client, server := socketPair(t)
	done := make(chan error, 1)
	m := newMoving(t, MachineConfig{})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		done <- ServeControl(ctx, m.Machine, server, sw, Config{Now: time.Now, Threads: NewThreads(1), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	}()
	return &channel{client.(*net.UnixConn), t}, done
}

// pass sends bytes with files.
func (c *channel) pass(b string, files ...int) {
	c.t.Helper()
	if _, _, err := c.WriteMsgUnix(unhex(c.t, b), syscall.UnixRights(files...), nil); err != nil {
		c.t.Fatal(err)
	}
}

// result reads an answer of n bytes after the result.
func (c *channel) result(n int) uint32 {
	c.t.Helper()
	b := make([]byte, 4+n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return binary.BigEndian.Uint32(b)
}

// pair returns a socket to pass, and the client's end of it.
func pair(t *testing.T) (passed int, client net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "pair")
	defer f.Close()
	if client, err = net.FileConn(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return fds[0], client
}

const setDataFD = "00000010"

func TestTheDataChannelIsPassed(t *testing.T) {
	c, done := qemu(t, SWTPMConfig{})
	fd, data := pair(t)
	c.pass(setDataFD, fd)
	syscall.Close(fd)
	if r := c.result(0); r != 0 {
		t.Fatalf("CMD_SET_DATAFD = %#x", r)
	}
	ask(t, data, "80010000000a00000181", "80010000000a00000101") // the probe, before INIT
	ask(t, c, "0000000e"+"0000001100000f80"+"0000000200000000", "00000000"+"0000000000000f8000000af800001000"+"00000000")
	ask(t, c, "0000000502000000", "00000000") // QEMU pads
	ask(t, data, getRandom, "80010000000b0000017b02")
	ask(t, c, "00000003", "00000000")
	if err := <-done; err != nil {
		t.Errorf("ServeControl = %v", err)
	}
	if _, err := data.Read(make([]byte, 1)); err == nil {
		t.Error("the data channel is open after CMD_SHUTDOWN")
	}
}

func TestASecondDataChannelIsRefusedUntilTheFirstEnds(t *testing.T) {
	c, _ := qemu(t, SWTPMConfig{})
	first, data := pair(t)
	second, _ := pair(t)
	c.pass(setDataFD, first)
	syscall.Close(first)
	c.result(0)
	c.pass(setDataFD, second)
	if r := c.result(0); r != resultFail {
		t.Errorf("a second CMD_SET_DATAFD = %#x, want %#x", r, resultFail)
	}
	data.Close()
	until(t, "a data channel after another", func() bool {
		c.pass(setDataFD, second)
		return c.result(0) == 0
	})
}

// notSockets are files that are no data channel.
func notSockets(t *testing.T) map[string]int {
	t.Helper()
	file, err := os.Open("frontend.go")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close(); r.Close(); w.Close() })
	files := map[string]int{"a file": int(file.Fd()), "a pipe": int(r.Fd())}
	for name, kind := range map[string]int{"datagrams": syscall.SOCK_DGRAM, "packets": syscall.SOCK_SEQPACKET} {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fds[0]); syscall.Close(fds[1]) })
		files[name] = fds[0]
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	files["not connected"] = fd
	return files
}

func TestAFileThatIsNoDataChannelIsRefused(t *testing.T) {
	c, _ := qemu(t, SWTPMConfig{})
	files := notSockets(t)
	before := openFiles(t)
	for name, fd := range files {
		c.pass(setDataFD, fd)
		if r := c.result(0); r != resultBadParameter {
			t.Errorf("%s: CMD_SET_DATAFD = %#x, want %#x", name, r, resultBadParameter)
		}
	}
	ask(t, c, "00000010", "00000003") // and none
	until(t, "every file is closed", func() bool { return openFiles(t) <= before })
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestFilesComeWithTheCommandTheyAreFor(t *testing.T) {
	a, _ := pair(t)
	b, data := pair(t)
	for name, tc := range map[string]struct {
		send func(c *channel)
		want []uint32
	}{
		"two for one command":           {func(c *channel) { c.pass(setDataFD, a, b) }, []uint32{resultBadParameter}},
		"with a command before":         {func(c *channel) { c.pass("00000009", a); c.pass(setDataFD) }, []uint32{0, resultBadParameter}},
		"with the second of two":        {func(c *channel) { c.pass("00000009"); c.pass("00000009" + setDataFD[:0]); c.pass(setDataFD, b) }, []uint32{0, 0, 0}},
		"with the last byte of it":      {func(c *channel) { c.pass("000000"); c.pass("10", b) }, []uint32{0}},
		"with the first byte of it":     {func(c *channel) { c.pass("00", b); c.pass("000010") }, []uint32{0}},
		"one with each half of it":      {func(c *channel) { c.pass("0000", a); c.pass("0010", b) }, []uint32{resultBadParameter}},
		"with data of a measurement":    {func(c *channel) { c.pass("00000007"+"00000002aabb", a) }, []uint32{resultBadOrdinal}},
		"with a blob":                   {func(c *channel) { c.pass("0000000d"+"000000000000000100000001aa", a) }, []uint32{0}},
		"as many as one may hold":       {func(c *channel) { c.pass(setDataFD, a, a, a, a) }, []uint32{resultBadParameter}},
		"many commands, a file each":    {func(c *channel) { flood(c, a) }, make([]uint32, 200)},
		"one read for command and more": {func(c *channel) { c.pass("00000009"+setDataFD, b) }, []uint32{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			before := openFiles(t)
			c, done := qemu(t, SWTPMConfig{})
			tc.send(c)
			for i, want := range tc.want {
				if got := c.result(0); got != want {
					t.Errorf("result %d is %#x, want %#x", i, got, want)
				}
			}
			c.Close()
			if err := <-done; err != nil {
				t.Errorf("ServeControl = %v", err)
			}
			until(t, "every file is closed", func() bool { return openFiles(t) <= before })
		})
	}
	data.Close()
}

// flood sends CMD_CANCEL with a file, again and again.
func flood(c *channel, fd int) {
	for range 200 {
		c.pass("00000009", fd)
	}
}

func TestAFloodOfFilesEndsTheConnection(t *testing.T) {
	fd, _ := pair(t)
	for name, send := range map[string]func(c *channel){
		"in one message":        func(c *channel) { c.pass("00", fd, fd, fd, fd, fd) },
		"200 in one message":    func(c *channel) { c.pass(setDataFD, repeat(fd, 200)...) },
		"byte by byte":          func(c *channel) { trickle(c, fd) },
		"while a blob is going": func(c *channel) { c.pass("0000000d" + "0000000000000001000f0000"); trickle(c, fd) },
	} {
		t.Run(name, func(t *testing.T) {
			before, begun := openFiles(t), time.Now()
			c, done := qemu(t, SWTPMConfig{})
			send(c)
			if name == "while a blob is going" {
				c.Close() // its bytes are used as they come, and the files with them
			}
			if err := <-done; err != nil {
				t.Errorf("ServeControl = %v", err)
			}
			c.Close()
			if d := time.Since(begun); d >= frameTime {
				t.Errorf("ended after %v, as half a command does", d)
			}
			until(t, "every file is closed", func() bool { return openFiles(t) <= before })
		})
	}
}

func repeat(fd, n int) []int {
	fds := make([]int, n)
	for i := range fds {
		fds[i] = fd
	}
	return fds
}

// trickle sends a command byte by byte, a file with each.
func trickle(c *channel, fd int) {
	for _, b := range []string{"00", "00", "00"} {
		if _, _, err := c.WriteMsgUnix(unhex(c.t, b), syscall.UnixRights(fd, fd), nil); err != nil {
			return // it has been ended
		}
	}
}

func TestTheClientThatGoesTakesItsDataChannelAlong(t *testing.T) {
	c, done := qemu(t, SWTPMConfig{})
	fd, data := pair(t)
	c.pass(setDataFD, fd)
	syscall.Close(fd)
	c.result(0)
	c.Close()
	if err := <-done; err != nil {
		t.Errorf("ServeControl = %v", err)
	}
	if _, err := data.Read(make([]byte, 1)); err == nil {
		t.Error("the data channel is open")
	}
}

func TestATPMWithoutChannelsIsNotServed(t *testing.T) {
	err := ServeSWTPM(context.Background(), NewMachine(&fakeTPM{}, MachineConfig{}), nil, SWTPMConfig{}, Config{Now: time.Now})
	if err == nil {
		t.Error("ServeSWTPM without a channel succeeds")
	}
}

// FuzzControl sends a stream in pieces, with files where the input says.
func FuzzControl(f *testing.F) {
	for _, tc := range blobCases {
		f.Add(unhex(f, tc.send), uint64(0), uint8(0))
	}
	for _, tc := range swtpmCases {
		if tc.control {
			f.Add(unhex(f, tc.send), uint64(1), uint8(1))
		}
	}
	f.Add(unhex(f, setDataFD+"00000009"+setDataFD), uint64(5), uint8(3))
	f.Add(unhex(f, arrival("theirs", "now", 1)), uint64(0xff), uint8(7))
	f.Fuzz(func(t *testing.T, in []byte, files uint64, step uint8) {
		if len(in) > 4096 {
			return
		}
		c, done := qemu(t, SWTPMConfig{})
		fd, data := pair(t)
		defer syscall.Close(fd)
		go io.Copy(io.Discard, c)
		for i := 0; len(in) > 0; i++ {
			n := min(len(in), int(step)+1)
			var rights []byte
			if files>>(i%64)&1 == 1 {
				rights = syscall.UnixRights(fd)
			}
			if _, _, err := c.WriteMsgUnix(in[:n], rights, nil); err != nil {
				break // it has been ended
			}
			in = in[n:]
		}
		c.CloseWrite()
		if err := <-done; err != nil {
			t.Errorf("ServeControl = %v", err)
		}
		c.Close()
		data.Close()
	})
}

func TestAPassedChannelOverAnotherTransportIsRefused(t *testing.T) {
	s, _ := newSWTPM()
	if _, err := newLink(&memConn{}, time.Now).takeFile(); err == nil {
		t.Error("a connection without files gives one")
	}
	if r := s.setDataFD(newLink(&memConn{}, time.Now)); r != resultBadParameter {
		t.Errorf("CMD_SET_DATAFD = %s", fmt.Sprint(r))
	}
	if _, err := connOf(-1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("connOf(-1) = %v", err)
	}
}
