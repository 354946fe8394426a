package vtpmcli

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/program"
)

// A qemuClient speaks the control channel as QEMU does.
type qemuClient struct {
	t *testing.T
	net.Conn
}

func dialQEMU(t *testing.T, path string) *qemuClient {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &qemuClient{t, c}
}

// ask sends words and data, and returns the result and n more bytes if that is 0.
func (c *qemuClient) ask(n int, data []byte, words ...uint32) (result uint32, answer []byte) {
	c.t.Helper()
	var request []byte
	for _, w := range words {
		request = binary.BigEndian.AppendUint32(request, w)
	}
	if _, err := c.Write(append(request, data...)); err != nil {
		c.t.Fatal(err)
	}
	if result = binary.BigEndian.Uint32(c.read(4)); result == 0 {
		answer = c.read(n)
	}
	return result, answer
}

func (c *qemuClient) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// blob asks for a blob of state.
func (c *qemuClient) blob(kind uint32) []byte {
	c.t.Helper()
	result, head := c.ask(12, nil, 0x0c, 1, kind, 0)
	if result != 0 || binary.BigEndian.Uint32(head) != 2 {
		c.t.Fatalf("CMD_GET_STATEBLOB = %#x, flags %x, want 0 and encrypted", result, head[:4])
	}
	return c.read(int(binary.BigEndian.Uint32(head[8:])))
}

// State that passes through QEMU is sealed: a TPM under the same keys goes on from
// it, one under other keys refuses it, and so does one that takes a blob for another.
func TestStateThroughQEMUIsSealedUnderTheTPMsKeys(t *testing.T) {
	dir := shortDir(t)
	open := func(name, keys string) *qemuClient {
		path := filepath.Join(dir, name)
		serveTPM(t, &vtpmOptions{state: path + ".d", ledger: ledgerFlags{dir: path + ".l"}, keys: program.KeySource{File: filepath.Join(dir, keys)}, create: true, qemu: path})
		return dialQEMU(t, path)
	}
	from, to, other := open("a", "keys"), open("b", "keys"), open("c", "others")
	if r, _ := from.ask(0, nil, 2, 0); r != 0 {
		t.Fatalf("CMD_INIT = %#x", r)
	}
	permanent, volatile := from.blob(1), from.blob(2)
	if bytes.Contains(permanent, []byte("assay tpm")) || bytes.Contains(permanent, []byte("default")) {
		t.Error("permanent state passes in the clear")
	}
	set := func(c *qemuClient, kind uint32, blob []byte) uint32 {
		r, _ := c.ask(0, blob, 0x0d, 0, kind, uint32(len(blob)))
		return r
	}
	if r := set(other, 1, permanent); r == 0 {
		t.Error("a TPM under other keys takes the state")
	}
	if r := set(to, 1, volatile); r == 0 {
		t.Error("volatile state passes for permanent state")
	}
	for kind, blob := range map[uint32][]byte{1: permanent, 2: volatile} {
		if r := set(to, kind, blob); r != 0 {
			t.Fatalf("CMD_SET_STATEBLOB %d = %#x", kind, r)
		}
	}
	if r, _ := to.ask(0, nil, 2, 1); r != 0 {
		t.Errorf("CMD_INIT at the destination = %#x", r)
	}
	if r, flags := to.ask(4, nil, 0x0f); r != 0 || flags[3] != 3 {
		t.Errorf("CMD_GET_CONFIG = %#x, %x, want both keys", r, flags)
	}
	to.ask(0, nil, 3)
}
