package ekca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

func mustFollow(tb testing.TB, a *Authority) *Authority {
	tb.Helper()
	b, err := NextAuthority(context.Background(), a.dir, nil, a.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// certified makes a TPM of one key and returns that key's certificate and the
// platform's, in DER.
func certified(tb testing.TB, a *Authority, tpm string) (leaf *x509.Certificate, platform []byte) {
	tb.Helper()
	got := mustManufacture(tb, newEngine(tb), a, Options{TPM: tpm, Keys: []Kind{P256}, Platform: testPlatform()})
	return mustParse(tb, got.Keys[0].Certificate), got.Platform
}

func TestCertificatesOfAllGenerationsAreGoodUntilTheyAreRevoked(t *testing.T) {
	ssl, dir := openssl(t), t.TempDir()
	a := newAuthority(t, served())
	first, _ := certified(t, a, "first")
	b := mustFollow(t, a)
	second, platform := certified(t, b, "second")
	c := mustFollow(t, b)
	third, _ := certified(t, c, "third")
	if !strings.Contains(string(platform), testURL+"/platform2.crl") || strings.Contains(string(platform), testURL+"/platform.crl") {
		t.Error("the platform certificate points at another list")
	}
	root := save(t, dir, "root.pem", encodePEM(a.root.Raw))
	verify := func(leaf *x509.Certificate) (string, bool) {
		var all []byte
		for _, by := range []string{byRoot, "ca", "ca2", "ca3"} {
			all = append(all, mustRun(t, nil, ssl, "crl", "-inform", "DER", "-in", c.public(by+listSuffix))...)
		}
		return run(t, nil, ssl, "verify", "-attime", "1795348800", "-x509_strict", "-CAfile", root, "-untrusted", c.public(chainFile),
			"-crl_check_all", "-CRLfile", save(t, dir, "lists.pem", all), save(t, dir, "leaf.pem", encodePEM(leaf.Raw)))
	}
	leaves := map[string]*x509.Certificate{"ca": first, "ca2": second, "ca3": third}
	for by, leaf := range leaves {
		if out, ok := verify(leaf); !ok || !cmp.Equal(leaf.CRLDistributionPoints, []string{testURL + "/" + by + listSuffix}) {
			t.Errorf("certificate by %s, which points at %v: %s", by, leaf.CRLDistributionPoints, out)
		}
	}
	for by, leaf := range leaves {
		serial := hexSerial(leaf.SerialNumber)
		if err := c.Revoke(t.Context(), serial, KeyCompromise); err != nil {
			t.Fatal(err)
		}
		if out, ok := verify(leaf); ok || !strings.Contains(out, "certificate revoked") {
			t.Errorf("revoked certificate by %s: %s", by, out)
		}
		if got := revoked(t, c, by); !cmp.Equal(got, map[string]int{serial: 1}) {
			t.Errorf("list of %s: %v, want %s alone", by, got, serial)
		}
	}
	if n, err := c.RevokeTPM(t.Context(), "second", Cessation); err != nil || n != 2 || len(revoked(t, c, "platform2")) != 1 {
		t.Errorf("RevokeTPM = %d, %v; list of platforms: %v", n, err, revoked(t, c, "platform2"))
	}
}

func TestGenerationsHaveTheirOwnNamesAndEndWithTheRoot(t *testing.T) {
	a := newAuthority(t, served())
	cfg := a.cfg
	late := a.root.NotAfter.AddDate(-1, 0, 0)
	cfg.Now = func() time.Time { return late }
	b, err := NextAuthority(t.Context(), a.dir, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	root, issuing, platform := b.Certificates()
	if issuing.Subject.CommonName != "Test vTPM 2" || platform.Subject.CommonName != "Test vTPM platforms 2" {
		t.Errorf("names %q, %q", issuing.Subject, platform.Subject)
	}
	if !issuing.NotAfter.Equal(root.NotAfter) || !platform.NotAfter.Equal(root.NotAfter) {
		t.Errorf("they end at %s and %s, the root at %s", issuing.NotAfter, platform.NotAfter, root.NotAfter)
	}
	if older := b.Older(); len(older) != 1 || !older[0].Equal(a.issuing.cert) || b.Info().Generation != 2 {
		t.Errorf("older %v, generation %d", older, b.Info().Generation)
	}
	if want := []string{"ca2", "platform2", "ca", "platform", "root"}; !cmp.Equal(b.Lists(), want) {
		t.Errorf("lists %v, want %v", b.Lists(), want)
	}
	cfg.Now = func() time.Time { return a.root.NotAfter }
	if _, err := NextAuthority(t.Context(), a.dir, nil, cfg); err == nil || !strings.Contains(err.Error(), "root ended") {
		t.Errorf("below a root that ended: %v", err)
	}
}

func TestAnAuthorityThatWasFollowedIsToldSo(t *testing.T) {
	a := newAuthority(t, served())
	first, _ := certified(t, a, "first")
	before, err := a.Issued("")
	if err != nil {
		t.Fatal(err)
	}
	b := mustFollow(t, a)
	_, err = Manufacture(t.Context(), transport(newEngine(t)), a, Options{TPM: "late", Keys: []Kind{P256}, Random: rand.Reader})
	for what, err := range map[string]error{
		"Issue":       err,
		"Revoke":      a.Revoke(t.Context(), hexSerial(first.SerialNumber), KeyCompromise),
		"UpdateLists": a.UpdateLists(t.Context()),
	} {
		if !errors.Is(err, ErrStale) {
			t.Errorf("%s = %v, want %v", what, err, ErrStale)
		}
	}
	if after, err := b.Issued(""); err != nil || !cmp.Equal(before, after) {
		t.Errorf("the journal changed: %v, %v", after, err)
	}
}

func TestTheNextAuthorityNeedsTheKeyOfTheRoot(t *testing.T) {
	ctx := t.Context()
	a := newAuthority(t, AuthorityOptions{})
	phrase := seal.NewSecret([]byte("correct horse battery"))
	exported, err := a.ExportRoot(ctx, a.cfg.Provider, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RemoveRoot(exported, phrase); err != nil {
		t.Fatal(err)
	}
	if _, err := NextAuthority(ctx, a.dir, nil, a.cfg); !errors.Is(err, ErrNoKey) {
		t.Errorf("without the root's key: %v", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NextAuthority(ctx, a.dir, other, a.cfg); err == nil || !strings.Contains(err.Error(), "not the root's") {
		t.Errorf("with another key: %v", err)
	}
	if _, err := NextAuthority(ctx, a.dir, nil, AuthorityConfig{Random: rand.Reader, Now: a.cfg.Now}); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a provider: %v", err)
	}
	if _, err := ParseRootKey(exported, seal.NewSecret([]byte("another passphrase"))); !errors.Is(err, ErrPassphrase) {
		t.Errorf("ParseRootKey with another passphrase = %v", err)
	}
	key, err := ParseRootKey(exported, phrase)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NextAuthority(ctx, a.dir, key, a.cfg)
	if err != nil || b.HasRoot() {
		t.Fatalf("NextAuthority = %v, and the root's key is in the folder: %v", err, b.HasRoot())
	}
	certified(t, b, "")
}

// A wearyProvider wraps so many keys and no more.
type wearyProvider struct {
	keyprovider.Provider
	left int
}

func (w *wearyProvider) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	if w.left--; w.left < 0 {
		return nil, keyprovider.ErrUnavailable
	}
	return w.Provider.Wrap(ctx, c, key)
}

func TestANextAuthorityThatFailsLeavesTheOneBefore(t *testing.T) {
	ctx := t.Context()
	a := newAuthority(t, served())
	cfg := a.cfg
	for wraps := range 2 {
		cfg.Provider = &wearyProvider{a.cfg.Provider, wraps}
		if _, err := NextAuthority(ctx, a.dir, nil, cfg); !errors.Is(err, keyprovider.ErrUnavailable) {
			t.Fatalf("with %d wraps: %v", wraps, err)
		}
		certified(t, reopen(t, a, a.cfg), "")
	}
	// All is there but the last step.
	meta, err := os.ReadFile(a.path(metaFile))
	if err != nil {
		t.Fatal(err)
	}
	lost := mustFollow(t, a)
	if err := os.WriteFile(a.path(metaFile), meta, 0o600); err != nil {
		t.Fatal(err)
	}
	before := reopen(t, a, a.cfg)
	if before.number != 1 {
		t.Fatalf("generation %d", before.number)
	}
	certified(t, before, "")
	b := mustFollow(t, a)
	if b.issuing.cert.Equal(lost.issuing.cert) {
		t.Error("an authority that a crash took was taken up again")
	}
	leaf, _ := certified(t, b, "")
	if err := leaf.CheckSignatureFrom(mustParse(t, mustRead(t, b.public("ca2.cer")))); err != nil {
		t.Error(err)
	}
}

// A file of the authority that was set back to its first generation does not have the
// second made again over certificates that it has issued.
func TestAnAuthorityThatWasSetBackIsNotFollowedAgain(t *testing.T) {
	a := newAuthority(t, served())
	meta := mustRead(t, a.path(metaFile))
	b := mustFollow(t, a)
	certified(t, b, "")
	key := mustRead(t, b.path("ca2"+keySuffix))
	if err := os.WriteFile(a.path(metaFile), meta, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NextAuthority(t.Context(), a.dir, nil, a.cfg); err == nil || !strings.Contains(err.Error(), "set back") {
		t.Fatalf("NextAuthority over certificates of that generation: %v", err)
	}
	if !bytes.Equal(mustRead(t, b.path("ca2"+keySuffix)), key) {
		t.Error("the key of the certificates that are out was replaced")
	}
}

func mustRead(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestGenerationsThatDoNotBelongTogetherAreRefused(t *testing.T) {
	whole := func(t *testing.T) *Authority { return mustFollow(t, newAuthority(t, served())) }
	replace := func(from, to string) func(*testing.T, *Authority) {
		return func(t *testing.T, a *Authority) {
			text := string(mustRead(t, a.path(metaFile)))
			if !strings.Contains(text, from) {
				t.Fatalf("no %s in %s", from, text)
			}
			save(t, a.dir, metaFile, []byte(strings.Replace(text, from, to, 1)))
		}
	}
	for name, damage := range map[string]func(*testing.T, *Authority){
		"a generation too many":        replace(`"generation": 2`, `"generation": 3`),
		"no generation":                replace(`"generation": 2`, `"generation": -1`),
		"more than there can be":       replace(`"generation": 2`, `"generation": 100`),
		"a format of tomorrow":         replace(`"oldestReader": 2`, `"oldestReader": 3`),
		"the old authority is missing": func(t *testing.T, a *Authority) { mustRemove(t, a.public("ca.cer")) },
		"the new authority is missing": func(t *testing.T, a *Authority) { mustRemove(t, a.public("ca2.cer")) },
		"another's platform key":       func(t *testing.T, a *Authority) { copyFile(t, a.public("platform2.cer"), a.public("platform.cer")) },
		"the old authority's key":      func(t *testing.T, a *Authority) { mustRemove(t, a.path("ca.key.sealed")) },
		"keys that were exchanged":     func(t *testing.T, a *Authority) { copyFile(t, a.path("ca.key.sealed"), a.path("ca2.key.sealed")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := whole(t)
			damage(t, a)
			if b, err := OpenAuthority(t.Context(), a.dir, a.cfg); err == nil {
				t.Errorf("it opens as generation %d", b.number)
			}
		})
	}
}

func mustRemove(tb testing.TB, name string) {
	tb.Helper()
	if err := os.Remove(name); err != nil {
		tb.Fatal(err)
	}
}

// A server that was started before serves what a later generation publishes.
func TestAServerServesLaterGenerations(t *testing.T) {
	a := newAuthority(t, served())
	s := httptest.NewServer(a.Handler())
	defer s.Close()
	status := func(name string) int {
		t.Helper()
		r, err := http.Get(s.URL + "/vtpm/" + name)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	later := []string{"ca2.cer", "ca2.crl", "platform2.cer", "platform2.crl"}
	for _, name := range later {
		if got := status(name); got != http.StatusNotFound {
			t.Errorf("%s before: %d", name, got)
		}
	}
	mustFollow(t, a)
	for _, name := range append(later, "ca.cer", "ca.crl", "platform.crl", "root.crl", "chain.pem") {
		if got := status(name); got != http.StatusOK {
			t.Errorf("%s: %d", name, got)
		}
	}
	for _, name := range []string{"root2.cer", "ca2", "ca2.cer.crl", "2.cer", ".crl", "ca.key", "x.cer"} {
		if got := status(name); got != http.StatusNotFound {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestRewrapSealsTheKeysOfAllGenerations(t *testing.T) {
	a := mustFollow(t, newAuthority(t, served()))
	to := newProvider(t)
	id := to.(*keyprovider.Local).KeyIDs()[0]
	n, err := Rewrap(t.Context(), a.dir, Rewrapping{From: a.cfg.Provider, To: to, Name: "to", KeyID: id, Random: rand.Reader})
	if err != nil || n != 5 { // two of each generation, and the root's
		t.Errorf("Rewrap = %d, %v, want 5", n, err)
	}
	cfg := a.cfg
	cfg.Provider = to
	certified(t, reopen(t, a, cfg), "")
	if names, err := filepath.Glob(a.path("*" + keySuffix)); err != nil || len(names) != 5 {
		t.Errorf("keys %v, %v", names, err)
	}
}
