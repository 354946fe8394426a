package httpapi

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
)

// from sends a request as if from an address, without a network.
func (f *fixture) from(address, token, method, path, body string) answer {
	f.t.Helper()
	req := httptest.NewRequestWithContext(f.t.Context(), method, path, strings.NewReader(body))
	req.RemoteAddr = address + ":1"
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	got := httptest.NewRecorder()
	f.server.Config.Handler.ServeHTTP(got, req)
	return answer{got.Code, got.Header(), got.Body.Bytes()}
}

func unknownToken(t *testing.T) string {
	t.Helper()
	token, _, _, err := access.NewToken(rand.Reader)
	must(t, err)
	return token
}

func TestFloodOfUnknownTokensCostsFewReads(t *testing.T) {
	const burst = 5
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{StrangerRate: 1, StrangerBurst: burst} })
	late := f.principal("added since the start", access.Principal{Roles: []access.Role{access.Viewer}})
	counts := map[int]int{}
	for range 500 {
		counts[f.from("192.0.2.1", unknownToken(t), "GET", "/v1/whoami", "").status]++
	}
	if counts[401] != burst || counts[429] != 500-burst {
		t.Errorf("500 unknown tokens: %v, want %d of 401 and the rest 429", counts, burst)
	}
	if got := f.store.lookUps.Load(); got != burst {
		t.Errorf("500 unknown tokens cost %d reads, want %d", got, burst)
	}
	for who, tc := range map[string]struct {
		address, token string
		want           int
	}{
		"new, behind another address":      {"192.0.2.2", late, 200},
		"of before, behind the same":       {"192.0.2.1", f.tokens[access.Viewer], 200},
		"no token at all, behind the same": {"192.0.2.1", "", 429},
	} {
		if got := f.from(tc.address, tc.token, "GET", "/v1/whoami", ""); got.status != tc.want {
			t.Errorf("%s: %d %s, want %d", who, got.status, got.body, tc.want)
		}
	}
	if got := f.from("192.0.2.1", late, "GET", "/v1/whoami", ""); got.status != 200 {
		t.Errorf("seen since, behind the same: %d %s", got.status, got.body)
	}
}

func TestGoodNewcomersOfOneAddressPayNothing(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{StrangerRate: 1, StrangerBurst: 1} })
	for _, name := range []string{"a", "b", "c"} {
		token := f.principal(name, access.Principal{Roles: []access.Role{access.Viewer}})
		if got := f.from("192.0.2.1", token, "GET", "/v1/whoami", ""); got.status != 200 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	for i, want := range []int{401, 429} {
		if got := f.from("192.0.2.1", unknownToken(t), "GET", "/v1/whoami", ""); got.status != want {
			t.Errorf("guess %d after them: %d, want %d", i, got.status, want)
		}
	}
}

func TestACredentialJustGivenOutPassesAFloodFromItsAddress(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{StrangerRate: 1, StrangerBurst: 1} })
	for range 3 {
		f.from("192.0.2.1", unknownToken(t), "GET", "/v1/whoami", "")
	}
	var added newPrincipalBody
	f.as(access.Admin, "POST", "/v1/principals", map[string]any{"name": "new", "roles": []string{"viewer"}}).into(t, &added)
	if got := f.from("192.0.2.1", added.Token, "GET", "/v1/whoami", ""); got.status != 200 {
		t.Errorf("a new principal behind the address of a flood: %d %s", got.status, got.body)
	}
}

func TestRevokedCredentialPaysLikeAnyOther(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{StrangerRate: 1, StrangerBurst: 3} })
	token := f.principal("gone", access.Principal{Roles: []access.Role{access.Viewer}})
	if got := f.from("192.0.2.1", token, "GET", "/v1/whoami", ""); got.status != 200 {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	if got := f.as(access.Admin, "DELETE", "/v1/principals/gone", nil); got.status != 204 {
		t.Fatalf("removal: %d %s", got.status, got.body)
	}
	before := f.store.lookUps.Load()
	for i, want := range []int{401, 401, 401, 429, 429, 429} {
		if got := f.from("192.0.2.1", token, "GET", "/v1/whoami", ""); got.status != want {
			t.Errorf("try %d: %d, want %d", i, got.status, want)
		}
	}
	if got := f.store.lookUps.Load() - before; got != 3 {
		t.Errorf("6 tries of a revoked token cost %d reads, want 3", got)
	}
}

