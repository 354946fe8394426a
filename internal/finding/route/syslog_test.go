package route

import (
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/finding"
)

// rfc5424 is the grammar of RFC 5424, 6, as far as these messages use it.
var rfc5424 = regexp.MustCompile(`^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) assay - ([!-~]{1,32}) (\[finding@32473(?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")+\]) ([^\n]+)$`)

func TestSyslogReachesEachKindOfReceiver(t *testing.T) {
	const want = "<36>1 2026-03-01T12:00:00.000000Z host-1 assay - open "
	for _, network := range []string{"udp", "tcp", "unixgram", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			url, read := listen(t, network)
			f.add(t, Route{Name: "log", Type: Syslog, URL: url, Minimum: finding.Low})
			f.apply(t, failed("web-1"))
			f.deliver(t)
			if f.waiting(t) != 0 {
				t.Fatalf("not sent: %s", f.log.String())
			}
			text := read()
			if network == "tcp" || network == "unix" { // octet counting
				count, rest, _ := strings.Cut(text, " ")
				if n, err := strconv.Atoi(count); err != nil || n != len(rest) {
					t.Errorf("frame of %q for %d bytes", count, len(rest))
				}
				text = rest
			}
			m := rfc5424.FindStringSubmatch(text)
			if m == nil || !strings.HasPrefix(text, want) {
				t.Fatalf("message %q, want %q and the grammar", text, want)
			}
			for _, part := range []string{`kind="finding.late-boot-failed"`, `machine="web-1"`, `severity="medium"`} {
				if !strings.Contains(m[5], part) {
					t.Errorf("parameters %s lack %s", m[5], part)
				}
			}
			if !strings.Contains(m[6], `kernel "a]" -> b`) {
				t.Errorf("words %q", m[6])
			}
		})
	}
}

// listen is a receiver of syslog, and how to read its first message.
func listen(t *testing.T, network string) (url string, read func() string) {
	t.Helper()
	at := "127.0.0.1:0"
	scheme := network + "://"
	if strings.HasPrefix(network, "unix") {
		at, scheme = filepath.Join(t.TempDir(), "log"), "unix://"
	}
	if network == "udp" || network == "unixgram" {
		conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), network, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return scheme + conn.LocalAddr().String(), func() string {
			b := make([]byte, 65536)
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				t.Error(err)
			}
			return string(b[:n])
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return scheme + l.Addr().String(), func() string {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return ""
		}
		defer conn.Close()
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

// What a guest chose stays inside its parameter.
func TestSyslogParametersAreEscaped(t *testing.T) {
	m := &message{source{"o", "a host\n"}, finding.Change{Number: 1, Time: t0, Event: "open", Finding: finding.TestFinding(t0)}, t0}
	m.change.Finding.Component = `x"] [evil@1 y="\`
	m.change.Finding.Reasons[0].Message = strings.Repeat("ä", 4000)
	text := record(m)
	got := rfc5424.FindSubmatch(text)
	if got == nil || len(text) > maxSyslog {
		t.Fatalf("%d bytes: %q", len(text), text)
	}
	if string(got[3]) != "a_host_" || !strings.Contains(string(got[5]), `component="x\"\] [evil@1 y=\"\\"`) {
		t.Errorf("host %s, parameters %s", got[3], got[5])
	}
}
