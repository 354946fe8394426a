//go:build linux

package frontend

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
)

// An exchange is one line of a trace: what QEMU sent to swtpm and what came back.
type exchange struct {
	line              int
	data              bool
	name              string
	request, response []byte
}

func readTrace(t *testing.T, name string) (all []exchange) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "traces", name))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		f := strings.Fields(line)
		if len(f) < 5 || strings.HasPrefix(f[2], "==") {
			continue // a note of what the test did
		}
		e := exchange{line: i + 1, data: f[1] == "d", name: f[2]}
		request, _, _ := strings.Cut(f[3], "...") // blobs are cut short
		response, _, _ := strings.Cut(f[4], "...")
		if e.request, err = hex.DecodeString(request); err != nil {
			continue // a note
		}
		if e.response, err = hex.DecodeString(response); err != nil {
			t.Fatalf("%s:%d: %v", name, i+1, err)
		}
		all = append(all, e)
	}
	return all
}

// A replayer plays QEMU's part of a trace to a TPM of ours.
type replayer struct {
	t       *testing.T
	trace   string
	control *net.UnixConn
	data    net.Conn
	// blobs are the state that our TPM gave, by kind: the recorded ones are cut
	// short, and swtpm's.
	blobs map[uint32][]byte
	// ours takes the place of what swtpm's TPM made and gave: contexts, keys, nonces.
	ours [][2][]byte
	// name and nonce are of the object that was loaded and the session that was started last.
	name, nonce []byte
}

func newReplayer(t *testing.T, name string, m *Machine) *replayer {
	t.Helper()
	client, server := socketPair(t)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- ServeControl(ctx, m, server, SWTPMConfig{}, Config{Now: time.Now, Log: slog.New(slog.DiscardHandler), Threads: NewThreads(1)})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("ServeControl = %v", err)
		}
	})
	return &replayer{t: t, trace: name, control: client.(*net.UnixConn), blobs: map[uint32][]byte{}}
}

// sameBytes are the commands whose whole answer must be the recorded one; of the
// others more than the result is the TPM's own.
var sameBytes = map[string]string{
	"STOP": "", "INIT": "", "GET_TPMESTABLISHED": "", "SET_LOCALITY": "", "SET_DATAFD": "", "SHUTDOWN": "", "SET_STATEBLOB": "", "SET_BUFFERSIZE": "",
	"ReadClock": "", "Startup": "", "SelfTest": "", "PCR_Extend": "", "HierarchyChangeAuth": "", "Shutdown": "", "FlushContext": "", "PolicyPCR": "", "0xf1": "",
}

// ownValues are the commands of which the result is compared, and why no more.
var ownValues = map[string]string{
	"GET_CAPABILITY":   "more is served here",
	"GET_STATEBLOB":    "the state is another format; and what there is none of is empty here, an error (0x800) there",
	"GetCapability":    "vendor, version, algorithms",
	"PCR_Read":         "the counter of updates; the values are compared",
	"CreatePrimary":    "keys",
	"Create":           "keys",
	"Load":             "the Name, of the key",
	"Quote":            "keys, clock",
	"Unseal":           "nonces, over which the caller's HMAC is made anew; the secret is compared",
	"StartAuthSession": "nonces",
	"ContextSave":      "protected by the TPM's own keys",
	"ContextLoad":      "handles",
}

// notThere are commands that fail here, and why.
var notThere = map[string]string{
	"NV_Read":       "swtpm_setup had written certificates; this TPM is as it was made",
	"NV_ReadPublic": "as NV_Read",
	"ReadPublic":    "swtpm_setup had made the endorsement keys persistent",
}

func (r *replayer) play(trace []exchange) {
	for _, e := range trace {
		got, ok := r.exchange(&e)
		if !ok {
			continue
		}
		r.compare(&e, got)
	}
}

