package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyAt makes a key that signs from one hour to another of the test's day.
func keyAt(tb testing.TB, id string, from, until int) *Key {
	tb.Helper()
	k, err := NewKey(newP256(tb), KeyConfig{
		ID: id, Rand: rand.Reader, NotBefore: noon.Add(time.Duration(from) * time.Hour), NotAfter: noon.Add(time.Duration(until) * time.Hour),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func TestRotationOverlaps(t *testing.T) {
	a, b := keyAt(t, "a", 0, 24), keyAt(t, "b", 20, 44)
	set, err := NewKeySet(9*time.Hour, b, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		hour      float64
		signs     string
		published string
	}{
		{-1, "", "b a"},
		{0, "a", "b a"},
		{19.99, "a", "b a"},
		{20, "b", "b a"},
		{24, "b", "b a"},
		{32.99, "b", "b a"},
		{33, "b", "b"},
		{43.99, "b", "b"},
		{44, "", "b"},
		{52.99, "", "b"},
		{53, "", ""},
	} {
		at := noon.Add(time.Duration(tc.hour * float64(time.Hour)))
		key, err := set.Signing(ES256, at)
		switch {
		case tc.signs == "" && !errors.Is(err, ErrNoKey):
			t.Errorf("hour %v: %v, want ErrNoKey", tc.hour, err)
		case tc.signs != "" && (err != nil || key.ID() != tc.signs):
			t.Errorf("hour %v: %v signs, want %s", tc.hour, key, tc.signs)
		}
		var ids []string
		for _, k := range set.Published(at) {
			ids = append(ids, k.ID)
			if k.own != nil {
				t.Error("what is published holds the private key's check")
			}
		}
		if got := strings.Join(ids, " "); got != tc.published {
			t.Errorf("hour %v: %q published, want %q", tc.hour, got, tc.published)
		}
	}
	var changes []float64
	for at, ok := set.NextChange(noon.Add(-time.Hour)); ok; at, ok = set.NextChange(at) {
		changes = append(changes, at.Sub(noon).Hours())
	}
	if diff := cmp.Diff([]float64{0, 20, 24, 33, 44, 53}, changes); diff != "" {
		t.Error(diff)
	}
	if _, err := set.Signing(RS256, noon); !errors.Is(err, ErrNoKey) {
		t.Errorf("RS256: %v", err)
	}
}

// A token verifies, with the keys as published then, until it expires: across the
// end of its key and the beginning of the next.
func TestATokenOutlivesItsKeysTurn(t *testing.T) {
	set, err := NewKeySet(9*time.Hour, keyAt(t, "a", -1, 1), keyAt(t, "b", 0, 48))
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIssuer(IssuerConfig{URL: issuerURL, Rand: rand.Reader}, set)
	if err != nil {
		t.Fatal(err)
	}
	before := noon.Add(-time.Minute)
	token, err := i.Issue(before, ProfileAssay, goodResult())
	if err != nil || token.KeyID != "a" {
		t.Fatalf("signed by %q, %v", token.KeyID, err)
	}
	for at := before; at.Before(token.Expires); at = at.Add(10 * time.Minute) {
		jwks, err := set.JWKS(at)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := ParseKeys(issuerURL, jwks)
		if err != nil {
			t.Fatal(err)
		}
		cfg := goodConfig()
		cfg.MaxAge = 0
		if _, err := mustVerifier(t, cfg, keys).Verify(context.Background(), token.Raw, at); err != nil {
			t.Fatalf("%v after issue: %v", at.Sub(before), err)
		}
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	a := keyAt(t, "a", 0, 1)
	for name, err := range map[string]error{
		"no retention": func() error { _, err := NewKeySet(0, a); return err }(),
		"one id twice": func() error { _, err := NewKeySet(time.Hour, a, keyAt(t, "a", 0, 1)); return err }(),
		"a nil key":    func() error { _, err := NewKeySet(time.Hour, nil); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	good := KeyConfig{NotBefore: noon, NotAfter: noon.Add(time.Hour), Rand: rand.Reader}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mixed := newP256(t)
	mixed.PublicKey = newP256(t).PublicKey
	with := func(change func(*KeyConfig)) KeyConfig { c := good; change(&c); return c }
	key := newP256(t)
	for name, tc := range map[string]struct {
		signer crypto.Signer
		cfg    KeyConfig
	}{
		"nil":                      {nil, good},
		"no random source":         {key, with(func(c *KeyConfig) { c.Rand = nil })},
		"another curve":            {p384, good},
		"another type":             {edwards, good},
		"another's public key":     {mixed, good},
		"ends before it begins":    {key, with(func(c *KeyConfig) { c.NotAfter = noon })},
		"no time":                  {key, KeyConfig{Rand: rand.Reader}},
		"another's certificate":    {key, with(func(c *KeyConfig) { c.Certificates = [][]byte{selfSigned(t, rsaKey())} })},
		"no certificate":           {key, with(func(c *KeyConfig) { c.Certificates = [][]byte{{1}} })},
		"too many certificates":    {key, with(func(c *KeyConfig) { c.Certificates = make([][]byte, maxChain+1) })},
		"long id":                  {key, with(func(c *KeyConfig) { c.ID = strings.Repeat("x", maxName+1) })},
		"a device that signs junk": {faulty{key, &[]int{1}[0]}, good},
		"a device that signs RSA":  {liar{rsaKey(), key.Public()}, good},
	} {
		if _, err := NewKey(tc.signer, tc.cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewKey(key, good); err != nil {
		t.Error(err)
	}
}

// liar says that it has another key.
type liar struct {
	crypto.Signer
	public crypto.PublicKey
}

func (l liar) Public() crypto.PublicKey { return l.public }

func TestGenerateMakesUsableKeys(t *testing.T) {
	for _, alg := range []Alg{ES256, RS256} {
		signer, err := Generate(rand.Reader, alg)
		if err != nil {
			t.Fatal(err)
		}
		if k := mustKey(t, signer, ""); k.Alg() != alg || k.ID() == "" {
			t.Errorf("%s: key %q for %s", alg, k.ID(), k.Alg())
		}
	}
	if _, err := Generate(rand.Reader, "none"); err == nil {
		t.Error("a key for none is made")
	}
}

func TestJWKSHasWhatGenericAndAzureClientsRead(t *testing.T) {
	ec, rs := bothKeys(t)
	text, err := mustIssuer(t, ec, rs).Keys().JWKS(noon)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		want := map[string]string{"EC": "ES256", "RSA": "RS256"}[k["kty"].(string)]
		if k["use"] != "sig" || k["alg"] != want || k["kid"] == "" || k["d"] != nil {
			t.Errorf("key is %v", k)
		}
		if k["kty"] == "RSA" {
			der, err := base64.StdEncoding.DecodeString(k["x5c"].([]any)[0].(string))
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil || !rsaKey().PublicKey.Equal(cert.PublicKey) {
				t.Errorf("x5c: %v", err)
			}
			if kid, _ := AzureKeyID(cert.PublicKey); kid != k["kid"] {
				t.Errorf("kid is %v, want %s", k["kid"], kid)
			}
		}
	}
	if len(set.Keys) != 2 {
		t.Errorf("%d keys", len(set.Keys))
	}
	if _, err := MarshalKeys([]PublicKey{{ID: "x", Key: rsaKey()}}); err == nil {
		t.Error("a private key is published")
	}
}

// The key ids of real Azure keys follow from the keys.
func TestAzureKeyIDIsThatOfRealKeys(t *testing.T) {
	for _, file := range []string{"shareduks-2020.sgx-signing-cert.cer", "gnkuks001-2020.sgx-signing-cert.cer"} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		// One file has a piece of the key set that it was cut from at its end.
		body, _, _ := strings.Cut(string(text), `"`)
		der, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if kid, err := AzureKeyID(cert.PublicKey); err != nil || kid != "KQFAHrk1xALKHBD4b4u7TCvCJ1Mw0MlYZe+rxdePOtg=" {
			t.Errorf("%s: %s, %v", file, kid, err)
		}
	}
}

func TestRealAzureKeySetIsRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "uksouth-2020.certs.json"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys(issuerURL, text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range keys.All() {
		if k.Alg != RS256 || len(k.Certificates) != 3 {
			t.Errorf("key %q: %s, %d certificates", k.ID, k.Alg, len(k.Certificates))
		}
		got = append(got, k.ID)
	}
	// The instance's own key has 1024 bits and is passed over.
	want := []string{"ZQzLfoNwhBNCu9r8Fucjn6H4Cdw", "uE9RP97P4k_IaNCi2p_N6ZWZp0s", "wcGHi-SJDOR0XXghydRma0GQQXs", "m6-lSqJc6zdzfpwYs_1EHdf-1Gg"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// jwk writes a key with some members replaced, or dropped where nil.
func jwk(tb testing.TB, k PublicKey, change map[string]any) map[string]any {
	tb.Helper()
	raw, err := marshalKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		tb.Fatal(err)
	}
	for name, v := range change {
		if v == nil {
			delete(out, name)
			continue
		}
		out[name] = v
	}
	return out
}

func jwks(tb testing.TB, keys ...map[string]any) []byte {
	tb.Helper()
	out, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestKeysThatCannotBeUsedSafelyArePassedOver(t *testing.T) {
	ec := PublicKey{ID: "k", Alg: ES256, Key: newP256(t).Public()}
	rs := PublicKey{ID: "k", Alg: RS256, Key: rsaKey().Public(), Certificates: [][]byte{selfSigned(t, rsaKey())}}
	small := PublicKey{ID: "k", Alg: RS256, Key: smallRSA(t)}
	other := base64.StdEncoding.EncodeToString(selfSigned(t, newP256(t)))
	for name, tc := range map[string]struct {
		key  map[string]any
		kept bool
	}{
		"EC":                       {jwk(t, ec, nil), true},
		"RSA":                      {jwk(t, rs, nil), true},
		"EC without alg and use":   {jwk(t, ec, map[string]any{"alg": nil, "use": nil}), true},
		"RSA by certificate alone": {jwk(t, rs, map[string]any{"n": nil, "e": nil, "alg": nil, "use": nil}), true},
		"to verify":                {jwk(t, ec, map[string]any{"key_ops": []string{"verify"}}), true},
		"for encryption":           {jwk(t, ec, map[string]any{"use": "enc"}), false},
		"to sign only":             {jwk(t, ec, map[string]any{"key_ops": []string{"sign"}}), false},
		"key_ops a text":           {jwk(t, ec, map[string]any{"key_ops": "verify"}), false},
		"for another algorithm":    {jwk(t, ec, map[string]any{"alg": "RS256"}), false},
		"for an HMAC":              {jwk(t, ec, map[string]any{"alg": "HS256"}), false},
		"RSA for PS256":            {jwk(t, rs, map[string]any{"alg": "PS256"}), false},
		"no kid":                   {jwk(t, ec, map[string]any{"kid": nil}), false},
		"empty kid":                {jwk(t, ec, map[string]any{"kid": ""}), false},
		"kid a number":             {jwk(t, ec, map[string]any{"kid": 1}), false},
		"not on the curve":         {jwk(t, ec, map[string]any{"x": jwk(t, ec, nil)["y"]}), false},
		"another curve":            {jwk(t, ec, map[string]any{"crv": "P-384"}), false},
		"another's certificate":    {jwk(t, rs, map[string]any{"x5c": []string{other}}), false},
		"no certificate":           {jwk(t, rs, map[string]any{"x5c": []string{"AAAA"}}), false},
		"x5c a text":               {jwk(t, rs, map[string]any{"x5c": other}), false},
		"x5c of numbers":           {jwk(t, rs, map[string]any{"x5c": []int{1}}), false},
		"too many certificates":    {jwk(t, rs, map[string]any{"x5c": make([]string, maxChain+1)}), false},
		"certificate, other kty":   {jwk(t, rs, map[string]any{"n": nil, "e": nil, "kty": "EC"}), false},
		"nothing":                  {map[string]any{"kid": "k", "kty": "RSA"}, false},
		"unknown kty":              {map[string]any{"kid": "k", "kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, false},
		"RSA of 1024 bits":         {jwk(t, small, nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			good := jwk(t, ec, map[string]any{"kid": "good"})
			keys, err := ParseKeys(issuerURL, jwks(t, tc.key, good))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Key(context.Background(), "good", noon); err != nil {
				t.Errorf("the other key: %v", err)
			}
			if _, err := keys.Key(context.Background(), "k", noon); (err == nil) != tc.kept {
				t.Errorf("Key = %v, want kept %v", err, tc.kept)
			}
		})
	}
}

func smallRSA(tb testing.TB) *rsa.PublicKey {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		tb.Fatal(err)
	}
	return &key.PublicKey
}

func TestKeySetsThatCannotBeTrustedAreRefused(t *testing.T) {
	a := PublicKey{ID: "k", Alg: ES256, Key: newP256(t).Public()}
	b := PublicKey{ID: "k", Alg: ES256, Key: newP256(t).Public()}
	many := make([]map[string]any, maxKeys+1)
	for i := range many {
		many[i] = map[string]any{}
	}
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"one kid twice":            {jwks(t, jwk(t, a, nil), jwk(t, b, nil)), "keyset.duplicate-kid"},
		"one kid, one for secrecy": {jwks(t, jwk(t, a, nil), jwk(t, b, map[string]any{"use": "enc"})), "keyset.duplicate-kid"},
		"a private key":            {jwks(t, jwk(t, a, map[string]any{"d": "AAAA"})), "keyset.private-key"},
		"a symmetric key":          {jwks(t, map[string]any{"kty": "oct", "k": "AAAA", "kid": "k"}), "keyset.private-key"},
		"too many keys":            {jwks(t, many...), "keyset.malformed"},
		"too large":                {[]byte(`{"keys":[]` + strings.Repeat(" ", maxJWKS) + `}`), "keyset.malformed"},
		"no JSON":                  {[]byte("x"), "keyset.malformed"},
		"an array":                 {[]byte("[]"), "keyset.malformed"},
		"no keys":                  {[]byte("{}"), "keyset.malformed"},
		"keys an object":           {[]byte(`{"keys":{}}`), "keyset.malformed"},
		"key a text":               {[]byte(`{"keys":["k"]}`), "keyset.malformed"},
		"keys twice":               {[]byte(`{"keys":[],"keys":[]}`), "keyset.malformed"},
		"kid twice":                {[]byte(`{"keys":[{"kid":"a","kid":"b"}]}`), "keyset.malformed"},
		"empty":                    {[]byte(`{"keys":[]}`), "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseKeys(issuerURL, tc.in); codeOf(err) != tc.want {
				t.Errorf("ParseKeys = %v, want %s", err, tc.want)
			}
		})
	}
	if _, err := ParseKeys("", jwks(t)); err == nil {
		t.Error("keys of nobody are accepted")
	}
}

func FuzzParseKeys(f *testing.F) {
	ec, rs := bothKeys(f)
	good, err := MarshalKeys([]PublicKey{ec.Public(), rs.Public()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"k"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys(issuerURL, data)
		if err != nil {
			return
		}
		list := keys.All()
		text, err := MarshalKeys(list)
		if err != nil {
			t.Fatalf("keys of %q cannot be written: %v", data, err)
		}
		again, err := ParseKeys(issuerURL, text)
		if err != nil || len(again.All()) != len(list) {
			t.Fatalf("%q reads back as %d of %d keys, %v", text, len(again.All()), len(list), err)
		}
		for _, k := range list {
			if alg, err := algOf(k.Key); err != nil || alg != k.Alg {
				t.Errorf("key %q: %s, %v", k.ID, alg, err)
			}
		}
	})
}
