//go:build unix

package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
)

// noon is when tests save.
func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

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

func mustID(tb testing.TB) ID {
	tb.Helper()
	id, err := NewID(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// config is one with a provider and no anchor.
func config(tb testing.TB) Config {
	tb.Helper()
	return Config{Provider: mustProvider(tb), ProviderName: "test", Random: rand.Reader, Now: noon}
}

// anchored is config with a ledger.
func anchored(tb testing.TB) Config {
	tb.Helper()
	cfg := config(tb)
	l, err := OpenLedger(filepath.Join(tb.TempDir(), "anchors"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	cfg.Anchor = l
	return cfg
}

// content is what generation n of a test's TPM has.
func content(n int) Content {
	return Content{
		Permanent: bytes.Repeat(fmt.Appendf(nil, "permanent %d,", n), 100+n),
		Meta:      fmt.Appendf(nil, `{"name":"web-1","n":%d}`, n),
	}
}

func mustCreate(tb testing.TB, path string, cfg Config) *File {
	tb.Helper()
	f, err := Create(context.Background(), path, mustID(tb), content(1), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func mustOpen(tb testing.TB, path string, cfg Config) (*File, Content) {
	tb.Helper()
	f, c, err := Open(context.Background(), path, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return f, c
}

func mustSave(tb testing.TB, f *File, c Content) {
	tb.Helper()
	if err := f.Save(context.Background(), c); err != nil {
		tb.Fatal(err)
	}
}

func mustClose(tb testing.TB, f *File) {
	tb.Helper()
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}

// saved makes a file with generations 1 to n and closes it.
func saved(tb testing.TB, cfg Config, n int) (path string, id ID) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "web-1.nvram")
	f := mustCreate(tb, path, cfg)
	for i := 2; i <= n; i++ {
		mustSave(tb, f, content(i))
	}
	mustClose(tb, f)
	return path, f.ID()
}

func mustRead(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustWrite(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// tryOpen opens, closes and returns what it got.
func tryOpen(path string, cfg Config) (Content, []Notice, error) {
	f, c, err := Open(context.Background(), path, cfg)
	if err != nil {
		return Content{}, nil, err
	}
	return c, f.Notices(), f.Close()
}

// same compares faster than cmp does.
func same(a, b Content) bool {
	return bytes.Equal(a.Permanent, b.Permanent) && bytes.Equal(a.Volatile, b.Volatile) && bytes.Equal(a.Meta, b.Meta)
}

func wantFault(tb testing.TB, err error, kind Kind) *Fault {
	tb.Helper()
	var fault *Fault
	if !errors.As(err, &fault) || !errors.Is(err, kind) {
		tb.Fatalf("error is %v, want a fault: %s", err, kind)
	}
	return fault
}

func TestOpenReturnsWhatWasSavedLast(t *testing.T) {
	for name, mk := range map[string]func(testing.TB) Config{"with a ledger": anchored, "without": config} {
		t.Run(name, func(t *testing.T) {
			cfg := mk(t)
			path := filepath.Join(t.TempDir(), "web-1.nvram")
			f := mustCreate(t, path, cfg)
			id, want := f.ID(), content(1)
			for i := 2; i < 12; i++ {
				mustClose(t, f)
				var got Content
				f, got = mustOpen(t, path, cfg)
				if diff := cmp.Diff(want, got); diff != "" || f.ID() != id || f.Generation() != uint64(i-1) {
					t.Fatalf("generation %d of %s, want %d of %s: %s", f.Generation(), f.ID(), i-1, id, diff)
				}
				if len(f.Notices()) != 0 || f.Anchored() != (cfg.Anchor != nil) || !f.Saved().Equal(noon()) {
					t.Errorf("notices %v, anchored %v, saved %s", f.Notices(), f.Anchored(), f.Saved())
				}
				want = content(i)
				mustSave(t, f, want)
			}
			mustClose(t, f)
		})
	}
}

func TestSavePermanentKeepsTheRecordAndDropsTheVolatileState(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 1)
	f, _ := mustOpen(t, path, cfg)
	suspended := content(2)
	suspended.Volatile = []byte("volatile")
	mustSave(t, f, suspended)
	mustClose(t, f)
	f, got := mustOpen(t, path, cfg)
	if diff := cmp.Diff(suspended, got); diff != "" {
		t.Error(diff)
	}
	if err := f.SavePermanent([]byte("goes on")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, f)
	_, got = mustOpen(t, path, cfg)
	if diff := cmp.Diff(Content{Permanent: []byte("goes on"), Meta: suspended.Meta}, got); diff != "" {
		t.Error(diff)
	}
}

func TestContentThatGrowsMovesToAWiderFile(t *testing.T) {
	cfg := anchored(t)
	path, _ := saved(t, cfg, 3)
	f, _ := mustOpen(t, path, cfg)
	size := len(mustRead(t, path))
	for _, n := range []int{1 << 10, 40 << 10, 300 << 10, 1 << 20, 10} {
		want := Content{Permanent: bytes.Repeat([]byte{byte(n)}, n), Meta: []byte("m"), Volatile: []byte("v")}
		mustSave(t, f, want)
		mustClose(t, f)
		var got Content
		f, got = mustOpen(t, path, cfg)
		same := bytes.Equal(want.Permanent, got.Permanent) && bytes.Equal(want.Meta, got.Meta) && bytes.Equal(want.Volatile, got.Volatile)
		if !same || len(f.Notices()) != 0 {
			t.Fatalf("%d bytes: the same content %v, %v", n, same, f.Notices())
		}
	}
	if now := len(mustRead(t, path)); now <= size {
		t.Errorf("file of %d bytes, before %d", now, size)
	}
	if err := f.Save(context.Background(), Content{Permanent: make([]byte, MaxContent+1)}); err == nil {
		t.Error("more than MaxContent is taken")
	}
	if err := f.Save(context.Background(), Content{}); err == nil {
		t.Error("a TPM without permanent state is taken")
	}
	mustClose(t, f)
}

func TestCreateDoesNotReplace(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 2)
	before := mustRead(t, path)
	_, err := Create(context.Background(), path, mustID(t), content(9), cfg)
	wantFault(t, err, Exists)
	if !bytes.Equal(before, mustRead(t, path)) {
		t.Error("the file changed")
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestIDsAreUUIDs(t *testing.T) {
	id := mustID(t)
	again, err := ParseID(id.String())
	if err != nil || again != id || id.IsZero() || id.String()[14] != '4' {
		t.Errorf("ParseID(%s) = %s, %v", id, again, err)
	}
	for _, bad := range []string{"", "x", id.String()[1:], id.String() + "0", "0-" + id.String()[2:], "zz" + id.String()[2:], id.String()[:8] + id.String()[9:] + "-"} {
		if got, err := ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) = %s", bad, got)
		}
	}
}
