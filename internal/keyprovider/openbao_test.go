package keyprovider_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
	"github.com/assay-project/assay/internal/seal"
)

// devToken is the administrator's: with the prefix of issued tokens it would be refused.
const devToken = "root-token-of-the-test"

// An openBao is a real server: OpenBao or Vault, by the program that ASSAY_OPENBAO
// names. It keeps everything in memory.
type openBao struct {
	t   *testing.T
	url string
}

func startOpenBao(t *testing.T) *openBao {
	t.Helper()
	program := os.Getenv("ASSAY_OPENBAO")
	if program == "" {
		t.Skip("ASSAY_OPENBAO does not name a program: bao, or vault")
	}
	b := &openBao{t, "http://" + nobody(t)}
	cmd := exec.Command(program, "server", "-dev", "-dev-no-store-token", "-dev-root-token-id="+devToken, "-dev-listen-address="+strings.TrimPrefix(b.url, "http://"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() //nolint:errcheck // it was killed
		if t.Failed() {
			t.Logf("%s:\n%s", program, &log)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; {
		r, err := http.Get(b.url + "/v1/sys/health")
		if err == nil {
			r.Body.Close()
		}
		if err == nil && r.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no server: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
	b.ask(http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"}, nil)
	b.ask(http.MethodPost, "sys/auth/approle", map[string]any{"type": "approle"}, nil)
	return b
}

// ask sends an administrator's request, and decodes the answer.
func (b *openBao) ask(method, path string, body, answer any) {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := http.NewRequest(method, b.url+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", devToken)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		b.t.Fatalf("%s %s: %s %v %s", method, path, resp.Status, err, got)
	}
	if answer != nil {
		if err := json.Unmarshal(got, answer); err != nil {
			b.t.Fatal(err)
		}
	}
}

// token makes one that may do what docs/key-providers.md says for a key, and no more.
func (b *openBao) token(policy string, options map[string]any) string {
	b.t.Helper()
	options["policies"] = []string{policy}
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	b.ask(http.MethodPost, "auth/token/create", options, &made)
	return made.Auth.Token
}

// permit makes the policy of that page.
func (b *openBao) permit(names ...string) {
	b.t.Helper()
	var rules strings.Builder
	for _, name := range names {
		for _, path := range []string{"encrypt/" + name, "decrypt/" + name, "keys/" + name + "/rotate"} {
			fmt.Fprintf(&rules, "path \"transit/%s\" { capabilities = [\"update\"] }\n", path)
		}
		fmt.Fprintf(&rules, "path \"transit/keys/%s\" { capabilities = [\"read\", \"create\", \"update\"] }\n", name)
	}
	b.ask(http.MethodPut, "sys/policies/acl/assay", map[string]any{"policy": rules.String()}, nil)
}

// appRole makes a role whose tokens live so long, and returns its credentials.
func (b *openBao) appRole(ttl string, numUses int) (role, secret string) {
	b.t.Helper()
	b.ask(http.MethodPost, "auth/approle/role/assay", map[string]any{"token_policies": "assay", "token_ttl": ttl, "token_max_ttl": "1h", "secret_id_num_uses": numUses}, nil)
	var id struct {
		Data struct {
			Role   string `json:"role_id"`
			Secret string `json:"secret_id"`
		} `json:"data"`
	}
	b.ask(http.MethodGet, "auth/approle/role/assay/role-id", nil, &id)
	role = id.Data.Role
	b.ask(http.MethodPost, "auth/approle/role/assay/secret-id", map[string]any{}, &id)
	return role, id.Data.Secret
}

func (b *openBao) spec(name, options string) string {
	return "vault:" + b.url + "/transit/keys/" + name + "?" + options
}

func TestARealServerPassesTheSuite(t *testing.T) {
	b := startOpenBao(t)
	b.permit("assay", "other", "dropped")
	vars := map[string]string{"T": b.token("assay", map[string]any{"ttl": "1h"}), "NONE": b.token("default", map[string]any{}), "WRONG": "hvs.wrong"}
	role, secret := b.appRole("1h", 0)
	vars["S"] = secret
	for name, options := range map[string]string{
		"token":            "token-env=T",
		"AppRole, derived": "derived=yes&role-id=" + role + "&secret-id-env=S",
	} {
		t.Run(name, func(t *testing.T) {
			env := environ(vars)
			n := strings.ToLower(strings.Split(name, ",")[0]) + "-"
			b.permit(n+"assay", n+"other")
			spec, other := create(t, b.spec(n+"assay", options), env), create(t, b.spec(n+"other", options), env)
			keyprovidertest.Run(t, keyprovidertest.Subject{
				Env: env, Spec: spec, Other: other, Secrets: []string{devToken, vars["T"], vars["NONE"], secret},
				Faulty: map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened{
					keyprovidertest.Down:     opener(strings.Replace(spec, b.url, "http://"+nobody(t), 1), env),
					keyprovidertest.Refusing: opener(b.spec(n+"assay", "token-env=NONE"), env),
					keyprovidertest.Dropped: func(tb testing.TB) *keyprovider.Opened {
						p := opener(spec, env)(tb)
						b.ask(http.MethodPost, "transit/keys/"+n+"assay/config", map[string]any{"min_encryption_version": 0, "deletion_allowed": true}, nil)
						b.ask(http.MethodDelete, "transit/keys/"+n+"assay", nil, nil)
						tb.Cleanup(func() {
							b.ask(http.MethodPost, "transit/keys/"+n+"assay", map[string]any{"derived": strings.HasPrefix(options, "derived")}, nil)
						})
						return p
					},
				},
			})
		})
	}
}

func TestARealServerSaysWhyAKeyDoesNotOpen(t *testing.T) {
	b := startOpenBao(t)
	env := environ(map[string]string{"T": devToken})
	spec := create(t, b.spec("assay", "token-env=T"), env)
	if _, err := keyprovider.Create(t.Context(), parseSpec(t, spec), env); err == nil {
		t.Error("a key that there is was created")
	}
	p := opener(spec, env)(t)
	defer p.Close()
	key := seal.NewSecret(make([]byte, seal.KeySize))
	w, err := p.Wrap(t.Context(), seal.Context{}, key)
	if err != nil {
		t.Fatal(err)
	}
	want := func(kind error, when string) {
		t.Helper()
		if got, err := p.Unwrap(t.Context(), seal.Context{}, w); !errors.Is(err, kind) || got.Len() != 0 {
			t.Errorf("%s: %v, want %v", when, err, kind)
		}
	}
	if _, err := p.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.ask(http.MethodPost, "transit/keys/assay/config", map[string]any{"min_decryption_version": 2}, nil)
	want(keyprovider.ErrUnknownKey, "a version that is too old")
	b.ask(http.MethodPost, "transit/keys/assay/config", map[string]any{"min_decryption_version": 1, "deletion_allowed": true}, nil)
	if _, err := p.Unwrap(t.Context(), seal.Context{}, w); err != nil {
		t.Errorf("once it is permitted again: %v", err)
	}
	b.ask(http.MethodDelete, "transit/keys/assay", nil, nil)
	want(keyprovider.ErrUnknownKey, "a key that was deleted")
	create(t, spec, env)
	want(seal.ErrOpen, "another key of the same name") // the version is one
	b.ask(http.MethodPost, "transit/keys/assay/rotate", map[string]any{}, nil)
	b.ask(http.MethodPut, "sys/seal", nil, nil)
	want(keyprovider.ErrUnavailable, "a server that is sealed")
}

func TestARealServersTokensAreRenewed(t *testing.T) {
	b := startOpenBao(t)
	b.permit("assay")
	role, secret := b.appRole("10s", 1) // the secret serves one login
	vars := map[string]string{
		"ROOT": devToken, "S": secret,
		"SHORT":  b.token("assay", map[string]any{"ttl": "10s"}),
		"PERIOD": b.token("assay", map[string]any{"period": "10s"}),
		"FIXED":  b.token("assay", map[string]any{"ttl": "1h", "renewable": false}),
		"BATCH":  b.token("assay", map[string]any{"ttl": "1h", "type": "batch"}),
	}
	env := environ(vars)
	create(t, b.spec("assay", "token-env=ROOT"), env)
	type keeping struct {
		*keyprovider.Kept
		told  failures
		fails bool
	}
	kept := map[string]*keeping{}
	for name, tc := range map[string]struct {
		options string
		fails   bool
		next    time.Duration
	}{
		"a root token":          {"token-env=ROOT", false, 0},
		"one of a ttl":          {"token-env=SHORT", false, 5 * time.Second},
		"a periodic one":        {"token-env=PERIOD", false, 5 * time.Second},
		"one that is fixed":     {"token-env=FIXED", true, 30 * time.Minute},
		"a batch token":         {"token-env=BATCH", true, 30 * time.Minute},
		"a login by an AppRole": {"role-id=" + role + "&secret-id-env=S", false, 5 * time.Second},
	} {
		p := opener(b.spec("assay", tc.options), env)(t)
		next, err := p.Renew(t.Context())
		if (err != nil) != tc.fails || next > tc.next || next < tc.next/2 {
			t.Errorf("%s: Renew = %s, %v, want %s", name, next, err, tc.next)
		}
		k := &keeping{fails: tc.fails}
		k.Kept = keyprovider.KeepRenewed(p, keyprovider.Renewal{Random: rand.Reader, Failed: k.told.add})
		defer k.Close()
		kept[name] = k
	}
	<-time.After(21 * time.Second) // twice the life of the shortest
	for name, k := range kept {
		if _, err := k.KeyID(t.Context()); err != nil || (len(k.told.all()) > 0) != k.fails {
			t.Errorf("%s: %v; told %q", name, err, k.told.all())
		}
	}
}
