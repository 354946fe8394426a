package route

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/finding"
)

// RFC 5424, 6.2.1: the facility "security/authorization messages", and severities.
const (
	facility       = 4
	sevError       = 3
	sevWarning     = 4
	sevNotice      = 5
	sevInfo        = 6
	maxSyslog      = 2048 // bytes: what every receiver takes (RFC 5424, 6.1)
	maxSyslogWords = 800
	// sdID names our parameters. 32473 is the number that RFC 5612 gives to examples: we
	// have none of our own.
	sdID = "finding@32473"
)

// record makes the message of a change (RFC 5424, 6).
func record(m *message) []byte {
	f := &m.change.Finding
	severity := map[finding.Severity]int{finding.Low: sevNotice, finding.Medium: sevWarning, finding.High: sevError}[f.Severity]
	if f.State != finding.Open {
		severity = sevInfo
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s assay - %s [%s", facility*8+severity, m.change.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), field(m.host, 255), field(m.change.Event, 32), sdID)
	for _, p := range [][2]string{
		{"message", m.id()},
		{"id", strconv.Itoa(f.ID)},
		{"kind", string(f.Kind)},
		{"machine", f.Machine},
		{"component", f.Component},
		{"severity", f.Severity.String()},
		{"state", string(f.State)},
	} {
		if p[1] != "" {
			fmt.Fprintf(&b, ` %s="%s"`, p[0], escape(p[1]))
		}
	}
	text := f.Title
	if w := words(f.Reasons); w != "" {
		text += ": " + w
	}
	if f.Machine != "" {
		text = f.Machine + ": " + text
	}
	fmt.Fprintf(&b, "] %s", strings.ToValidUTF8(text[:min(len(text), maxSyslogWords)], ""))
	out := b.String()
	return []byte(strings.ToValidUTF8(out[:min(len(out), maxSyslog)], ""))
}

// field makes a part of the header: printable ASCII without spaces (RFC 5424, 6.2).
func field(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 33 || r > 126 {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}

// escape makes the value of a parameter (RFC 5424, 6.3.3).
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(s)
}

// sendSyslog sends one message on a connection of its own. Streams are framed by
// octet counting (RFC 6587, 3.4.1).
func sendSyslog(ctx context.Context, r *Route, m *message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	conn, packets, err := dialSyslog(ctx, r)
	if err != nil {
		return err
	}
	text := record(m)
	if !packets {
		text = append(fmt.Appendf(nil, "%d ", len(text)), text...)
	}
	err = conn.SetDeadline(deadline(ctx))
	if err == nil {
		_, err = conn.Write(text)
	}
	return errors.Join(err, conn.Close())
}

func deadline(ctx context.Context) time.Time {
	at, _ := ctx.Deadline() // sendSyslog has set one
	return at
}

// dialSyslog reaches the receiver; packets is set where each write is one message.
func dialSyslog(ctx context.Context, r *Route) (conn net.Conn, packets bool, err error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, false, ErrRoute // unreachable: Check has parsed it
	}
	var d net.Dialer
	switch u.Scheme {
	case "udp":
		conn, err = d.DialContext(ctx, "udp", u.Host)
		return conn, true, err
	case "tcp":
		conn, err = d.DialContext(ctx, "tcp", u.Host)
		return conn, false, err
	case "tls":
		cfg, err := tlsOf(r)
		if err != nil {
			return nil, false, err
		}
		conn, err = (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", u.Host)
		return conn, false, err
	default: // a socket of this machine takes packets, as /dev/log, or a stream
		if conn, err = d.DialContext(ctx, "unixgram", u.Path); err == nil {
			return conn, true, nil
		}
		conn, err = d.DialContext(ctx, "unix", u.Path)
		return conn, false, err
	}
}
