package attest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/policy"
)

// Config is what a service is made of. Store, Kinds, Keys, Now and Rand are required.
type Config struct {
	Store Store
	Kinds []Kind
	Keys  *Keys
	// Challenges replaces the service's own, which are made under Keys: for the
	// demonstration with recorded evidence, never for a service that is reached
	// over a network. nil means the service's own.
	Challenges        Challenges
	ChallengeLifetime time.Duration // 0 means 5 minutes
	Now               func() time.Time
	Rand              io.Reader
	Log               *slog.Logger // nil means none
}

// A Service appraises evidence. It is safe for concurrent use.
type Service struct {
	store      Store
	kinds      map[string]Kind
	keys       *Keys
	challenges Challenges
	now        func() time.Time
	rand       io.Reader
	log        *slog.Logger
	conf       atomic.Pointer[prepared]
	attesters  *attesterCache
	refreshes  pace // of those that challenges ask for
}

// prepared is a configuration with its policies compiled, its baselines parsed
// and its anchors in pools. Immutable.
type prepared struct {
	Configuration
	policies         map[string]*policy.Policy
	builtin          *policy.Policy
	builtinVersion   PolicyVersion
	baselines        map[string]*baseline.Baseline
	akRoots, ekRoots *x509.CertPool
}

func (p *prepared) baseline(name string) (*baseline.Baseline, bool) {
	b, ok := p.baselines[name]
	return b, ok
}

// prepare fails on what the store should never have held.
func prepare(c Configuration) (*prepared, error) {
	p := &prepared{Configuration: c, policies: map[string]*policy.Policy{}, baselines: map[string]*baseline.Baseline{}}
	var err error
	if p.builtin, p.builtinVersion, err = builtinPolicy(); err != nil {
		return nil, err
	}
	for name, v := range c.Policies {
		if p.policies[name], err = policy.Parse(v.Text, policy.Lenient); err != nil {
			return nil, fmt.Errorf("policy %q version %d, as stored: %w", name, v.Version, err)
		}
	}
	for name, r := range c.References {
		if p.baselines[name], err = baseline.Parse(r.Baseline); err != nil {
			return nil, fmt.Errorf("reference value %q version %d, as stored: %w", name, r.Version, err)
		}
	}
	if p.akRoots, err = certPool(c.Anchors, AnchorAKCA); err != nil {
		return nil, err
	}
	p.ekRoots, err = certPool(c.Anchors, AnchorEKCA)
	return p, err
}

// certPool has the anchors of one kind; nil when there is none.
func certPool(anchors []Anchor, kind string) (*x509.CertPool, error) {
	var pool *x509.CertPool
	for _, a := range anchors {
		if a.Kind != kind {
			continue
		}
		cert, err := x509.ParseCertificate(a.DER)
		if err != nil {
			return nil, fmt.Errorf("anchor %q, as stored: %w", a.ID, err)
		}
		if pool == nil {
			pool = x509.NewCertPool()
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// New makes a service and reads its configuration once.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.Store == nil || len(c.Kinds) == 0 || c.Keys == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("make attestation service: Store, Kinds, Keys, Now and Rand are required")
	}
	s := &Service{
		store: c.Store, kinds: map[string]Kind{}, keys: c.Keys, challenges: c.Challenges,
		now: c.Now, rand: c.Rand, log: c.Log, attesters: newAttesterCache(c.Store),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, k := range c.Kinds {
		s.kinds[k.Type()] = k
	}
	if s.challenges == nil {
		s.challenges = &macChallenges{
			keys: c.Keys.challengeKeys, lifetime: orDefault(c.ChallengeLifetime, 5*time.Minute), now: c.Now, rand: c.Rand,
		}
	}
	if _, err := s.reload(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// configuration returns the last one read; a decision made under an outdated
// one is refused by the store, see [ErrStale].
func (s *Service) configuration() *prepared { return s.conf.Load() }

// reload reads the configuration anew and compiles its policies.
func (s *Service) reload(ctx context.Context) (*prepared, error) {
	c, err := s.store.Configuration(ctx)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	p, err := prepare(c)
	if err != nil {
		return nil, err
	}
	if err := s.keys.load(ctx, c.SigningKeys); err != nil {
		return nil, err
	}
	s.conf.Store(p)
	return p, nil
}

// Refresh reads the configuration again when another process has changed it.
func (s *Service) Refresh(ctx context.Context) error {
	g, err := s.store.Generation(ctx)
	if err != nil || g == s.configuration().Generation {
		return err
	}
	_, err = s.reload(ctx)
	return err
}

// Ready reports why the service cannot do its job now, or nil.
func (s *Service) Ready(ctx context.Context) error {
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	return s.keys.ready(s.now())
}

// pruneMargin is how long a used challenge is remembered after it expired. It
// covers what keeps it alive elsewhere: another process whose clock is behind, a
// clock that is set back, an attestation that began in time and is still running.
const pruneMargin = 15 * time.Minute

// Prune drops what expired long enough ago from the store.
func (s *Service) Prune(ctx context.Context) error {
	return s.store.Prune(ctx, s.now().Add(-pruneMargin))
}

// entry begins an audit entry of now.
func (s *Service) entry(actor, action, subject, outcome string) audit.Entry {
	return audit.Entry{Time: s.now(), Actor: actor, Action: action, Subject: subject, Outcome: outcome}
}

// change runs one administrative write and makes it seen here at once.
func (s *Service) change(ctx context.Context, e audit.Entry, write func(audit.Entry) error) error {
	if err := write(e); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "configuration changed", slog.String("action", e.Action), slog.String("actor", e.Actor), slog.String("subject", e.Subject))
	_, err := s.reload(ctx)
	return err
}
