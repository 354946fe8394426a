package ekca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
)

func TestIdentityIsWhatWasIssued(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	tpm := newEngine(t)
	made := mustManufacture(t, tpm, ca, all())
	id, err := ReadIdentity(context.Background(), scratch(t, tpm), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if id.Device.Manufacturer != "id:58595A20" || id.Device.Model != "SW Assay" || !cmp.Equal(id.Chain, []string{string(encodePEM(ca.issuing.cert.Raw))}) {
		t.Errorf("device %+v, chain %q", id.Device, id.Chain)
	}
	if block, _ := pem.Decode([]byte(id.Platform)); block == nil || block.Type != "ATTRIBUTE CERTIFICATE" || !bytes.Equal(block.Bytes, made.Platform) || !id.PlatformMatches {
		t.Errorf("platform certificate %q matches: %v", id.Platform, id.PlatformMatches)
	}
	byKind := map[Kind]IdentityKey{}
	for _, k := range id.Keys {
		byKind[k.Kind] = k
	}
	for _, want := range made.Keys {
		got := byKind[want.Kind]
		name, _ := want.Public.Name()
		public, err := tpm2.ParsePublic(got.Public)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := public.Name()
		if !bytes.Equal(again, name) || got.Name != hex.EncodeToString(name) || !got.Persistent || !got.Matches || got.Problem != "" ||
			got.Certificate != string(encodePEM(want.Certificate)) || got.Issuer != "CN=Test vTPM" {
			t.Errorf("%s: %+v", want.Kind, got)
		}
		block, _ := pem.Decode([]byte(got.PublicKey))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil || !sameKey(key, mustParse(t, want.Certificate).PublicKey) {
			t.Errorf("%s: public key %v, %v", want.Kind, key, err)
		}
	}
}

func TestIdentityShowsTheKeysOfTheSeed(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	tpm := newEngine(t)
	made := mustManufacture(t, tpm, ca, Options{Keys: []Kind{P256}})
	swapKey(t, tpm, made.Keys[0].Handle)
	id, err := ReadIdentity(context.Background(), scratch(t, tpm), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := made.Keys[0].Public.Name()
	if k := id.Keys[0]; k.Name != hex.EncodeToString(name) || k.Persistent || !k.Matches {
		t.Errorf("key %+v", k)
	}
}

func TestIdentityNamesWhatDoesNotBelong(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	other := mustManufacture(t, newEngine(t), ca, Options{Keys: []Kind{P256}, Platform: testPlatform()})
	for name, tc := range map[string]struct {
		put  map[tpm2.Handle][]byte
		says string
	}{
		"another's certificate": {map[tpm2.Handle][]byte{0x01c0000a: other.Keys[0].Certificate}, "another key"},
		"no certificate":        {map[tpm2.Handle][]byte{0x01c0000a: []byte("hello")}, "no certificate"},
		"an authority's":        {map[tpm2.Handle][]byte{0x01c0000a: ca.root.Raw}, "another key"},
		"another's platform":    {map[tpm2.Handle][]byte{indexPlatform: other.Platform}, ""},
		"no chain":              {map[tpm2.Handle][]byte{indexChain: []byte("hello")}, ""},
	} {
		tpm := newEngine(t)
		mustManufacture(t, tpm, ca, Options{Keys: []Kind{P256}, Platform: testPlatform()})
		m := restart(t, tpm)
		for index, content := range tc.put {
			if err := m.writeIndex(index, content); err != nil {
				t.Fatal(err)
			}
		}
		id, err := ReadIdentity(context.Background(), scratch(t, tpm), rand.Reader)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if k := id.Keys[0]; k.Matches != (tc.says == "") || !strings.Contains(k.Problem, tc.says) || tc.says == "" && k.Problem != "" {
			t.Errorf("%s: matches %v, problem %q", name, k.Matches, k.Problem)
		}
		if name == "another's platform" && id.PlatformMatches || name == "no chain" && len(id.Chain) != 0 {
			t.Errorf("%s: %v, %q", name, id.PlatformMatches, id.Chain)
		}
	}
}

func TestIdentityOfATPMWithoutAny(t *testing.T) {
	tpm := newEngine(t)
	id, err := ReadIdentity(context.Background(), scratch(t, tpm), rand.Reader)
	if err != nil || len(id.Keys) != 0 || id.Keys == nil || id.Chain == nil {
		t.Errorf("%+v, %v", id, err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ReadIdentity(ended, scratch(t, tpm), rand.Reader); err == nil {
		t.Error("an ended context reads on")
	}
}
