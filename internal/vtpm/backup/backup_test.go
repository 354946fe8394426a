package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/wire"
)

func mustProvider(tb testing.TB) *keyprovider.Local {
	tb.Helper()
	k, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := keyprovider.NewLocal(rand.Reader, k)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func mustIdentity(tb testing.TB) *age.X25519Identity {
	tb.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func bundle() *Bundle {
	return &Bundle{
		Kind: Backup, ID: state.ID{1, 2, 3}, Name: "web-1", Generation: 7, Digest: [32]byte{9}, Made: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		By: "uid 0", Live: true, Home: "main",
		Content: state.Content{Permanent: bytes.Repeat([]byte("permanent "), 100), Volatile: []byte("volatile"), Meta: []byte(`{"name":"web-1"}`)},
	}
}

// methods are both ways to protect a file, with the keys that open it.
func methods(tb testing.TB) map[string]struct {
	p Protection
	k Keys
} {
	tb.Helper()
	id, other := mustIdentity(tb), mustIdentity(tb)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		tb.Fatal(err)
	}
	provider := mustProvider(tb)
	return map[string]struct {
		p Protection
		k Keys
	}{
		"age":               {Protection{Recipients: []age.Recipient{id.Recipient(), other.Recipient()}}, Keys{Identities: []age.Identity{other}}},
		"age, post-quantum": {Protection{Recipients: []age.Recipient{hybrid.Recipient()}}, Keys{Identities: []age.Identity{id, hybrid}}},
		"provider":          {Protection{Provider: provider, ProviderName: "main"}, Keys{Provider: provider}},
	}
}

func mustWriteBundle(tb testing.TB, p Protection) (string, []byte) {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "web-1.tpmbackup")
	if err := Write(context.Background(), name, bundle(), p, rand.Reader); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return name, b
}

