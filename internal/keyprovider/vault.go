package keyprovider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/strictjson"
)

// A vaultSpec is vault:https://HOST[:PORT]/MOUNT/keys/NAME.
type vaultSpec struct {
	base        string // https://HOST:PORT
	mount, name string
	namespace   string
	// derived says that the key derives one for each context.
	derived bool
	token   secretRef

	approle  string // mount of the AppRole method
	roleID   string
	secretID secretRef
	tls      tlsFiles
	patience time.Duration
}

// vaultPath is what may stand in a mount or a name: never an escape from the path.
var vaultPath = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^/([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*)/keys/([A-Za-z0-9_.-]+)$`)
})

func parseVaultSpec(s Spec) (vaultSpec, error) {
	o := s.options()
	v := vaultSpec{
		namespace: o.text("namespace"), derived: o.choice("derived", "no", "yes") == "yes", token: o.secret("token"),
		roleID: o.text("role-id"), secretID: o.secret("secret-id"), approle: o.text("approle"),
		tls: o.tlsFiles(), patience: o.duration("timeout", defaultPatience),
	}
	if err := o.done(); err != nil {
		return v, err
	}
	u, err := serviceURL(s.place)
	if err != nil {
		return v, err
	}
	m := vaultPath().FindStringSubmatch(u.Path)
	if m == nil || strings.Contains(u.Path, "/..") || strings.Contains(u.Path, "/./") {
		return v, errors.New("want vault:https://HOST[:PORT]/MOUNT/keys/NAME, as /transit/keys/assay")
	}
	v.base, v.mount, v.name = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String(), m[1], m[2]
	if v.approle == "" {
		v.approle = "approle"
	}
	switch {
	case strings.ContainsAny(v.approle, "/.?% "):
		return v, errors.New("option approle: want the mount of the method, one word")
	case v.token.isZero() == (v.roleID == ""):
		return v, errors.New("wants one of token-file, token-credential, token-env, or role-id with a secret-id")
	case (v.roleID == "") != v.secretID.isZero():
		return v, errors.New("role-id goes with one of secret-id-file, secret-id-credential and secret-id-env")
	}
	return v, nil
}

// A vaultHolder uses a key of a transit engine. What is sent there is bound to its
// context by associated data, which Vault and OpenBao check for AES-GCM and
// ChaCha20-Poly1305 keys, and by key derivation where the key is made so.
type vaultHolder struct {
	remote
	spec   Spec
	server *vaultServer
}

func openVault(s Spec, env *Env) (holder, error) {
	v, err := newVaultServer(s, env)
	if err != nil {
		return nil, err
	}
	return &vaultHolder{remote{KindVault, env.Random, v}, s, v}, nil
}

// transit is what an operation of the engine is sent.
type transit struct {
	Plaintext      []byte `json:"plaintext,omitempty"` // encoding/json makes base64 of bytes
	Ciphertext     string `json:"ciphertext,omitempty"`
	AssociatedData []byte `json:"associated_data,omitempty"`
	Context        []byte `json:"context,omitempty"`
}

// vaultText is a ciphertext of the engine: the version of its key stands in it.
var vaultText = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^vault:(v[1-9][0-9]{0,9}):[A-Za-z0-9+/=]+$`)
})

func (v *vaultServer) transit(ctx context.Context, operation string, binding []byte, t transit) (strictjson.Members, error) {
	t.AssociatedData = binding
	if v.derived {
		t.Context = binding
	}
	body, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	return v.ask(ctx, http.MethodPost, v.mount+"/"+operation+"/"+v.name, body)
}

func (v *vaultServer) encrypt(ctx context.Context, binding, key []byte) (string, []byte, error) {
	data, err := v.transit(ctx, "encrypt", binding, transit{Plaintext: key})
	if err != nil {
		return "", nil, err
	}
	text, _, err := data.Text("ciphertext")
	m := vaultText().FindStringSubmatch(text)
	if err != nil || m == nil {
		return "", nil, fmt.Errorf("%w: no ciphertext", ErrGarbage)
	}
	return v.keyID(m[1]), []byte(text), nil
}

// keyID names a version of the key.
func (v *vaultServer) keyID(version string) string {
	return keyID(KindVault, v.mount+"/"+v.name, version)
}

