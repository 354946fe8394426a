package cli

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program/programtest"
)

// Of a service that is killed while it makes a machine the next one knows the operation,
// and does not say how it ended.
func TestAKilledServiceLosesNoOperation(t *testing.T) {
	t.Parallel()
	root, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	hangs := hangingServer(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"key-provider", "add", "main", "local:" + filepath.Join(root, "keys"), "--create"},
		{"key-provider", "add", "slow", "vault:https://" + hangs + "/transit/keys/a?token-file=" + token + "&timeout=1m", "--no-test"},
	} {
		var errs bytes.Buffer
		if status := Main(programtest.Env(new(bytes.Buffer), &errs), append(args, "--root", root)); status != 0 {
			t.Fatalf("%v: %d %s", args, status, &errs)
		}
	}
	args := []string{"--machines", root, "--machine-accelerator", "tcg"}
	client := func(url string) *attestClient {
		return &attestClient{url: url, http: clientFor(t, data), token: strings.TrimSpace(string(mustRead(t, filepath.Join(data, tokenFile))))}
	}
	url, kill := startChild(t, data, args)
	api := client(url)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		api.do("POST", "/v1/instances", []byte(`{"profile":"off","keyProvider":"slow","instance":{"name":"web-1"}}`))
	}()
	var list struct {
		Items []struct{ Name, Status string }
	}
	for len(list.Items) == 0 { // the key provider does not answer: once begun it stays under way
		status, text := api.do("GET", "/v1/operations", nil)
		if err := json.Unmarshal(text, &list); err != nil || status != http.StatusOK {
			t.Fatalf("list: %d %s, %v", status, text, err)
		}
	}
	if list.Items[0].Status != "RUNNING" {
		t.Fatalf("operation: %+v", list.Items[0])
	}
	kill()
	<-answered
	url, _ = startChild(t, data, args)
	api = client(url)
	var found struct {
		Status string
		Error  struct{ Code string }
	}
	status, text := api.do("GET", "/v1/operations/"+list.Items[0].Name, nil)
	if err := json.Unmarshal(text, &found); err != nil || status != http.StatusOK || found.Status != "DONE" || found.Error.Code != "instance.outcome-unknown" {
		t.Errorf("after the crash: %d %s, %v", status, text, err)
	}
	if status, text = api.do("GET", "/v1/audit", nil); status != http.StatusOK || !bytes.Contains(text, []byte(`"outcome":"unknown"`)) {
		t.Errorf("audit chain: %d %s", status, text)
	}
	if status, text = api.do("POST", "/v1/instances", []byte(`{"profile":"off","instance":{"name":"web-1"}}`)); status != http.StatusOK {
		t.Errorf("create again: %d %s", status, text)
	}
}

// hangingServer takes connections and says nothing.
func hangingServer(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close() // until the test ends
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	return ln.Addr().String()
}
