package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/token"
)

// What a sealed key is for (seal.Context).
const (
	sealedToken     = "token signing key"
	sealedChallenge = "challenge key"
)

// algChallenge marks the stored key that challenges are made with; it is no
// token key and is never published.
const algChallenge = "HMAC-SHA256"

// KeysConfig says how a service keeps and changes its keys. Issuer, Provider,
// Now and Rand are required.
type KeysConfig struct {
	Issuer   string               // URL; the "iss" of every token
	Provider keyprovider.Provider // who holds the key that the keys are sealed under
	Now      func() time.Time
	Rand     io.Reader // safe for concurrent use
	// Certify makes the self-signed certificate that Azure's clients read a key
	// from; nil leaves the RS256 keys without one.
	Certify func(key crypto.Signer, notBefore, notAfter time.Time) ([]byte, error)
	// TokenLifetime is the longest of any token; 0 means 8 hours.
	TokenLifetime time.Duration
	// SigningPeriod is how long a key signs; 0 means 90 days.
	SigningPeriod time.Duration
	// Announce is how long a key is published before it signs; 0 means 7 days.
	Announce time.Duration
	Build    string // names this software in an EAR
}

// Keys are the service's keys, opened. Safe for concurrent use.
type Keys struct {
	cfg    KeysConfig
	opened atomic.Pointer[openedKeys]
}

// openedKeys are those of one configuration. Immutable.
type openedKeys struct {
	issuer     *token.Issuer
	byID       map[string]openedKey
	challenges [][]byte // newest first
	challenge  map[string][]byte
}

// An openedKey is a token key, with the record that it was opened from.
type openedKey struct {
	*token.Key
	from SigningKey
}

// of reports whether the key is that of a record as it stands: its dates change when
// its use is ended early.
func (k openedKey) of(s SigningKey) bool {
	return k.Key != nil && k.from.NotBefore.Equal(s.NotBefore) && k.from.NotAfter.Equal(s.NotAfter) && bytes.Equal(k.from.Certificate, s.Certificate)
}

// NewKeys checks cfg; the keys come with the service's configuration.
func NewKeys(cfg KeysConfig) (*Keys, error) {
	if cfg.Issuer == "" || cfg.Provider == nil || cfg.Now == nil || cfg.Rand == nil {
		return nil, errors.New("make service keys: Issuer, Provider, Now and Rand are required")
	}
	cfg.TokenLifetime = orDefault(cfg.TokenLifetime, token.DefaultLifetime)
	cfg.SigningPeriod = orDefault(cfg.SigningPeriod, 90*24*time.Hour)
	cfg.Announce = orDefault(cfg.Announce, 7*24*time.Hour)
	k := &Keys{cfg: cfg}
	k.opened.Store(&openedKeys{})
	return k, nil
}

// load opens the stored keys; those opened before are not opened again unless their
// record has changed.
func (k *Keys) load(ctx context.Context, stored []SigningKey) error {
	before := k.opened.Load()
	next := &openedKeys{byID: map[string]openedKey{}, challenge: map[string][]byte{}}
	byAge := slices.Clone(stored)
	slices.SortFunc(byAge, func(a, b SigningKey) int { return b.NotBefore.Compare(a.NotBefore) })
	for _, s := range byAge {
		if err := k.open(ctx, s, before, next); err != nil {
			return fmt.Errorf("open stored key %q: %w", s.ID, err)
		}
	}
	if len(next.byID) > 0 {
		if err := next.makeIssuer(k.cfg); err != nil {
			return err
		}
	}
	k.opened.Store(next)
	return nil
}

func (k *Keys) open(ctx context.Context, s SigningKey, before, next *openedKeys) error {
	if s.Alg == algChallenge {
		key, ok := before.challenge[s.ID]
		if !ok {
			secret, err := k.unseal(ctx, sealedChallenge, s)
			if err != nil {
				return err
			}
			key = secret.Expose()
		}
		if len(key) != challengeKeySize {
			return fmt.Errorf("challenge key of %d bytes, want %d", len(key), challengeKeySize)
		}
		next.challenge[s.ID] = key
		next.challenges = append(next.challenges, key)
		return nil
	}
	key := before.byID[s.ID]
	if !key.of(s) {
		opened, err := k.openToken(ctx, s)
		if err != nil {
			return err
		}
		key = openedKey{opened, s}
	}
	next.byID[s.ID] = key
	return nil
}

