package kmip_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/assay-project/assay/internal/kmip"
	"github.com/assay-project/assay/internal/kmip/kmiptest"
)

func dial(t *testing.T, address string, f kmiptest.Files) *kmip.Conn {
	t.Helper()
	c, err := kmip.Dial(t.Context(), address, f.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// rounds does with a server what a provider does, in a version.
func rounds(t *testing.T, c *kmip.Conn, name string) {
	ctx := t.Context()
	server, err := c.Query(ctx)
	if err != nil || !slices.Contains(server.Operations, kmip.OperationEncrypt) || server.Vendor == "" {
		t.Errorf("Query = %+v, %v", server, err)
	}
	id, err := c.Create(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := c.Locate(ctx, name); err != nil || !slices.Equal(ids, []string{id}) {
		t.Errorf("Locate = %q, %v, want %q", ids, err, id)
	}
	if ids, err := c.Locate(ctx, name+" that there is not"); err != nil || len(ids) != 0 {
		t.Errorf("Locate = %q, %v, want none", ids, err)
	}
	k, err := c.Describe(ctx, id)
	if err != nil || k != (kmip.Key{State: kmip.StateActive, Bits: 256, Usage: 0xc}) {
		t.Errorf("Describe = %+v, %v", k, err)
	}
	key, err := c.Get(ctx, id)
	if err != nil || len(key) != 32 {
		t.Errorf("Get = %d bytes, %v", len(key), err)
	}
	plain, aad := bytes.Repeat([]byte{7}, 32), []byte("for this only")
	for _, m := range []kmip.Mode{kmip.ModeGCM, kmip.ModeCBC} {
		if m == kmip.ModeGCM && c.BestMode() != m {
			continue
		}
		e, err := c.Encrypt(ctx, id, m, bytes.Repeat([]byte{byte(m)}, m.IVSize()), plain, aad)
		if err != nil || bytes.Contains(e.Data, plain) {
			t.Fatalf("Encrypt = %+v, %v", e, err)
		}
		got, err := c.Decrypt(ctx, id, e, aad)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Decrypt = %x, %v", got, err)
		}
		var refusal *kmip.Error
		if m == kmip.ModeGCM {
			if got, err := c.Decrypt(ctx, id, e, []byte("for another")); !errors.As(err, &refusal) {
				t.Errorf("Decrypt with other associated data = %x, %v", got, err)
			}
		}
		if got, err := c.Decrypt(ctx, "98765", e, aad); !errors.As(err, &refusal) {
			t.Errorf("Decrypt under a key that there is not = %x, %v", got, err)
		}
	}
}

func TestPyKMIPServesEveryVersionThatItHas(t *testing.T) {
	f := kmiptest.NewFiles(t)
	address := kmiptest.StartPyKMIP(t, f)
	if got := dial(t, address, f).Version(); got != (kmip.Version{Major: 2, Minor: 0}) {
		t.Errorf("agreed on %s, want 2.0", got)
	}
	for _, v := range []kmip.Version{{Major: 2, Minor: 0}, {Major: 1, Minor: 4}, {Major: 1, Minor: 3}, {Major: 1, Minor: 2}} {
		t.Run(v.String(), func(t *testing.T) {
			c := dial(t, address, f)
			if err := c.Use(v); err != nil {
				t.Fatal(err)
			}
			rounds(t, c, "key of "+v.String())
		})
	}
}

func TestAConnectionStopsWhenItIsTold(t *testing.T) {
	f := kmiptest.NewFiles(t)
	s := kmiptest.Start(t, f)
	c := dial(t, s.Address, f)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Query(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Query = %v", err)
	}
	if err := c.Use(kmip.Version{Major: 3}); !errors.Is(err, kmip.ErrVersion) {
		t.Errorf("Use(3.0) = %v", err)
	}
}

func TestOurServerServesEveryVersion(t *testing.T) {
	f := kmiptest.NewFiles(t)
	s := kmiptest.Start(t, f)
	for _, v := range kmip.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			c := dial(t, s.Address, f)
			if err := c.Use(v); err != nil {
				t.Fatal(err)
			}
			rounds(t, c, "key of "+v.String())
		})
	}
	s.Versions = []kmip.Version{{Major: 1, Minor: 0}, {Major: 9, Minor: 9}}
	if _, err := kmip.Dial(t.Context(), s.Address, f.Client(t)); !errors.Is(err, kmip.ErrVersion) {
		t.Errorf("Dial with no version in common = %v", err)
	}
}
