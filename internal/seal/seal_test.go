package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

var update = flag.Bool("update", false, "write golden files anew")

// pattern is a random source that repeats: tests need the same bytes each time.
type pattern struct{ next byte }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = p.next
		p.next++
	}
	return len(b), nil
}

func testKey(fill byte) Key {
	return Key{ID: "k1", Secret: NewSecret(bytes.Repeat([]byte{fill}, KeySize))}
}

var testContext = Context{Purpose: "token signing key", Name: "k-2026"}

const plain = "the quick brown fox"

func mustSeal(tb testing.TB, key Key, c Context) []byte {
	tb.Helper()
	sealed, err := Seal(&pattern{}, key, c, []byte(plain))
	if err != nil {
		tb.Fatal(err)
	}
	return sealed
}

func open(sealed []byte, key Key, c Context) (Secret, error) {
	e, err := Parse(sealed)
	if err != nil {
		return Secret{}, err
	}
	return e.Open(key, c)
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	key := testKey(7)
	key.Wrapped = []byte("wrapped form")
	sealed := mustSeal(t, key, testContext)
	e, err := Parse(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if e.KeyID() != "k1" || string(e.Wrapped()) != "wrapped form" {
		t.Errorf("KeyID() = %q, Wrapped() = %q", e.KeyID(), e.Wrapped())
	}
	got, err := e.Open(key, testContext)
	if err != nil || string(got.Expose()) != plain {
		t.Errorf("Open() = %q, %v, want %q", got.Expose(), err, plain)
	}
	if bytes.Contains(sealed, []byte(plain)) || bytes.Contains(sealed, key.Secret.Expose()) {
		t.Error("the envelope shows its text or key")
	}
}

func TestOpenRefusesAnotherKeyOrContext(t *testing.T) {
	sealed := mustSeal(t, testKey(7), testContext)
	for name, tc := range map[string]struct {
		key Key
		c   Context
	}{
		"other key":        {testKey(8), testContext},
		"other purpose":    {testKey(7), Context{"challenge key", "k-2026"}},
		"other name":       {testKey(7), Context{"token signing key", "k-2027"}},
		"shifted boundary": {testKey(7), Context{"token signing keyk", "-2026"}},
		"no context":       {testKey(7), Context{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := open(sealed, tc.key, tc.c); !errors.Is(err, ErrOpen) || got.Len() != 0 {
				t.Errorf("Open() = %d bytes, %v, want ErrOpen", got.Len(), err)
			}
		})
	}
}

func TestEveryAlteredBitIsRefused(t *testing.T) {
	key := testKey(7)
	key.Wrapped = []byte("wrapped form")
	sealed := mustSeal(t, key, testContext)
	for i := range 8 * len(sealed) {
		altered := bytes.Clone(sealed)
		altered[i/8] ^= 1 << (i % 8)
		if _, err := open(altered, key, testContext); err == nil {
			t.Errorf("bit %d altered: opens", i)
		}
	}
}

func TestEveryPrefixAndLongerTextIsRefused(t *testing.T) {
	sealed := mustSeal(t, testKey(7), testContext)
	for n := range sealed {
		if _, err := open(sealed[:n], testKey(7), testContext); err == nil {
			t.Errorf("the first %d of %d bytes open", n, len(sealed))
		}
	}
	if _, err := open(append(sealed, 0), testKey(7), testContext); !errors.Is(err, ErrOpen) {
		t.Errorf("one byte more: %v, want ErrOpen", err)
	}
}

func TestVersionsDecideWhatCanBeRead(t *testing.T) {
	sealed := mustSeal(t, testKey(7), testContext)
	for name, tc := range map[string]struct {
		version, oldest byte
		want            error
	}{
		"this version":               {1, 1, nil},
		"newer, readable by us":      {2, 1, ErrOpen}, // parses; altered here, so it does not open
		"newer, not readable":        {2, 2, ErrVersion},
		"version 0":                  {0, 1, ErrFormat},
		"oldest 0":                   {1, 0, ErrFormat},
		"oldest newer than itself":   {1, 2, ErrVersion},
		"newest that can be written": {255, 255, ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			altered := bytes.Clone(sealed)
			altered[len(magic)+1], altered[len(magic)+3] = tc.version, tc.oldest
			if _, err := open(altered, testKey(7), testContext); !errors.Is(err, tc.want) {
				t.Errorf("version %d, oldest %d: %v, want %v", tc.version, tc.oldest, err, tc.want)
			}
		})
	}
}