func TestWhatIsWrittenOpens(t *testing.T) {
	for name, m := range methods(t) {
		t.Run(name, func(t *testing.T) {
			if err := m.p.Check(t.Context(), rand.Reader); err != nil {
				t.Fatal(err)
			}
			path, data := mustWriteBundle(t, m.p)
			f, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Open(t.Context(), m.k)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(bundle(), got); diff != "" {
				t.Error(diff)
			}
			if f.ID != bundle().ID || f.Name != "web-1" || f.Generation != 7 || f.Kind != Backup || f.Provider != m.p.ProviderName || !f.Made.Equal(bundle().Made) {
				t.Errorf("card %+v", f.Card)
			}
			for _, secret := range []string{"permanent ", "volatile", `"name"`} {
				if bytes.Contains(data, []byte(secret)) {
					t.Errorf("%q is in the clear", secret)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			if err := Write(t.Context(), path, bundle(), m.p, rand.Reader); !errors.Is(err, ErrExists) {
				t.Errorf("a file of that name: %v", err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func TestHalfABackupIsNamedSo(t *testing.T) {
	for name, m := range methods(t) {
		t.Run(name, func(t *testing.T) {
			_, data := mustWriteBundle(t, m.p)
			for n := range data {
				f, err := Parse(data[:n])
				want := ErrCut
				if n == 0 {
					want = ErrFormat
				}
				if !errors.Is(err, want) {
					t.Fatalf("the first %d of %d bytes: %+v, %v", n, len(data), f, err)
				}
			}
			if _, err := Parse(append(bytes.Clone(data), 0)); !errors.Is(err, ErrDamaged) {
				t.Errorf("a byte more: %v", err)
			}
			// Every byte counts.
			for at := range data {
				if name != "provider" && at%7 != 0 { // key agreement takes its time
					continue
				}
				b := bytes.Clone(data)
				b[at] ^= 4
				f, err := Parse(b)
				if err == nil {
					_, err = f.Open(t.Context(), m.k)
				}
				ok := false
				for _, kind := range []error{ErrFormat, ErrVersion, ErrCut, ErrDamaged, ErrKey} {
					ok = ok || errors.Is(err, kind)
				}
				if !ok {
					t.Fatalf("byte %d: %v", at, err)
				}
			}
		})
	}
}

func TestTheWrongKeyIsSaid(t *testing.T) {
	ctx := context.Background()
	all := methods(t)
	_, data := mustWriteBundle(t, all["age"].p)
	f, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for text, k := range map[string]Keys{
		"it needs an age identity": {},
		"none of 2 age identities": {Identities: []age.Identity{mustIdentity(t), mustIdentity(t)}},
	} {
		if _, err := f.Open(ctx, k); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
	_, data = mustWriteBundle(t, all["provider"].p)
	if f, err = Parse(data); err != nil {
		t.Fatal(err)
	}
	for text, k := range map[string]Keys{
		`it needs key provider "main"`:       {Identities: []age.Identity{mustIdentity(t)}},
		`key provider "main": unwrap key of`: {Provider: mustProvider(t)},
	} {
		if _, err := f.Open(ctx, k); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %q", err, text)
		}
	}
}

// mute is a provider that does not give back what it wraps.
type mute struct{ keyprovider.Provider }

func (m mute) Unwrap(context.Context, seal.Context, []byte) (seal.Secret, error) {
	return seal.Secret{}, fmt.Errorf("dial: %w", keyprovider.ErrUnavailable)
}

func TestAProtectionThatDoesNotWorkWritesNothing(t *testing.T) {
	p := Protection{Provider: mute{mustProvider(t)}, ProviderName: "main"}
	if err := p.Check(t.Context(), rand.Reader); !errors.Is(err, keyprovider.ErrUnavailable) {
		t.Errorf("Check = %v", err)
	}
	name := filepath.Join(t.TempDir(), "f")
	if err := Write(t.Context(), name, bundle(), p, rand.Reader); !errors.Is(err, keyprovider.ErrUnavailable) {
		t.Errorf("Write = %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(name)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	for what, p := range map[string]Protection{
		"none":    {},
		"both":    {Provider: mustProvider(t), ProviderName: "main", Recipients: []age.Recipient{mustIdentity(t).Recipient()}},
		"no name": {Provider: mustProvider(t)},
	} {
		if err := p.Check(t.Context(), rand.Reader); err == nil {
			t.Errorf("%s: passes", what)
		}
	}
}

func TestRecipientsAndIdentitiesAreAgesOwn(t *testing.T) {
	id := mustIdentity(t)
	if rs, err := ParseRecipients([]string{id.Recipient().String()}); err != nil || len(rs) != 1 {
		t.Error(err)
	}
	for _, bad := range []string{"", "age1", "ssh-ed25519 AAAA", id.String(), id.Recipient().String() + "\n" + id.Recipient().String()} {
		if _, err := ParseRecipients([]string{bad}); err == nil {
			t.Errorf("recipient %.20q passes", bad)
		}
	}
	if ids, err := ParseIdentities([]byte("# made today\n" + id.String() + "\n")); err != nil || len(ids) != 1 {
		t.Error(err)
	}
	_, err := ParseIdentities([]byte(id.String()[:60] + "\n"))
	if err == nil || strings.Contains(err.Error(), id.String()[20:40]) {
		t.Errorf("an identity that is cut: %v", err)
	}
	// Recipients of two kinds would be as weak as the weaker: age refuses that.
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	p := Protection{Recipients: []age.Recipient{hybrid.Recipient(), id.Recipient()}}
	if err := Write(t.Context(), filepath.Join(t.TempDir(), "f"), bundle(), p, rand.Reader); err == nil {
		t.Error("recipients of two kinds pass")
	}
}

func TestLookFindsTheStateOfAMachinesTPM(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("disk.qcow2", []byte("QFI"))
	write("web-1.xml", []byte("<domain/>"))
	if found, err := Look(dir); !errors.Is(err, ErrNoState) || len(found) != 0 {
		t.Errorf("without a state: %v, %v", found, err)
	}
	write("web-1.nvram", []byte("not whole"))
	if found, err := Look(dir); !errors.Is(err, ErrNoState) || len(found) != 1 || found[0].Err == nil {
		t.Errorf("with something in its place: %+v, %v", found, err)
	}
	if err := os.Remove(filepath.Join(dir, "web-1.nvram")); err != nil {
		t.Fatal(err)
	}
	id := state.ID{4}
	cfg := state.Config{Provider: mustProvider(t), ProviderName: "vault-1", Random: rand.Reader}
	f, err := state.Create(t.Context(), filepath.Join(dir, "web-1.nvram"), id, bundle().Content, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, data := mustWriteBundle(t, methods(t)["provider"].p)
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("more/tpm", data)
	write("more/half", data[:len(data)/2])
	found, err := Look(dir)
	if err != nil || len(found) != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
	if h := found[0]; h.State || !errors.Is(h.Err, ErrCut) {
		t.Errorf("half a backup: %+v", h)
	}
	if b := found[1]; b.State || b.Err != nil || b.ID != bundle().ID || b.Generation != 7 || b.Provider != "main" {
		t.Errorf("a backup: %+v", b)
	}
	if s := found[2]; !s.State || s.Err != nil || s.ID != id || s.Generation != 1 || s.Provider != "vault-1" {
		t.Errorf("a state: %+v", s)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range methods(f) {
		_, data := mustWriteBundle(f, m.p)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(b)
		if err != nil {
			for _, kind := range []error{ErrFormat, ErrVersion, ErrCut, ErrDamaged} {
				if errors.Is(err, kind) {
					return
				}
			}
			t.Fatalf("not a kind of fault: %v", err)
		}
		if _, err := file.bundle(b); err == nil {
			t.Fatal("ciphertext is a body")
		}
	})
}

func FuzzBody(f *testing.F) {
	file := &File{Card: Card{Version: 1}, digest: [32]byte{}}
	in := body{by: []byte("me"), content: bundle().Content}
	text, err := wire.Encode(&in)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := file.bundle(b); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}
