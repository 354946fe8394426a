package keyprovider

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-project/assay/internal/seal"
)

var signing = seal.Context{Purpose: "token signing key", Name: "k-2026"}

const passphrase = "correct horse battery"

func secret(s string) seal.Secret { return seal.NewSecret([]byte(s)) }

func mustLocal(tb testing.TB, keys ...seal.Key) *Local {
	tb.Helper()
	l, err := NewLocal(rand.Reader, keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func mustNewKey(tb testing.TB) seal.Key {
	tb.Helper()
	k, err := NewKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// keyFile makes a key file and returns its name.
func keyFile(tb testing.TB, pass seal.Secret) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "keys")
	if err := CreateFile(name, rand.Reader, pass); err != nil {
		tb.Fatal(err)
	}
	return name
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	ctx := context.Background()
	l := mustLocal(t, mustNewKey(t))
	sealed, err := Seal(ctx, l, rand.Reader, signing, []byte("private key"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(ctx, l, signing, sealed)
	if err != nil || string(got.Expose()) != "private key" {
		t.Errorf("Open() = %q, %v", got.Expose(), err)
	}
	if bytes.Contains(sealed, []byte("private key")) {
		t.Error("the envelope shows its text")
	}
	again, err := Seal(ctx, l, rand.Reader, signing, []byte("private key"))
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealing twice gives the same bytes (%v)", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := context.Background()
	key := mustNewKey(t)
	l := mustLocal(t, key)
	sealed, err := Seal(ctx, l, rand.Reader, signing, []byte("private key"))
	if err != nil {
		t.Fatal(err)
	}
	other := mustNewKey(t)
	impostor := seal.Key{ID: key.ID, Secret: other.Secret}
	own, err := seal.Seal(rand.Reader, key, signing, bytes.Repeat([]byte{1}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	unwrapped := bytes.Clone(own)
	for name, tc := range map[string]struct {
		l      *Local
		c      seal.Context
		sealed []byte
		want   error
	}{
		"another name":              {l, seal.Context{Purpose: signing.Purpose, Name: "k-2027"}, sealed, seal.ErrOpen},
		"another purpose":           {l, seal.Context{Purpose: "challenge key", Name: signing.Name}, sealed, seal.ErrOpen},
		"a key that is not held":    {mustLocal(t, other), signing, sealed, ErrUnknownKey},
		"another key, same name":    {mustLocal(t, impostor), signing, sealed, seal.ErrOpen},
		"no wrapped key":            {l, signing, unwrapped, seal.ErrFormat},
		"no envelope":               {l, signing, []byte("text"), seal.ErrFormat},
		"an altered envelope":       {l, signing, append(bytes.Clone(sealed), 0), seal.ErrOpen},
		"only part of the envelope": {l, signing, sealed[:len(sealed)-1], seal.ErrOpen},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Open(ctx, tc.l, tc.c, tc.sealed); !errors.Is(err, tc.want) || got.Len() != 0 {
				t.Errorf("Open() = %d bytes, %v, want %v", got.Len(), err, tc.want)
			}
		})
	}
	// What a key sealed itself is not taken for a wrapped key.
	if _, err := l.Unwrap(ctx, signing, own); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("Unwrap of a sealed text: %v, want %v", err, seal.ErrOpen)
	}
}

func TestOlderKeysStillUnwrap(t *testing.T) {
	ctx := context.Background()
	older, newer := mustNewKey(t), mustNewKey(t)
	sealed, err := Seal(ctx, mustLocal(t, older), rand.Reader, signing, []byte("private key"))
	if err != nil {
		t.Fatal(err)
	}
	both := mustLocal(t, newer, older)
	if _, err := Open(ctx, both, signing, sealed); err != nil {
		t.Errorf("sealed before the new key: %v", err)
	}
	again, err := Seal(ctx, both, rand.Reader, signing, []byte("private key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, mustLocal(t, newer), signing, again); err != nil {
		t.Errorf("the newest key does not wrap: %v", err)
	}
}

func TestNewLocalRefusesUnusableKeys(t *testing.T) {
	k := mustNewKey(t)
	for name, keys := range map[string][]seal.Key{
		"none":            {},
		"no name":         {{Secret: k.Secret}},
		"one name, twice": {k, k},
		"a short key":     {{ID: "a", Secret: secret("short")}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewLocal(rand.Reader, keys...); err == nil {
				t.Error("accepted")
			}
		})
	}
	if _, err := mustLocal(t, k).Wrap(context.Background(), signing, secret("short")); err == nil {
		t.Error("a short data key is wrapped")
	}
}

func TestKeyFileOpensForItsOwner(t *testing.T) {
	t.Parallel()
	for name, pass := range map[string]seal.Secret{"in the clear": {}, "with a passphrase": secret(passphrase)} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			file := keyFile(t, pass)
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
			}
			l, err := ReadFile(file, rand.Reader, pass)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if pass.Len() > 0 && bytes.Contains(text, []byte(l.keys[0].ID)) {
				t.Error("a protected file shows the name of its key")
			}
			sealed, err := Seal(ctx, l, rand.Reader, signing, []byte("private key"))
			if err != nil {
				t.Fatal(err)
			}
			if pass.Len() > 0 {
				return // a passphrase's work is great, and the suite rotates
			}
			if err := AddKey(file, rand.Reader, pass); err != nil {
				t.Fatal(err)
			}
			after, err := ReadFile(file, rand.Reader, pass)
			if err != nil || len(after.keys) != 2 || after.keys[1].ID != l.keys[0].ID {
				t.Fatalf("after AddKey: %v", err)
			}
			if _, err := Open(ctx, after, signing, sealed); err != nil {
				t.Errorf("what the older key wrapped: %v", err)
			}
		})
	}
}

func TestKeyFileThatOthersCanReachIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o601, 0o660, 0o644, 0o666} {
		file := keyFile(t, seal.Secret{})
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(file, rand.Reader, seal.Secret{}); err == nil || !strings.Contains(err.Error(), "mode") {
			t.Errorf("mode %#o: %v, want a refusal for its mode", mode, err)
		}
		_, err := ReadCredential(filepath.Dir(file), filepath.Base(file), rand.Reader, seal.Secret{})
		if (err == nil) != (mode == 0o640) {
			t.Errorf("credential of mode %#o: %v", mode, err)
		}
	}
}

func TestKeyFileMustBeTheFileItself(t *testing.T) {
	dir := t.TempDir()
	file := keyFile(t, seal.Secret{})
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		link: "too many levels of symbolic links", pipe: "not a regular file", dir: "not a regular file", filepath.Join(dir, "absent"): "no such file",
	} {
		if _, err := ReadFile(name, rand.Reader, seal.Secret{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", filepath.Base(name), err, want)
		}
	}
	for _, name := range []string{"", ".", "..", "../keys", "a/b"} {
		if _, err := ReadCredential(filepath.Dir(file), name, rand.Reader, seal.Secret{}); err == nil {
			t.Errorf("credential %q opens", name)
		}
	}
	if err := CreateFile(file, rand.Reader, seal.Secret{}); err == nil {
		t.Error("CreateFile replaces a file")
	}
}

