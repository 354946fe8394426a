package keyprovider_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// A process that lives long holds no key that its file does not have any more.
func TestAKeyFileIsFollowed(t *testing.T) {
	const (
		before = "assay-keys 1\nold AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
		after  = "assay-keys 1\nnew AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n"
	)
	for name, tc := range map[string]struct {
		change  func(file string) error
		unwraps error // of what was wrapped before
		wraps   string
		fails   error
	}{
		"unchanged": {func(string) error { return nil }, nil, "old", nil},
		"removed":   {os.Remove, keyprovider.ErrUnavailable, "", keyprovider.ErrUnavailable},
		"another":   {func(file string) error { return replace(file, after) }, keyprovider.ErrUnknownKey, "new", nil},
		"garbage":   {func(file string) error { return replace(file, "x") }, keyprovider.ErrUnavailable, "", keyprovider.ErrUnavailable},
		"removed and put back": {
			func(file string) error {
				return errors.Join(os.Remove(file), os.WriteFile(file, []byte(before), 0o600))
			},
			nil, "old", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			env := environ(nil)
			env.FollowFiles = true
			p := opener("local:"+file, env)(t)
			defer p.Close()
			c := seal.Context{Purpose: "test"}
			key, err := seal.Random(env.Random, seal.KeySize)
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := p.Wrap(t.Context(), c, key)
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.change(file); err != nil {
				t.Fatal(err)
			}
			if again, err := p.Unwrap(t.Context(), c, wrapped); !errors.Is(err, tc.unwraps) || err == nil && !again.Equal(key) {
				t.Errorf("Unwrap = %v, want %v", err, tc.unwraps)
			}
			wrapped, err = p.Wrap(t.Context(), c, key)
			if !errors.Is(err, tc.fails) {
				t.Fatalf("Wrap = %v, want %v", err, tc.fails)
			}
			if err == nil {
				if id, err := keyprovider.KeyIDOf(wrapped); err != nil || id != tc.wraps {
					t.Errorf("wrapped under %q, %v, want %q", id, err, tc.wraps)
				}
			}
		})
	}
}

func replace(file, text string) error {
	next := file + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// Without that the keys are read once: the file may be out of reach by then.
func TestAKeyFileIsReadOnceByDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("assay-keys 1\nk AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := opener("local:"+file, environ(nil))(t)
	defer p.Close()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := keyprovider.Test(t.Context(), p, environ(nil)); err != nil {
		t.Error(err)
	}
}
