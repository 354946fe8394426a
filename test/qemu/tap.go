package qemu

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync"
)

// A Tap stands between QEMU and the control channel of a TPM, and sees each command
// before the TPM does: QEMU begins a write with each.
type Tap struct {
	Socket string
	listen net.Listener
	done   sync.WaitGroup
	seen   func(code uint32)
}

// Commands of the control channel (tpm_ioctl.h) that a test waits for.
const (
	CommandInit         = 0x02
	CommandGetStateBlob = 0x0c
	CommandSetStateBlob = 0x0d
)

// NewTap serves one QEMU, and tells seen of its commands.
func NewTap(dir, tpm string, seen func(code uint32)) (*Tap, error) {
	t := &Tap{Socket: filepath.Join(dir, "tap"), seen: seen}
	var err error
	if t.listen, err = net.Listen("unix", t.Socket); err != nil {
		return nil, err
	}
	t.done.Go(func() { t.serve(tpm) })
	return t, nil
}

func (t *Tap) serve(tpm string) {
	a, err := t.listen.Accept()
	if err != nil {
		return
	}
	defer a.Close()
	b, err := net.Dial("unix", tpm)
	if err != nil {
		return
	}
	defer b.Close()
	from, okA := a.(*net.UnixConn)
	to, okB := b.(*net.UnixConn)
	if !okA || !okB {
		return
	}
	t.done.Go(func() {
		_, _ = io.Copy(from, to) // answers carry no files
		from.Close()
	})
	t.forward(from, to)
}

// forward passes what QEMU sends, with the files.
func (t *Tap) forward(from, to *net.UnixConn) {
	b, oob := make([]byte, 64<<10), make([]byte, 256)
	for {
		n, oobn, _, _, err := from.ReadMsgUnix(b, oob)
		if err != nil || n == 0 {
			return
		}
		if n >= 4 {
			t.seen(binary.BigEndian.Uint32(b))
		}
		if _, _, err := to.WriteMsgUnix(b[:n], oob[:oobn], nil); err != nil {
			return
		}
		closeRights(oob[:oobn])
	}
}

// Close ends the tap and waits.
func (t *Tap) Close() error {
	err := t.listen.Close()
	t.done.Wait()
	return err
}
