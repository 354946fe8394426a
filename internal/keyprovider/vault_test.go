package keyprovider_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
	"github.com/assay-project/assay/internal/seal"
)

// fakeVault answers as the API documentation of Vault's and OpenBao's transit engine,
// AppRole method and token store says. It is not a Vault.
type fakeVault struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	keys   map[string]*transitKey
	tokens map[string]*vaultToken
	now    func() time.Time
	logins int
	seen   []string // requests: method, path, namespace
	fault  func(w http.ResponseWriter, r *http.Request) (done bool)
}

type transitKey struct {
	Type    string `json:"type"`
	Derived bool   `json:"derived"`
	least   int
	values  [][]byte // by version, from 1
}

// A vaultToken ends at a time, zero for never, and may be prolonged by its life up to one.
type vaultToken struct {
	until, most time.Time
	life        time.Duration // 0 for one that cannot be renewed
}

// valid reports whether the server knows a token. v.mu is held.
func (v *fakeVault) valid(token string) bool {
	t := v.tokens[token]
	return t != nil && (t.until.IsZero() || v.now().Before(t.until))
}

// issue makes a token known that lives from now. v.mu is held.
func (v *fakeVault) issue(token string, life, most time.Duration) {
	v.tokens[token] = &vaultToken{v.now().Add(life), v.now().Add(most), life}
}

const (
	rootToken = "hvs.root-token-of-the-test"
	roleID    = "role-of-the-test"
	secretID  = "secret-id-of-the-test"
)

func startVault(t *testing.T) *fakeVault {
	t.Helper()
	v := &fakeVault{keys: map[string]*transitKey{}, tokens: map[string]*vaultToken{rootToken: {}}, now: time.Now}
	v.Server = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.Close)
	return v
}

func say(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // a test
}

func complain(w http.ResponseWriter, status int, text string) {
	say(w, status, map[string]any{"errors": []string{text}})
}

func (v *fakeVault) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	fault := v.fault
	v.seen = append(v.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Vault-Namespace"))
	v.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	if !ok || r.Header.Get("X-Vault-Request") != "true" {
		complain(w, 400, "no request of a client")
		return
	}
	body, _ := io.ReadAll(r.Body)
	if path == "auth/approle/login" {
		v.logIn(w, body)
		return
	}
	token := r.Header.Get("X-Vault-Token")
	if !v.valid(token) {
		complain(w, 403, "permission denied")
		return
	}
	if operation, ok := strings.CutPrefix(path, "auth/token/"); ok {
		v.token(w, operation, token)
		return
	}
	parts := strings.Split(path, "/")
	if parts[0] != "transit" || len(parts) < 3 {
		complain(w, 404, "no handler for route")
		return
	}
	v.transit(w, r.Method, parts[1:], body)
}

// token answers about a token that is valid.
func (v *fakeVault) token(w http.ResponseWriter, operation, text string) {
	t := v.tokens[text]
	switch {
	case operation == "lookup-self":
		left, ends := 0, any(nil)
		if !t.until.IsZero() {
			left, ends = int(t.until.Sub(v.now()).Seconds()), t.until.Format(time.RFC3339Nano)
		}
		say(w, 200, map[string]any{"data": map[string]any{"ttl": left, "expire_time": ends, "renewable": t.life > 0}, "auth": nil})
	case operation == "renew-self" && t.life > 0:
		if t.until = v.now().Add(t.life); t.until.After(t.most) {
			t.until = t.most
		}
		say(w, 200, map[string]any{"auth": map[string]any{"client_token": text, "lease_duration": int(t.until.Sub(v.now()).Seconds()), "renewable": true}, "data": nil})
	default:
		complain(w, 400, "lease is not renewable")
	}
}

func (v *fakeVault) logIn(w http.ResponseWriter, body []byte) {
	var in struct{ Role, Secret string }
	var raw map[string]string
	_ = json.Unmarshal(body, &raw)
	in.Role, in.Secret = raw["role_id"], raw["secret_id"]
	if in.Role != roleID || in.Secret != secretID {
		complain(w, 400, "invalid role or secret ID")
		return
	}
	v.logins++
	token := "hvs.login-" + strconv.Itoa(v.logins)
	v.issue(token, 10*time.Minute, time.Hour)
	say(w, 200, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 600, "renewable": true}})
}

