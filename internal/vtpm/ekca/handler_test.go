package ekca

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhatCertificatesPointAtIsServed(t *testing.T) {
	a := newAuthority(t, served())
	got := mustManufacture(t, newEngine(t), a, Options{Keys: []Kind{P256}})
	s := httptest.NewServer(a.Handler())
	defer s.Close()
	fetch := func(url string) (body []byte, kind string) {
		t.Helper()
		r, err := http.Get(s.URL + strings.TrimPrefix(url, "http://ca.example.test"))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err = io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", url, r.Status, err)
		}
		return body, r.Header.Get("Content-Type")
	}
	leaf := mustParse(t, got.Keys[0].Certificate)
	for c := leaf; !c.Equal(a.root); {
		der, kind := fetch(c.IssuingCertificateURL[0])
		up := mustParse(t, der)
		if err := c.CheckSignatureFrom(up); err != nil || kind != "application/pkix-cert" {
			t.Errorf("issuer of %q: %v, %s", c.Subject, err, kind)
		}
		der, kind = fetch(c.CRLDistributionPoints[0])
		list, err := x509.ParseRevocationList(der)
		if err != nil || list.CheckSignatureFrom(up) != nil || kind != "application/pkix-crl" {
			t.Errorf("list of %q: %v, %s", up.Subject, err, kind)
		}
		c = up
	}
	if chain, _ := fetch(testURL + "/chain.pem"); !bytes.Contains(chain, encodePEM(a.root.Raw)) {
		t.Error("the chain has no root")
	}
	for _, url := range []string{"/", "/vtpm", "/vtpm/", "/ca.cer", "/vtpm/authority.json", "/vtpm/../authority.json", "/vtpm/ca.key.sealed", "/vtpm/%2e%2e/ca.key.sealed"} {
		r, err := http.Get(s.URL + url)
		if err != nil {
			t.Fatal(err)
		}
		if r.Body.Close(); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", url, r.Status)
		}
	}
	r, err := http.Post(s.URL+"/vtpm/ca.cer", "text/plain", strings.NewReader("x"))
	if err != nil || r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", r.Status, err)
	}
	r.Body.Close()
}
