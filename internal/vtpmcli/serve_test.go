package vtpmcli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// serveTPM runs a TPM until stop is called, which returns how it ended.
func serveTPM(t *testing.T, o *vtpmOptions) (stop func() error) {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := o.serve(ctx, programtest.Env(w, io.Discard))
		w.CloseWithError(err)
		done <- err
	}()
	t.Cleanup(cancel)
	if line, err := bufio.NewReader(r).ReadString('\n'); line != readyLine {
		t.Fatalf("the TPM says %q, %v", line, err)
	}
	return func() error {
		cancel()
		return <-done
	}
}

// shortDir is a folder whose path leaves room for the name of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vtpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startedTPM connects to a TPM and starts it.
func startedTPM(t *testing.T, network, addr string) *client.TPM {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	tpm := client.New(client.NewStream(c), rand.Reader)
	if err := tpm.Startup(tpm2.StartupClear); err != nil {
		t.Fatal(err)
	}
	return tpm
}

// primaryName is the Name of an ECC primary key, which the seed of the TPM decides.
func primaryName(t *testing.T, tpm *client.TPM, auth string) []byte {
	t.Helper()
	in := &command.CreatePrimaryIn{InPublic: tpm2.EKTemplates()[1].Public}
	out := new(command.CreatePrimaryOut)
	owner := client.Entity{Handle: tpm2.HandleOwner, Auth: []byte(auth)}
	h, err := tpm.Run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{owner}, In: in, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if err := tpm.Flush(h); err != nil {
		t.Fatal(err)
	}
	return out.Name
}

func TestAVirtualTPMIsKeptInItsFolder(t *testing.T) {
	dir := shortDir(t)
	o := &vtpmOptions{state: filepath.Join(dir, "state"), ledger: ledgerFlags{dir: filepath.Join(dir, "ledger")}, keys: program.KeySource{File: filepath.Join(dir, "key")}, swtpmUnix: filepath.Join(dir, "socket")}
	stop := serveTPM(t, o)
	tpm := startedTPM(t, "unix", o.swtpmUnix)
	name := primaryName(t, tpm, "")
	change := &client.Command{
		Code: tpm2.CCHierarchyChangeAuth, Handles: []client.Entity{{Handle: tpm2.HandleOwner}}, In: &command.HierarchyChangeAuthIn{NewAuth: []byte("secret")},
	}
	if _, err := tpm.Run(change); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(o.swtpmUnix); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v, want 0600", info.Mode(), err)
	}
	busy := *o
	busy.swtpmUnix += "2"
	if err := busy.serve(context.Background(), programtest.Env(io.Discard, io.Discard)); !errors.Is(err, state.Locked) {
		t.Errorf("a second process on the folder: %v, want %v", err, state.Locked)
	}
	if err := stop(); err != nil {
		t.Fatalf("stopped: %v", err)
	}

	stop = serveTPM(t, o)
	if again := primaryName(t, startedTPM(t, "unix", o.swtpmUnix), "secret"); !cmp.Equal(again, name) {
		t.Errorf("after a restart the primary key is %x, before %x", again, name)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	sealed, err := os.ReadFile(filepath.Join(o.state, serveStateFile))
	if err != nil || strings.Contains(string(sealed), "secret") {
		t.Errorf("the state is not sealed: %v", err)
	}
}

// State that is gone must not come back as another TPM.
func TestStateThatIsGoneIsNotReplaced(t *testing.T) {
	dir := shortDir(t)
	o := &vtpmOptions{state: filepath.Join(dir, "state"), ledger: ledgerFlags{dir: filepath.Join(dir, "ledger")}, keys: program.KeySource{File: filepath.Join(dir, "key")}, swtpmUnix: filepath.Join(dir, "s")}
	if err := serveTPM(t, o)(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(o.state, serveStateFile)); err != nil {
		t.Fatal(err)
	}
	if err := o.serve(context.Background(), programtest.Env(io.Discard, io.Discard)); err == nil || !strings.Contains(err.Error(), "--new") {
		t.Errorf("serve without its state = %v, want an error that names --new", err)
	}
	if _, err := os.Stat(filepath.Join(o.state, serveStateFile)); err == nil {
		t.Error("a refused start made a state")
	}
	o.create = true
	if err := serveTPM(t, o)(); err != nil {
		t.Errorf("serve --new: %v", err)
	}
}

