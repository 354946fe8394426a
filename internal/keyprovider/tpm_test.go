package keyprovider_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/tpmtest"
)

// hostTPM is this machine's TPM: one that every opener of the device shares.
type hostTPM struct {
	*tpmtest.TPM

	mu   sync.Mutex // guards seen
	seen [][]byte   // responses and commands
	lie  func(response []byte) ([]byte, error)
}

func (h *hostTPM) Send(c []byte) ([]byte, error) {
	r, err := h.TPM.Send(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, bytes.Clone(c), bytes.Clone(r))
	if h.lie != nil {
		return h.lie(r)
	}
	return r, err
}

// Close closes the connection, not the TPM.
func (h *hostTPM) Close() error { return nil }

func tpmEnv(h *hostTPM) keyprovider.Env {
	env := environ(nil)
	env.OpenTPM = func(device string) (keyprovider.TPM, error) {
		if device != "/dev/tpmrm0" {
			return nil, os.ErrNotExist
		}
		return h, nil
	}
	return env
}

func TestKeysSealedToTheHostPassTheSuite(t *testing.T) {
	for _, pcrs := range []string{"none", "sha256:7", "sha384:0,2,23"} {
		t.Run(pcrs, func(t *testing.T) {
			env := tpmEnv(&hostTPM{TPM: tpmtest.Open(t)})
			options := "?tpm=/dev/tpmrm0&pcrs=" + pcrs
			spec := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+options, env)
			other := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+options, env)
			keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: spec, Other: other})
		})
	}
}

// extend measures something into a register of the machine.
func (h *hostTPM) extend(t *testing.T, pcr int) {
	t.Helper()
	_, err := client.New(h.TPM, zeros{}).Run(&client.Command{
		Code: tpm2.CCPCREvent, Handles: []client.Entity{{Handle: tpm2.Handle(pcr)}},
		In: &command.PCREventIn{EventData: []byte("measured")}, Out: new(command.PCREventOut),
	})
	if err != nil {
		t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestKeysSealedToTheHostOpenThereOnly(t *testing.T) {
	const options = "?tpm=/dev/tpmrm0&pcrs=sha256:7,11"
	host := &hostTPM{TPM: tpmtest.Open(t)}
	env := tpmEnv(host)
	file := filepath.Join(t.TempDir(), "keys")
	create(t, "local:"+file+options, env)
	open := func(options string, env keyprovider.Env) error {
		p, err := keyprovider.OpenSpec(t.Context(), "local:"+file+options, env)
		if err == nil {
			p.Close()
		}
		return err
	}
	if err := open(options, env); err != nil {
		t.Fatalf("as it was sealed: %v", err)
	}
	host.extend(t, 8)
	if err := open(options, env); err != nil {
		t.Errorf("after a register that is not sealed to: %v", err)
	}
	if err := open(options, tpmEnv(&hostTPM{TPM: tpmtest.Open(t)})); !errors.Is(err, keyprovider.ErrUnknownKey) || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("on another machine: %v", err)
	}
	if err := open("?tpm=/dev/tpm9&pcrs=sha256:7,11", env); !errors.Is(err, keyprovider.ErrUnavailable) {
		t.Errorf("without a TPM: %v", err)
	}
	if err := open("?tpm=/dev/tpmrm0&pcrs=none", env); err == nil || !strings.Contains(err.Error(), "sha256:7,11") {
		t.Errorf("with other registers named: %v", err)
	}
	if err := open("", env); !errors.Is(err, keyprovider.ErrRefused) {
		t.Errorf("without the option tpm: %v", err)
	}
	host.extend(t, 11)
	if err := open(options, env); !errors.Is(err, keyprovider.ErrRefused) || !strings.Contains(err.Error(), "did not boot as when") {
		t.Errorf("after another boot: %v", err)
	}
	if err := host.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := open(options, env); err != nil {
		t.Errorf("after a boot as before: %v", err)
	}
}

// The key that opens the file does not cross the bus in the clear, and what the TPM
// sealed is not in the file in the clear.
func TestTheTPMsSecretIsNotOnTheBus(t *testing.T) {
	host := &hostTPM{TPM: tpmtest.Open(t)}
	env := tpmEnv(host)
	known := &repeating{}
	env.Random = known // makes the secret predictable: 32 times the same byte
	file := filepath.Join(t.TempDir(), "keys")
	spec := create(t, "local:"+file+"?tpm=/dev/tpmrm0&pcrs=none", env)
	opener(spec, env)(t).Close()
	const secret = 3 // read after the name of the new key and the key
	for i, b := range host.seen {
		if bytes.Contains(b, bytes.Repeat([]byte{secret}, seal.KeySize)) {
			t.Errorf("message %d shows the secret", i)
		}
	}
	if len(host.seen) < 10 {
		t.Errorf("only %d messages", len(host.seen))
	}
}

// repeating gives each reader one byte, repeated; the next reader the next.
type repeating struct {
	mu sync.Mutex // guards n
	n  byte
}

func (r *repeating) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n = r.n%250 + 1
	for i := range b {
		b[i] = r.n
	}
	return len(b), nil
}

