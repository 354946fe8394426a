package frontend

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// faultyTPM has a fault of ours where no engine catches it.
type faultyTPM struct{ *fakeTPM }

func (faultyTPM) PowerOn() { panic("a fault") }

// A fault ends the server of this TPM with an error, and not the process.
func TestAFaultWhileServingEndsThisTPM(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(faultyTPM{&fakeTPM{}}, MachineConfig{})
	if _, err := client.Write([]byte("\x00\x00\x00\x02\x00\x00\x00\x00")); err != nil { // INIT
		t.Fatal(err)
	}
	if err := ServeControl(context.Background(), m, conn, SWTPMConfig{}, Config{Now: time.Now}); !errors.Is(err, ErrFault) {
		t.Errorf("ServeControl = %v, want %v", err, ErrFault)
	}
}