// exchange sends a request and returns our answer.
func (r *replayer) exchange(e *exchange) ([]byte, bool) {
	r.t.Helper()
	switch {
	case e.data:
		return r.command(e.request), true
	case e.name == "SET_DATAFD":
		return r.passData(), true
	case e.name == "SET_STATEBLOB":
		kind := binary.BigEndian.Uint32(e.request[8:])
		blob := r.blobs[kind]
		request := append(append([]byte{}, e.request[:12]...), binary.BigEndian.AppendUint32(nil, uint32(len(blob)))...)
		r.write(request) // in two writes, as QEMU does
		return r.ask(blob, 4), true
	case e.name == "GET_STATEBLOB":
		return r.getBlob(e.request), true
	}
	return r.ask(e.request, len(e.response)), true
}

func (r *replayer) write(b []byte) {
	r.t.Helper()
	if _, err := r.control.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replayer) read(c net.Conn, n int) []byte {
	r.t.Helper()
	b := make([]byte, n)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, b); err != nil {
		r.t.Fatalf("%s: %v", r.trace, err)
	}
	return b
}

func (r *replayer) ask(request []byte, n int) []byte {
	r.t.Helper()
	r.write(request)
	return r.read(r.control, n)
}

func (r *replayer) passData() []byte {
	r.t.Helper()
	fd, client := pair(r.t)
	defer syscall.Close(fd)
	r.data = client
	(&channel{r.control, r.t}).pass(setDataFD, fd)
	return r.read(r.control, 4)
}

func (r *replayer) getBlob(request []byte) []byte {
	r.t.Helper()
	head := r.ask(request, 16)
	total, n := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
	if total != n || n > MaxBlob {
		r.t.Fatalf("%s: %d bytes of %d: QEMU takes state only as a whole", r.trace, n, total)
	}
	r.blobs[binary.BigEndian.Uint32(request[8:])] = r.read(r.control, int(n))
	return head[:4]
}

// command sends a TPM command, with what our TPM made in place of what swtpm's did.
func (r *replayer) command(request []byte) []byte {
	r.t.Helper()
	request = append([]byte{}, request...)
	for _, pair := range r.ours {
		request = bytes.ReplaceAll(request, pair[0], pair[1])
	}
	binary.BigEndian.PutUint32(request[2:], uint32(len(request)))
	if commandCode(request) == tpm2.CCUnseal {
		r.authorize(request)
	}
	if _, err := r.data.Write(request); err != nil {
		r.t.Fatal(err)
	}
	head := r.read(r.data, responseSize)
	return append(head, r.read(r.data, int(binary.BigEndian.Uint32(head[2:]))-responseSize)...)
}

// authorize makes the HMAC of a command without parameters anew (Part 1, 19.6.5):
// handle, size of the area, session, nonce, attributes, HMAC. Neither the policy
// session nor the object has a secret, so that its key is empty.
func (r *replayer) authorize(request []byte) {
	area := request[requestSize+4+4+4:]
	n := int(binary.BigEndian.Uint16(area))
	caller, attributes, mac := area[2:2+n], area[2+n:3+n], area[5+n:]
	cpHash := sha256.Sum256(append(append([]byte{}, request[6:10]...), r.name...))
	h := hmac.New(sha256.New, nil)
	for _, b := range [][]byte{cpHash[:], caller, r.nonce, attributes} {
		h.Write(b)
	}
	copy(mac, h.Sum(nil))
}

// replace has our bytes take the place of theirs in what is sent later.
func (r *replayer) replace(theirs, ours []byte) {
	if len(theirs) > 0 && len(ours) > 0 {
		r.ours = append(r.ours, [2][]byte{theirs, ours})
	}
}

