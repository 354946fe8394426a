package keyprovider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/kmip"
	"github.com/assay-project/assay/internal/seal"
)

// How long a provider is waited for when the spec does not say: to connect, to prove
// each other, and to answer.
const defaultPatience = 10 * time.Second

// The two ways to use a key of a KMIP server.
const (
	useEncrypt = "encrypt" // the server encrypts; the key stays there
	useGet     = "get"     // the key is fetched, and is in this process's memory meanwhile
)

// A kmipSpec is kmip://HOST[:PORT]/KEY-ID with the client's certificate.
type kmipSpec struct {
	address, server string // server is the name in its certificate
	id, name        string
	older           []string
	use             string
	tls             tlsFiles
	patience        time.Duration
}

func parseKMIPSpec(s Spec) (kmipSpec, error) {
	o := s.options()
	k := kmipSpec{name: o.text("name"), use: o.choice("use", useEncrypt, useGet), tls: o.tlsFiles(), patience: o.duration("timeout", defaultPatience)}
	if older := o.text("older"); older != "" {
		k.older = strings.Split(older, ",")
	}
	if err := o.done(); err != nil {
		return k, err
	}
	u, err := url.Parse("kmip:" + s.place)
	if err != nil || u.User != nil || u.Host == "" {
		return k, errors.New("want kmip://HOST[:PORT]/KEY-ID, and no user")
	}
	k.server = u.Hostname()
	port := u.Port()
	if port == "" {
		port = "5696" // KMIP Profiles, 3.1.2: the port that IANA assigned
	}
	k.address, k.id = net.JoinHostPort(k.server, port), strings.TrimPrefix(u.Path, "/")
	if k.tls.cert == "" || k.tls.key == "" || k.tls.ca == "" {
		return k, errors.New("wants the options ca, cert and key: files of PEM by which server and client know each other")
	}
	for _, id := range append([]string{k.id}, k.older...) {
		if len(id) > maxKeyID-len("kmip:") || strings.ContainsAny(id, "/, ") {
			return k, fmt.Errorf("identifier %q of a key is longer than %d bytes, or has a slash, comma or space", id, maxKeyID-len("kmip:"))
		}
	}
	return k, nil
}

// A kmipHolder uses keys of a KMIP server.
type kmipHolder struct {
	remote
	spec   Spec
	server *kmipServer
}

// A kmipServer is a crypter.
type kmipServer struct {
	kmipSpec
	random io.Reader
	config *tls.Config
	shut   *shut
}

func openKMIP(s Spec, env *Env) (holder, error) {
	k, err := newKMIPServer(s, env)
	if err != nil {
		return nil, err
	}
	if k.id == "" {
		return nil, errors.New("wants the identifier of a key: kmip://HOST[:PORT]/KEY-ID; \"assay key-provider add\" finds it by name=NAME")
	}
	return &kmipHolder{remote{KindKMIP, env.Random, k}, s, k}, nil
}

func newKMIPServer(s Spec, env *Env) (*kmipServer, error) {
	spec, err := parseKMIPSpec(s)
	if err != nil {
		return nil, err
	}
	cfg, err := spec.tls.config(spec.server)
	if err != nil {
		return nil, err
	}
	return &kmipServer{spec, env.Random, cfg, newShut()}, nil
}

// with runs do over a new connection: they are rare, and none grows old.
func (k *kmipServer) with(ctx context.Context, do func(context.Context, *kmip.Conn) error) error {
	if k.shut.is() {
		return errClosed
	}
	own, cancel := context.WithTimeout(ctx, k.patience)
	defer cancel()
	c, err := kmip.Dial(own, k.address, k.config)
	if err == nil {
		err = do(own, c)
		c.Close()
	}
	return asked(ctx, kmipFault(err))
}

// kmipFault says of what kind a server's refusal is.
func kmipFault(err error) error {
	var refusal *kmip.Error
	switch {
	case errors.Is(err, kmip.ErrResponse), errors.Is(err, kmip.ErrVersion):
		return fmt.Errorf("%w: %w", ErrGarbage, err)
	case tlsRefused(err):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case !errors.As(err, &refusal):
		return err
	}
	kind := ErrUnavailable
	switch refusal.Reason {
	case kmip.ReasonItemNotFound, kmip.ReasonObjectNotFound, kmip.ReasonObjectDestroyed, kmip.ReasonObjectArchived:
		kind = ErrUnknownKey
	case kmip.ReasonAuthenticationNotSuccessful, kmip.ReasonPermissionDenied, kmip.ReasonWrongKeyLifecycleState, kmip.ReasonSensitive, kmip.ReasonNotExtractable:
		kind = ErrRefused
	case kmip.ReasonCryptographicFailure, kmip.ReasonInvalidField:
		kind = seal.ErrOpen
	case kmip.ReasonOperationNotSupported, kmip.ReasonFeatureNotSupported, kmip.ReasonInvalidMessage:
		kind = ErrGarbage
	}
	return fmt.Errorf("%w: %w", kind, refusal)
}

