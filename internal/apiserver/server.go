package apiserver

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Timeouts bound how long a connection may take over each step. Zero members mean
// the defaults.
type Timeouts struct {
	Header time.Duration // to send the head of a request; 0 means 10 seconds
	Read   time.Duration // to send all of a request; 0 means 30 seconds
	Write  time.Duration // from the head of a request to the end of the answer; 0 means 60 seconds
	Idle   time.Duration // between requests; 0 means 2 minutes
}

// maxHeader bounds the head of a request; ours are some hundred bytes.
const maxHeader = 16 << 10

// NewServer returns a server for h with limits on time and size. With tlsConfig
// it also asks for a client certificate, which need not be shown.
func NewServer(h http.Handler, t Timeouts, tlsConfig *tls.Config, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler: h, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: or(t.Header, 10*time.Second), ReadTimeout: or(t.Read, 30*time.Second),
		WriteTimeout: or(t.Write, time.Minute), IdleTimeout: or(t.Idle, 2*time.Minute),
	}
	if log != nil {
		s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // handshakes that fail are the clients'
	}
	if tlsConfig != nil {
		s.TLSConfig = tlsConfig.Clone()
		s.TLSConfig.MinVersion = max(s.TLSConfig.MinVersion, tls.VersionTLS12)
		// The handshake proves that the client holds the key of whatever certificate
		// it shows; a principal is known by the very certificate, not by its chain.
		s.TLSConfig.ClientAuth = tls.RequestClientCert
	}
	return s
}
