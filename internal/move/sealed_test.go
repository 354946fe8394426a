package move

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"github.com/assay-project/assay/internal/seal"
)

func testKey(t testing.TB) seal.Key {
	t.Helper()
	secret, err := seal.Random(rand.Reader, seal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	return seal.Key{ID: "test", Secret: secret}
}

func testContext(name string) seal.Context { return seal.Context{Purpose: "memory", Name: name} }

// sealed is a text as a Writer writes it, in writes of some length.
func sealed(t testing.TB, key seal.Key, text []byte, step int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, rand.Reader, key, testContext("a"))
	for rest := text; len(rest) > 0; {
		n := min(step, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAStreamComesBackWhole(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	for _, size := range []int{0, 1, partSize - 1, partSize, partSize + 1, 2*partSize + 7} {
		text := make([]byte, size)
		rand.Read(text) //nolint:errcheck // never fails
		got, err := io.ReadAll(NewReader(bytes.NewReader(sealed(t, key, text, 300_001)), key, testContext("a")))
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes come back as %d, %v", size, len(got), err)
		}
	}
}

func TestAStreamThatIsCutOrAlteredIsRefused(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	text := bytes.Repeat([]byte("memory"), partSize/3) // two parts
	whole := sealed(t, key, text, partSize)
	first := 5 + int(uint32(whole[0])<<24|uint32(whole[1])<<16|uint32(whole[2])<<8|uint32(whole[3]))
	read := func(b []byte, k seal.Key, name string) ([]byte, error) {
		return io.ReadAll(NewReader(bytes.NewReader(b), k, testContext(name)))
	}
	for _, n := range []int{0, 1, 4, 5, 100, first - 1, first, first + 1, first + 5, len(whole) - 1} {
		if got, err := read(whole[:n], key, "a"); !errors.Is(err, ErrStream) || len(got) > len(text) {
			t.Errorf("the first %d of %d bytes: %d bytes, %v", n, len(whole), len(got), err)
		}
	}
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	for what, b := range map[string][]byte{
		"a byte more":               append(bytes.Clone(whole), 0),
		"the parts swapped":         append(bytes.Clone(whole[first:]), whole[:first]...),
		"a part twice":              append(bytes.Clone(whole[:first]), whole...),
		"the last part as the only": whole[first:],
		"the first called the last": flip(4),
		"the last not called so":    flip(first + 4),
		"a length too great":        append([]byte{0xff, 0, 0, 0, 0}, whole...),
		"a bit of a text":           flip(first / 2),
	} {
		if _, err := read(b, key, "a"); !errors.Is(err, ErrStream) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := read(whole, testKey(t), "a"); !errors.Is(err, ErrStream) {
		t.Errorf("another key: %v", err)
	}
	if _, err := read(whole, key, "b"); !errors.Is(err, ErrStream) {
		t.Errorf("another name: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	key := testKey(f)
	f.Add(sealed(f, key, []byte("text"), 4))
	f.Add([]byte{0, 0, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := io.ReadAll(NewReader(bytes.NewReader(b), key, testContext("a")))
		if err == nil && string(text) != "text" {
			t.Errorf("%x is read as %q", b, text)
		}
	})
}
