package keyprovider

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/internal/seal"
)

// maxPatience bounds what a spec may have us wait for one answer.
const maxPatience = 5 * time.Minute

// duration takes an option such as timeout=5s.
func (o *options) duration(name string, usual time.Duration) time.Duration {
	text := o.text(name)
	if text == "" {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxPatience {
		o.fail("option %q: want a time such as 5s, at most %s", name, maxPatience)
	}
	return d
}

// tlsFiles are PEM files: the authorities of a server (the system's when empty), and
// the client's certificate and key.
type tlsFiles struct{ ca, cert, key string }

func (o *options) tlsFiles() tlsFiles {
	f := tlsFiles{o.text("ca"), o.text("cert"), o.text("key")}
	if (f.cert == "") != (f.key == "") {
		o.fail("options cert and key go together")
	}
	return f
}

// config reads the files. They are read when the provider is opened; the client's
// certificate again for each connection, so that it may be renewed.
func (f tlsFiles) config(server string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server}
	if f.ca != "" {
		text, err := readPrivate(f.ca, 0o022, 1<<20)
		if err != nil {
			return nil, fmt.Errorf("authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authorities: %q has no certificate in PEM", f.ca)
		}
	}
	if f.cert == "" {
		return cfg, nil
	}
	if _, err := f.pair(); err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	return cfg, nil
}

func (f tlsFiles) pair() (*tls.Certificate, error) {
	cert, err := os.ReadFile(f.cert)
	if err != nil {
		return nil, fmt.Errorf("%w: client certificate: %w", ErrRefused, err)
	}
	key, err := readPrivate(f.key, 0o077, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("%w: client key: %w", ErrRefused, err)
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%w: client certificate: %w", ErrRefused, err)
	}
	return &pair, nil
}

// tlsRefused reports whether one side does not take the other's certificate: asking
// again does not help.
func tlsRefused(err error) bool {
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) {
		return true
	}
	// What the other side says comes as an error without a type of its own (RFC 8446, 6.2).
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return false
	}
	said := remote.Err.Error()
	return strings.Contains(said, "certificate") || strings.Contains(said, "access denied")
}

// serviceURL reads the address of a service: https, or http on this machine alone.
func serviceURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("address is not a URL") // url.Error shows the text
	}
	if u.User != nil {
		return nil, errors.New("address has a user or password in it: a secret does not stand in a spec")
	}
	local := u.Hostname() == "127.0.0.1" || u.Hostname() == "::1"
	if u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return nil, errors.New("address wants https://HOST[:PORT]; http:// only to 127.0.0.1 and ::1")
	}
	return u, nil
}

// asked turns the error of a request into one of ours: the caller's own end of
// patience stays what it is, and everything that broke on the way is [ErrUnavailable].
func asked(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %v", ctx.Err(), err)
	}
	for _, kind := range []error{ErrUnknownKey, ErrUnavailable, ErrRefused, ErrGarbage, errClosed, seal.ErrOpen, seal.ErrFormat} {
		if errors.Is(err, kind) {
			return err
		}
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		// Not with %w: the caller's own deadline has not passed.
		return fmt.Errorf("%w: no answer in time: %v", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// shut tells that a provider is closed.
type shut struct{ closed atomic.Bool }

func newShut() *shut { return new(shut) }

func (s *shut) is() bool { return s.closed.Load() }

func (s *shut) close() { s.closed.Store(true) }