// Unknown tokens from many addresses take few of the store's connections at once.
func TestUnknownTokensOfManyAddressesLeaveTheStoreToOthers(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{Newcomers: 1, Wait: 10 * time.Millisecond} })
	held, release := make(chan struct{}, 1), make(chan struct{})
	known, err := access.ParseToken(f.tokens[access.Viewer])
	must(t, err)
	f.store.onRead = func(d access.Digest) {
		if d != known {
			held <- struct{}{}
			<-release
		}
	}
	var done sync.WaitGroup
	done.Go(func() {
		if got := f.from("192.0.2.1", unknownToken(t), "GET", "/v1/whoami", ""); got.status != 401 {
			t.Errorf("the first: %d %s", got.status, got.body)
		}
	})
	<-held
	for _, address := range []string{"192.0.2.2", "192.0.2.3", "2001:db8::1"} {
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		if got := f.from(address, unknownToken(t), "GET", "/v1/whoami", ""); got.status != 429 || got.code() != "service.overloaded" {
			t.Errorf("another from %s: %d %s", address, got.status, got.body)
		}
	}
	if got := f.from("192.0.2.4", f.tokens[access.Viewer], "GET", "/v1/whoami", ""); got.status != 200 {
		t.Errorf("a known credential meanwhile: %d %s", got.status, got.body)
	}
	close(release)
	done.Wait()
}

func TestBodyMemoryIsSharedByCallers(t *testing.T) {
	const share = 1 << 20
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{BodyMemory: 4 * share, CallerMemory: share} })
	padded := func(n int) string {
		var c challengeBody
		f.as(access.Operator, "POST", "/v1/challenges", "{}").into(t, &c)
		return `{"challenge":"` + c.Challenge + `","evidence":{"type":"tpm","note":"good` + strings.Repeat("x", n) + `"}}`
	}
	if got := f.as(access.Attester, "POST", "/v1/attest", padded(share)); got.status != 413 || got.code() != "request.too-large" {
		t.Errorf("body beyond the share: %d %s", got.status, got.body)
	}
	// One request holds most of the share and does not end. While it is read it may itself
	// be the one that is refused, because of the other's; then it is sent again.
	var sender *io.PipeWriter
	var ended chan struct{}
	hold := func() {
		var body io.Reader
		body, sender = io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), "POST", f.server.URL+"/v1/attest", body)
		must(t, err)
		req.ContentLength = share
		req.Header.Set("Authorization", "Bearer "+f.tokens[access.Attester])
		req.Header.Set("Content-Type", "application/json")
		ended = make(chan struct{})
		go func(ended chan struct{}) {
			defer close(ended)
			if resp, err := f.client.Do(req); err == nil {
				resp.Body.Close()
			}
		}(ended)
		sender.Write(make([]byte, share-64<<10)) //nolint:errcheck // it may have been refused: the loop sees it
	}
	hold()
	for tries := 0; ; tries++ {
		got := f.as(access.Attester, "POST", "/v1/attest", padded(share/2))
		if got.status == 429 && got.code() == "limit.memory" && got.header.Get("Retry-After") != "" {
			break
		}
		if tries == 1000 {
			t.Fatalf("second request of the caller: %d %s", got.status, got.body)
		}
		select {
		case <-ended:
			sender.CloseWithError(errors.New("sent again"))
			hold()
		default:
		}
	}
	if got := f.as(access.Admin, "POST", "/v1/attest", padded(share/2)); got.status != 200 {
		t.Errorf("another caller meanwhile: %d %s", got.status, got.body)
	}
	sender.CloseWithError(errors.New("gone"))
	<-ended
	for tries := 0; ; tries++ {
		got := f.as(access.Attester, "POST", "/v1/attest", padded(share/2))
		if got.status == 200 {
			break
		}
		if tries == 1000 {
			t.Fatalf("afterwards: %d %s", got.status, got.body)
		}
	}
}
