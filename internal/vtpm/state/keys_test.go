//go:build unix

package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// wrong is a provider that answers otherwise than it should.
type wrong struct {
	keyprovider.Provider
	wrap   func([]byte) ([]byte, error)
	unwrap func(seal.Secret) (seal.Secret, error)
	calls  int
}

func (w *wrong) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	w.calls++
	b, err := w.Provider.Wrap(ctx, c, key)
	if w.wrap == nil || err != nil {
		return b, err
	}
	return w.wrap(b)
}

func (w *wrong) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	w.calls++
	key, err := w.Provider.Unwrap(ctx, c, wrapped)
	if w.unwrap == nil || err != nil {
		return key, err
	}
	return w.unwrap(key)
}

func otherKey(seal.Secret) (seal.Secret, error) { return seal.Random(rand.Reader, seal.KeySize) }

func answering(err error) func(seal.Secret) (seal.Secret, error) {
	return func(seal.Secret) (seal.Secret, error) { return seal.Secret{}, err }
}

func TestOpenSaysWhatIsWrongWithTheKeyProvider(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 3)
	before := mustRead(t, path)
	for name, tc := range map[string]struct {
		p    keyprovider.Provider
		kind Kind
		text string
	}{
		"another provider":                     {mustProvider(t), WrongKey, "the key provider does not hold the key of this file"},
		"another key":                          {&wrong{Provider: cfg.Provider, unwrap: otherKey}, BadProvider, "the key that it gives is not the one of this file"},
		"no key":                               {&wrong{Provider: cfg.Provider, unwrap: func(seal.Secret) (seal.Secret, error) { return seal.Secret{}, nil }}, BadProvider, "answers garbage"},
		"half a key":                           {&wrong{Provider: cfg.Provider, unwrap: func(k seal.Secret) (seal.Secret, error) { return seal.NewSecret(k.Expose()[:16]), nil }}, BadProvider, "answers garbage"},
		"garbage":                              {&wrong{Provider: cfg.Provider, unwrap: answering(fmt.Errorf("vault: %w", keyprovider.ErrGarbage))}, BadProvider, "answers garbage"},
		"down":                                 {&wrong{Provider: cfg.Provider, unwrap: answering(fmt.Errorf("dial: %w", keyprovider.ErrUnavailable))}, ProviderDown, "nothing is lost; try again when it answers"},
		"too slow":                             {&wrong{Provider: cfg.Provider, unwrap: answering(context.DeadlineExceeded)}, ProviderDown, "cannot be reached"},
		"an expired credential":                {&wrong{Provider: cfg.Provider, unwrap: answering(fmt.Errorf("403: %w", keyprovider.ErrRefused))}, ProviderRefuses, "renew its credential"},
		"a wrapped form that it does not know": {&wrong{Provider: cfg.Provider, unwrap: answering(seal.ErrFormat)}, WrongKey, "name the provider that wrapped it"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cfg
			c.Provider = tc.p
			_, _, err := tryOpen(path, c)
			wantFault(t, err, tc.kind)
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v, want %q", err, tc.text)
			}
		})
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := Open(canceled, path, cfg)
	wantFault(t, err, ProviderDown)
	if !bytes.Equal(before, mustRead(t, path)) {
		t.Error("the file changed")
	}
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(3)) {
		t.Errorf("with the right provider: %v", err)
	}
}

// A key that its provider does not give back is not used: the file would be lost.
func TestCreateAndRewrapAskForTheKeyBack(t *testing.T) {
	ctx := context.Background()
	cfg := config(t)
	for name, tc := range map[string]struct {
		p    *wrong
		kind Kind
	}{
		"another key":     {&wrong{unwrap: otherKey}, BadProvider},
		"nothing wrapped": {&wrong{wrap: func([]byte) ([]byte, error) { return nil, nil }}, BadProvider},
		"too much":        {&wrong{wrap: func([]byte) ([]byte, error) { return make([]byte, maxWrapped+1), nil }}, BadProvider},
		"altered":         {&wrong{wrap: func(b []byte) ([]byte, error) { b[len(b)-1] ^= 1; return b, nil }}, WrongKey},
		"down":            {&wrong{wrap: func([]byte) ([]byte, error) { return nil, keyprovider.ErrUnavailable }}, ProviderDown},
	} {
		t.Run(name, func(t *testing.T) {
			tc.p.Provider = mustProvider(t)
			bad := cfg
			bad.Provider = tc.p
			path := t.TempDir() + "/f"
			_, err := Create(ctx, path, mustID(t), content(1), bad)
			wantFault(t, err, tc.kind)
			if _, err := Inspect(path); !errors.Is(err, Missing) {
				t.Errorf("a file was made: %v", err)
			}
			f := mustCreate(t, path, cfg)
			wantFault(t, f.Rewrap(ctx, tc.p, "bad"), tc.kind)
			mustSave(t, f, content(2))
			mustClose(t, f)
			if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(2)) {
				t.Errorf("after a Rewrap that failed: %v", err)
			}
		})
	}
}

func TestARunningTPMDoesNotAskTheProvider(t *testing.T) {
	cfg := config(t)
	p := &wrong{Provider: cfg.Provider}
	cfg.Provider = p
	path, _ := saved(t, cfg, 1)
	f, _ := mustOpen(t, path, cfg)
	calls := p.calls
	for i := 2; i < 20; i++ {
		c := content(i)
		c.Volatile = make([]byte, i<<11) // and grows
		mustSave(t, f, c)
	}
	mustClose(t, f)
	if p.calls != calls {
		t.Errorf("%d calls while it ran", p.calls-calls)
	}
}