// golden is one file of every version ever written, under one key.
func TestEveryVersionEverWrittenStillOpens(t *testing.T) {
	name := filepath.Join("testdata", "envelope-v1.bin")
	if *update {
		if err := os.WriteFile(name, mustSeal(t, testKey(7), testContext), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(sealed, testKey(7), testContext)
	if err != nil || string(got.Expose()) != plain {
		t.Errorf("%s: %q, %v", name, got.Expose(), err)
	}
	// The same input still gives the same bytes: the format has not drifted.
	if again := mustSeal(t, testKey(7), testContext); !bytes.Equal(again, sealed) {
		t.Errorf("Seal = %x, want %x", again, sealed)
	}
}

func TestSealRefusesWhatItCannotKeep(t *testing.T) {
	long := testKey(7)
	long.ID = strings.Repeat("x", maxKeyID+1)
	wrapped := testKey(7)
	wrapped.Wrapped = make([]byte, maxWrapped+1)
	for name, key := range map[string]Key{
		"zero key":     {},
		"short key":    {Secret: NewSecret(make([]byte, 16))},
		"long id":      long,
		"long wrapped": wrapped,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Seal(&pattern{}, key, testContext, nil); err == nil {
				t.Error("sealed")
			}
			if _, err := new(Envelope).Open(key, testContext); err == nil {
				t.Error("opened")
			}
		})
	}
	if _, err := Seal(&pattern{}, testKey(7), testContext, make([]byte, MaxPlaintext+1)); err == nil {
		t.Error("more than the most is sealed")
	}
	if _, err := Seal(iotest.ErrReader(errors.New("no entropy")), testKey(7), testContext, nil); err == nil {
		t.Error("sealed without randomness")
	}
}

func TestEnvelopesOfOneTextDiffer(t *testing.T) {
	random := &pattern{}
	a, errA := Seal(random, testKey(7), testContext, []byte(plain))
	b, errB := Seal(random, testKey(7), testContext, []byte(plain))
	if errA != nil || errB != nil || bytes.Equal(a[len(a)-tagSize-len(plain):], b[len(b)-tagSize-len(plain):]) {
		t.Errorf("ciphertexts are equal (%v, %v)", errA, errB)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	const hidden = "hunter2hunter2"
	s := NewSecret([]byte(hidden))
	type inner struct{ key Secret }
	type outer struct {
		Key  Secret
		Ptr  *Secret
		priv inner
	}
	values := []any{s, &s, []Secret{s}, map[string]Secret{"k": s}, inner{s}, outer{s, &s, inner{s}}, &outer{s, &s, inner{s}}}
	for verb := range strings.FieldsSeq("%v %+v %#v %s %q %x %X %d %o %b %c %U %t %p %e %g %10s %-20v %-x %#x") {
		for _, v := range values {
			got := fmt.Sprintf(verb, v)
			for _, form := range []string{hidden, hex.EncodeToString([]byte(hidden)), base64.StdEncoding.EncodeToString([]byte(hidden)), "104 117 110", "68 75 6e", "0x68, 0x75"} {
				if strings.Contains(strings.ToLower(got), strings.ToLower(form)) {
					t.Errorf("Sprintf(%q, %T) = %s", verb, v, got)
				}
			}
		}
		if got := fmt.Sprintf(verb, s); got != shown && verb != "%p" && !strings.HasPrefix(got, "%!") {
			t.Errorf("Sprintf(%q) = %q, want %q", verb, got, shown)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", s, "in", outer{s, &s, inner{s}})
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", s, "in", outer{s, &s, inner{s}})
	fmt.Fprintln(&log, s, s.String(), s.GoString())
	if strings.Contains(log.String(), hidden) {
		t.Errorf("logged: %s", log.String())
	}
}

func TestSecretIsNotMarshalled(t *testing.T) {
	s := NewSecret([]byte("hunter2"))
	for _, v := range []any{s, &s, struct{ Key Secret }{s}, map[string]any{"k": s}} {
		if out, err := json.Marshal(v); !errors.Is(err, ErrSecret) {
			t.Errorf("json.Marshal(%T) = %s, %v, want ErrSecret", v, out, err)
		}
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(v); err == nil {
			t.Errorf("gob encodes a %T: %x", v, buf.Bytes())
		}
	}
	if _, err := s.MarshalYAML(); !errors.Is(err, ErrSecret) {
		t.Errorf("MarshalYAML() = %v", err)
	}
}

func TestSecretsCompareAndDie(t *testing.T) {
	b := []byte("hunter2")
	s := NewSecret(b)
	dup, alias, other := s.Clone(), s, NewSecret([]byte("hunter3"))
	if !s.Equal(dup) || !s.Equal(alias) || s.Equal(other) || s.Equal(Secret{}) || (Secret{}).Equal(Secret{}) {
		t.Error("Equal is wrong")
	}
	s.Destroy()
	if alias.Len() != 0 || !bytes.Equal(b, make([]byte, 7)) || s.Equal(alias) {
		t.Errorf("after Destroy: %d bytes, memory %x", alias.Len(), b)
	}
	if dup.Len() != 7 {
		t.Error("Destroy reached a clone")
	}
	(Secret{}).Destroy()
	if _, err := Random(strings.NewReader("short"), 32); err == nil {
		t.Error("Random made a secret of too few bytes")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mustSeal(f, testKey(7), testContext))
	key := testKey(7)
	key.Wrapped = []byte("wrapped")
	f.Add(mustSeal(f, key, testContext))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrVersion) {
				t.Errorf("Parse(%x): %v is neither ErrFormat nor ErrVersion", data, err)
			}
			return
		}
		if got := append(bytes.Clone(e.head), e.ciphertext...); !bytes.Equal(got, data) {
			t.Errorf("Parse(%x) holds %x", data, got)
		}
		if _, err := e.Open(testKey(9), testContext); err == nil {
			t.Error("opens under a key that sealed nothing")
		}
	})
}