func (v *fakeVault) transit(w http.ResponseWriter, method string, parts []string, body []byte) {
	name := parts[1]
	k := v.keys[name]
	switch {
	case parts[0] == "keys" && len(parts) == 3 && parts[2] == "rotate" && k != nil:
		k.values = append(k.values, fresh())
		w.WriteHeader(204)
	case parts[0] == "keys" && method == http.MethodGet && k == nil:
		complain(w, 404, "")
	case parts[0] == "keys" && method == http.MethodGet:
		say(w, 200, map[string]any{"data": map[string]any{"latest_version": len(k.values), "type": k.Type}})
	case parts[0] == "keys" && k == nil:
		k = &transitKey{values: [][]byte{fresh()}}
		_ = json.Unmarshal(body, k)
		v.keys[name] = k
		w.WriteHeader(204)
	case k == nil && parts[0] == "encrypt": // which would make the key, if the policy let it
		complain(w, 403, "1 error occurred:\n\t* permission denied\n\n")
	case k == nil:
		complain(w, 400, "encryption key not found")
	default:
		v.crypt(w, k, parts[0], body)
	}
}

func fresh() []byte { b := make([]byte, 32); rand.Read(b); return b } //nolint:errcheck // it does not fail

func (v *fakeVault) crypt(w http.ResponseWriter, k *transitKey, operation string, body []byte) {
	var in struct {
		Plaintext      []byte `json:"plaintext"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData []byte `json:"associated_data"`
		Context        []byte `json:"context"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		complain(w, 400, err.Error())
		return
	}
	if k.Derived && len(in.Context) == 0 {
		complain(w, 400, "missing 'context' for key derivation; the key was created using a derived key")
		return
	}
	version, text := len(k.values), []byte(nil)
	if operation == "decrypt" {
		parts := strings.SplitN(in.Ciphertext, ":", 3)
		version, _ = strconv.Atoi(strings.TrimPrefix(parts[1], "v"))
		text, _ = base64.StdEncoding.DecodeString(parts[2])
		switch {
		case version > len(k.values):
			complain(w, 400, "invalid ciphertext: version is too new")
			return
		case version < k.least:
			complain(w, 400, "ciphertext or signature version is disallowed by policy (too old)")
			return
		case len(text) < 28:
			complain(w, 400, "invalid ciphertext: could not decode")
			return
		}
	}
	block, _ := aes.NewCipher(k.values[version-1])
	aead, _ := cipher.NewGCM(block)
	aad := append(in.AssociatedData, in.Context...)
	if operation == "encrypt" {
		nonce := fresh()[:12]
		out := aead.Seal(nonce, nonce, in.Plaintext, aad)
		say(w, 200, map[string]any{"data": map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(out)), "key_version": version}})
		return
	}
	out, err := aead.Open(nil, text[:12], text[12:], aad)
	if err != nil {
		complain(w, 400, "cipher: message authentication failed")
		return
	}
	say(w, 200, map[string]any{"data": map[string]any{"plaintext": out}})
}

// spec is the spec of a key on the server.
func (v *fakeVault) spec(name, options string) string {
	return "vault:" + v.URL + "/transit/keys/" + name + "?" + options
}

// faulty sets a fault for the time of one test.
func (v *fakeVault) faulty(spec string, env keyprovider.Env, fault func(http.ResponseWriter, *http.Request) bool) func(testing.TB) *keyprovider.Opened {
	return func(t testing.TB) *keyprovider.Opened {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.fault = fault
		t.Cleanup(func() { v.mu.Lock(); defer v.mu.Unlock(); v.fault = nil })
		p, err := keyprovider.OpenSpec(t.Context(), spec, env)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// only applies a fault to requests whose path has a part.
func only(part string, f func(w http.ResponseWriter, r *http.Request)) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		f(w, r)
		return true
	}
}

func unready(w http.ResponseWriter, _ *http.Request)   { complain(w, 503, "Vault is sealed") }
func forbidden(w http.ResponseWriter, _ *http.Request) { complain(w, 403, "permission denied") }
func garbled(w http.ResponseWriter, _ *http.Request)   { io.WriteString(w, "<html>") } //nolint:errcheck // a test

func hijack(w http.ResponseWriter, text string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	io.WriteString(c, text) //nolint:errcheck // a test
	c.Close()
}