func TestRewrapChangesTheKeyOfEveryGeneration(t *testing.T) {
	ctx := context.Background()
	cfg := anchored(t)
	path, id := saved(t, cfg, 6)
	before := mustRead(t, path)
	f, _ := mustOpen(t, path, cfg)
	to, key := mustProvider(t), f.key
	if err := f.Rewrap(ctx, to, "vault-1"); err != nil {
		t.Fatal(err)
	}
	if key.Len() != 0 {
		t.Error("the old key is still in memory")
	}
	mustSave(t, f, content(8))
	mustClose(t, f)
	_, _, err := tryOpen(path, cfg)
	wantFault(t, err, WrongKey)
	moved := cfg
	moved.Provider = to
	if got, _, err := tryOpen(path, moved); err != nil || !same(got, content(8)) {
		t.Fatalf("under the new provider: %v", err)
	}
	info, err := Inspect(path)
	if err != nil || info.ID != id || info.Provider != "vault-1" || !generationsAre(info, 5, 6, 7, 8) {
		t.Errorf("%+v, %v", info, err)
	}
	// What was sealed under the old key is nowhere in the new file.
	after := mustRead(t, path)
	for i := range slotCount {
		if part := sliceOf(before, i)[headSize+100 : headSize+300]; bytes.Contains(after, part) {
			t.Errorf("slot %d is as it was", i)
		}
	}
	if _, err := Recover(ctx, path, 5, moved); err != nil {
		t.Errorf("a generation of before: %v", err)
	}
}

func TestRenewLeavesNothingOfWhatWasCleared(t *testing.T) {
	cfg := anchored(t)
	path, _ := saved(t, cfg, 6)
	f, _ := mustOpen(t, path, cfg)
	if err := f.Renew(context.Background(), content(7)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, f)
	info, err := Inspect(path)
	if err != nil || info.Newest() != 7 || info.Provider != "test" {
		t.Fatalf("%+v, %v", info, err)
	}
	for i, s := range info.Slots {
		if s.Generation != 7 && s.Condition != "blank" {
			t.Errorf("slot %d: %+v", i, s)
		}
	}
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(7)) {
		t.Errorf("%v", err)
	}
}

// Saves go on while the key changes; none is lost.
func TestSavesAndRewrapsAtOnce(t *testing.T) {
	cfg := config(t)
	d := newMemDisk()
	cfg.disk = d
	f, err := Create(context.Background(), memPath, mustID(t), content(1), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 30 {
				var err error
				if w == 0 {
					err = f.Rewrap(context.Background(), cfg.Provider, "again")
				} else {
					err = f.SavePermanent(fmt.Appendf(nil, "by %d: %d", w, i))
				}
				if err != nil {
					t.Error(err)
				}
				_, _, _ = f.Generation(), f.Mark(), f.Saved()
			}
		})
	}
	wg.Wait()
	if f.Generation() != 91 {
		t.Errorf("generation %d after 91 saves", f.Generation())
	}
	mustClose(t, f)
	got, notices, err := tryOpen(memPath, cfg)
	if err != nil || len(notices) != 0 || !strings.HasSuffix(string(got.Permanent), ": 29") {
		t.Errorf("%q, %v, %v", got.Permanent, notices, err)
	}
}

func TestNothingSecretIsOnTheDiskOrInMessages(t *testing.T) {
	cfg := anchored(t)
	path, id := saved(t, cfg, 6)
	f, c := mustOpen(t, path, cfg)
	c.Volatile = bytes.Repeat([]byte("volatile secret "), 2000)
	mustSave(t, f, c)
	key := bytes.Clone(f.key.Expose())
	file := mustRead(t, path)
	for what, secret := range map[string][]byte{"permanent": []byte("permanent 6,"), "meta": []byte("web-1"), "volatile": []byte("volatile secret"), "key": key} {
		if bytes.Contains(file, secret) {
			t.Errorf("%s is in the file in the clear", what)
		}
	}
	held := f.key
	if shown := fmt.Sprintf("%v %+v %#v", f, f, f); strings.Contains(shown, fmt.Sprint(key)[1:40]) || strings.Contains(shown, fmt.Sprintf("%x", key)) {
		t.Errorf("the key prints as %s", shown)
	}
	mustSave(t, f, c)
	buf := f.buf[:cap(f.buf)]
	if len(bytes.Trim(buf, "\x00")) != 0 {
		t.Error("the buffer of records is not empty after a save")
	}
	mustClose(t, f)
	if held.Len() != 0 || f.key.Len() != 0 {
		t.Error("the key is there after Close")
	}
	c.Destroy()
	if len(bytes.Trim(c.Permanent, "\x00")) != 0 {
		t.Error("Destroy leaves the content")
	}
	if m, _, err := cfg.Anchor.Last(id); err != nil || m != f.last {
		t.Errorf("ledger has %+v, %v", m, err)
	}
}

// The key of a file that does not open is not kept either.
func TestAFaultForgetsTheKey(t *testing.T) {
	cfg := config(t)
	var given seal.Secret
	p := &wrong{Provider: cfg.Provider}
	p.unwrap = func(k seal.Secret) (seal.Secret, error) { given = k; return k, nil }
	data, _ := image(t, cfg, 5)
	clear(sliceOf(data, newestSlot(t, data)))
	cfg.Provider = p
	_, _, err := openBytes(cfg, data)
	wantFault(t, err, Damaged)
	if given.Len() != 0 {
		t.Error("the key is there after the fault")
	}
}
