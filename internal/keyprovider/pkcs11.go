package keyprovider

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/seal"
)

// The mechanisms by which a token encrypts.
const (
	mechanismGCM     = "gcm"
	mechanismKeyWrap = "key-wrap"
)

// nonceGCM is the length of GCM's nonce in bytes (SP 800-38D, 5.2.1.1).
const nonceGCM = 12

// maxTokenID bounds the CKA_ID of a key: in hexadecimal it names the key.
const maxTokenID = 24

// A pkcs11Spec is an RFC 7512 URI: pkcs11:token=…;object=…;id=…?module-path=….
type pkcs11Spec struct {
	token, serial, object string
	id                    []byte
	module, mechanism     string
	pin                   secretRef
	patience              time.Duration
}

func parsePKCS11Spec(s Spec) (pkcs11Spec, error) {
	o := s.options()
	p := pkcs11Spec{
		module: o.text("module-path"), mechanism: o.choice("mechanism", mechanismGCM, mechanismKeyWrap),
		pin: o.secret("pin"), patience: o.duration("timeout", 3*defaultPatience),
	}
	if source := o.text("pin-source"); source != "" { // RFC 7512, 2.4: a file: URI or a path
		file := strings.TrimPrefix(strings.TrimPrefix(source, "file://"), "file:")
		if !p.pin.isZero() || !strings.HasPrefix(file, "/") {
			o.fail("option pin-source: want file:/PATH, and no other option for the PIN")
		}
		p.pin = secretRef{what: "pin", file: file}
	}
	if err := o.done(); err != nil {
		return p, err
	}
	if err := p.path(s.place); err != nil {
		return p, err
	}
	switch {
	case p.token == "" && p.serial == "":
		return p, errors.New("want pkcs11:token=LABEL;object=LABEL: which token?")
	case p.object == "":
		return p, errors.New("want pkcs11:token=LABEL;object=LABEL: which key?")
	case p.module == "" || !strings.HasPrefix(p.module, "/"):
		return p, errors.New("wants the option module-path: the vendor's library, from the root of the file system")
	case len(p.id) > maxTokenID:
		return p, fmt.Errorf("id of the key has more than %d bytes", maxTokenID)
	}
	return p, nil
}

// path reads the path attributes (RFC 7512, 2.3); those that do not tell tokens and
// keys apart are refused, rather than passed over.
func (p *pkcs11Spec) path(place string) error {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(place, ";") {
		name, value, ok := strings.Cut(part, "=")
		text, err := url.PathUnescape(value)
		if !ok || err != nil || text == "" || seen[name] {
			return errors.New("want pkcs11:token=LABEL;object=LABEL;id=%01%02, each once, with %XX for special characters")
		}
		seen[name] = true
		switch name {
		case "token":
			p.token = text
		case "serial":
			p.serial = text
		case "object":
			p.object = text
		case "id":
			p.id = []byte(text)
		case "type":
			if text != "secret-key" {
				return errors.New("type: want secret-key")
			}
		default:
			return fmt.Errorf("attribute %q of the path is not used here", name)
		}
	}
	return nil
}

// withID returns the spec with the id of a key.
func withID(s Spec, id []byte) (Spec, error) {
	var parts []string
	for part := range strings.SplitSeq(s.place, ";") {
		if !strings.HasPrefix(part, "id=") {
			parts = append(parts, part)
		}
	}
	var spelled strings.Builder
	for _, b := range id {
		fmt.Fprintf(&spelled, "%%%02X", b)
	}
	return s.with(strings.Join(append(parts, "id="+spelled.String()), ";"), nil)
}

// A pkcs11Token is a crypter behind the program assay-pkcs11.
type pkcs11Token struct {
	pkcs11Spec
	random  io.Reader
	program *program
}

// A pkcs11Holder uses a key of a token.
type pkcs11Holder struct {
	remote
	spec  Spec
	token *pkcs11Token
}

func openPKCS11(s Spec, env *Env) (holder, error) {
	t, err := newPKCS11Token(s, env)
	if err != nil {
		return nil, err
	}
	if t.id == nil {
		return nil, errors.New("wants the id of the key: pkcs11:token=…;object=…;id=%01%02; \"assay key-provider add\" finds it")
	}
	return &pkcs11Holder{remote{KindPKCS11, env.Random, t}, s, t}, nil
}

func newPKCS11Token(s Spec, env *Env) (*pkcs11Token, error) {
	spec, err := parsePKCS11Spec(s)
	if err != nil {
		return nil, err
	}
	path := env.PKCS11
	if path == "" {
		path = "assay-pkcs11"
	}
	t := &pkcs11Token{pkcs11Spec: spec, random: env.Random}
	t.program = newProgram(path, func(ctx context.Context, ask asker) error { return t.logIn(ctx, ask, env) })
	return t, nil
}

