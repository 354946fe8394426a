package vtpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

//go:embed testdata/boot.commands
var bootText string

// bootCommands are what firmware and loaders send, after the probe.
func bootCommands(t testing.TB) [][]byte {
	var out [][]byte
	for line := range strings.Lines(bootText) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// A vm is what QEMU is to a control socket.
type vm struct {
	control net.Conn
	data    net.Conn
}

// dialVM connects as QEMU does: a data socket over the control channel, the probe,
// then INIT.
func dialVM(path string) (*vm, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	v := &vm{control: c}
	if err := v.start(); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

func (v *vm) start() error {
	v.control.SetDeadline(time.Now().Add(2 * time.Minute))
	if err := v.passData(); err != nil {
		return err
	}
	v.data.SetDeadline(time.Now().Add(10 * time.Minute))
	if b, err := v.Send([]byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x81")); err != nil || b[0] != 0x80 || b[1] != 1 {
		return fmt.Errorf("probe: %x, %w", b, err)
	}
	for _, step := range []struct {
		name, request string
		size          int
	}{
		{"GET_CAPABILITY", "00000001", 8},
		{"STOP", "0000000e", 4},
		{"SET_BUFFERSIZE", "0000001100000000", 16},
		{"INIT", "0000000200000000", 4},
	} {
		if err := v.ask(step.request, step.size); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// ask sends a command of the control channel, whose answer has size bytes.
func (v *vm) ask(request string, size int) error {
	b, err := hex.DecodeString(request)
	if err != nil {
		return err
	}
	if _, err := v.control.Write(b); err != nil {
		return err
	}
	answer := make([]byte, size)
	if n, err := io.ReadFull(v.control, answer); err != nil {
		return fmt.Errorf("answer %x: %w", answer[:n], err)
	}
	if r := binary.BigEndian.Uint32(answer); r != 0 {
		return fmt.Errorf("result %#x", r)
	}
	return nil
}

func (v *vm) passData() error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fds[1])
	f := os.NewFile(uintptr(fds[0]), "data")
	v.data, err = net.FileConn(f)
	f.Close()
	if err != nil {
		return err
	}
	if _, _, err := v.control.(*net.UnixConn).WriteMsgUnix([]byte{0, 0, 0, 0x10}, syscall.UnixRights(fds[1]), nil); err != nil {
		return err
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(v.control, answer); err != nil || !bytes.Equal(answer, make([]byte, 4)) {
		return fmt.Errorf("SET_DATAFD: %x, %w", answer, err)
	}
	return nil
}

// Send runs a command of the TPM.
func (v *vm) Send(request []byte) ([]byte, error) { return client.NewStream(v.data).Send(request) }

// shutdown is what QEMU does when it ends.
func (v *vm) shutdown() error {
	err := v.ask("00000003", 4)
	v.Close()
	return err
}

func (v *vm) Close() {
	v.control.Close()
	if v.data != nil {
		v.data.Close()
	}
}

// A guest boots, and knows what its registers must hold: its measurements are like
// nobody else's.
type guest struct {
	salt byte
	pcrs [24][sha256.Size]byte
}

// boot sends the commands of one boot and checks every answer.
func (g *guest) boot(v *vm, commands [][]byte) error {
	g.pcrs = [24][sha256.Size]byte{}
	for i := 17; i < 23; i++ {
		g.pcrs[i] = [sha256.Size]byte(bytes.Repeat([]byte{0xff}, sha256.Size))
	}
	for n, request := range commands[1:] { // the probe came with the start
		code := tpm2.CC(binary.BigEndian.Uint32(request[6:]))
		if code == tpm2.CCPCRExtend {
			request = g.measure(request)
		}
		answer, err := v.Send(request)
		if err != nil {
			return fmt.Errorf("command %d: %w", n, err)
		}
		if rc := tpm2.RC(binary.BigEndian.Uint32(answer[6:])); rc != 0 {
			return fmt.Errorf("command %d, %x: %v", n, request, rc)
		}
		if code == tpm2.CCPCRRead {
			if err := g.compare(answer); err != nil {
				return fmt.Errorf("command %d: %w", n, err)
			}
		}
	}
	return nil
}

// extendDigests is where the digests of the recorded TPM2_PCR_Extend begin: header,
// handle, a password session without a password, count.
const extendDigests = 10 + 4 + 4 + 9 + 4

// measure makes an extension this guest's own, and notes what it does.
func (g *guest) measure(request []byte) []byte {
	request = bytes.Clone(request)
	pcr := binary.BigEndian.Uint32(request[10:])
	for b := request[extendDigests:]; len(b) > 0; {
		n := tpm2.Alg(binary.BigEndian.Uint16(b)).DigestSize()
		digest := b[2 : 2+n]
		digest[0] ^= g.salt
		digest[1] ^= byte(pcr)
		if n == sha256.Size {
			g.pcrs[pcr] = sha256.Sum256(append(g.pcrs[pcr][:], digest...))
		}
		b = b[2+n:]
	}
	return request
}

// compare checks the SHA-256 register in the answer of a TPM2_PCR_Read.
func (g *guest) compare(answer []byte) error {
	b := answer[10+4:]
	selections := int(binary.BigEndian.Uint32(b))
	b = b[4:]
	pcr, at := -1, -1
	for n := range selections {
		if tpm2.Alg(binary.BigEndian.Uint16(b)) == tpm2.AlgSHA256 {
			at = n
			for i := range 24 {
				if b[3+i/8]>>(i%8)&1 == 1 {
					pcr = i
				}
			}
		}
		b = b[6:]
	}
	for b = b[4:]; at > 0; at-- { // one register of each bank
		b = b[2+int(binary.BigEndian.Uint16(b)):]
	}
	if got := b[2:34]; !bytes.Equal(got, g.pcrs[pcr][:]) {
		return fmt.Errorf("PCR %d is %x, want %x", pcr, got, g.pcrs[pcr])
	}
	return nil
}

// many makes n TPMs cheaply: copies of one.
func (f *fixture) many(n int) []string {
	f.t.Helper()
	names := []string{"vm-0"}
	f.create("vm-0")
	for i := 1; i < n; i++ {
		names = append(names, fmt.Sprintf("vm-%d", i))
		if _, err := f.Clone(context.Background(), tester, CloneOptions{From: "vm-0", To: names[i], Mode: ModeCopy}); err != nil {
			f.t.Fatal(err)
		}
	}
	return names
}

// daemon runs a daemon over the root until the test ends; stop ends it before.
func (f *fixture) daemon(cfg DaemonConfig) (stop func() error) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- RunDaemon(ctx, f.Root, cfg, func() error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-done:
		f.t.Fatal(err)
	}
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	f.t.Cleanup(func() {
		if err := stop(); err != nil {
			f.t.Error(err)
		}
	})
	return stop
}

func (f *fixture) socket(name string) string { return f.Dir() + "/run/" + name + ".ctrl" }
