package collateral_test

import (
	"bytes"
	"encoding/pem"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/assay-project/assay/evidence/collateral"
	"github.com/assay-project/assay/evidence/evidencetest"
)

func block(t testing.TB, der []byte, headers map[string]string) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: headers, Bytes: der})
}

func TestRootsServeTheirUsageOnly(t *testing.T) {
	issuer, root := evidencetest.CA(t)
	text := append(block(t, issuer, map[string]string{"Vendor": "swtpm", "Usage": "ek-ca", "Fetched": "2026-11-01T00:00:00Z"}),
		block(t, root, map[string]string{"Vendor": "other", "Usage": "ek-ca"})...)
	s, err := collateral.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if s.Pool(collateral.EKCA) == nil || s.Pool(collateral.AKCA) != nil {
		t.Errorf("pools: ek %v, ak %v", s.Pool(collateral.EKCA), s.Pool(collateral.AKCA))
	}
	if got := s.Roots(); len(got) != 2 || got[0].Vendor != "swtpm" || !bytes.Equal(got[1].Certificate.Raw, root) {
		t.Errorf("roots = %+v", got)
	}
	age := s.Age(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	if !strings.Contains(age, "21 days") || !strings.Contains(age, "of other") {
		t.Errorf("age = %q", age)
	}
	if new(collateral.Store).Pool(collateral.EKCA) != nil {
		t.Error("the zero Store trusts somebody")
	}
}

func TestBundlesAreReadStrictly(t *testing.T) {
	issuer, _ := evidencetest.CA(t)
	good := map[string]string{"Vendor": "swtpm", "Usage": "ek-ca"}
	with := func(name, value string) map[string]string {
		h := map[string]string{"Vendor": "swtpm", "Usage": "ek-ca"}
		h[name] = value
		return h
	}
	for name, text := range map[string][]byte{
		"nothing":            nil,
		"text":               []byte("roots"),
		"no vendor":          block(t, issuer, map[string]string{"Usage": "ek-ca"}),
		"no usage":           block(t, issuer, map[string]string{"Vendor": "swtpm"}),
		"no headers":         block(t, issuer, nil),
		"unknown usage":      block(t, issuer, with("Usage", "ca")),
		"unknown header":     block(t, issuer, with("Trust", "yes")),
		"time in other form": block(t, issuer, with("Fetched", "today")),
		"not a certificate":  block(t, []byte{1, 2}, good),
		"key":                pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Headers: good, Bytes: issuer}),
		"cut at the end":     append(block(t, issuer, good), block(t, issuer, good)[:200]...),
		"too large":          make([]byte, collateral.MaxSize+1),
		"too many":           bytes.Repeat(block(t, issuer, good), 513),
	} {
		if s, err := collateral.Parse(text); err == nil {
			t.Errorf("%s: Parse = %+v", name, s)
		}
	}
}

func TestFoldersOfBundlesAreRead(t *testing.T) {
	issuer, root := evidencetest.CA(t)
	text := block(t, issuer, map[string]string{"Vendor": "swtpm", "Usage": "ek-ca"})
	s, err := collateral.ParseFS(fstest.MapFS{
		"a.pem": {Data: text}, "b.pem": {Data: block(t, root, map[string]string{"Vendor": "x", "Usage": "ak-ca"})}, "README": {Data: []byte("text")},
	})
	if err != nil || len(s.Roots()) != 2 {
		t.Errorf("ParseFS = %+v, %v", s, err)
	}
	for name, fsys := range map[string]fstest.MapFS{"nothing": {}, "a bad file": {"a.pem": {Data: text}, "b.pem": {Data: []byte("x")}}} {
		if s, err := collateral.ParseFS(fsys); err == nil {
			t.Errorf("%s: ParseFS = %+v", name, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	issuer, _ := evidencetest.CA(f)
	f.Add(block(f, issuer, map[string]string{"Vendor": "swtpm", "Usage": "ek-ca", "Fetched": "2026-11-01T00:00:00Z"}))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := collateral.Parse(text)
		if err != nil {
			return
		}
		for _, r := range s.Roots() {
			if r.Vendor == "" || r.Certificate == nil || r.Usage != collateral.EKCA && r.Usage != collateral.AKCA {
				t.Fatalf("root %+v is accepted", r)
			}
		}
	})
}
