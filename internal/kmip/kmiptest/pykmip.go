package kmiptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// pykmipServer is where Debian's python3-pykmip has its server; its own interpreter
// is the system's.
const pykmipServer = "/usr/bin/pykmip-server"

// StartPyKMIP starts PyKMIP's server on loopback for a test, and returns its address.
// Where it is not installed the test is skipped, unless ASSAY_REQUIRE_PYKMIP is 1.
func StartPyKMIP(tb testing.TB, f Files) (address string) {
	tb.Helper()
	if !HasPyKMIP(tb) {
		tb.Skip("PyKMIP is not installed (Debian: python3-pykmip)")
	}
	dir := tb.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	address = l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := fmt.Sprintf("[server]\nhostname=127.0.0.1\nport=%d\ncertificate_path=%s\nkey_path=%s\nca_path=%s\nauth_suite=TLS1.2\npolicy_path=%s\nenable_tls_client_auth=True\ndatabase_path=%s\n",
		port, f.ServerCert, f.ServerKey, f.CA, dir, filepath.Join(dir, "pykmip.db"))
	name := filepath.Join(dir, "server.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("/usr/bin/python3", pykmipServer, "-f", name, "-l", filepath.Join(dir, "server.log"))
	cmd.Stdout, cmd.Stderr = &out, &out
	// The server has a child, which a signal to the server alone may leave behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tb.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	await(tb, address, f.Client(tb), ended, &out)
	return address
}

// HasPyKMIP reports whether PyKMIP is installed; where it is required and missing the
// test fails.
func HasPyKMIP(tb testing.TB) bool {
	tb.Helper()
	_, err := os.Stat(pykmipServer)
	if err != nil && os.Getenv("ASSAY_REQUIRE_PYKMIP") == "1" {
		tb.Fatalf("PyKMIP is required: %v", err)
	}
	return err == nil
}

// await waits until the server takes a connection.
func await(tb testing.TB, address string, cfg *tls.Config, ended chan error, out *bytes.Buffer) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	d := tls.Dialer{Config: cfg}
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case end := <-ended:
			ended <- end
			tb.Fatalf("PyKMIP ended: %v\n%s", end, out)
		case <-ctx.Done():
			tb.Fatalf("PyKMIP does not answer: %v", err)
		}
	}
}
