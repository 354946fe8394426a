package health

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
)

// newService is an attestation service over a database of this test.
func newService(t *testing.T) *attest.Service {
	t.Helper()
	ctx := context.Background()
	s, err := sqlite.Open(ctx, t.TempDir(), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := attest.NewKeys(attest.KeysConfig{Issuer: "https://assay.example", Provider: provider, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	out, err := attest.New(ctx, attest.Config{Store: s, Kinds: []attest.Kind{attest.TPM{}}, Keys: keys, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.MaintainKeys(ctx); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTheServiceMakesTokensOfWhatTheAgentSends(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := &Service{Service: newService(t), Actor: "host:test", Machine: "web-1"}
	g := agenttest.NewGuest(t, good)
	m, err := g.Prover()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	answer := func() (string, error) {
		t.Helper()
		if err := s.Enrolled(ctx, m.AKPublic(), nil); err != nil {
			return "", err
		}
		nonce, challenge, err := s.Challenge(ctx)
		if err != nil {
			return "", err
		}
		b, err := m.Evidence(g.Root, nonce, false)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return s.Token(ctx, challenge, text)
	}
	for range 2 { // the second time the key is known
		raw, err := answer()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(raw, ".") != 2 {
			t.Errorf("token %q", raw)
		}
	}
	g.Extend(4, bytes.Repeat([]byte{1}, 32))
	if raw, err := answer(); raw != "" || err == nil || !strings.Contains(err.Error(), "eventlog.replay-mismatch") {
		t.Errorf("of another boot: %q, %v", raw, err)
	}
	if raw, err := s.Token(ctx, "made up", []byte(`{}`)); raw != "" || err == nil {
		t.Errorf("for no challenge: %q, %v", raw, err)
	}
	other := &Service{Service: s.Service, Actor: "host:test", Machine: "web-2"}
	if err := other.Enrolled(ctx, m.AKPublic(), nil); err == nil || !strings.Contains(err.Error(), `"web-1"`) {
		t.Errorf("the key as another machine's: %v", err)
	}
	name := knownName(t, s.Service)
	if err := s.Service.RemoveAttester(ctx, "admin", name); err != nil {
		t.Fatal(err)
	}
	if err := s.Enrolled(ctx, m.AKPublic(), nil); err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("a key that was removed: %v", err)
	}
	second := agenttest.NewGuest(t, good)
	m2, err := second.Prover()
	if err != nil {
		t.Fatal(err)
	}
	defer m2.Close()
	if err := other.Enrolled(ctx, m2.AKPublic(), nil); err != nil {
		t.Errorf("another machine: %v", err)
	}
	var taken *attest.ConflictError
	third := agenttest.NewGuest(t, good)
	m3, err := third.Prover()
	if err != nil {
		t.Fatal(err)
	}
	defer m3.Close()
	if err := other.Enrolled(ctx, m3.AKPublic(), nil); !errors.As(err, &taken) {
		t.Errorf("another key of a machine: %v", err)
	}
	if err := s.Enrolled(ctx, []byte{1}, nil); err == nil {
		t.Error("a key that is none is enrolled")
	}
}

func knownName(t *testing.T, s *attest.Service) string {
	t.Helper()
	all, err := s.Attesters(context.Background(), "", 10)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d attesters, %v", len(all), err)
	}
	return all[0].AKName
}
