package engine_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// byEK signs requests by an endorsement key; last is what it was given to sign.
type byEK struct {
	tpm      *engine.TPM
	template *tpm2.Public
	key      crypto.PublicKey
	last     []byte
}

func (s *byEK) Public() crypto.PublicKey { return s.key }

func (s *byEK) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no digests")
}

func (s *byEK) SignMessage(_ io.Reader, info []byte, _ crypto.SignerOpts) ([]byte, error) {
	s.last = info
	return s.tpm.SignRequest(s.template, info)
}

func TestEndorsementKeyIsWhatCreatePrimaryMakes(t *testing.T) {
	for _, profile := range []string{"default", "libtpms"} {
		m := manufacture(t, profile)
		m.startup(tpm2.StartupClear)
		for _, e := range tpm2.EKTemplates() {
			if e.Name == "H-6" {
				continue // RSA-3072: slow, and no different
			}
			got, err := m.tpm.EndorsementKey(&e.Public)
			if err != nil {
				t.Fatalf("%s, %s: %v", profile, e.Name, err)
			}
			h := m.primary(tpm2.HandleEndorsement, e.Public, "")
			name, err := got.Name()
			if err != nil || !cmp.Equal(name, m.name(h)) {
				t.Errorf("%s, %s: Name is %x, %v, CreatePrimary gives %x", profile, e.Name, name, err, m.name(h))
			}
			m.flush(h)
		}
	}
}

func TestEndorsementKeySignsItsOwnRequestOnly(t *testing.T) {
	m := manufacture(t, "default")
	templates := map[string]*tpm2.Public{}
	for _, e := range tpm2.EKTemplates() {
		templates[e.Name] = &e.Public
	}
	var requests [][]byte
	for _, name := range []string{"L-1", "L-2", "H-3", "H-4"} {
		public, err := m.tpm.EndorsementKey(templates[name])
		if err != nil {
			t.Fatal(err)
		}
		key, err := public.Key()
		if err != nil {
			t.Fatal(err)
		}
		s := &byEK{tpm: m.tpm, template: templates[name], key: key}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "web-1"}}, s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r, err := x509.ParseCertificateRequest(der)
		if err != nil || r.CheckSignature() != nil {
			t.Errorf("%s: request does not verify: %v, %v", name, err, r.CheckSignature())
		}
		requests = append(requests, s.last)
	}
	digest := sha256.Sum256([]byte("pay"))
	for name, info := range map[string][]byte{
		"another key's": requests[1], "nothing": nil, "a digest": digest[:],
		"with a byte more":    append(append([]byte{}, requests[0]...), 0),
		"cut short":           requests[0][:len(requests[0])-1],
		"of another version":  withElement(t, requests[0], 0, []byte{2, 1, 1}),
		"with another key":    withElement(t, requests[0], 2, element(t, requests[1], 2)),
		"without attributes":  withElement(t, requests[0], 3, nil),
		"with more than that": withElement(t, requests[0], 3, []byte{0xa0, 0, 5, 0}),
		"a certificate":       {0x30, 3, 0x02, 1, 0},
	} {
		if sig, err := m.tpm.SignRequest(templates["L-1"], info); !errors.Is(err, engine.ErrRequest) || sig != nil {
			t.Errorf("%s: %x, %v, want ErrRequest", name, sig, err)
		}
	}
	signing := *templates["L-2"]
	signing.Attributes |= tpm2.AttrSign
	storage := eccTemplate(fixed | ordinary | storageUse)
	for name, template := range map[string]*tpm2.Public{"also signs": &signing, "no TPM of its own": {Type: tpm2.AlgECC}, "no origin": keyless(storage)} {
		if _, err := m.tpm.SignRequest(template, requests[1]); err == nil || errors.Is(err, engine.ErrRequest) {
			t.Errorf("template that %s: %v", name, err)
		}
	}
	if _, err := m.tpm.EndorsementKey(&tpm2.Public{Type: tpm2.AlgKeyedHash}); err == nil {
		t.Error("a keyed hash object is an endorsement key")
	}
}

func keyless(p tpm2.Public) *tpm2.Public {
	p.Attributes &^= tpm2.AttrSensitiveDataOrigin
	return &p
}

// elements splits the content of a sequence.
func elements(t *testing.T, der []byte) [][]byte {
	t.Helper()
	var seq asn1.RawValue
	if _, err := asn1.Unmarshal(der, &seq); err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for rest := seq.Bytes; len(rest) > 0; {
		var e asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e.FullBytes)
	}
	return out
}

func element(t *testing.T, der []byte, n int) []byte { t.Helper(); return elements(t, der)[n] }

// withElement puts another element into a sequence.
func withElement(t *testing.T, der []byte, n int, with []byte) []byte {
	t.Helper()
	list := elements(t, der)
	list[n] = with
	var content []byte
	for _, e := range list {
		content = append(content, e...)
	}
	out, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
