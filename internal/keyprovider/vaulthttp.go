package keyprovider

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/strictjson"
)

// maxVaultAnswer bounds an answer in bytes.
const maxVaultAnswer = 256 << 10

// A vaultServer speaks the HTTP API of Vault and OpenBao: the eight requests that are
// needed here.
type vaultServer struct {
	vaultSpec
	client *http.Client
	now    func() time.Time
	getenv func(string) string
	shut   *shut

	mu    sync.Mutex // guards login
	login vaultLogin
}

// A vaultLogin is what a login gave.
type vaultLogin struct {
	token seal.Secret
	until time.Time // when to log in again; zero for never
}

func newVaultServer(s Spec, env *Env) (*vaultServer, error) {
	spec, err := parseVaultSpec(s)
	if err != nil {
		return nil, err
	}
	if env.Now == nil {
		return nil, errors.New("no clock")
	}
	cfg, err := spec.tls.config("")
	if err != nil {
		return nil, err
	}
	return &vaultServer{vaultSpec: spec, client: vaultClient(cfg), now: env.Now, getenv: env.getenv, shut: newShut()}, nil
}

// vaultClient keeps no connection: requests are rare, and none then grows old.
func vaultClient(cfg *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10},
		// A standby sends its clients to the active node, once.
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 1 {
				return fmt.Errorf("%w: redirected twice", ErrGarbage)
			}
			if _, err := serviceURL(r.URL.Scheme + "://" + r.URL.Host); err != nil {
				return fmt.Errorf("%w: redirected to what is not https", ErrGarbage)
			}
			return nil
		},
	}
}

// ask sends a request with a token, and with a new one when the first is refused.
func (v *vaultServer) ask(ctx context.Context, method, path string, body []byte) (strictjson.Members, error) {
	if v.shut.is() {
		return nil, errClosed
	}
	own, cancel := context.WithTimeout(ctx, v.patience)
	defer cancel()
	answer, err := v.askOnce(own, method, path, body)
	if errors.Is(err, ErrRefused) && v.forget(false) {
		answer, err = v.askOnce(own, method, path, body)
	}
	return answer, asked(ctx, err)
}

func (v *vaultServer) askOnce(ctx context.Context, method, path string, body []byte) (strictjson.Members, error) {
	token, err := v.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	defer token.Destroy()
	answer, err := v.send(ctx, method, path, body, token)
	if err != nil {
		return nil, err
	}
	return member(answer, "data")
}

// member returns an object inside an answer; one that is not there has no members.
func member(answer strictjson.Members, name string) (strictjson.Members, error) {
	v, ok := answer.Get(name)
	if !ok || v.Kind() == "null" {
		return nil, nil
	}
	var out strictjson.Members
	err := v.Object(func(name string, v strictjson.Value) error {
		out = append(out, strictjson.Member{Name: name, Value: v})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: member %q: %v", ErrGarbage, name, err)
	}
	return out, nil
}

// send sends one request and reads the answer.
func (v *vaultServer) send(ctx context.Context, method, path string, body []byte, token seal.Secret) (strictjson.Members, error) {
	r, err := http.NewRequestWithContext(ctx, method, v.base+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Vault-Request", "true") // which agents and proxies ask for
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	if v.namespace != "" {
		r.Header.Set("X-Vault-Namespace", v.namespace)
	}
	if token.Len() > 0 {
		r.Header.Set("X-Vault-Token", string(token.Expose()))
	}
	resp, err := v.client.Do(r)
	if err != nil {
		if tlsRefused(err) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxVaultAnswer+1))
	if err != nil {
		return nil, err
	}
	switch {
	case len(answer) > maxVaultAnswer:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrGarbage, maxVaultAnswer)
	case resp.StatusCode == http.StatusNoContent:
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		return nil, vaultRefusal(resp.StatusCode, vaultErrors(answer))
	}
	m, err := strictjson.ParseObject(answer, vaultRules)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrGarbage, err)
	}
	return m, nil
}

// authenticate returns a token; the caller destroys it. One that stands in a file is
// read each time: an agent may renew it there.
func (v *vaultServer) authenticate(ctx context.Context) (seal.Secret, error) {
	if v.roleID == "" {
		return v.token.read(v.getenv)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.login.token.Len() > 0 && (v.login.until.IsZero() || v.now().Before(v.login.until)) {
		return v.login.token.Clone(), nil
	}
	if err := v.logIn(ctx); err != nil {
		return seal.Secret{}, fmt.Errorf("log in: %w", err)
	}
	return v.login.token.Clone(), nil
}

// logIn trades the secret of an AppRole for a token. v.mu is held.
func (v *vaultServer) logIn(ctx context.Context) error {
	secret, err := v.secretID.read(v.getenv)
	if err != nil {
		return err
	}
	defer secret.Destroy()
	body, err := json.Marshal(map[string]string{"role_id": v.roleID, "secret_id": string(secret.Expose())})
	if err != nil {
		return err
	}
	defer clear(body)
	answer, err := v.send(ctx, http.MethodPost, "auth/"+v.approle+"/login", body, seal.Secret{})
	if err != nil {
		if errors.Is(err, seal.ErrOpen) || errors.Is(err, ErrUnknownKey) {
			err = fmt.Errorf("%w: %v", ErrRefused, err) // of a role or a secret
		}
		return err
	}
	auth, err := member(answer, "auth")
	if err != nil {
		return err
	}
	token, _, err := auth.Text("client_token")
	if err != nil || token == "" || len(token) > maxSecret {
		return fmt.Errorf("%w: no token", ErrGarbage)
	}
	v.login.token.Destroy()
	v.login = vaultLogin{token: seal.NewSecret([]byte(token))}
	if life := seconds(auth, "lease_duration"); life > 0 {
		v.login.until = v.now().Add(life * 2 / 3)
	}
	return nil
}

// seconds is how long a token lives; 0 for one without an end.
func seconds(m strictjson.Members, name string) time.Duration {
	life, _ := m.Get(name)
	n, err := life.Int()
	if err != nil || n < 0 || n > 10*365*24*3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// forget drops a token that a login gave, and reports whether there was one.
func (v *vaultServer) forget(closing bool) bool {
	if closing {
		v.shut.close()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	had := v.login.token.Len() > 0
	v.login.token.Destroy()
	v.login = vaultLogin{}
	return had
}