// nobody is an address where nothing listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestVaultPassesTheSuite(t *testing.T) {
	vars := map[string]string{"VAULT_TOKEN": rootToken, "SECRET_ID": secretID, "WRONG": "hvs.wrong-token-of-the-test"}
	for name, options := range map[string]string{
		"token from a file":          "token-file=" + private(t, rootToken+"\n"),
		"token from the environment": "token-env=VAULT_TOKEN",
		"AppRole, derived":           "derived=yes&role-id=" + roleID + "&secret-id-env=SECRET_ID&namespace=team%201/a",
	} {
		t.Run(name, func(t *testing.T) {
			v, env := startVault(t), environ(vars)
			spec, other := create(t, v.spec("assay", options), env), create(t, v.spec("other", options), env)
			slow := strings.Replace(spec, "?", "?timeout=200ms&", 1)
			dead := "vault:http://" + nobody(t) + "/transit/keys/assay?" + options
			dropped := func(t testing.TB) *keyprovider.Opened {
				v.mu.Lock()
				defer v.mu.Unlock()
				kept := v.keys["assay"]
				delete(v.keys, "assay")
				t.Cleanup(func() { v.mu.Lock(); defer v.mu.Unlock(); v.keys["assay"] = kept })
				return opener(spec, env)(t)
			}
			keyprovidertest.Run(t, keyprovidertest.Subject{
				Env: env, Spec: spec, Other: other, Secrets: []string{rootToken, secretID, vars["WRONG"], "hvs.login"},
				Faulty: map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened{
					keyprovidertest.Down: opener(dead, env),
					keyprovidertest.Slow: v.faulty(slow, env, only("", func(_ http.ResponseWriter, r *http.Request) {
						io.Copy(io.Discard, r.Body) //nolint:errcheck // only then the server sees the client go
						<-r.Context().Done()
					})),
					keyprovidertest.Garbage: v.faulty(spec, env, only("transit", func(w http.ResponseWriter, _ *http.Request) {
						io.WriteString(w, `{"data":{"plaintext":"c2hvcnQ=","ciphertext":"v1:AA"}}`)
					})),
					keyprovidertest.TooMuch: v.faulty(spec, env, only("transit", func(w http.ResponseWriter, _ *http.Request) {
						for range 64 {
							w.Write(bytes.Repeat([]byte(" "), 8192))
						}
					})),
					keyprovidertest.Dying: v.faulty(spec, env, only("transit", func(w http.ResponseWriter, _ *http.Request) {
						hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\"")
					})),
					keyprovidertest.NotReady: v.faulty(spec, env, only("", unready)),
					keyprovidertest.Refusing: v.faulty(spec, env, only("transit", forbidden)),
					keyprovidertest.AnotherKey: v.faulty(spec, env, only("decrypt", func(w http.ResponseWriter, _ *http.Request) {
						say(w, 200, map[string]any{"data": map[string]any{"plaintext": fresh()}})
					})),
					keyprovidertest.Dropped: dropped,
				},
			})
			for _, r := range v.seen {
				if strings.Contains(options, "namespace") && !strings.HasSuffix(r, " team 1/a") {
					t.Errorf("request %q is not in the namespace", r)
				}
			}
		})
	}
}

func TestVaultRefusesAWrongCredential(t *testing.T) {
	v := startVault(t)
	env := environ(map[string]string{"WRONG": "hvs.wrong"})
	for name, options := range map[string]string{
		"a wrong token":          "token-env=WRONG",
		"no token":               "token-env=NOT_SET",
		"no file":                "token-file=/nowhere/token",
		"a wrong secret":         "role-id=" + roleID + "&secret-id-env=WRONG",
		"a file others may read": "token-file=" + readable(t, rootToken),
	} {
		p := opener(v.spec("assay", options), env)(t)
		if _, err := p.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, 32))); !errors.Is(err, keyprovider.ErrRefused) || strings.Contains(err.Error(), rootToken) {
			t.Errorf("%s: %v, want %v", name, err, keyprovider.ErrRefused)
		}
		p.Close()
	}
}