// The first byte of a ciphertext says how it was made.
const kmipFetched = 0xff // by a key that was fetched; else a kmip.Mode

func (k *kmipServer) encrypt(ctx context.Context, binding, key []byte) (id string, out []byte, err error) {
	id = keyID(KindKMIP, k.id)
	err = k.with(ctx, func(ctx context.Context, c *kmip.Conn) error {
		if k.use == useGet {
			out, err = k.sealFetched(ctx, c, binding, key)
			return err
		}
		mode := c.BestMode()
		iv := make([]byte, mode.IVSize())
		if _, err := io.ReadFull(k.random, iv); err != nil {
			return fmt.Errorf("make nonce: %w", err)
		}
		e, err := c.Encrypt(ctx, k.id, mode, iv, key, binding)
		if err != nil {
			return err
		}
		out = append(append([]byte{byte(mode)}, iv...), e.Data...)
		out = append(out, e.Tag...)
		return nil
	})
	return id, out, err
}

func (k *kmipServer) decrypt(ctx context.Context, binding []byte, id string, in []byte) (out []byte, err error) {
	i := slices.IndexFunc(append([]string{k.id}, k.older...), func(own string) bool { return keyID(KindKMIP, own) == id })
	if i < 0 {
		return nil, fmt.Errorf("%w: %q is neither the provider's key nor one of the option older", ErrUnknownKey, id)
	}
	own := append([]string{k.id}, k.older...)[i]
	e, err := parseKMIPText(in)
	if err != nil {
		return nil, err
	}
	err = k.with(ctx, func(ctx context.Context, c *kmip.Conn) error {
		if in[0] == kmipFetched {
			out, err = k.openFetched(ctx, c, own, binding, in[1:])
			return err
		}
		out, err = c.Decrypt(ctx, own, e, binding)
		if err == nil && e.Mode == kmip.ModeCBC && len(out) != seal.KeySize {
			return seal.ErrOpen // CBC decrypts an altered text to something
		}
		return err
	})
	var refusal *kmip.Error
	if errors.As(err, &refusal) && refusal.Reason == kmip.ReasonGeneralFailure && k.serves(ctx, own) {
		// PyKMIP says "general failure" of a tag that does not fit. A server that
		// decrypts what it encrypts is not the one that is ill.
		err = fmt.Errorf("%w: %w", seal.ErrOpen, refusal)
	}
	return out, err
}

// parseKMIPText splits a ciphertext; of one by a fetched key it returns nothing.
func parseKMIPText(in []byte) (kmip.Encrypted, error) {
	mode := kmip.Mode(in[0])
	e := kmip.Encrypted{Mode: mode}
	rest := in[1:]
	tag := 0
	switch {
	case in[0] == kmipFetched:
		return e, nil
	case mode == kmip.ModeGCM:
		tag = 16
	case mode != kmip.ModeCBC:
		return e, fmt.Errorf("ciphertext of mode %d: %w", mode, seal.ErrFormat)
	}
	if len(rest) <= mode.IVSize()+tag {
		return e, fmt.Errorf("ciphertext of %d bytes: %w", len(in), seal.ErrFormat)
	}
	e.IV, rest = rest[:mode.IVSize()], rest[mode.IVSize():]
	e.Data, e.Tag = rest[:len(rest)-tag], rest[len(rest)-tag:]
	return e, nil
}

// serves reports whether the server decrypts what it encrypts now.
func (k *kmipServer) serves(ctx context.Context, id string) bool {
	aad := []byte("does the server serve?")
	err := k.with(ctx, func(ctx context.Context, c *kmip.Conn) error {
		iv := make([]byte, c.BestMode().IVSize())
		if _, err := io.ReadFull(k.random, iv); err != nil {
			return err
		}
		e, err := c.Encrypt(ctx, id, c.BestMode(), iv, make([]byte, seal.KeySize), aad)
		if err == nil {
			_, err = c.Decrypt(ctx, id, e, aad)
		}
		return err
	})
	return err == nil
}

