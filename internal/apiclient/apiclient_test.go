package apiclient

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, status int, body string) *Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("authorization %q", r.Header.Get("Authorization"))
		}
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		w.WriteHeader(status)
		io.WriteString(w, body) //nolint:errcheck // the test sees it
	}))
	t.Cleanup(s.Close)
	h, err := Connect(nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return &Client{Server: s.URL, HTTP: h, Credential: func() (string, error) { return "secret", nil }, Limit: 100}
}

func TestAnAnswerIsReadOrItsProblemTold(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status     int
		body, want string // in the error; empty for none
	}{
		"an answer":    {200, `{"x": 1}`, ""},
		"nothing":      {204, ``, ""},
		"no JSON":      {200, `hello`, "not that of this service"},
		"too long":     {200, `{"x": "` + strings.Repeat("x", 200) + `"}`, "not that of this service"},
		"a problem":    {403, `{"code": "access.denied", "detail": "no"}`, "403 Forbidden: access.denied: no"},
		"no problem":   {502, `<html>`, "502 Bad Gateway"},
		"other JSON":   {500, `[]`, "500 Internal Server Error"},
		"elsewhere":    {307, ``, "307 Temporary Redirect"},
		"a false host": {403, `{"code": "x", "Host": "evil", "Status": 200}`, "403 Forbidden: x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, tc.status, tc.body)
			var out struct{ X int }
			err := c.Do(t.Context(), http.MethodPost, "/v1/x", map[string]int{"a": 1}, &out)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Do = %v, want %q", err, tc.want)
			}
			var p *Problem
			if tc.status/100 != 2 && (!errors.As(err, &p) || p.Status != tc.status || p.Host == "evil") {
				t.Errorf("problem %+v", p)
			}
		})
	}
}

func TestACredentialThatIsMissingMakesNoRequest(t *testing.T) {
	t.Parallel()
	c := &Client{Server: "http://127.0.0.1:1", HTTP: http.DefaultClient, Credential: func() (string, error) { return "", os.ErrNotExist }}
	if err := c.Do(t.Context(), http.MethodGet, "/", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Do = %v", err)
	}
}

func TestAnAuthorityMustBeOne(t *testing.T) {
	t.Parallel()
	if _, err := Connect([]byte("none"), time.Second); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("Connect = %v", err)
	}
}