func TestStateThatDoesNotOpenIsRefused(t *testing.T) {
	dir := shortDir(t)
	whole := vtpmOptions{state: filepath.Join(dir, "state"), ledger: ledgerFlags{dir: filepath.Join(dir, "ledger")}, keys: program.KeySource{File: filepath.Join(dir, "key")}, swtpmUnix: filepath.Join(dir, "s")}
	if err := serveTPM(t, &whole)(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(whole.state, serveStateFile)
	sealed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(o *vtpmOptions)
		want   error
	}{
		"changed": {func(*vtpmOptions) {
			b := bytes.Clone(sealed)
			for i := 100; i < len(b); i += 512 {
				b[i] ^= 1
			}
			write(t, file, b)
		}, state.Damaged},
		"cut": {func(*vtpmOptions) { write(t, file, sealed[:len(sealed)/2]) }, state.Truncated},
		"key file that is gone": {func(o *vtpmOptions) {
			write(t, file, sealed)
			o.keys.File += "-gone"
		}, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			o := whole
			tc.change(&o)
			if err := o.serve(context.Background(), programtest.Env(io.Discard, io.Discard)); !errors.Is(err, tc.want) {
				t.Errorf("serve = %v, want %v", err, tc.want)
			}
		})
	}
	write(t, file, sealed)
	o := whole
	o.keys.File, o.provider = "", "local:"+filepath.Join(dir, "otherkey")
	if err := keyprovider.CreateFile(filepath.Join(dir, "otherkey"), rand.Reader, seal.Secret{}); err != nil {
		t.Fatal(err)
	}
	if err := o.serve(context.Background(), programtest.Env(io.Discard, io.Discard)); !errors.Is(err, keyprovider.ErrUnknownKey) {
		t.Errorf("another key provider: %v, want ErrUnknownKey", err)
	}
	o = whole
	o.profile = "fips"
	if err := o.serve(context.Background(), programtest.Env(io.Discard, io.Discard)); err == nil || !strings.Contains(err.Error(), "--profile") {
		t.Errorf("another profile for a TPM that has one: %v", err)
	}
}