func TestVaultRedirectsAreFollowedOnceAndSafely(t *testing.T) {
	active := startVault(t)
	env := environ(map[string]string{"T": rootToken})
	spec := create(t, active.spec("assay", "token-env=T"), env)
	p := opener(spec, env)(t)
	defer p.Close()
	k := seal.NewSecret(make([]byte, 32))
	for name, tc := range map[string]struct {
		to   func(r *http.Request) string
		want error
	}{
		"to the active node": {func(r *http.Request) string { return active.URL + r.URL.Path }, nil},
		"out of TLS":         {func(r *http.Request) string { return "http://vault.example" + r.URL.Path }, keyprovider.ErrGarbage},
		"to itself":          {func(r *http.Request) string { return r.URL.Path }, keyprovider.ErrGarbage},
	} {
		standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, tc.to(r), http.StatusTemporaryRedirect)
		}))
		q := opener(strings.Replace(spec, active.URL, standby.URL, 1), env)(t)
		if _, err := q.Wrap(t.Context(), seal.Context{}, k); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		q.Close()
		standby.Close()
	}
}

func TestOldVersionsOfAVaultKeyAreNamedWhenTheyAreGone(t *testing.T) {
	v := startVault(t)
	env := environ(map[string]string{"T": rootToken})
	spec := create(t, v.spec("assay", "token-env=T"), env)
	p := opener(spec, env)(t)
	defer p.Close()
	w, err := p.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.keys["assay"].least = 2
	if _, err := p.Unwrap(t.Context(), seal.Context{}, w); !errors.Is(err, keyprovider.ErrUnknownKey) || !strings.Contains(err.Error(), "too old") {
		t.Errorf("Unwrap = %v", err)
	}
	if _, err := keyprovider.Create(t.Context(), p.Spec(), env); err == nil {
		t.Error("a key that there is was created")
	}
}

func TestVaultSpecsAreReadStrictly(t *testing.T) {
	for spec, want := range map[string]string{
		"vault:https://h/transit/keys/a":                                       "wants one of token-file",
		"vault:https://h/transit/keys/a?token-env=A&role-id=b":                 "wants one of token-file",
		"vault:https://h/transit/keys/a?role-id=b":                             "goes with",
		"vault:https://h/transit/keys/a?token-env=A&secret-id-env=B":           "goes with",
		"vault:http://h/transit/keys/a?token-env=A":                            "https://",
		"vault:https://h/transit/a?token-env=A":                                "/MOUNT/keys/NAME",
		"vault:https://h/transit/keys/../../sys/keys/a?token-env=A":            "/MOUNT/keys/NAME",
		"vault:https://u:hunter2@h/transit/keys/a?token-env=A":                 "user or password",
		"vault:https://h/transit/keys/a?token=hunter2":                         "token-file",
		"vault:https://h/transit/keys/a?token-env=A&timeout=1h":                "at most",
		"vault:https://h/transit/keys/a?token-env=A&cert=/x":                   "go together",
		"vault:https://h/transit/keys/a?token-env=A&ca=/nowhere":               "authorities",
		"vault:https://h/transit/keys/a?token-env=A&derived=perhaps":           "none of no, yes",
		"vault:https://h/transit/keys/a?approle=a/b&role-id=x&secret-id-env=B": "one word",
	} {
		p, err := keyprovider.OpenSpec(t.Context(), spec, environ(nil))
		if err == nil {
			p.Close()
			t.Errorf("OpenSpec(%q) opened", spec)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("OpenSpec(%q) = %v, want %q", spec, err, want)
		}
	}
}

// What was wrapped under another key, or by another kind of provider, is not sent to
// the server at all.
func TestOnlyItsOwnTextsAreSentToVault(t *testing.T) {
	v := startVault(t)
	env := environ(map[string]string{"T": rootToken})
	ours := opener(create(t, v.spec("assay", "token-env=T"), env), env)(t)
	other := opener(create(t, v.spec("other", "token-env=T"), env), env)(t)
	defer ours.Close()
	defer other.Close()
	k := seal.NewSecret(make([]byte, 32))
	theirs, err := other.Wrap(t.Context(), seal.Context{}, k)
	if err != nil {
		t.Fatal(err)
	}
	local := opener(create(t, "local:"+filepath.Join(t.TempDir(), "keys"), env), env)(t)
	defer local.Close()
	inFile, err := local.Wrap(t.Context(), seal.Context{}, k)
	if err != nil {
		t.Fatal(err)
	}
	before := len(v.seen)
	for name, w := range map[string][]byte{"another key": theirs, "a key file": inFile} {
		if _, err := ours.Unwrap(t.Context(), seal.Context{}, w); !errors.Is(err, keyprovider.ErrUnknownKey) {
			t.Errorf("%s: %v, want %v", name, err, keyprovider.ErrUnknownKey)
		}
	}
	if len(v.seen) != before {
		t.Errorf("requests: %v", v.seen[before:])
	}
}
