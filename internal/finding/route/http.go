package route

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/seal"
)

const (
	sendTimeout = 10 * time.Second
	maxAnswer   = 64 << 10 // bytes of a receiver's answer that are read
	maxSecret   = 4 << 10  // bytes of a secret's file
	// minSecret and maxSecretKey are those of Standard Webhooks: 24 to 64 bytes.
	minSecret, maxSecretKey = 24, 64
	secretPrefix            = "whsec_"
)

// A source is who sends: the book's origin, and the name of the host for people.
type source struct{ origin, host string }

// A message is what is sent: a change of a book, at the time of this attempt.
type message struct {
	source
	change finding.Change
	at     time.Time
}

// id names a message for ever, so that a receiver knows one that it has had.
func (m *message) id() string { return fmt.Sprintf("%s-%d", m.origin, m.change.Number) }

// A permanentError is an answer that another attempt cannot better.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// body is what a webhook gets.
type body struct {
	Type      string         `json:"type"`
	Timestamp time.Time      `json:"timestamp"`
	Origin    string         `json:"origin"`
	Host      string         `json:"host"`
	Data      finding.Change `json:"data"`
}

// sendWebhook posts a signed body (Standard Webhooks 1.0).
func sendWebhook(ctx context.Context, r *Route, m *message) error {
	text, err := json.Marshal(body{"finding." + m.change.Event, m.change.Time, m.origin, m.host, m.change})
	if err != nil {
		return err
	}
	key, err := secretOf(r.SecretFile)
	if err != nil {
		return err
	}
	defer key.Destroy()
	header := http.Header{}
	header.Set("Webhook-Id", m.id())
	header.Set("Webhook-Timestamp", strconv.FormatInt(m.at.Unix(), 10))
	header.Set("Webhook-Signature", sign(key, header, text))
	return post(ctx, r, r.URL, header, text)
}

// sign makes the value of Webhook-Signature: of the identifier, the time and the body.
func sign(key seal.Secret, h http.Header, body []byte) string {
	mac := hmac.New(sha256.New, key.Expose())
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// secretOf reads the key of a webhook: whsec_ and base64.
func secretOf(file string) (seal.Secret, error) {
	text, err := readSecret(file)
	if err != nil {
		return seal.Secret{}, err
	}
	defer text.Destroy()
	encoded, ok := strings.CutPrefix(string(text.Expose()), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < minSecret || len(key) > maxSecretKey {
		return seal.Secret{}, fmt.Errorf("%s does not hold %s and the base64 of %d to %d bytes", file, secretPrefix, minSecret, maxSecretKey)
	}
	return seal.NewSecret(key), nil
}

// NewSecret makes the content of a secret file.
func NewSecret(random io.Reader) ([]byte, error) {
	key, err := seal.Random(random, 32)
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	return fmt.Appendf(nil, "%s%s\n", secretPrefix, base64.StdEncoding.EncodeToString(key.Expose())), nil
}

// readSecret reads a file of one line.
func readSecret(file string) (seal.Secret, error) {
	text, err := finding.ReadFile(file, maxSecret)
	if err != nil {
		return seal.Secret{}, err
	}
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 || bytes.ContainsAny(trimmed, "\r\n") {
		clear(text)
		return seal.Secret{}, fmt.Errorf("%s does not hold one line", file)
	}
	return seal.NewSecret(trimmed), nil
}

// post sends a body and takes any answer of 2xx for yes. It follows no redirection:
// what is signed for one receiver is not for another.
func post(ctx context.Context, r *Route, to string, header http.Header, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
	if err != nil {
		return bare(err)
	}
	q.Header = header
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("User-Agent", "assay")
	if r.TokenFile != "" {
		token, err := readSecret(r.TokenFile)
		if err != nil {
			return err
		}
		q.Header.Set("Authorization", "Bearer "+string(token.Expose()))
		token.Destroy()
	}
	transport, err := transportOf(r)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(q)
	if err != nil {
		return bare(err)
	}
	defer answer.Body.Close()                                          //nolint:errcheck // only read
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // what it says beside its status is not believed
	return judge(answer.StatusCode)
}

// judge makes an error of a status.
func judge(status int) error {
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("the receiver answers %d %s", status, http.StatusText(status))
	switch status {
	case http.StatusBadRequest, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return permanentError{err} // it is about this message, and the next may pass
	}
	return err
}

// bare takes the address, which may hold a secret, out of an error.
func bare(err error) error {
	if e := new(url.Error); errors.As(err, &e) {
		return fmt.Errorf("send: %w", e.Err)
	}
	return err
}

func transportOf(r *Route) (*http.Transport, error) {
	cfg, err := tlsOf(r)
	if err != nil {
		return nil, err
	}
	return &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer, ForceAttemptHTTP2: true}, nil
}

// tlsOf is how a receiver proves itself.
func tlsOf(r *Route) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.CAFile == "" {
		return cfg, nil
	}
	text, err := finding.ReadFile(r.CAFile, 1<<20)
	if err != nil {
		return nil, err
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", r.CAFile)
	}
	return cfg, nil
}

// alert is one of POST /api/v2/alerts. Its labels name it: they must be the same when
// it begins and when it ends.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Alertmanager forgets an alert at its end, unless it is told of it again.
const (
	alertLife = 24 * time.Hour
	testLife  = 5 * time.Minute
)

func alertOf(from source, f *finding.Finding, at time.Time) alert {
	a := alert{
		Labels: map[string]string{
			"alertname": string(f.Kind), "severity": f.Severity.String(), "origin": from.origin, "job": "assay",
		},
		Annotations: map[string]string{
			"summary": f.Title, "description": f.Meaning, "action": f.Action, "finding": strconv.Itoa(f.ID), "state": string(f.State), "reasons": words(f.Reasons), "host": from.host,
		},
		StartsAt: f.Opened, EndsAt: at.Add(alertLife),
	}
	if f.MovedFrom != nil { // the same alert as on the host where it began
		a.Labels["origin"] = f.MovedFrom.Origin
	}
	if f.Machine != "" {
		a.Labels["machine"] = f.Machine
	}
	if f.Component != "" {
		a.Labels["component"] = f.Component
	}
	switch {
	case f.Kind == finding.Test:
		a.EndsAt = at.Add(testLife)
	case f.State == finding.Resolved || f.State == finding.Suppressed:
		if a.EndsAt = at; f.Ended != nil && f.Ended.Before(at) {
			a.EndsAt = *f.Ended
		}
		if a.EndsAt.Before(a.StartsAt) { // a clock that was set back
			a.EndsAt = a.StartsAt
		}
	}
	return a
}

// words puts reasons into one text.
func words(reasons []evidence.Reason) string {
	var out []string
	for _, r := range reasons {
		text := fmt.Sprintf("%s: %s", r.Code, r.Message)
		if r.Component != "" {
			text += " (" + r.Component + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// sendAlerts tells Alertmanager of findings.
func sendAlerts(ctx context.Context, r *Route, from source, all []finding.Finding, at time.Time) error {
	alerts := make([]alert, 0, len(all))
	for i := range all {
		alerts = append(alerts, alertOf(from, &all[i], at))
	}
	text, err := json.Marshal(alerts)
	if err != nil {
		return err
	}
	return post(ctx, r, strings.TrimRight(r.URL, "/")+"/api/v2/alerts", http.Header{}, text)
}
