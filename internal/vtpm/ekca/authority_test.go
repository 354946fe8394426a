package ekca

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/seal"
)

func TestAuthorityIsOfTwoLevels(t *testing.T) {
	a := newAuthority(t, served())
	if a.root.MaxPathLen != 1 || !a.issuing.cert.MaxPathLenZero || a.platform.cert.IsCA {
		t.Errorf("path lengths: root %d, issuing %d; platform is CA: %v", a.root.MaxPathLen, a.issuing.cert.MaxPathLen, a.platform.cert.IsCA)
	}
	if err := a.root.CheckSignatureFrom(a.root); err != nil {
		t.Error(err)
	}
	if got := a.issuing.cert.CRLDistributionPoints; !cmp.Equal(got, []string{testURL + "/root.crl"}) {
		t.Errorf("issuing authority's list is at %v", got)
	}
	for of, by := range map[string]*signer{byRoot: {cert: a.root}, byIssuing: &a.issuing, byPlatform: &a.platform} {
		list, err := a.List(of)
		if err != nil {
			t.Fatal(err)
		}
		// Go's CheckSignatureFrom wants an authority's; that of platforms is none.
		if err := by.cert.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature); err != nil || len(list.RevokedCertificateEntries) != 0 {
			t.Errorf("list of %s: %v, %d entries", of, err, len(list.RevokedCertificateEntries))
		}
	}
}

func TestPrivateKeysAreSealed(t *testing.T) {
	a := newAuthority(t, AuthorityOptions{})
	found := 0
	err := filepath.WalkDir(a.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !strings.Contains(name, publicDir) && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		text, err := os.ReadFile(name)
		if bytes.Contains(text, []byte("PRIVATE KEY")) || bytes.Contains(text, derOID([]int{1, 2, 840, 10045, 2, 1})) && strings.HasSuffix(name, keySuffix) {
			t.Errorf("%s has a key in the clear", name)
		}
		if strings.HasSuffix(name, keySuffix) {
			found++
			_, err = seal.Parse(text)
		}
		return err
	})
	if err != nil || found != 3 {
		t.Errorf("%d sealed keys, %v", found, err)
	}
}

func TestAuthorityOpensAgain(t *testing.T) {
	a := newAuthority(t, served())
	mustManufacture(t, newEngine(t), a, Options{Keys: []Kind{P256}})
	b := reopen(t, a, a.cfg)
	mustManufacture(t, newEngine(t), b, Options{TPM: "other", Keys: []Kind{P256}})
	all, err := b.Issued("")
	if err != nil || len(all) != 2 || all[0].TPM != testTPM || all[1].TPM != "other" || !all[0].Issued.Equal(noon) {
		t.Errorf("issued: %+v, %v", all, err)
	}
	if got, err := ProviderOf(a.dir); err != nil || got != "" {
		t.Errorf("provider %q, %v", got, err)
	}
	if !cmp.Equal(a.Info(), b.Info()) {
		t.Error(cmp.Diff(a.Info(), b.Info()))
	}
}

func TestAuthorityWithoutKeysIssuesNothing(t *testing.T) {
	a := newAuthority(t, AuthorityOptions{})
	b := reopen(t, a, AuthorityConfig{Random: rand.Reader, Now: a.cfg.Now})
	ctx := context.Background()
	_, issue := b.Issue(ctx, &Batch{})
	_, revoke := b.RevokeTPM(ctx, testTPM, Superseded)
	_, export := b.ExportRoot(ctx, newProvider(t), seal.NewSecret([]byte("correct horse battery")))
	if !errors.Is(issue, ErrNoKey) || revoke != nil || !errors.Is(b.UpdateLists(ctx), ErrNoKey) || !errors.Is(export, seal.ErrOpen) && export == nil {
		t.Errorf("issue %v, revoke nothing %v, export by another provider %v", issue, revoke, export)
	}
	cfg := a.cfg
	cfg.Provider = newProvider(t)
	if _, err := OpenAuthority(ctx, a.dir, cfg); err == nil {
		t.Error("opens with another provider")
	}
}

