package vtpm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// With crashEnv the test binary does one operation on a root, "FOLDER VERB STEP",
// and kills itself at a step.
const crashEnv = "ASSAY_VTPM_TEST_CRASH"

func TestMain(m *testing.M) {
	if job := os.Getenv(crashEnv); job != "" {
		fmt.Println(crashAt(strings.Fields(job)))
		os.Exit(1)
	}
	if dir := os.Getenv(daemonEnv); dir != "" {
		fmt.Println(daemonProcess(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// onDisk is a configuration whose key providers two processes share.
func onDisk(t testing.TB, dir string) Config {
	for _, name := range []string{"main", "other"} {
		if t != nil {
			if err := keyprovider.CreateFile(filepath.Join(dir, name), rand.Reader, seal.Secret{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return Config{
		Dir: filepath.Join(dir, "root"), Random: rand.Reader, Now: time.Now,
		DefaultProvider: func() string { return "main" },
		Provider: func(ctx context.Context, spec string) (Provider, error) {
			return keyprovider.OpenSpec(ctx, "local:"+filepath.Join(dir, spec), keyprovider.Env{Random: rand.Reader, Now: time.Now})
		},
	}
}

func crashAt(job []string) error {
	r, err := OpenRoot(context.Background(), onDisk(nil, job[0]))
	if err != nil {
		return err
	}
	step := strings.ReplaceAll(job[2], "_", " ")
	r.reached = func(s string) {
		if s == step {
			syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	return crashing()[job[1]].do(r)
}

// An operation that is cut short, and what shows whether it took place.
type crashCase struct {
	do    func(*Root) error
	steps []string
	took  func(*testing.T, *Root) bool
}

func crashing() map[string]crashCase {
	ctx := context.Background()
	generation := func(t *testing.T, r *Root) bool {
		d := mustDescribe(t, r, "web")
		return d.Generation > 1
	}
	always := func(steps ...string) []string { return append([]string{"begun"}, append(steps, "over", "noted")...) }
	exists := func(name string) func(*testing.T, *Root) bool {
		return func(_ *testing.T, r *Root) bool { ok, err := r.has(name); return ok && err == nil }
	}
	return map[string]crashCase{
		"create": {func(r *Root) error {
			_, err := r.Create(ctx, tester, CreateOptions{Name: "new"})
			return err
		}, always("folder made", "card written"), exists("new")},
		"clone": {func(r *Root) error {
			_, err := r.Clone(ctx, tester, CloneOptions{From: "web", To: "new", Mode: ModeCopy})
			return err
		}, always("folder made", "card written"), exists("new")},
		"attach": {func(r *Root) error { return r.Attach(ctx, tester, "web", *good()) }, always("state saved"), generation},
		"clear": {func(r *Root) error {
			_, err := r.Clear(ctx, tester, "web")
			return err
		}, always("state saved"), generation},
		"delete": {func(r *Root) error { return r.Delete(ctx, tester, "web") }, always("renamed"), func(t *testing.T, r *Root) bool {
			return !exists("web")(t, r)
		}},
		"rotate": {func(r *Root) error { return r.RotateKey(ctx, tester, "web", "other") }, always("both named", "wrapped"), func(t *testing.T, r *Root) bool {
			info, err := state.Inspect(r.StatePath("web"))
			if err != nil {
				t.Fatal(err)
			}
			return info.Provider == "other"
		}},
	}
}

func mustDescribe(t *testing.T, r *Root, name string) *Description {
	t.Helper()
	d, err := r.Describe(context.Background(), name)
	if err != nil || !d.Proved {
		t.Fatalf("Describe(%q) = %+v, %v", name, d, err)
	}
	return d
}

// An operation that is killed at any step took place or did not, the audit trail
// says which, every TPM still opens, and the operation can be done again.
func TestAKilledOperationIsDoneOrUndone(t *testing.T) {
	for verb, tc := range crashing() {
		for _, step := range tc.steps {
			t.Run(verb+"/"+step, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				cfg := onDisk(t, dir)
				r := openRoot(t, cfg)
				if _, err := r.Create(context.Background(), tester, CreateOptions{Name: "web"}); err != nil {
					t.Fatal(err)
				}
				r.Close()
				kill(t, dir, verb, step)
				r = openRoot(t, cfg)
				took := tc.took(t, r)
				want := map[bool]string{true: OutcomeDone, false: OutcomeFailed}[took]
				entries, err := r.Trail().AuditEntries(context.Background(), 1, 10)
				if err != nil || len(entries) == 0 || entries[len(entries)-1].Outcome != want || entries[len(entries)-1].Actor != tester {
					t.Errorf("took place: %v; trail %+v, %v", took, entries, err)
				}
				if _, err := r.Trail().Check(context.Background(), nil, func(uint64) {}); err != nil {
					t.Error(err)
				}
				names, _ := r.Names()
				for _, name := range names {
					mustDescribe(t, r, name)
				}
				if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "tpms", ".*")); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
				if !took || verb == "rotate" || verb == "attach" {
					if err := tc.do(r); err != nil {
						t.Errorf("done again: %v", err)
					}
				}
				if !tc.took(t, r) {
					t.Error("done again, it did not take place")
				}
			})
		}
	}
}

func openRoot(t *testing.T, cfg Config) *Root {
	t.Helper()
	r, err := OpenRoot(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func kill(t *testing.T, dir, verb, step string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+dir+" "+verb+" "+strings.ReplaceAll(step, " ", "_"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("it was not killed: %v, %s", err, out)
	}
}

// What a crash left of a line of the audit trail is cut off, and the trail says so.
func TestATornTrailIsMended(t *testing.T) {
	f := newFixture(t)
	f.create("web", "db")
	path := f.Trail().path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := slices.Index(whole, '\n') + 1
	for cut := first; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		f.report(context.Background(), Event{Type: EventStart, TPM: "web", Actor: tester, Outcome: OutcomeDone})
		head, err := f.Trail().Check(context.Background(), nil, func(uint64) {})
		want := uint64(3) // entry 1, the note, the new entry
		if cut == first {
			want = 2
		}
		if err != nil || head.Seq != want {
			t.Fatalf("cut at %d: head %d, %v, want %d", cut, head.Seq, err, want)
		}
	}
}

func TestAnAlteredTrailIsNamed(t *testing.T) {
	f := newFixture(t)
	f.create("web", "db")
	path := f.Trail().path
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, tc := range map[string]struct{ text, want string }{
		"altered":   {strings.Replace(lines[0], "web", "wed", 1) + lines[1], "audit entry 1: was altered"},
		"dropped":   {lines[1], "audit entry 1: missing"},
		"no entry":  {"x\n" + lines[1], "audit entry 1: was altered: it cannot be read"},
		"too long":  {strings.Repeat("x", maxLine+1) + "\n" + lines[1], "audit entry 1: is longer"},
		"no ending": {"x\n", "the last line of the trail is no entry"},
	} {
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Trail().Check(context.Background(), nil, func(uint64) {}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
