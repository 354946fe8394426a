package health

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/apiclient"
	"github.com/assay-project/assay/tpm2"
)

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A fakeService answers by path, and notes what it was asked.
type fakeService struct {
	answers map[string]string // by method and path; "404 …" for another status
	asked   []string
}

func (f *fakeService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.URL.Path
	if strings.HasPrefix(r.URL.Path, "/v1/attesters/") {
		key = r.Method + " key"
	}
	f.asked = append(f.asked, key+" "+string(body))
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer, ok := f.answers[key]
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"code": "not-found", "detail": "there is none"}`) //nolint:errcheck // the test sees it
	case strings.HasPrefix(answer, "403 "):
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, answer[4:]) //nolint:errcheck // as above
	default:
		io.WriteString(w, answer) //nolint:errcheck // as above
	}
}

func newRemote(t *testing.T, answers map[string]string) (*Remote, *fakeService) {
	t.Helper()
	f := &fakeService{answers: answers}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	api := &apiclient.Client{Server: s.URL, HTTP: s.Client(), Credential: func() (string, error) { return "secret", nil }}
	return &Remote{API: api, Machine: "web-1"}, f
}

func TestARemoteServiceKnowsTheKeyOfItsMachine(t *testing.T) {
	t.Parallel()
	public := evidencetest.AKOf(t, &ecKey(t).PublicKey, tpm2.AlgECDSA, tpm2.AlgSHA256)
	ak := evidencetest.Encode(t, &public)
	for name, tc := range map[string]struct {
		answers map[string]string
		want    string // in the error; empty for none
		posts   bool
	}{
		"a new key":              {map[string]string{"POST /v1/attesters": "{}"}, "", true},
		"a known key":            {map[string]string{"GET key": `{"machine": "web-1"}`}, "", false},
		"a key of another":       {map[string]string{"GET key": `{"machine": "web-2"}`}, `machine "web-2"`, false},
		"a key that was removed": {map[string]string{"GET key": `{"machine": "web-1", "removed": true}`}, "removed", false},
		"no permission":          {map[string]string{"GET key": `403 {"code": "access.denied", "detail": "attesters.read"}`}, "access.denied", false},
		"another key":            {map[string]string{"POST /v1/attesters": `403 {"code": "x", "detail": "one live key each"}`}, "one live key", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := newRemote(t, tc.answers)
			err := r.Enrolled(t.Context(), ak, nil)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Enrolled = %v, want %q", err, tc.want)
			}
			if refused := errors.As(err, new(Refusal)); refused != (err != nil) {
				t.Errorf("Enrolled = %v, the service's own word: %v", err, refused)
			}
			if posted := len(f.asked) == 2; posted != tc.posts {
				t.Errorf("asked %q", f.asked)
			}
		})
	}
}

func TestARemoteServiceMakesATokenOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ answer, token, want string }{
		"trusted":          {`{"verdict": "trusted", "token": "t"}`, "t", ""},
		"refused":          {`{"verdict": "refused", "reasons": [{"code": "policy.denied", "message": "no"}]}`, "", "policy.denied: no"},
		"refused, a token": {`{"verdict": "refused", "token": "t"}`, "", "refuses"},
		"no token":         {`{"verdict": "trusted"}`, "", "refuses"},
		"no JSON":          {"hello", "", "not that of this service"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := newRemote(t, map[string]string{"POST /v1/challenges": `{"challenge": "c", "nonce": "AQID"}`, "POST /v1/attest": tc.answer})
			nonce, challenge, err := r.Challenge(t.Context())
			if err != nil || challenge != "c" || len(nonce) != 3 {
				t.Fatalf("Challenge = %x, %q, %v", nonce, challenge, err)
			}
			token, err := r.Token(t.Context(), challenge, []byte(`{"type":"tpm"}`))
			if token != tc.token || (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Token = %q, %v", token, err)
			}
			var sent struct {
				Challenge string
				Evidence  json.RawMessage
			}
			_, body, _ := strings.Cut(f.asked[1], "/v1/attest ")
			if err := json.Unmarshal([]byte(body), &sent); err != nil || sent.Challenge != "c" || string(sent.Evidence) != `{"type":"tpm"}` {
				t.Errorf("sent %s, %v", body, err)
			}
		})
	}
}

// The words of a fault of this host name its files; those of the service may be told.
func TestAFaultOfTheHostIsNoRefusal(t *testing.T) {
	t.Parallel()
	r, _ := newRemote(t, nil)
	if _, _, err := r.Challenge(t.Context()); !errors.As(err, new(Refusal)) {
		t.Errorf("Challenge = %v", err)
	}
	if _, err := r.Token(t.Context(), "c", []byte("{}")); !errors.As(err, new(Refusal)) {
		t.Errorf("Token = %v", err)
	}
	r.API.Credential = func() (string, error) {
		return "", &os.PathError{Op: "open", Path: "/etc/token", Err: os.ErrPermission}
	}
	if _, _, err := r.Challenge(t.Context()); err == nil || errors.As(err, new(Refusal)) {
		t.Errorf("Challenge = %v", err)
	}
}
