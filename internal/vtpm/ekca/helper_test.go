package ekca

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/engine"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const testTPM = "4c5bd8f2-6a64-4d0a-9a3a-6b7d7d1d9a01"

// newEngine makes a TPM with power. The same seed gives the same TPM; an empty one
// a new one each time.
func newEngine(tb testing.TB) *engine.TPM {
	tb.Helper()
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		tb.Fatal(err)
	}
	t, err := engine.Manufacture(p, engine.Config{Random: rand.Reader, Now: func() time.Duration { return 0 }})
	if err != nil {
		tb.Fatal(err)
	}
	t.PowerOn()
	return t
}

func transport(t *engine.TPM) client.Transport { return client.InProcess(t, 0) }

func newProvider(tb testing.TB) keyprovider.Provider {
	tb.Helper()
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// newAuthority makes an authority whose folder is removed with the test.
func newAuthority(tb testing.TB, o AuthorityOptions) *Authority {
	tb.Helper()
	if o.Name == "" {
		o.Name = "Test vTPM"
	}
	cfg := AuthorityConfig{Provider: newProvider(tb), Random: rand.Reader, Now: func() time.Time { return noon }}
	a, err := CreateAuthority(context.Background(), filepath.Join(tb.TempDir(), "ca"), o, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// reopen opens the authority's folder again.
func reopen(tb testing.TB, a *Authority, cfg AuthorityConfig) *Authority {
	tb.Helper()
	b, err := OpenAuthority(context.Background(), a.dir, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func testPlatform() *Platform {
	return &Platform{Manufacturer: "QEMU", Model: "Standard PC (Q35 + ICH9, 2009)", Version: "pc-q35-7.2", Serial: "8e2f9a1c-3f0e-4f58-8c0f-1d4b1c1f7b02"}
}

func mustManufacture(tb testing.TB, t *engine.TPM, issuer Issuer, o Options) *Issued {
	tb.Helper()
	if o.TPM == "" {
		o.TPM = testTPM
	}
	o.Random = rand.Reader
	out, err := Manufacture(context.Background(), transport(t), issuer, o)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// restart turns the TPM off and on and starts it, as the next boot does.
func restart(tb testing.TB, t *engine.TPM) *module {
	tb.Helper()
	t.PowerOn()
	m := &module{tpm: client.New(transport(t), rand.Reader)}
	if err := m.begin(); err != nil {
		tb.Fatal(err)
	}
	return m
}
