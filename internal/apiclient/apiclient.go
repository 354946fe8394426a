// Package apiclient is the client's side of the attestation service's HTTP API: one
// request, its answer or the problem (RFC 9457) that the service gives instead. It knows
// no operation; each caller has its own few. Start with [Client.Do].
package apiclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Client speaks to one service.
type Client struct {
	Server string // URL without a slash at its end
	// Credential gives the API token, for each request: it may be exchanged meanwhile. Nil
	// is for a service that takes anonymous requests.
	Credential func() (string, error)
	HTTP       *http.Client
	// Limit bounds what is read of an answer, in bytes; 0 means 1 MiB.
	Limit int64
}

// A Problem is an answer that is no success. A service that answers otherwise than with a
// problem leaves all but Host and Status empty.
type Problem struct {
	Host   string // of the service
	Status int
	Title  string
	Detail string
	Code   string
	// RequestID names the failure in the service's own log.
	RequestID string
	Errors    []struct{ Field, Detail string } // member by member
}

// Error says what the service says.
func (p *Problem) Error() string {
	var answered strings.Builder
	fmt.Fprintf(&answered, "the service answered %d %s", p.Status, http.StatusText(p.Status))
	for _, word := range []string{p.Code, p.Detail, p.Title} {
		if word != "" {
			answered.WriteString(": " + word)
		}
	}
	return answered.String()
}

// Do sends in as JSON, unless it is nil, and reads the answer into out, unless that is
// nil. The error is a [*Problem] when the service refuses.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Server+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Credential != nil {
		token, err := c.Credential()
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.answer(resp, out)
}

func (c *Client) answer(resp *http.Response, out any) error {
	limit := c.Limit
	if limit == 0 {
		limit = 1 << 20
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	switch {
	case err != nil:
		return fmt.Errorf("read answer of %s: %w", resp.Request.URL.Path, err)
	case resp.StatusCode/100 != 2:
		p := new(Problem)
		if json.Unmarshal(text, p) != nil || p.Code == "" && p.Title == "" {
			p = new(Problem)
		}
		p.Host, p.Status = resp.Request.URL.Host, resp.StatusCode
		return p
	case out == nil || len(text) == 0:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer of %s is not that of this service: %w", resp.Request.URL.Path, err)
	}
	return nil
}

// Connect makes the client under a [Client]: TLS with the authorities in a PEM text alone,
// or with the system's when it is nil. It follows no redirection, because the token is
// for nobody else.
func Connect(authorities []byte, timeout time.Duration) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	if authorities != nil {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("no certificate in PEM")
		}
	}
	return &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, nil
}