// logIn is the first request to a program that was just started.
func (t *pkcs11Token) logIn(ctx context.Context, ask asker, env *Env) error {
	r := programRequest{Op: "open", Module: t.module, Token: t.pkcs11Spec.token, Serial: t.serial}
	if !t.pin.isZero() {
		pin, err := t.pin.read(env.getenv)
		if err != nil {
			return err
		}
		defer pin.Destroy()
		r.PIN = pin.Expose()
	}
	_, err := ask(ctx, &r)
	return err
}

// ask has the program do something, within the time of the spec.
func (t *pkcs11Token) ask(ctx context.Context, r programRequest) (programResponse, error) {
	own, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	r.Object, r.Mechanism = t.object, t.mechanism
	a, err := t.program.ask(own, &r)
	return a, asked(ctx, err)
}

func (t *pkcs11Token) encrypt(ctx context.Context, binding, key []byte) (string, []byte, error) {
	r := programRequest{Op: "encrypt", KeyID: t.id, Data: key}
	if t.mechanism == mechanismGCM {
		r.AAD, r.IV = binding, make([]byte, nonceGCM)
		if _, err := io.ReadFull(t.random, r.IV); err != nil {
			return "", nil, fmt.Errorf("make nonce: %w", err)
		}
	}
	a, err := t.ask(ctx, r)
	if err != nil {
		return "", nil, err
	}
	// The first byte says how it was made: the length of the nonce, which only GCM has.
	return tokenKeyID(t.id), append(append([]byte{byte(len(r.IV))}, r.IV...), a.Data...), nil
}

func (t *pkcs11Token) decrypt(ctx context.Context, binding []byte, id string, in []byte) ([]byte, error) {
	text, ok := strings.CutPrefix(id, KindPKCS11+":")
	own, err := hex.DecodeString(text)
	if !ok || err != nil || len(own) == 0 || len(own) > maxTokenID || tokenKeyID(own) != id {
		return nil, fmt.Errorf("%w: %q names no key of a token", ErrUnknownKey, id)
	}
	r := programRequest{Op: "decrypt", KeyID: own}
	mechanism := mechanismKeyWrap
	switch n := int(in[0]); {
	case n == nonceGCM && len(in) > 1+n:
		mechanism, r.AAD, r.IV, r.Data = mechanismGCM, binding, in[1:1+n], in[1+n:]
	case n == 0 && len(in) > 1:
		r.Data = in[1:]
	default:
		return nil, fmt.Errorf("ciphertext is no token's: %w", seal.ErrFormat)
	}
	if mechanism != t.mechanism {
		return nil, fmt.Errorf("%w: wrapped by mechanism=%s, and the provider has mechanism=%s", ErrUnknownKey, mechanism, t.mechanism)
	}
	a, err := t.ask(ctx, r)
	return a.Data, err
}

// tokenKeyID names a key of a token.
func tokenKeyID(id []byte) string { return keyID(KindPKCS11, hex.EncodeToString(id)) }

func (h *pkcs11Holder) current(context.Context) (string, error) { return tokenKeyID(h.token.id), nil }

// rotate makes a new key with the same label; older ones are found by their ids.
func (h *pkcs11Holder) rotate(ctx context.Context) (Spec, error) { return h.token.create(ctx, h.spec) }

func (t *pkcs11Token) create(ctx context.Context, s Spec) (Spec, error) {
	a, err := t.ask(ctx, programRequest{Op: "create"})
	return t.named(s, a, err)
}

// named returns the spec with the id that the program answered.
func (t *pkcs11Token) named(s Spec, a programResponse, err error) (Spec, error) {
	if err != nil {
		return Spec{}, err
	}
	if len(a.KeyID) == 0 || len(a.KeyID) > maxTokenID {
		return Spec{}, fmt.Errorf("%w: the key has an id of %d bytes, want 1 to %d", ErrGarbage, len(a.KeyID), maxTokenID)
	}
	return withID(s, a.KeyID)
}

// Close ends the program.
func (h *pkcs11Holder) Close() error { return h.token.program.close() }

// createPKCS11 makes a key, or finds the one with the label.
func createPKCS11(ctx context.Context, s Spec, env *Env, make bool) (Spec, error) {
	t, err := newPKCS11Token(s, env)
	if err != nil {
		return Spec{}, err
	}
	defer t.program.close() //nolint:errcheck // it only ends the program
	if t.id != nil {
		return Spec{}, errors.New("the token gives the id of a new key: leave id out")
	}
	if make {
		return t.create(ctx, s)
	}
	a, err := t.ask(ctx, programRequest{Op: "find"})
	return t.named(s, a, err)
}
