package frontend

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
)

// A fakeTPM answers every command with its locality and code (TPM2_Shutdown with
// success), and notes what it is told.
type fakeTPM struct {
	mu      sync.Mutex
	calls   []string
	changed bool
	refuses bool          // answers TPM2_Shutdown as it does others: with its code for a result
	fault   error         // of Permanent and Volatile
	entered chan struct{} // when not nil, told that Execute began
	release chan struct{} // when not nil, Execute waits for it
}

func (f *fakeTPM) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeTPM) noted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.calls...)
}

func (f *fakeTPM) Execute(locality uint8, request []byte) []byte {
	f.note("execute %d %x", locality, request)
	if f.entered != nil {
		f.entered <- struct{}{}
		<-f.release
	}
	out := []byte{0x80, 0x01, 0, 0, 0, 11, 0, 0, 0, 0}
	if code := commandCode(request); code != 0 && (code != tpm2.CCShutdown || f.refuses) {
		binary.BigEndian.PutUint32(out[6:], binary.BigEndian.Uint32(request[6:]))
	}
	return append(out, locality)
}

func (f *fakeTPM) PowerOn()                   { f.note("power on") }
func (f *fakeTPM) HashStart(l uint8)          { f.note("hash start %d", l) }
func (f *fakeTPM) HashEnd()                   { f.note("hash end") }
func (f *fakeTPM) SetPhysicalPresence(p bool) { f.note("presence %v", p) }
func (f *fakeTPM) Established() bool          { return true }
func (f *fakeTPM) ResetEstablished(l uint8) bool {
	f.note("reset established %d", l)
	return l >= 3
}
func (f *fakeTPM) SetBufferSize(n int)        { f.note("buffer %d", n) }
func (f *fakeTPM) FailSelfTest()              { f.note("fail self-test") }
func (f *fakeTPM) Cancel()                    { f.note("cancel") }
func (f *fakeTPM) TimeStopped()               { f.note("time stopped") }
func (f *fakeTPM) Permanent() ([]byte, error) { f.changed = false; return f.state("permanent") }
func (f *fakeTPM) Volatile() ([]byte, error)  { return f.state("volatile") }

func (f *fakeTPM) state(name string) ([]byte, error) {
	if f.fault != nil {
		return nil, f.fault
	}
	return []byte(name), nil
}

func (f *fakeTPM) Changed() bool { return f.changed }

// HashData notes data as one, however many pieces they come in.
func (f *fakeTPM) HashData(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.calls); n > 0 && strings.HasPrefix(f.calls[n-1], "hash data ") {
		f.calls[n-1] += hex.EncodeToString(b)
		return
	}
	f.calls = append(f.calls, fmt.Sprintf("hash data %x", b))
}

// getRandom is a whole command.
const getRandom = "80010000000c0000017b0020"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A memConn is a client that has sent all it has to say and hangs up. Each read
// gives at most step bytes.
type memConn struct {
	net.Conn
	in   *bytes.Reader
	out  bytes.Buffer
	step int
}

func (c *memConn) Read(b []byte) (int, error) {
	if c.step > 0 && len(b) > c.step {
		b = b[:c.step]
	}
	return c.in.Read(b)
}

func (c *memConn) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) Close() error                     { return nil }

// converse gives all of in to a handler, step bytes a read, and returns its
// answers and how it ended.
func converse(serve handler, in []byte, step int) ([]byte, error) {
	conn := &memConn{in: bytes.NewReader(in), step: step}
	err := serve(newLink(conn, time.Now))
	return conn.out.Bytes(), err
}

func ended(err error) bool { return err == nil || err == io.EOF || err == io.ErrUnexpectedEOF }
