package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// bin is a folder with assay under its own name and those that it stands in for.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "assay-vtpm"), "./cmd/assay-vtpm")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build assay-vtpm: %v\n%s", err, out)
		return 1
	}
	for _, name := range []string{"tpm2-simulator", "tpm_server", "swtpm"} {
		if err := os.Symlink("assay-vtpm", filepath.Join(dir, name)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	bin = dir
	os.Setenv("ASSAY_KEY_PROVIDER", "ephemeral") // nothing that a suite makes is kept
	return m.Run()
}

// knownFailures are tests that fail for reasons of their own.
func knownFailures(t *testing.T, name string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			known[line] = true
		}
	}
	return known
}

// results are the tests of a suite by result: "pass", "fail" or "skip".
type results map[string][]string

// check is a result as check.v1 prints it under -check.v.
var check = regexp.MustCompile(`^(PASS|FAIL|SKIP|PANIC|MISS|FAIL EXPECTED): [^ ]+: ([^\t\n ]+)`)

var checkResults = map[string]string{"PASS": "pass", "FAIL EXPECTED": "pass", "FAIL": "fail", "PANIC": "fail", "MISS": "fail", "SKIP": "skip"}

// goTest runs packages of other modules from this module.
func goTest(t *testing.T, args ...string) results {
	t.Helper()
	cmd := exec.Command("go", append([]string{"test", "-json", "-vet=off", "-count=1", "-p=1", "-timeout=5m"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "XDG_RUNTIME_DIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	r := results{}
	reported := false
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		name := e.Package[strings.LastIndex(e.Package, "/")+1:] + "."
		if strings.HasPrefix(e.Output, "panic: ") {
			t.Errorf("%s: %s%s", e.Package, e.Output, tail(out))
		}
		if m := check.FindStringSubmatch(e.Output); m != nil {
			r[checkResults[m[1]]] = append(r[checkResults[m[1]]], name+m[2])
			reported = reported || checkResults[m[1]] == "fail"
		}
		if e.Test != "" && slices.Contains([]string{"pass", "fail", "skip"}, e.Action) {
			r[e.Action] = append(r[e.Action], name+e.Test)
			reported = reported || e.Action == "fail"
		}
	}
	if err != nil && !reported {
		t.Fatalf("go test %v: %v\n%s\n%s", args, err, stderr.Bytes(), tail(out))
	}
	return r
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }

// judge fails the test for each failure that is not known, and for each known
// one that is no more.
func (r results) judge(t *testing.T, known map[string]bool, atLeast int) {
	t.Helper()
	t.Logf("%d pass, %d fail, %d skip", len(r["pass"]), len(r["fail"]), len(r["skip"]))
	for _, name := range r["fail"] {
		if !known[name] {
			t.Errorf("%s fails", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !slices.Contains(r["fail"], name) {
			t.Errorf("%s is a known failure and did not fail", name)
		}
	}
	if len(r["pass"]) < atLeast {
		t.Errorf("only %d tests passed, want %d", len(r["pass"]), atLeast)
	}
}

// Facts of the suites at the versions in go.mod: how many results pass.
const (
	canonicalPasses = 1599
	goTPMPasses     = 504
)

func TestCanonicalGoTPM2(t *testing.T) {
	const module = "github.com/canonical/go-tpm2"
	port, _ := ports(t) // the suite starts a simulator for each package, one after the other
	r := goTest(t, module, module+"/cryptutil", module+"/objectutil", module+"/policyutil", module+"/templates", module+"/testutil", module+"/util",
		"-check.v", "-args", "-use-mssim", "-mssim-port="+port)
	r.judge(t, knownFailures(t, "canonical.txt"), canonicalPasses)
}

func TestGoTPM(t *testing.T) {
	goTest(t, "github.com/google/go-tpm/tpm2/...").judge(t, knownFailures(t, "go-tpm.txt"), goTPMPasses)
}

// start runs a drop-in until the test ends, once it says that it answers.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s says %q, %v", name, line, err)
	}
}

// ports returns a port of which the next one is free, too. Both lie below those that
// Linux gives to outgoing connections, so that no client of a suite comes to have one
// while no server listens there.
func ports(t *testing.T) (first, second string) {
	t.Helper()
	for range 100 {
		port := 16384 + 2*rand.IntN(8192)
		if free(port) && free(port+1) {
			return strconv.Itoa(port), strconv.Itoa(port + 1)
		}
	}
	t.Fatal("no two ports in a row are free")
	return "", ""
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestGoTPMsSimulatorTransport(t *testing.T) {
	commands, platform := ports(t)
	start(t, "tpm_server", "-port", commands)
	r := goTest(t, "github.com/google/go-tpm/tpm2/transport/tcp", "-args", "-cmd_addr=127.0.0.1:"+commands, "-plat_addr=127.0.0.1:"+platform)
	r.judge(t, nil, 2)
}

// tool runs a program and returns what it prints.
func tool(t *testing.T, stdin string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// need skips a test whose programs are missing, unless they are required.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("ASSAY_REQUIRE_TPM_TOOLS") != "" {
				t.Fatalf("%s is missing", p)
			}
			t.Skipf("%s is missing", p)
		}
	}
}

func TestSystemdCryptenroll(t *testing.T) {
	need(t, "systemd-cryptenroll", "cryptsetup", "tpm2_pcrextend")
	data, control := ports(t)
	start(t, "swtpm", "socket", "--tpm2", "-p", data, "--ctrl", "type=tcp,port="+control, "--flags", "not-need-init,startup-clear")
	tcti := "swtpm:host=127.0.0.1,port=" + data
	tool(t, "", nil, "tpm2_pcrextend", "-T", tcti, "7:sha256="+strings.Repeat("ab", 32))
	volume := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(volume, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(volume, 32<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "pass", nil, "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", volume, "-")
	// The tool seals a key, unseals it again and compares before it enrols.
	for name, flow := range map[string][]string{
		"by PCR":         {"--tpm2-pcrs=7"},
		"by PCR and PIN": {"--tpm2-pcrs=7", "--tpm2-with-pin=yes"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--tpm2-device=" + tcti}, flow...)
			out := tool(t, "", []string{"PASSWORD=pass", "NEWPIN=1234"}, "systemd-cryptenroll", append(args, volume)...)
			if !strings.Contains(out, "New TPM2 token enrolled") || strings.Contains(out, "not initialized") {
				t.Errorf("systemd-cryptenroll says %q", out)
			}
		})
	}
}

// Debian's tpm2-tools over the main flows of testdata/tpm2-tools.txt.
func TestTPM2Tools(t *testing.T) {
	need(t, "tpm2_getrandom")
	data, control := ports(t)
	start(t, "swtpm", "socket", "--tpm2", "-p", data, "--ctrl", "type=tcp,port="+control, "--flags", "not-need-init,startup-clear")
	script, err := os.ReadFile("testdata/tpm2-tools.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for n, line := range strings.Split(string(script), "\n") {
		command, fails := strings.CutPrefix(strings.TrimSpace(line), "! ")
		if command == "" || strings.HasPrefix(command, "#") {
			continue
		}
		// The shell is there for quotes and redirection.
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port="+data, "TSS2_LOG=all+none")
		out, err := cmd.CombinedOutput()
		if (err != nil) != fails {
			t.Errorf("line %d: %s: %v\n%s", n+1, line, err, out)
		}
	}
}