func TestDamagedAuthorityIsRefused(t *testing.T) {
	ctx := context.Background()
	other := newAuthority(t, AuthorityOptions{})
	for name, tc := range map[string]struct {
		damage func(t *testing.T, a, other *Authority)
		want   error
	}{
		"gone": {func(t *testing.T, a, _ *Authority) { remove(t, a.path(metaFile)) }, ErrNoAuthority},
		"an unknown member": {func(t *testing.T, a, _ *Authority) {
			rewriteFile(t, a.path(metaFile), func(b []byte) []byte { return bytes.Replace(b, []byte(`"name"`), []byte(`"nick"`), 1) })
		}, ErrAuthority},
		"a newer format": {func(t *testing.T, a, _ *Authority) {
			rewriteFile(t, a.path(metaFile), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"oldestReader": 1`), []byte(`"oldestReader": 3`), 1)
			})
		}, ErrAuthority},
		"no policy": {func(t *testing.T, a, _ *Authority) {
			rewriteFile(t, a.path(metaFile), func(b []byte) []byte { return bytes.Replace(b, []byte(`"2.25.`), []byte(`"x.25.`), 1) })
		}, ErrAuthority},
		"no root":                {func(t *testing.T, a, _ *Authority) { remove(t, a.public("root.cer")) }, ErrAuthority},
		"another's root":         {func(t *testing.T, a, b *Authority) { copyFile(t, a.public("root.cer"), b.public("root.cer")) }, ErrAuthority},
		"another's issuing":      {func(t *testing.T, a, b *Authority) { copyFile(t, a.public("ca.cer"), b.public("ca.cer")) }, ErrAuthority},
		"another's platform key": {func(t *testing.T, a, b *Authority) { copyFile(t, a.public("platform.cer"), b.public("platform.cer")) }, ErrAuthority},
		"the root as issuing":    {func(t *testing.T, a, _ *Authority) { copyFile(t, a.public("ca.cer"), a.public("root.cer")) }, ErrAuthority},
		"no key":                 {func(t *testing.T, a, _ *Authority) { remove(t, a.path("ca.key.sealed")) }, ErrNoKey},
		"a key in another's place": {func(t *testing.T, a, _ *Authority) {
			copyFile(t, a.path("ca.key.sealed"), a.path("platform.key.sealed"))
		}, seal.ErrOpen},
		"an altered certificate": {func(t *testing.T, a, _ *Authority) {
			rewriteFile(t, a.public("ca.cer"), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}, ErrAuthority},
		"no certificate but a text": {func(t *testing.T, a, _ *Authority) {
			rewriteFile(t, a.public("ca.cer"), func([]byte) []byte { return []byte("x") })
		}, ErrAuthority},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t, AuthorityOptions{})
			tc.damage(t, a, other)
			if _, err := OpenAuthority(ctx, a.dir, a.cfg); !errors.Is(err, tc.want) {
				t.Errorf("OpenAuthority = %v, want %v", err, tc.want)
			}
		})
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func rewriteFile(t *testing.T, name string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(b)
	if b = change(b); bytes.Equal(b, before) {
		t.Fatalf("%s is not changed", name)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCreateAuthorityIsAllOrNothing(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "ca")
	cfg := AuthorityConfig{Provider: newProvider(t), Random: rand.Reader, Now: func() time.Time { return noon }}
	for name, bad := range map[string]func() (AuthorityOptions, AuthorityConfig){
		"no provider": func() (AuthorityOptions, AuthorityConfig) {
			c := cfg
			c.Provider = nil
			return AuthorityOptions{Name: "x"}, c
		},
		"no name": func() (AuthorityOptions, AuthorityConfig) { return AuthorityOptions{}, cfg },
		"a long name": func() (AuthorityOptions, AuthorityConfig) {
			return AuthorityOptions{Name: strings.Repeat("x", 41)}, cfg
		},
		"no URL":         func() (AuthorityOptions, AuthorityConfig) { return AuthorityOptions{Name: "x", URL: "ftp://x"}, cfg },
		"a slash at end": func() (AuthorityOptions, AuthorityConfig) { return AuthorityOptions{Name: "x", URL: "http://x/"}, cfg },
		"a root alone": func() (AuthorityOptions, AuthorityConfig) {
			return AuthorityOptions{Name: "x", RootCert: newForeign(t, "r", nil, noon, noon.AddDate(1, 0, 0)).cert}, cfg
		},
		"no randomness": func() (AuthorityOptions, AuthorityConfig) {
			c := cfg
			c.Random = bytes.NewReader(make([]byte, 100))
			return AuthorityOptions{Name: "x"}, c
		},
	} {
		o, c := bad()
		if _, err := CreateAuthority(ctx, dir, o, c); err == nil {
			t.Errorf("%s: makes an authority", name)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 0 {
			t.Errorf("%s: leaves %v, %v", name, left, err)
		}
	}
	if _, err := CreateAuthority(ctx, dir, AuthorityOptions{Name: "x"}, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateAuthority(ctx, dir, AuthorityOptions{Name: "x"}, cfg); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
}

func TestRevocationIsPublished(t *testing.T) {
	ctx := context.Background()
	a := newAuthority(t, AuthorityOptions{})
	first := mustManufacture(t, newEngine(t), a, Options{TPM: "first", Keys: []Kind{P256, P384}, Platform: testPlatform()})
	mustManufacture(t, newEngine(t), a, Options{TPM: "second", Keys: []Kind{P256}})
	serial := func(i *Issued, n int) string { return hexSerial(mustParse(t, i.Keys[n].Certificate).SerialNumber) }
	before, err := a.List(byIssuing)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(ctx, "00:"+strings.ToUpper(serial(first, 1)), KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if got := revoked(t, a, byIssuing); !cmp.Equal(got, map[string]int{serial(first, 1): 1}) {
		t.Errorf("revoked: %v", got)
	}
	after, _ := a.List(byIssuing)
	if after.Number.Cmp(before.Number) <= 0 || after.CheckSignatureFrom(a.issuing.cert) != nil || !after.NextUpdate.Equal(noon.Add(7*24*time.Hour)) {
		t.Errorf("list number %v after %v, next %v", after.Number, before.Number, after.NextUpdate)
	}
	if n, err := a.RevokeTPM(ctx, "first", Superseded); n != 3 || err != nil {
		t.Errorf("RevokeTPM = %d, %v", n, err)
	}
	// What was revoked keeps its reason.
	if got := revoked(t, a, byIssuing); !cmp.Equal(got, map[string]int{serial(first, 0): 4, serial(first, 1): 1}) {
		t.Errorf("revoked: %v", got)
	}
	if got := revoked(t, a, byPlatform); len(got) != 1 {
		t.Errorf("platform certificates revoked: %v", got)
	}
	number := after.Number
	if _, err := a.RevokeTPM(ctx, "first", Cessation); err != nil {
		t.Error(err)
	}
	if again, _ := a.List(byIssuing); again.Number.Cmp(number.Add(number, big.NewInt(1))) != 0 {
		t.Errorf("nothing new is revoked, and the list is number %v", again.Number)
	}
}

func revoked(t *testing.T, a *Authority, by string) map[string]int {
	t.Helper()
	list, err := a.List(by)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range list.RevokedCertificateEntries {
		out[hexSerial(e.SerialNumber)] = e.ReasonCode
	}
	return out
}

// A TPM that was made anew has certificates from before and after.
func TestRevokeTPMKeepsWhatIsNamed(t *testing.T) {
	ctx := context.Background()
	a := newAuthority(t, AuthorityOptions{})
	o := Options{Keys: []Kind{P256}, Platform: testPlatform()}
	mustManufacture(t, newEngine(t), a, o)
	now := mustManufacture(t, newEngine(t), a, o)
	keep := hexSerial(mustParse(t, now.Keys[0].Certificate).SerialNumber)
	if n, err := a.RevokeTPM(ctx, testTPM, Superseded, keep); n != 2 || err != nil {
		t.Fatalf("RevokeTPM = %d, %v", n, err)
	}
	all, err := a.Issued(testTPM)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if good := c.Serial == keep || c.Holder == keep; good != (c.Revoked == nil) {
			t.Errorf("%s %s is revoked: %v", c.Kind, c.Serial, c.Revoked)
		}
	}
}

func TestRevokeRefuses(t *testing.T) {
	ctx := context.Background()
	a := newAuthority(t, AuthorityOptions{})
	mustManufacture(t, newEngine(t), a, Options{Keys: []Kind{P256}})
	if err := a.Revoke(ctx, "abcdef", Superseded); !errors.Is(err, ErrNotIssued) {
		t.Errorf("an unknown serial number: %v", err)
	}
	if err := a.Revoke(ctx, "abcdef", "because"); err == nil || errors.Is(err, ErrNotIssued) {
		t.Errorf("an unknown reason: %v", err)
	}
	if _, err := a.RevokeTPM(ctx, "", Superseded); err == nil {
		t.Error("all TPMs at once")
	}
	if _, err := a.List("../authority"); err == nil {
		t.Error("a list by any name")
	}
}

// A crash cuts the last line at any byte: what it told of never left, and all
// before it stays.
func TestTornJournalLosesOnlyWhatNeverLeft(t *testing.T) {
	ctx := context.Background()
	a := newAuthority(t, AuthorityOptions{})
	entry := func(n int) journalEntry {
		return journalEntry{Type: entryIssue, Time: noon, By: byIssuing, Serial: fmt.Sprint(n), Kind: "p256", TPM: testTPM}
	}
	if err := a.record(ctx, entry(1)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(a.path(journalFile))
	if err != nil {
		t.Fatal(err)
	}
	long := entry(2) // what a crash leaves of it is longer than the next line
	long.Name = strings.Repeat("x", 200)
	if err := a.record(ctx, long); err != nil {
		t.Fatal(err)
	}
	both, err := os.ReadFile(a.path(journalFile))
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole); cut < len(both); cut++ {
		if err := os.WriteFile(a.path(journalFile), both[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if all, err := a.Issued(""); err != nil || len(all) != 1 {
			t.Fatalf("cut at %d of %d: %d entries, %v", cut, len(both), len(all), err)
		}
		if err := a.record(ctx, entry(3)); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		all, err := a.Issued("")
		if err != nil || len(all) != 2 || all[1].Serial != "3" {
			t.Fatalf("cut at %d: %+v, %v", cut, all, err)
		}
	}
}

func TestDamagedJournalIsNamed(t *testing.T) {
	ctx := context.Background()
	line := `{"type":"issue","time":"2026-11-22T12:00:00Z","by":"ca","serial":"1"}` + "\n"
	for name, text := range map[string]string{
		"no JSON":             "x\n" + line,
		"an unknown member":   `{"type":"issue","when":1}` + "\n" + line,
		"a member twice":      `{"type":"issue","type":"revoke"}` + "\n" + line,
		"a line that is long": strings.Repeat("x", maxLine+1) + "\n" + line,
		"an endless line":     strings.Repeat("x", 2*maxLine),
		"a list number":       `{"type":"list","time":"2026-11-22T12:00:00Z","by":"ca","number":"-1"}` + "\n",
		"a reason":            line + `{"type":"revoke","time":"2026-11-22T12:00:00Z","by":"ca","serial":"1","reason":"x"}` + "\n",
		"a serial number":     strings.ReplaceAll(line, `"1"`, `"g"`) + `{"type":"revoke","time":"2026-11-22T12:00:00Z","by":"ca","serial":"g","reason":"superseded"}` + "\n",
	} {
		a := newAuthority(t, AuthorityOptions{})
		if err := os.WriteFile(a.path(journalFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.UpdateLists(ctx); !errors.Is(err, ErrAuthority) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Several processes, each with the folder open, issue at once.
func TestConcurrentIssuesAreAllWrittenDown(t *testing.T) {
	a := newAuthority(t, AuthorityOptions{})
	authorities := []*Authority{a, reopen(t, a, a.cfg), reopen(t, a, a.cfg)}
	public := mustManufacture(t, newEngine(t), None{}, Options{Keys: []Kind{P256}}).Keys[0].Public
	const each = 20
	var wg sync.WaitGroup
	for n, a := range authorities {
		for i := range each {
			wg.Go(func() {
				b := &Batch{TPM: fmt.Sprintf("%d-%d", n, i), Keys: []BatchKey{{P256, public}}, Device: Device{Manufacturer: "id:00000000"}}
				if _, err := a.Issue(context.Background(), b); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := a.UpdateLists(context.Background()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	all, err := a.Issued("")
	seen := map[string]bool{}
	for _, c := range all {
		seen[c.TPM] = true
	}
	if err != nil || len(all) != len(seen) || len(seen) != len(authorities)*each {
		t.Errorf("%d entries of %d TPMs, %v", len(all), len(seen), err)
	}
	if list, err := a.List(byIssuing); err != nil || list.Number.Int64() != 1+int64(len(authorities))*each/10 {
		t.Errorf("list number %v, %v", list.Number, err)
	}
}

// What is not written down must not leave.
func TestFullDiskStopsIssues(t *testing.T) {
	a := newAuthority(t, AuthorityOptions{})
	remove(t, a.path(journalFile))
	public := mustManufacture(t, newEngine(t), None{}, Options{Keys: []Kind{P256}}).Keys[0].Public
	if _, err := Manufacture(context.Background(), transport(newEngine(t)), a, Options{Keys: []Kind{P256}, Random: rand.Reader}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Manufacture without a journal = %v", err)
	}
	if _, err := a.Issue(context.Background(), &Batch{Keys: []BatchKey{{P256, public}}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Issue without a journal = %v", err)
	}
}

func TestLockEndsWithItsContext(t *testing.T) {
	a := newAuthority(t, AuthorityOptions{})
	b := reopen(t, a, a.cfg)
	unlock, err := a.lock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := b.record(ctx, journalEntry{Type: entryList}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("record while another has the folder = %v", err)
	}
}

// Each of two checks finds an exchanged certificate alone: the signature without
// keys at hand, the key where the signature is right.
func TestExchangedCertificateIsFound(t *testing.T) {
	ctx := context.Background()
	a, other := newAuthority(t, AuthorityOptions{}), newAuthority(t, AuthorityOptions{})
	made := mustManufacture(t, newEngine(t), a, Options{Keys: []Kind{P256}})
	if err := os.WriteFile(a.public("platform.cer"), made.Keys[0].Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(ctx, a.dir, a.cfg); !errors.Is(err, ErrAuthority) {
		t.Errorf("a certificate of another key = %v", err)
	}
	copyFile(t, a.public("platform.cer"), other.public("platform.cer"))
	if _, err := OpenAuthority(ctx, a.dir, AuthorityConfig{Random: rand.Reader, Now: a.cfg.Now}); !errors.Is(err, ErrAuthority) {
		t.Errorf("another's certificate, without keys = %v", err)
	}
}
