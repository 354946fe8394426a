package cli

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
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/httpapi"
	"github.com/assay-project/assay/internal/program"
)

// A remote is a service that a command asks over its API.
type remote struct {
	url   string
	token string
	http  *http.Client
}

// remoteFlags say which service, and who is asking.
type remoteFlags struct{ server, tokenFile, ca string }

// addRemoteFlags declares them for cmd and everything below it.
func addRemoteFlags(cmd *cobra.Command) *remoteFlags {
	var f remoteFlags
	cmd.PersistentFlags().StringVar(&f.server, "server", "", "`URL` of the service (default $ASSAY_SERVER, else https://127.0.0.1:8750)")
	cmd.PersistentFlags().StringVar(&f.tokenFile, "token-file", "", "`FILE` with your API token (default $ASSAY_TOKEN_FILE)")
	cmd.PersistentFlags().StringVar(&f.ca, "ca", "", "`FILE` with the certificate authority of the service, PEM (default $ASSAY_CA, else the system's)")
	return &f
}

// remoteTimeout bounds one request; a large bundle of anchors takes some seconds.
const remoteTimeout = time.Minute

func (f *remoteFlags) open(env *program.Env) (*remote, error) {
	setting := func(flag, name, otherwise string) string {
		if flag == "" {
			flag = env.Getenv(name)
		}
		if flag == "" {
			flag = otherwise
		}
		return flag
	}
	r := &remote{url: strings.TrimSuffix(setting(f.server, "ASSAY_SERVER", "https://127.0.0.1:8750"), "/")}
	u, err := url.Parse(r.url)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("--server: %q is not a URL of a service", r.url)
	}
	if u.Scheme == "http" {
		if err := program.MustBeLoopback("--server over http", u.Host+portOf(u)); err != nil {
			return nil, err
		}
	}
	name := setting(f.tokenFile, "ASSAY_TOKEN_FILE", "")
	if name == "" {
		return nil, errors.New("say who you are: --token-file FILE; a new service puts its administrator's into admin-token of its data folder")
	}
	token, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r.token = strings.TrimSpace(string(token))
	if _, err := access.ParseToken(r.token); err != nil {
		return nil, fmt.Errorf("%s holds no API token", name)
	}
	r.http, err = remoteClient(setting(f.ca, "ASSAY_CA", ""))
	return r, err
}

// client speaks TLS with the service alone: it follows no redirection, because the
// token is for nobody else.
func remoteClient(ca string) (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", ca)
		}
	}
	return &http.Client{Transport: transport, Timeout: remoteTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, nil
}

func portOf(u *url.URL) string {
	if u.Port() != "" {
		return ""
	}
	return ":80"
}

// maxRemoteAnswer bounds what is read of an answer.
const maxRemoteAnswer = 64 << 20

// call sends in as JSON, unless it is nil, and reads the answer into out, unless
// it is nil. A problem that the service answers is refusedBy it.
func (r *remote) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("read answer: %w", err)
	case resp.StatusCode >= 300:
		return program.RefusedBy(remoteProblem(resp, answer))
	case out == nil || len(answer) == 0:
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s is not that of this service: %w", r.url, err)
	}
	return nil
}

// remoteProblem puts an answer that is no success into words.
func remoteProblem(resp *http.Response, answer []byte) error {
	var p httpapi.Problem
	if json.Unmarshal(answer, &p) != nil || p.Code == "" {
		return fmt.Errorf("%s answers %s", resp.Request.URL.Host, resp.Status)
	}
	text := fmt.Sprintf("%s: %s", p.Code, p.Detail)
	if p.Detail == "" {
		text = fmt.Sprintf("%s: %s", p.Code, p.Title)
	}
	for _, e := range p.Errors {
		if !strings.Contains(p.Detail, e.Detail) {
			text += fmt.Sprintf("\n  %s: %s", e.Field, e.Detail)
		}
	}
	if p.RequestID != "" {
		text += " (request " + p.RequestID + ")"
	}
	return errors.New(text)
}