func TestATPMThatLiesIsNotBelieved(t *testing.T) {
	host := &hostTPM{TPM: tpmtest.Open(t)}
	env := tpmEnv(host)
	spec := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+"?tpm=/dev/tpmrm0&pcrs=none", env)
	for name, tc := range map[string]struct {
		lie  func([]byte) ([]byte, error)
		want error
	}{
		"garbage":      {func([]byte) ([]byte, error) { return []byte("no response at all"), nil }, keyprovider.ErrGarbage},
		"it went away": {func([]byte) ([]byte, error) { return nil, os.ErrClosed }, keyprovider.ErrUnavailable},
		"it is busy":   {func([]byte) ([]byte, error) { return []byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x09\x22"), nil }, keyprovider.ErrUnavailable},
		"it is locked": {func([]byte) ([]byte, error) { return []byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x09\x21"), nil }, keyprovider.ErrRefused},
		"bits are turned": {func(r []byte) ([]byte, error) {
			if len(r) > 100 { // of a key or an object
				r[len(r)-1] ^= 1
			}
			return r, nil
		}, keyprovider.ErrGarbage},
	} {
		t.Run(name, func(t *testing.T) {
			if err := host.Reset(); err != nil { // which frees what a lie left loaded, as the kernel does
				t.Fatal(err)
			}
			host.lie = tc.lie
			p, err := keyprovider.OpenSpec(t.Context(), spec, env)
			if !errors.Is(err, tc.want) {
				t.Errorf("OpenSpec = %v, want %v", err, tc.want)
			}
			if err == nil {
				p.Close()
			}
		})
	}
	host.lie = nil
	if err := host.Reset(); err != nil {
		t.Fatal(err)
	}
	opener(spec, env)(t).Close()
}

// Another maker's TPM serves as well.
func TestKeysSealedToSWTPMPassTheSuite(t *testing.T) {
	swtpm, err := exec.LookPath("swtpm")
	if err != nil && os.Getenv("ASSAY_REQUIRE_SWTPM") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("swtpm is not installed (Debian: swtpm)")
	}
	dir, err := os.MkdirTemp("", "swtpm") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "tpm")
	cmd := exec.Command(swtpm, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	env := environ(nil)
	env.OpenTPM = func(string) (keyprovider.TPM, error) { return dialTPM(t.Context(), socket) }
	awaitServer(t, socket)
	options := "?tpm=/dev/tpmrm0&pcrs=sha256:7"
	spec := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+options, env)
	other := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+options, env)
	keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: spec, Other: other})
}

// A stream is a TPM behind a socket.
type stream struct {
	*client.Stream
	io.Closer
}

func dialTPM(ctx context.Context, socket string) (keyprovider.TPM, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return stream{client.NewStream(c), c}, nil
}

// awaitServer waits until a server takes connections at a socket: its file is there before.
func awaitServer(t *testing.T, socket string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return
		}
		<-tick.C
	}
	t.Fatalf("nothing listens at %s", socket)
}