func (r *replayer) compare(e *exchange, got []byte) {
	r.t.Helper()
	_, same := sameBytes[e.name]
	_, own := ownValues[e.name]
	_, absent := notThere[e.name]
	where := fmt.Sprintf("%s:%d: %s", r.trace, e.line, e.name)
	switch {
	case same:
		if !bytes.Equal(got, e.response) {
			r.t.Errorf("%s is answered %x, swtpm: %x", where, got, e.response)
		}
	case own:
		r.compareResult(where, e, got)
		r.learn(e, got)
	case absent:
		if rc := tpm2.RC(binary.BigEndian.Uint32(got[6:])); rc == tpm2.RCSuccess {
			r.t.Errorf("%s succeeds: the table of what is not there is out of date", where)
		}
	default:
		r.t.Errorf("%s is in no table; answered %x, swtpm: %x", where, got, e.response)
	}
}

// compareResult compares what says whether a command succeeded, and the parts of an
// answer that are not the TPM's own.
func (r *replayer) compareResult(where string, e *exchange, got []byte) {
	r.t.Helper()
	if !e.data {
		if e.name != "GET_CAPABILITY" && e.name != "GET_STATEBLOB" && !bytes.Equal(got[:4], e.response[:4]) {
			r.t.Errorf("%s is answered %x, swtpm: %x", where, got, e.response)
		}
		if e.name == "GET_STATEBLOB" && !bytes.Equal(got, make([]byte, 4)) {
			r.t.Errorf("%s is answered %x", where, got)
		}
		return
	}
	if !bytes.Equal(got[:2], e.response[:2]) || !bytes.Equal(got[6:10], e.response[6:10]) {
		r.t.Errorf("%s is answered %x, swtpm: %x", where, got, e.response)
		return
	}
	skip, ok := map[string]int{"PCR_Read": 14, "Unseal": 14}[e.name]
	if !ok || len(e.response) < skip {
		return
	}
	end := len(e.response)
	if e.name == "Unseal" {
		end = skip + 2 + int(binary.BigEndian.Uint16(e.response[skip:]))
	}
	if len(got) < end || !bytes.Equal(got[skip:end], e.response[skip:end]) {
		r.t.Errorf("%s is answered %x, swtpm: %x", where, got, e.response)
	}
}

// learn notes what the TPM made, to be sent in place of what swtpm's had made.
func (r *replayer) learn(e *exchange, got []byte) {
	switch e.name {
	case "ContextSave":
		r.replace(e.response[10:], got[10:])
	case "Create":
		theirs, ours := firstTwo(e.response[14:]), firstTwo(got[14:])
		r.replace(theirs, ours)
	case "StartAuthSession", "ContextLoad", "CreatePrimary", "Load":
		switch e.name {
		case "StartAuthSession":
			r.nonce = got[16:]
		case "Load":
			r.name = got[20 : 20+binary.BigEndian.Uint16(got[18:])]
		}
		if len(got) >= 14 && len(e.response) >= 14 {
			r.replace(e.response[10:14], got[10:14])
		}
	}
}

// firstTwo are the first two sized buffers of b.
func firstTwo(b []byte) []byte {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[:n+2+int(binary.BigEndian.Uint16(b[n:]))]
}

// What QEMU sent to swtpm through boots, resets, snapshots and a migration gets the
// same answers here, but where the TPM's own values are in them.
func TestTracesOfQEMUReplay(t *testing.T) {
	for _, name := range []string{"shim-grub-boot-quote-poweroff", "uki-boot-quote-poweroff", "tis-reset-savevm-loadvm-quit", "crb-reset-savevm-loadvm-quit"} {
		t.Run(name, func(t *testing.T) {
			newReplayer(t, name, ourMachine(t, 1)).play(readTrace(t, name+".trace"))
		})
	}
	t.Run("migration", func(t *testing.T) {
		source := newReplayer(t, "source", ourMachine(t, 1))
		source.play(readTrace(t, "crb-guestreboot-migrate-source.trace"))
		destination := newReplayer(t, "destination", ourMachine(t, 2))
		destination.blobs, destination.ours = source.blobs, source.ours
		destination.play(readTrace(t, "crb-migrate-destination.trace"))
	})
}