func (k *Keys) openToken(ctx context.Context, s SigningKey) (*token.Key, error) {
	der, err := k.unseal(ctx, sealedToken, s)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(der.Expose())
	der.Destroy()
	if err != nil {
		return nil, errors.New("is no PKCS #8 private key") // the cause could quote the key
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T does not sign", private)
	}
	cfg := token.KeyConfig{ID: s.ID, Rand: k.cfg.Rand, NotBefore: s.NotBefore, NotAfter: s.NotAfter}
	if len(s.Certificate) > 0 {
		cfg.Certificates = [][]byte{s.Certificate}
	}
	key, err := token.NewKey(signer, cfg)
	if err != nil {
		return nil, err
	}
	if string(key.Alg()) != s.Alg {
		return nil, fmt.Errorf("stored as %s, is a key for %s", s.Alg, key.Alg())
	}
	return key, nil
}

func (k *Keys) unseal(ctx context.Context, purpose string, s SigningKey) (seal.Secret, error) {
	return keyprovider.Open(ctx, k.cfg.Provider, seal.Context{Purpose: purpose, Name: s.ID}, s.Sealed)
}

func (k *Keys) seal(ctx context.Context, purpose, name string, plain []byte) ([]byte, error) {
	return keyprovider.Seal(ctx, k.cfg.Provider, k.cfg.Rand, seal.Context{Purpose: purpose, Name: name}, plain)
}

// cacheTime is what relying parties may keep a key set for.
const cacheTime = 24 * time.Hour

func (o *openedKeys) makeIssuer(cfg KeysConfig) error {
	keys := make([]*token.Key, 0, len(o.byID))
	for _, k := range o.byID {
		keys = append(keys, k.Key)
	}
	set, err := token.NewKeySet(cfg.TokenLifetime+cacheTime, keys...)
	if err != nil {
		return fmt.Errorf("make key set: %w", err)
	}
	o.issuer, err = token.NewIssuer(token.IssuerConfig{URL: cfg.Issuer, Rand: cfg.Rand, Lifetime: cfg.TokenLifetime, Build: cfg.Build}, set)
	if err != nil {
		return fmt.Errorf("make token issuer: %w", err)
	}
	return nil
}

func (k *Keys) challengeKeys() [][]byte { return k.opened.Load().challenges }

var errNoKeys = errors.New("the service has no keys yet")

// ready reports why no token could be signed at now, or nil.
func (k *Keys) ready(now time.Time) error {
	o := k.opened.Load()
	if o.issuer == nil || len(o.challenges) == 0 {
		return errNoKeys
	}
	_, err := o.issuer.Keys().Signing(token.ES256, now)
	return err
}

// issue signs a trusted result.
func (k *Keys) issue(p token.Profile, r token.Result) (token.Token, error) {
	issuer := k.opened.Load().issuer
	if issuer == nil {
		return token.Token{}, errNoKeys
	}
	return issuer.Issue(k.cfg.Now(), p, r)
}

// JWKS returns the published keys as a JWK Set (RFC 7517, 5).
func (s *Service) JWKS() ([]byte, error) {
	issuer := s.keys.opened.Load().issuer
	if issuer == nil {
		return nil, errNoKeys
	}
	return issuer.Keys().JWKS(s.now())
}

// Metadata returns the OpenID metadata of the issuer.
func (s *Service) Metadata() ([]byte, error) {
	url := s.keys.cfg.Issuer
	return token.Metadata(url, url+"/certs", []token.Alg{token.ES256, token.RS256})
}

// Issuer is the URL in the "iss" of every token.
func (s *Service) Issuer() string { return s.keys.cfg.Issuer }

// PublishedKeys lists the keys that relying parties need now, newest first.
func (s *Service) PublishedKeys() []token.PublicKey {
	issuer := s.keys.opened.Load().issuer
	if issuer == nil {
		return nil
	}
	return issuer.Keys().Published(s.now())
}