func (v *vaultServer) decrypt(ctx context.Context, binding []byte, id string, ciphertext []byte) ([]byte, error) {
	m := vaultText().FindSubmatch(ciphertext)
	if m == nil {
		return nil, fmt.Errorf("ciphertext is not the transit engine's: %w", seal.ErrFormat)
	}
	if id != v.keyID(string(m[1])) {
		return nil, fmt.Errorf("%w: %q is not a version of %s/keys/%s", ErrUnknownKey, id, v.mount, v.name)
	}
	data, err := v.transit(ctx, "decrypt", binding, transit{Ciphertext: string(ciphertext)})
	if err != nil {
		return nil, err
	}
	text, ok := data.Get("plaintext")
	if !ok {
		return nil, fmt.Errorf("%w: no plaintext", ErrGarbage)
	}
	key, err := text.Base64(seal.KeySize)
	if err != nil {
		return nil, fmt.Errorf("%w: plaintext: %v", ErrGarbage, err)
	}
	return key, nil
}

// current asks for a ciphertext, which says the version: it takes no permission that
// wrapping does not take.
func (h *vaultHolder) current(ctx context.Context) (string, error) {
	id, _, err := h.server.encrypt(ctx, binding(seal.Context{Purpose: "which version"}), make([]byte, seal.KeySize))
	return id, err
}

// rotate makes a new version of the key. The spec stays what it is.
func (h *vaultHolder) rotate(ctx context.Context) (Spec, error) {
	_, err := h.server.ask(ctx, http.MethodPost, h.server.mount+"/keys/"+h.server.name+"/rotate", []byte("{}"))
	return h.spec, err
}

// Close forgets the token.
func (h *vaultHolder) Close() error { h.server.forget(true); return nil }

// createVault makes the key; one that exists is an error, because Vault would take
// the request as fulfilled and the key be who knows what.
func createVault(ctx context.Context, s Spec, env *Env) error {
	v, err := newVaultServer(s, env)
	if err != nil {
		return err
	}
	defer v.forget(true)
	path := v.mount + "/keys/" + v.name
	if _, err := v.ask(ctx, http.MethodGet, path, nil); !errors.Is(err, ErrUnknownKey) {
		if err == nil {
			err = fmt.Errorf("there is a key %s/keys/%s", v.mount, v.name)
		}
		return err
	}
	body, err := json.Marshal(map[string]any{"type": "aes256-gcm96", "derived": v.derived})
	if err != nil {
		return err
	}
	_, err = v.ask(ctx, http.MethodPost, path, body)
	return err
}

// vaultRefusal says of what kind an answer with an error is.
func vaultRefusal(status int, what string) error {
	kind := ErrRefused
	has := func(texts ...string) bool {
		for _, t := range texts {
			if strings.Contains(what, t) {
				return true
			}
		}
		return false
	}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusPreconditionFailed, status >= 500, status == 472, status == 473:
		kind = ErrUnavailable
	case status == http.StatusNotFound, has("encryption key not found", "too old", "too new"):
		kind = ErrUnknownKey
	case status == http.StatusBadRequest && has("message authentication failed", "invalid ciphertext", "unable to decrypt", "failed to decrypt", "could not decode"):
		kind = seal.ErrOpen
	}
	return fmt.Errorf("%w: HTTP status %d: %s", kind, status, what)
}

// vaultErrors returns what an answer with an error says, shortened.
func vaultErrors(body []byte) string {
	m, err := strictjson.ParseObject(body, vaultRules)
	if err != nil {
		return "no reason"
	}
	list, _ := m.Get("errors")
	var out []string
	_ = list.Array(func(_ int, v strictjson.Value) error {
		text, err := v.Text()
		if len(out) < 3 && err == nil {
			out = append(out, strings.ToValidUTF8(text[:min(len(text), 120)], ""))
		}
		return nil
	})
	if len(out) == 0 {
		return "no reason"
	}
	return fmt.Sprintf("%q", strings.Join(out, "; "))
}

// vaultRules bound an answer.
var vaultRules = strictjson.Rules{Bytes: maxVaultAnswer, Depth: 12, Members: 256, Values: 4096}