// fetched returns a key of the server. The caller destroys it.
func fetched(ctx context.Context, c *kmip.Conn, id string) (seal.Key, error) {
	b, err := c.Get(ctx, id)
	if err != nil {
		return seal.Key{}, err
	}
	if len(b) != seal.KeySize {
		clear(b)
		return seal.Key{}, fmt.Errorf("%w: key %q has %d bytes, want %d", ErrGarbage, id, len(b), seal.KeySize)
	}
	return seal.Key{ID: "kmip", Secret: seal.NewSecret(b)}, nil
}

// fetchedContext is what a key is sealed for under a fetched one.
func fetchedContext(binding []byte) seal.Context {
	return seal.Context{Purpose: "key under a KMIP server's", Name: string(binding)}
}

func (k *kmipServer) sealFetched(ctx context.Context, c *kmip.Conn, binding, key []byte) ([]byte, error) {
	kek, err := fetched(ctx, c, k.id)
	if err != nil {
		return nil, err
	}
	defer kek.Secret.Destroy()
	sealed, err := seal.Seal(k.random, kek, fetchedContext(binding), key)
	return append([]byte{kmipFetched}, sealed...), err
}

func (k *kmipServer) openFetched(ctx context.Context, c *kmip.Conn, id string, binding, sealed []byte) ([]byte, error) {
	e, err := seal.Parse(sealed)
	if err != nil {
		return nil, err
	}
	kek, err := fetched(ctx, c, id)
	if err != nil {
		return nil, err
	}
	defer kek.Secret.Destroy()
	text, err := e.Open(kek, fetchedContext(binding))
	return text.Expose(), err
}

func (h *kmipHolder) current(context.Context) (string, error) {
	return keyID(KindKMIP, h.server.id), nil
}

// rotate makes a new key on the server; the one that wrapped so far joins the older.
func (h *kmipHolder) rotate(ctx context.Context) (Spec, error) {
	var id string
	err := h.server.with(ctx, func(ctx context.Context, c *kmip.Conn) (err error) { id, err = c.Create(ctx, ""); return err })
	if err != nil {
		return Spec{}, err
	}
	older := strings.Join(append([]string{h.server.id}, h.server.older...), ",")
	return h.spec.with(kmipPlace(h.spec, id), map[string]string{"older": older})
}

// kmipPlace is the place of a spec with another key.
func kmipPlace(s Spec, id string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(s.place, "//"), "/")
	return "//" + host + "/" + url.PathEscape(id)
}

// Close ends the use of the provider.
func (h *kmipHolder) Close() error { h.server.shut.close(); return nil }

// createKMIP finds the key that a spec names by name=NAME, or makes it.
func createKMIP(ctx context.Context, s Spec, env *Env, make bool) (Spec, error) {
	k, err := newKMIPServer(s, env)
	if err != nil {
		return Spec{}, err
	}
	if k.id != "" || k.name == "" {
		return Spec{}, errors.New("want kmip://HOST[:PORT]/?name=NAME: the server gives the identifier")
	}
	var id string
	err = k.with(ctx, func(ctx context.Context, c *kmip.Conn) error {
		ids, err := c.Locate(ctx, k.name)
		switch {
		case err != nil:
			return err
		case len(ids) > 1:
			return fmt.Errorf("the server has %d keys with the name %q: give the identifier of one", len(ids), k.name)
		case len(ids) == 1 && make:
			return fmt.Errorf("the server has a key with the name %q", k.name)
		case len(ids) == 1:
			id = ids[0]
			return usable(ctx, c, id)
		case !make:
			return fmt.Errorf("%w: the server has no key with the name %q", ErrUnknownKey, k.name)
		}
		id, err = c.Create(ctx, k.name)
		return err
	})
	if err != nil {
		return Spec{}, err
	}
	return s.with(kmipPlace(s, id), map[string]string{"name": ""})
}

// usable refuses a key that cannot serve.
func usable(ctx context.Context, c *kmip.Conn, id string) error {
	k, err := c.Describe(ctx, id)
	if err != nil {
		return err
	}
	if k.State != kmip.StateActive || k.Bits != 8*seal.KeySize {
		return fmt.Errorf("%w: key %q is in state %d and has %d bits; want an active key of %d", ErrRefused, id, k.State, k.Bits, 8*seal.KeySize)
	}
	return nil
}