// MaintainKeys makes the keys that are missing, and the successor of each key
// that is about to end. Call it at the start and now and then.
func (s *Service) MaintainKeys(ctx context.Context) error {
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	if len(s.keys.challengeKeys()) == 0 {
		if err := s.addChallengeKey(ctx); err != nil {
			return err
		}
	}
	now := s.now()
	for _, alg := range []token.Alg{token.ES256, token.RS256} {
		last := lastDay(s.configuration().SigningKeys, alg)
		if last.IsZero() || !last.After(now) {
			last = now
		} else if last.Sub(now) > s.keys.cfg.Announce {
			continue
		}
		if err := s.addTokenKey(ctx, "service", alg, last); err != nil {
			return err
		}
	}
	return nil
}

// lastDay returns when the last key for alg stops signing, or the zero time.
func lastDay(keys []SigningKey, alg token.Alg) time.Time {
	var last time.Time
	for _, k := range keys {
		if k.Alg == string(alg) && k.NotAfter.After(last) {
			last = k.NotAfter
		}
	}
	return last
}

// RotateKeys makes new token keys that sign after delay; the old ones stay
// published until every token they signed has expired. With no delay relying
// parties meet the new key before they could have read of it.
func (s *Service) RotateKeys(ctx context.Context, actor string, delay time.Duration) error {
	if delay < 0 {
		return badInput("delay", "%s is negative", delay)
	}
	for _, alg := range []token.Alg{token.ES256, token.RS256} {
		if err := s.addTokenKey(ctx, actor, alg, s.now().Add(delay)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) addTokenKey(ctx context.Context, actor string, alg token.Alg, from time.Time) error {
	signer, err := token.Generate(s.rand, alg)
	if err != nil {
		return err
	}
	from = from.UTC().Truncate(time.Second)
	stored := SigningKey{Alg: string(alg), NotBefore: from, NotAfter: from.Add(s.keys.cfg.SigningPeriod)}
	if alg == token.RS256 && s.keys.cfg.Certify != nil {
		end := stored.NotAfter.Add(s.keys.cfg.TokenLifetime + cacheTime)
		if stored.Certificate, err = s.keys.cfg.Certify(signer, from, end); err != nil {
			return fmt.Errorf("certify token key: %w", err)
		}
	}
	if stored.ID, err = keyID(alg, signer); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return fmt.Errorf("encode token key: %w", err)
	}
	defer clear(der)
	if stored.Sealed, err = s.keys.seal(ctx, sealedToken, stored.ID, der); err != nil {
		return err
	}
	return s.putKey(ctx, actor, stored)
}

func keyID(alg token.Alg, signer crypto.Signer) (string, error) {
	if alg == token.RS256 {
		return token.AzureKeyID(signer.Public())
	}
	return token.Thumbprint(signer.Public())
}

func (s *Service) addChallengeKey(ctx context.Context) error {
	key := make([]byte, challengeKeySize)
	if _, err := io.ReadFull(s.rand, key); err != nil {
		return fmt.Errorf("make challenge key: %w", err)
	}
	defer clear(key)
	sum := sha256.Sum256(key)
	stored := SigningKey{ID: "challenge-" + hex.EncodeToString(sum[:8]), Alg: algChallenge, NotBefore: s.now().UTC().Truncate(time.Second)}
	stored.NotAfter = stored.NotBefore
	var err error
	if stored.Sealed, err = s.keys.seal(ctx, sealedChallenge, stored.ID, key); err != nil {
		return err
	}
	return s.putKey(ctx, "service", stored)
}

func (s *Service) putKey(ctx context.Context, actor string, k SigningKey) error {
	e := s.entry(actor, "key.put", k.ID, "done")
	e.Detail, _ = json.Marshal(map[string]any{"alg": k.Alg, "notBefore": k.NotBefore, "notAfter": k.NotAfter})
	return s.change(ctx, e, func(e auditEntry) error { return s.store.PutSigningKey(ctx, k, e) })
}