// A key provider that was there before keeps the TPM of a new folder, and does not
// make another when the folder's is gone.
func TestServeUnderAKeyProvider(t *testing.T) {
	dir := shortDir(t)
	o := &vtpmOptions{state: filepath.Join(dir, "state"), ledger: ledgerFlags{dir: filepath.Join(dir, "ledger")}, swtpmUnix: filepath.Join(dir, "s")}
	if err := o.serve(t.Context(), programtest.Env(io.Discard, io.Discard)); err == nil || !strings.Contains(err.Error(), "always encrypted") {
		t.Errorf("serve without a key provider = %v", err)
	}
	if err := keyprovider.CreateFile(filepath.Join(dir, "key"), rand.Reader, seal.Secret{}); err != nil {
		t.Fatal(err)
	}
	o.provider = "local:" + filepath.Join(dir, "key")
	if err := serveTPM(t, o)(); err != nil {
		t.Fatal(err)
	}
	if info, err := state.Inspect(filepath.Join(o.state, serveStateFile)); err != nil || info.Provider != o.provider {
		t.Errorf("state file is %+v, %v", info, err)
	}
	if err := os.Rename(filepath.Join(o.state, serveStateFile), filepath.Join(o.state, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := o.serve(t.Context(), programtest.Env(io.Discard, io.Discard)); err == nil || !strings.Contains(err.Error(), "--new") {
		t.Errorf("serve without its state = %v, want an error that names --new", err)
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestASocketOfSomebodyElseIsLeftAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	stop := serveTPM(t, &vtpmOptions{ephemeral: true, swtpmUnix: path})
	second := &vtpmOptions{ephemeral: true, swtpmUnix: path}
	if err := second.serve(context.Background(), programtest.Env(io.Discard, io.Discard)); err == nil {
		t.Error("a second server took the socket")
	}
	startedTPM(t, "unix", path)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := serveTPM(t, second)(); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
}

// A file at the place of the socket was taken for a stale socket and removed: a
// connection to it is refused, too.
func TestAFileInPlaceOfTheSocketIsKept(t *testing.T) {
	path := filepath.Join(shortDir(t), "file")
	write(t, path, []byte("kept"))
	if l, err := listenUnix(context.Background(), path); err == nil {
		l.Close()
		t.Error("somebody listens in place of a file")
	}
	if got, err := os.ReadFile(path); string(got) != "kept" {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

func TestVTPMServeRefusesWhatIsNotSafeOrNotClear(t *testing.T) {
	for name, tc := range map[string]struct{ args, want string }{
		"no state":          {"--mssim 127.0.0.1:1", "[ephemeral state name]"},
		"two states":        {"--ephemeral --state d --key-file k --mssim 127.0.0.1:1", "[ephemeral state name]"},
		"no key":            {"--state d --mssim 127.0.0.1:1", "key-file"},
		"no port":           {"--ephemeral", "[mssim swtpm-tcp swtpm-unix qemu-socket]"},
		"two ports":         {"--ephemeral --mssim 127.0.0.1:1 --swtpm-unix s", "[mssim swtpm-tcp swtpm-unix qemu-socket]"},
		"the whole network": {"--ephemeral --mssim 0.0.0.0:1", "not a loopback address"},
		"raw, too":          {"--ephemeral --swtpm-tcp :1", "not a loopback address"},
		"unknown profile":   {"--ephemeral --profile none --swtpm-tcp 127.0.0.1:1", "unknown TPM profile"},
	} {
		t.Run(name, func(t *testing.T) {
			var errs strings.Builder
			status := assay(programtest.Env(io.Discard, &errs), append([]string{"vtpm", "serve"}, strings.Fields(tc.args)...))
			if status != program.StatusUnusable || !strings.Contains(errs.String(), tc.want) {
				t.Errorf("status %d, %q; want %d, %q", status, errs.String(), program.StatusUnusable, tc.want)
			}
		})
	}
}

// twoPorts returns a free port whose successor is free, too.
func twoPorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", loopback(port+1))
		l.Close()
		if err == nil {
			next.Close()
			return port
		}
	}
	t.Fatal("no two free ports in a row")
	return 0
}

func TestTheSimulatorsPlaceIsTaken(t *testing.T) {
	for name, args := range map[string][]string{
		"tpm_server":     {"-rm", "-port"},
		"tpm2-simulator": {"-m", "-e"},
	} {
		t.Run(name, func(t *testing.T) {
			port := twoPorts(t)
			done, errs := runDropIn(t, ephemeral(), name, append(args, fmt.Sprint(port))...)
			commands, err := net.Dial("tcp", loopback(port))
			if err != nil {
				t.Fatal(err)
			}
			defer commands.Close()
			platform, err := net.Dial("tcp", loopback(port+1))
			if err != nil {
				t.Fatal(err)
			}
			defer platform.Close()
			// TPM_SIGNAL_POWER_ON; a simulator begins without.
			if _, err := platform.Write(binary.BigEndian.AppendUint32(nil, 1)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(platform, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if err := client.New(client.NewSimulator(commands, 0), rand.Reader).Startup(tpm2.StartupClear); err != nil {
				t.Errorf("Startup = %v", err)
			}
			if _, err := commands.Write(binary.BigEndian.AppendUint32(nil, 21)); err != nil { // TPM_STOP
				t.Fatal(err)
			}
			if status := <-done; status != program.StatusOK {
				t.Errorf("status %d, %s", status, errs)
			}
		})
	}
}

func TestProfilesAreListedAndShown(t *testing.T) {
	var out strings.Builder
	if status := assay(programtest.Env(&out, io.Discard), []string{"tpm", "profile", "list", "-o", "json"}); status != program.StatusOK {
		t.Fatalf("status %d", status)
	}
	var list []profileJSON
	if err := json.Unmarshal([]byte(out.String()), &list); err != nil || len(list) != len(engine.Profiles()) {
		t.Fatalf("%d profiles, %v, want %d", len(list), err, len(engine.Profiles()))
	}
	for _, p := range list {
		out.Reset()
		if status := assay(programtest.Env(&out, io.Discard), []string{"tpm", "profile", "show", fmt.Sprintf("%s:%d", p.Name, p.Version), "-o", "json"}); status != program.StatusOK {
			t.Errorf("%s: status %d", p.Name, status)
		}
		var j profileJSON
		if err := json.Unmarshal([]byte(out.String()), &j); err != nil || !slices.Contains(j.Commands, "TPM2_GetRandom") || slices.Contains(j.Algorithms, "") {
			t.Errorf("%s: %+v, %v", p.Name, j, err)
		}
		out.Reset()
		if status := assay(programtest.Env(&out, io.Discard), []string{"tpm", "profile", "show", p.Name}); status != program.StatusOK || !strings.Contains(out.String(), "TPM2_GetRandom") {
			t.Errorf("%s: status %d, %s", p.Name, status, out.String())
		}
	}
	for _, name := range []string{"none", "default:99", "default:x", "default:0"} {
		if status := assay(programtest.Env(io.Discard, io.Discard), []string{"tpm", "profile", "show", name}); status != program.StatusUnusable {
			t.Errorf("profile %q: status %d", name, status)
		}
	}
}
