package libtpms

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

func TestStateIsRead(t *testing.T) {
	s := opened(t, sample(t, "suspended.permall"))
	for _, tc := range []struct {
		what      string
		got, want any
	}{
		{"profile", s.Profile, ""},
		{"ownerAuth", string(s.Owner.Auth), "ownerpw"},
		{"lockoutAuth", string(s.Lockout.Auth), "lockpw"},
		{"dictionary", s.Dictionary, Dictionary{MaxTries: 17, RecoveryTime: 100, LockoutRecovery: 200, LockoutEnabled: true}},
		{"suspended", s.Suspended(), true},
		{"resets", s.ResetCount, uint32(1)},
		{"indices", len(s.Indices), 7},
		{"objects", len(s.Objects), 3},
		{"auth of 01500001", string(s.Indices[0].Auth), "nvpw"},
		{"orderly data", string(s.Indices[4].Data), "orderly8"},
		{"banks", len(s.Banks), 4},
		{"seed", len(s.Endorsement.Seed), 64},
		{"proof", len(s.Platform.Proof), 64},
	} {
		if tc.got != tc.want {
			t.Errorf("%s is %v, want %v", tc.what, tc.got, tc.want)
		}
	}
}

func key128(t testing.TB) Key {
	t.Helper()
	k, err := hex.DecodeString("000102030405060708090a0b0c0d0e0f")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func passphrase(t testing.TB, text string) Key {
	t.Helper()
	k, err := PassphraseKey([]byte(text), 256)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEncryptedStateIsRead(t *testing.T) {
	for name, key := range map[string]Key{"pwd256": passphrase(t, "correct horse\n"), "key128": key128(t)} {
		s, err := Open(sample(t, name+".permall"), key)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.Suspended() || string(s.Indices[0].Data) != "0123456789abcdef" {
			t.Errorf("%s: read as %v, %q", name, s.Suspended(), s.Indices[0].Data)
		}
		tpm := imported(t, s)
		_, got := createPrimary(t, tpm, client.Entity{Handle: tpm2.HandleOwner}, template(public(t, name+".pub"), false))
		if want := public(t, name+".pub"); !bytes.Equal(got.Unique.RSA, want.Unique.RSA) {
			t.Errorf("%s: another storage key", name)
		}
	}
}

// Each refusal is for its own reason, and a wrong key is never another state.
func TestWhatIsNoStateIsRefused(t *testing.T) {
	plain, sealed := sample(t, "suspended.permall"), sample(t, "key128.permall")
	altered := func(b []byte, change func([]byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return b
	}
	at := func(i int, v byte) func([]byte) { return func(b []byte) { b[i] = v } }
	for _, tc := range []struct {
		name string
		file []byte
		key  Key
		want error
	}{
		{"empty file", nil, nil, ErrFormat},
		{"newer header", altered(plain, at(1, 3)), nil, ErrVersion},
		{"header of version 0", altered(plain, at(0, 0)), nil, ErrFormat},
		{"other size of header", altered(plain, at(3, 11)), nil, ErrFormat},
		{"cut", plain[:len(plain)-1], nil, ErrFormat},
		{"longer", append(bytes.Clone(plain), 0), nil, ErrFormat},
		{"encrypted by version 1", altered(sealed, at(0, 1)), key128(t), ErrFormat},
		{"no data", altered(plain, at(11, 9)), nil, ErrFormat},
		{"other magic", altered(plain, at(18, 0)), nil, ErrFormat},
		{"newer state", altered(plain, at(23, 5)), nil, ErrVersion},
		{"no key", sealed, nil, ErrKey},
		{"wrong key", sealed, make(Key, 16), ErrKey},
		{"key of another size", sealed, passphrase(t, "x"), ErrKey},
		{"altered ciphertext", altered(sealed, func(b []byte) { b[len(b)/2] ^= 1 }), key128(t), ErrKey},
		{"wrong passphrase", sample(t, "pwd256.permall"), passphrase(t, "correct horse"), ErrKey},
		{"too long", make([]byte, MaxFile+1), nil, ErrFormat},
		{"end of state", altered(plain, func(b []byte) { b[len(b)-1] ^= 1 }), nil, ErrFormat},
	} {
		s, err := Open(tc.file, tc.key)
		if s != nil || !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, %v; want %v", tc.name, s != nil, err, tc.want)
		}
	}
}

// A state that says that it is whole and is not gives no TPM.
func TestEveryCutIsRefused(t *testing.T) {
	file := sample(t, "suspended.permall")
	for n := 16; n < len(file); n++ {
		b := bytes.Clone(file[:n])
		binary.BigEndian.PutUint32(b[6:], uint32(n))
		binary.BigEndian.PutUint32(b[12:], uint32(n-16))
		if _, err := Open(b, nil); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestStateThatDoesNotFitItself(t *testing.T) {
	file := sample(t, "suspended.permall")
	s := opened(t, file)
	for _, tc := range []struct {
		name string
		find []byte
		with byte // put over the last byte of find
	}{
		{"name of an object", s.Objects[0].Name, s.Objects[0].Name[len(s.Objects[0].Name)-1] ^ 1},
		{"public area of an object", s.Objects[0].Public.Unique.ECC.X, 0},
	} {
		b := bytes.Clone(file)
		i := bytes.LastIndex(b, tc.find)
		b[i+len(tc.find)-1] = tc.with
		if _, err := Open(b, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", tc.name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"suspended.permall", "pwd256.permall", "key128.permall", "v4.permall"} {
		f.Add(sample(f, name))
	}
	p := profile(f)
	key := key128(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) >= 16 { // past the checks of length, which stop most inputs
			binary.BigEndian.PutUint32(file[6:], uint32(len(file)))
		}
		s, err := Open(file, key)
		if err != nil {
			return
		}
		// What was read becomes a TPM or an error, and never more than there was.
		from, _ := s.Convert(p)
		if len(from.Indices) > len(s.Indices) || len(from.Objects) > len(s.Objects) {
			t.Error("more is imported than was read")
		}
		if e, err := engineOf(p, from); err == nil {
			e.PowerOn()
		}
	})
}

// The digest is that of sha512sum.
func TestHashedKeyIsTheBeginningOfADigest(t *testing.T) {
	const digest = "6b1c1b5b311741c990f5c4bd514e5b0e4db85beebe5b3c31290904acf643bbe4"
	for _, bits := range []int{128, 256} {
		if got := hex.EncodeToString(HashedKey([]byte("correct horse\n"), bits)); got != digest[:bits/4] {
			t.Errorf("%d bits: %s, want %s", bits, got, digest[:bits/4])
		}
	}
}
