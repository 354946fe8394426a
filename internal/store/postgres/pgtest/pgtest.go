// Package pgtest runs a real PostgreSQL server for tests: a new cluster in a
// folder of its own, on a Unix socket, as a user without rights when the test
// runs as root.
//
// It is for tests only. Start with [Start].
package pgtest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// RequireEnv, set to 1, makes a missing server a failure instead of a skip.
const RequireEnv = "ASSAY_REQUIRE_POSTGRES"

// A Server is a running cluster.
type Server struct {
	programs string // folder of initdb, postgres, pg_ctl
	home     string // holds data, socket and log
	as       *syscall.SysProcAttr
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
	settings []string
	made     atomic.Int32 // databases
}

// Start runs a server until the test ends, with settings ("fsync=on") beside its
// own. Without the programs the test is skipped, and says so.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	programs, err := find()
	if err != nil {
		if os.Getenv(RequireEnv) == "1" {
			t.Fatalf("%s=1: %v", RequireEnv, err)
		}
		t.Skipf("needs a PostgreSQL server: %v", err)
	}
	s := &Server{programs: programs, settings: settings}
	// A socket's path has at most 107 bytes, fewer than some t.TempDir have.
	if s.home, err = os.MkdirTemp("", "pgtest"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.home) })
	if s.as, err = unprivileged(s.home); err != nil {
		t.Fatal(err)
	}
	if out, err := s.command("initdb", "-D", s.data(), "-U", "assay", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Run(t)
	t.Cleanup(func() { s.stop(t, syscall.SIGINT) })
	return s
}

// find returns the folder of the newest server that is installed.
func find() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", fmt.Errorf("no initdb on the PATH or in /usr/lib/postgresql (Debian: apt-get install postgresql)")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// unprivileged gives dir to a user whom the server accepts: it refuses root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return nil, fmt.Errorf("neither postgres nor nobody is a user here")
}

func (s *Server) data() string { return filepath.Join(s.home, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.programs, program), args...)
	cmd.Dir, cmd.SysProcAttr = s.home, s.as
	return cmd
}

// Run starts the server process, also after [Server.Crash].
func (s *Server) Run(t testing.TB) {
	t.Helper()
	// fsync is off: these tests kill processes, not the machine, and what a
	// process wrote outlives it. The rest is as a careful operator has it.
	args := []string{"-D", s.data(), "-k", s.home, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100"}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.cmd = s.command("postgres", args...)
	log, err := os.OpenFile(filepath.Join(s.home, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(cmd *exec.Cmd) {
		cmd.Wait() //nolint:errcheck // a signal ends it
		close(ended)
	}(s.cmd)
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for tries := 0; db.PingContext(context.Background()) != nil; tries++ {
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("server ended:\n%s", s.log())
		}
		if tries > 3000 {
			t.Fatalf("server does not answer:\n%s", s.log())
		}
	}
}

func (s *Server) log() []byte {
	b, _ := os.ReadFile(filepath.Join(s.home, "log"))
	return bytes.TrimSpace(b)
}

// Freeze stops every process of the server where it is, as a hung machine would;
// Thaw lets them go on. The test is skipped where processes cannot be listed.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	// The parent first, so that it makes no child that is missed.
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Thaw(t) })
	s.signalChildren(t, syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw(t testing.TB) {
	t.Helper()
	s.signalChildren(t, syscall.SIGCONT)
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) signalChildren(t testing.TB, how syscall.Signal) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		t.Skip("needs /proc to find the processes of the server")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// proc(5): pid (name) state ppid; the name may hold anything.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(s.cmd.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil {
			err = syscall.Kill(pid, how)
		}
		if err != nil && err != syscall.ESRCH { //nolint:errorlint // returned as is
			t.Error(err)
		}
	}
}

// Crash stops the server as pg_ctl stop -m immediate does: at once, without a
// checkpoint, to recover at its next start.
func (s *Server) Crash(t testing.TB) { s.stop(t, syscall.SIGQUIT) }

func (s *Server) stop(t testing.TB, how syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(how); err != nil && err != os.ErrProcessDone { //nolint:errorlint // returned as is
		t.Errorf("stop server: %v", err)
	}
	<-s.ended
}

func (s *Server) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("assay"), Path: "/" + database, RawQuery: url.Values{"host": {s.home}}.Encode()}
	return u.String()
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprintf("test%d", s.made.Add(1))
	if _, err := db.ExecContext(context.Background(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}
