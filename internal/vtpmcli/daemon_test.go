package vtpmcli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/vtpm"
)

// run runs a command line and returns its exit status and what it printed.
func run(t *testing.T, root string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	env := programtest.Env(&o, &e)
	getenv := env.Getenv
	env.Getenv = func(name string) string {
		if name == "ASSAY_VTPM_ROOT" {
			return root
		}
		return getenv(name)
	}
	status = assay(env, args)
	return status, o.String(), e.String()
}

func mustRun(t *testing.T, root string, args ...string) string {
	t.Helper()
	status, out, errs := run(t, root, args...)
	if status != program.StatusOK {
		t.Fatalf("%v: status %d, %s", args, status, errs)
	}
	return out
}

// A daemon tells systemd that it is ready, takes the requests of the other
// subcommands, and ends in good order.
func TestTheOtherSubcommandsAskTheDaemon(t *testing.T) {
	dir := shortDir(t)
	root, sockets := filepath.Join(dir, "root"), filepath.Join(dir, "s")
	mustRun(t, root, "key-provider", "add", "main", "local:"+filepath.Join(dir, "key"), "--create")
	mustRun(t, root, "vtpm", "create", "web")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	r, w := io.Pipe()
	env := programtest.Env(w, io.Discard)
	vars := map[string]string{"NOTIFY_SOCKET": filepath.Join(dir, "notify"), "WATCHDOG_USEC": "60000"}
	env.Getenv = func(name string) string { return vars[name] }
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- runVTPMDaemon(ctx, env, &rootFlags{dir: root}, vtpm.DaemonConfig{SocketDir: sockets, SocketMode: 0o660})
	}()
	if line, err := bufio.NewReader(r).ReadString('\n'); line != readyLine {
		t.Fatalf("the daemon says %q, %v", line, err)
	}
	told := make(chan string)
	go func() {
		defer close(told)
		for b := make([]byte, 64); ; {
			n, err := notify.Read(b)
			if err != nil {
				return
			}
			told <- string(b[:n])
		}
	}()
	if first, then := <-told, <-told; first != "READY=1" || then != "WATCHDOG=1\nSTATUS=1 TPMs" {
		t.Errorf("systemd is told %q, then %q", first, then)
	}
	var last string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for last != "STOPPING=1" {
			last = <-told
		}
	}()
	if info, err := os.Stat(filepath.Join(sockets, "web.ctrl")); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info, err)
	}
	mustRun(t, root, "vtpm", "create", "db")
	if out := mustRun(t, root, "vtpm", "start", "db"); out != "db is ready at "+filepath.Join(sockets, "db.ctrl")+"\n" {
		t.Errorf("start: %q", out)
	}
	var out string
	var list []vtpm.Summary
	if err := json.Unmarshal([]byte(mustRun(t, root, "vtpm", "list", "-o", "json")), &list); err != nil || len(list) != 2 || !list[0].Running || list[1].Running {
		t.Errorf("list: %+v, %v", list, err)
	}
	if status, _, errs := run(t, root, "vtpm", "clear", "db"); status != program.StatusRefused || !strings.Contains(errs, "--yes does it") {
		t.Errorf("clear: status %d, %s", status, errs)
	}
	mustRun(t, root, "vtpm", "clear", "db", "--yes")
	if out := mustRun(t, root, "vtpm", "stop", "db"); out != "db is stopped\n" {
		t.Errorf("stop: %q", out)
	}
	mustRun(t, root, "vtpm", "daemon", "reload")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // the signal takes its time
		if out = mustRun(t, root, "vtpm", "audit", "list", "--limit", "1000"); strings.Contains(out, "SIGHUP") {
			break
		}
	}
	if n := strings.Count(out, "reloadKeyProvidersEvent"); n != 2 {
		t.Errorf("%d reloads in the trail, want one by the command and one by the signal:\n%s", n, out)
	}
	if status, _, errs := run(t, root, "vtpm", "daemon"); status != program.StatusUnusable || !strings.Contains(errs, "somebody else does") {
		t.Errorf("a second daemon: status %d, %s", status, errs)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-ended
	if left, _ := filepath.Glob(filepath.Join(sockets, "*")); len(left) != 0 {
		t.Errorf("sockets left: %v", left)
	}
	mustRun(t, root, "vtpm", "audit", "verify")
}

// One process for a TPM of a root, in place of the daemon.
func TestServeATPMOfARoot(t *testing.T) {
	dir := shortDir(t)
	root := filepath.Join(dir, "root")
	mustRun(t, root, "key-provider", "add", "main", "local:"+filepath.Join(dir, "key"), "--create")
	mustRun(t, root, "vtpm", "create", "web")
	var names [2]string
	for n := range names {
		o := &vtpmOptions{name: "web", root: &rootFlags{dir: root}, swtpmUnix: filepath.Join(dir, "d")}
		stop := serveTPM(t, o)
		names[n] = string(primaryName(t, startedTPM(t, "unix", o.swtpmUnix), ""))
		if status, _, errs := run(t, root, "vtpm", "clear", "web", "--yes"); status != program.StatusUnusable || !strings.Contains(errs, "in use by another process") {
			t.Errorf("clear while it runs: status %d, %s", status, errs)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if names[0] != names[1] {
		t.Error("it is another TPM after a restart")
	}
	if status, _, errs := run(t, root, "vtpm", "serve", "--name", "nobody", "--swtpm-unix", filepath.Join(dir, "d")); status != program.StatusUnusable || !strings.Contains(errs, "there is no TPM of that name") {
		t.Errorf("serve: status %d, %s", status, errs)
	}
}

func TestTheWatchdogOfAnotherProcessIsNotAnswered(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"none":              {},
		"another's":         {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
		"no number":         {"WATCHDOG_USEC": "soon"},
		"no time to answer": {"WATCHDOG_USEC": "2"},
		"more than a day":   {"WATCHDOG_USEC": "9223372036854775807"},
	} {
		if beats, _ := watchdog(&program.Env{Getenv: func(name string) string { return vars[name] }}); beats != nil {
			t.Errorf("%s: it is answered", name)
		}
	}
}

func TestDaemonFlagsAreChecked(t *testing.T) {
	for flag, want := range map[string]string{
		"--socket-mode=9999": "want permissions in octal", "--socket-group=no-such-group": "--socket-group", "--admin=no-such-user": "--admin",
	} {
		if status, _, errs := run(t, shortDir(t), "vtpm", "daemon", flag); status != program.StatusUnusable || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %s", flag, status, errs)
		}
	}
}
