package vtpm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// wantHeld compares how often providers were opened, and how many are still held.
func (f *fixture) wantHeld(opened, held int) {
	f.t.Helper()
	if o, h := f.p.inMemory(); o != opened || h != held {
		f.t.Errorf("%d providers opened, the keys of %d in memory, want %d and %d", o, h, opened, held)
	}
}

func TestAReloadForgetsKeysThatNobodyUses(t *testing.T) {
	f := newFixture(t)
	f.create("web-1")
	f.wantHeld(1, 1)
	i, c := f.started("web-1")
	defer i.Close()
	f.Reload(t.Context(), tester)
	f.wantHeld(1, 0)
	if e := f.last(""); e.Type != EventReload || e.Actor != tester {
		t.Errorf("event %+v", e)
	}
	remember(t, c, said) // a TPM that runs has the key of its own state
	f.create("web-2")
	f.wantHeld(2, 1)
	f.reopen() // and the end forgets all
	f.wantHeld(2, 0)
}

func TestAReloadDuringACallForgetsTheKeysWhenItEnds(t *testing.T) {
	f := newFixture(t)
	inside, on := make(chan struct{}), make(chan struct{})
	f.p.thinks = func() {
		inside <- struct{}{}
		<-on
	}
	done := make(chan error)
	go func() {
		_, err := f.Create(context.Background(), tester, CreateOptions{Name: "web-1"})
		done <- err
	}()
	<-inside
	f.dropProviders()
	f.wantHeld(1, 1) // it is being asked
	f.p.mu.Lock()
	f.p.thinks = nil
	f.p.mu.Unlock()
	close(on)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.wantHeld(2, 1) // the state was opened again after it was made, by the keys of now
}

func TestAChangeOfTheListOfProvidersIsSeenAtTheNextUse(t *testing.T) {
	f := newFixture(t)
	f.create("web-1")
	if err := os.WriteFile(filepath.Join(f.Dir(), keyprovider.SetFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.wantHeld(1, 1)
	f.p.mu.Lock()
	delete(f.p.keys, "main") // it was taken off the list
	f.p.mu.Unlock()
	if _, err := f.Open(t.Context(), "web-1", tester); !errors.Is(err, keyprovider.ErrNoProvider) {
		t.Errorf("Open = %v, want %v", err, keyprovider.ErrNoProvider)
	}
	f.wantHeld(1, 0)
}

func TestWhoeverOpensAProviderDuringAReloadGetsTheKeysOfAfterwards(t *testing.T) {
	f := newFixture(t)
	slow := f.cfg.Provider
	turns := 0
	f.Root.cfg.Provider = func(ctx context.Context, spec string) (Provider, error) {
		p, err := slow(ctx, spec)
		if turns++; turns == 1 {
			f.p.rotate(spec)
			f.dropProviders()
		}
		return p, err
	}
	err := f.withProvider(t.Context(), "main", func(p keyprovider.Provider) error {
		key, err := seal.Random(f.cfg.Random, seal.KeySize)
		if err != nil {
			return err
		}
		wrapped, err := p.Wrap(t.Context(), seal.Context{Purpose: "test"}, key)
		if err != nil {
			return err
		}
		if id, err := keyprovider.KeyIDOf(wrapped); err != nil || id != f.p.keys["main"][0].ID {
			t.Errorf("wrapped under %q, %v, want the newest key", id, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantHeld(2, 1)
}

func TestTheDaemonReloads(t *testing.T) {
	f := newFixture(t)
	f.daemon(DaemonConfig{})
	call(t, f, &Request{Verb: VerbCreate, Name: "web"}, nil)
	f.wantHeld(1, 1)
	call(t, f, &Request{Verb: VerbReload}, nil)
	f.wantHeld(1, 0)
}
