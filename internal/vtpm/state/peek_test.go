//go:build unix

package state

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestPeekReadsAFileThatIsInUse(t *testing.T) {
	cfg := anchored(t)
	path, id := saved(t, cfg, 3)
	f, _ := mustOpen(t, path, cfg)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 4; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			save := func() error { return f.Save(t.Context(), content(n)) }
			if n%10 == 0 {
				save = func() error { return f.Renew(t.Context(), content(n)) }
			}
			if err := save(); err != nil {
				done <- err
				return
			}
		}
	}()
	last := uint64(0)
	for range 150 {
		s, err := Peek(t.Context(), path, cfg)
		if err != nil {
			t.Error(err)
			break
		}
		if n := numberOf(s.Content); !same(s.Content, content(n)) || s.ID != id || s.Mark.Generation < last || !s.Anchored {
			t.Errorf("generation %d of %s after %d: %.30q", s.Mark.Generation, s.ID, last, s.Content.Permanent)
		}
		last = s.Mark.Generation
		s.Content.Destroy()
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if last == 3 {
		t.Error("nothing was saved meanwhile")
	}
	mustClose(t, f)
}

func TestPeekChecksAsOpenDoes(t *testing.T) {
	cfg := anchored(t)
	path, _ := saved(t, cfg, 5)
	old := mustRead(t, path)
	f, _ := mustOpen(t, path, cfg)
	mustSave(t, f, content(6))
	mustClose(t, f)
	now := mustRead(t, path)
	s, err := Peek(t.Context(), path, cfg)
	if err != nil || s.Mark != f.Mark() || !s.Saved.Equal(noon()) {
		t.Errorf("%+v, %v", s, err)
	}
	mustWrite(t, path, old)
	_, err = Peek(t.Context(), path, cfg)
	wantFault(t, err, RolledBack)
	clear(sliceOf(now, newestSlot(t, now)))
	mustWrite(t, path, now)
	_, err = Peek(t.Context(), path, cfg)
	wantFault(t, err, Damaged)
	cfg.Provider = mustProvider(t)
	_, err = Peek(t.Context(), path, cfg)
	wantFault(t, err, WrongKey)
	_, err = Peek(t.Context(), path+"x", cfg)
	wantFault(t, err, Missing)
}

func TestReplaceTakesThePlaceOfWhateverIsThere(t *testing.T) {
	for name, spoil := range map[string]func(data []byte) []byte{
		"a good file":    func(data []byte) []byte { return data },
		"a damaged one":  func(data []byte) []byte { clear(data[headerSize:]); return data },
		"half of it":     func(data []byte) []byte { return data[:len(data)/2] },
		"something else": func([]byte) []byte { return []byte("text") },
		"nothing":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := anchored(t)
			path, id := saved(t, cfg, 7)
			var was []byte
			if spoil == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				was = spoil(mustRead(t, path))
				mustWrite(t, path, was)
			}
			moved := cfg
			moved.Provider = mustProvider(t)
			aside, err := Replace(t.Context(), path, id, content(40), moved)
			if err != nil {
				t.Fatal(err)
			}
			if (aside == "") != (spoil == nil) || aside != "" && !bytes.Equal(mustRead(t, aside), was) {
				t.Errorf("set aside as %q", aside)
			}
			f, got := mustOpen(t, path, moved)
			if !same(got, content(40)) || f.Generation() != 8 || !f.Anchored() {
				t.Errorf("generation %d: %.40q", f.Generation(), got.Permanent)
			}
			_, err = Replace(t.Context(), path, id, content(41), moved)
			wantFault(t, err, Locked)
			mustClose(t, f)
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 && aside == "" || len(entries) > 2 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}