func TestKeyFileBelongsToItsUserOrRoot(t *testing.T) {
	for _, tc := range []struct {
		uid  uint32
		euid int
		want bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {0, 0, true}, {1<<32 - 1, -1, false}} {
		if got := mayOwn(tc.uid, tc.euid); got != tc.want {
			t.Errorf("mayOwn(%d, %d) = %v", tc.uid, tc.euid, got)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	file := keyFile(t, seal.Secret{})
	if err := os.Chown(file, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(file, rand.Reader, seal.Secret{}); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("another's file: %v", err)
	}
}

func TestPassphraseIsNeeded(t *testing.T) {
	t.Parallel()
	file := keyFile(t, secret(passphrase))
	for name, pass := range map[string]seal.Secret{"none": {}, "wrong": secret("correct horse batter!")} {
		if _, err := ReadFile(file, rand.Reader, pass); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s: %v, want %v", name, err, ErrPassphrase)
		}
	}
	if err := CreateFile(filepath.Join(t.TempDir(), "keys"), rand.Reader, secret("short")); err == nil {
		t.Error("a short passphrase is taken")
	}
	clear := keyFile(t, seal.Secret{})
	if _, err := ReadFile(clear, rand.Reader, secret(passphrase)); err == nil {
		t.Error("a passphrase for a file in the clear is taken")
	}
}

// A file that asks for less work than we would is one that somebody has weakened.
func TestACheapPassphraseFileIsRefused(t *testing.T) {
	salt := make([]byte, saltSize)
	for _, n := range []int{1, 2} {
		key, err := derive(secret(passphrase), salt, n)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := seal.Seal(rand.Reader, key, fileContext, []byte(plainHeader+"\nk1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Appendf(nil, "%s\n%d %s %s\n", protectedHeader, n, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(sealed))
		if _, err := Parse(text, secret(passphrase)); err == nil || !strings.Contains(err.Error(), "iterations") {
			t.Errorf("%d iterations: %v", n, err)
		}
	}
}

func TestKeyFileTextIsExact(t *testing.T) {
	const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	good := plainHeader + "\nk1 " + key + "\n"
	if keys, err := Parse([]byte(good), seal.Secret{}); err != nil || len(keys) != 1 || keys[0].ID != "k1" {
		t.Fatalf("Parse(%q) = %v, %v", good, keys, err)
	}
	for name, text := range map[string]string{
		"empty":               "",
		"header only":         plainHeader + "\n",
		"newer version":       "assay-keys 2\nk1 " + key + "\n",
		"no name":             plainHeader + "\n " + key + "\n",
		"no key":              plainHeader + "\nk1\n",
		"short key":           plainHeader + "\nk1 AAAA\n",
		"long key":            plainHeader + "\nk1 " + strings.Repeat("A", 64) + "\n",
		"spare bits":          plainHeader + "\nk1 " + key[:42] + "B=\n",
		"carriage return":     plainHeader + "\nk1 " + key + "\r\n",
		"blank line":          good + "\n",
		"too many keys":       plainHeader + "\n" + strings.Repeat("k1 "+key+"\n", maxKeys+1),
		"too long":            plainHeader + "\n" + strings.Repeat("k1 "+key+"\n", maxFile/40),
		"protected, empty":    protectedHeader + "\n",
		"too few iterations":  protectedHeader + "\n1000 AAAAAAAAAAAAAAAAAAAAAA== AAAA\n",
		"too many iterations": protectedHeader + "\n2000000000 AAAAAAAAAAAAAAAAAAAAAA== AAAA\n",
		"short salt":          protectedHeader + "\n600000 AAAA AAAA\n",
		"no envelope":         protectedHeader + "\n600000 AAAAAAAAAAAAAAAAAAAAAA== AAAA\n",
	} {
		t.Run(name, func(t *testing.T) {
			pass := seal.Secret{}
			if strings.HasPrefix(text, protectedHeader) {
				pass = secret(passphrase)
			}
			if keys, err := Parse([]byte(text), pass); err == nil {
				t.Errorf("Parse = %v", keys)
			}
		})
	}
	for n := range good {
		if _, err := Parse([]byte(good[:n]), seal.Secret{}); err == nil {
			t.Errorf("the first %d bytes parse", n)
		}
	}
}

func TestCloseDestroysTheKeys(t *testing.T) {
	k := mustNewKey(t)
	l := mustLocal(t, k)
	if err := l.Close(); err != nil || k.Secret.Len() != 0 {
		t.Errorf("Close() = %v, %d bytes left", err, k.Secret.Len())
	}
	if _, err := l.Wrap(context.Background(), signing, mustNewKey(t).Secret); err == nil {
		t.Error("a closed provider wraps")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(plainHeader + "\nk1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	f.Add([]byte(protectedHeader + "\n600000 AAAAAAAAAAAAAAAAAAAAAA== AAAA\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := Parse(text, seal.Secret{})
		if err != nil {
			return
		}
		again, err := encode(keys, rand.Reader, lock{})
		if err != nil || !bytes.Equal(again, text) {
			t.Errorf("Parse(%q) writes back as %q, %v", text, again, err)
		}
	})
}

func TestDroppedKeysOpenNothing(t *testing.T) {
	ctx, none := context.Background(), seal.Secret{}
	file := keyFile(t, none)
	read := func() *Local {
		t.Helper()
		l, err := ReadFile(file, rand.Reader, none)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	sealUnder := func(l *Local) []byte {
		t.Helper()
		sealed, err := Seal(ctx, l, rand.Reader, signing, []byte("private key"))
		if err != nil {
			t.Fatal(err)
		}
		if id, err := WrappedUnder(sealed); err != nil || id != l.KeyIDs()[0] {
			t.Errorf("WrappedUnder = %q, %v, want %q", id, err, l.KeyIDs()[0])
		}
		return sealed
	}
	old := sealUnder(read())
	if err := AddKey(file, rand.Reader, none); err != nil {
		t.Fatal(err)
	}
	both := read()
	recent := sealUnder(both)
	if err := DropOldKeys(file, rand.Reader, none); err != nil {
		t.Fatal(err)
	}
	left := read()
	if ids := left.KeyIDs(); len(ids) != 1 || ids[0] != both.KeyIDs()[0] {
		t.Errorf("keys left: %v, want the newest of %v", ids, both.KeyIDs())
	}
	if _, err := Open(ctx, left, signing, recent); err != nil {
		t.Errorf("under the newest key: %v", err)
	}
	if _, err := Open(ctx, left, signing, old); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("under a dropped key: %v, want %v", err, ErrUnknownKey)
	}
	for _, sealed := range [][]byte{nil, []byte("text")} {
		if id, err := WrappedUnder(sealed); !errors.Is(err, seal.ErrFormat) || id != "" {
			t.Errorf("WrappedUnder(%q) = %q, %v", sealed, id, err)
		}
	}
}
