package eventlog

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

// confirmedLogs are all sample logs that lead to their own replay, by name and bank.
func confirmedLogs(t *testing.T, use func(name string, l *Log, bank tpm2.Alg, quoted map[int][]byte)) {
	t.Helper()
	for name, data := range samples(t) {
		l, err := Parse(data)
		if err != nil {
			continue
		}
		for _, bank := range l.Banks() {
			r, err := l.Replay(bank)
			if err != nil {
				continue
			}
			quoted := map[int][]byte{}
			for pcr := range maxPCR {
				quoted[pcr] = r.Value(pcr)
			}
			use(name, l, bank, quoted)
		}
	}
}

func TestCachedClaimsAreThoseOfNoCache(t *testing.T) {
	var cache Cache
	n := 0
	for range 2 { // cold, then warm
		confirmedLogs(t, func(name string, l *Log, bank tpm2.Alg, quoted map[int][]byte) {
			plain, err := l.Confirm(bank, quoted)
			cached, cachedErr := cache.Confirm(l, bank, quoted)
			if fmt.Sprint(err) != fmt.Sprint(cachedErr) {
				t.Fatalf("%s, %s: %v, with a cache %v", name, bank.BankName(), err, cachedErr)
			}
			if err != nil {
				return
			}
			n++
			if d := cmp.Diff(plain.Claims(), cached.Claims(), cmp.AllowUnexported(evidence.Value{})); d != "" {
				t.Errorf("%s, %s: claims differ with a cache (-without +with):\n%s", name, bank.BankName(), d)
			}
		})
	}
	if n < 50 || len(cache.newer) == 0 {
		t.Errorf("%d logs compared, %d texts kept", n, len(cache.newer))
	}
}

func TestSortedNamesAreAllNamesInOrder(t *testing.T) {
	confirmedLogs(t, func(name string, l *Log, bank tpm2.Alg, quoted map[int][]byte) {
		c, err := l.Confirm(bank, quoted)
		if err != nil {
			return
		}
		claims := c.Claims()
		claims["another"] = evidence.Claim{}
		for range 2 { // with a name that is in no table, then without
			if d := cmp.Diff(slices.Sorted(maps.Keys(claims)), SortedNames(claims)); d != "" {
				t.Errorf("%s: names (-want +got):\n%s", name, d)
			}
			delete(claims, "another")
		}
	})
}

// certificateList is a signature list with one certificate.
func certificateList(der string) string {
	b := append([]byte{}, "\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(28+16+len(der)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(16+len(der)))
	return string(b) + strings.Repeat("o", 16) + der
}

func TestCacheTellsDatabasesApart(t *testing.T) {
	var cache Cache
	claims := func(c *Cache, der string) evidence.Claims {
		events := secureBootEvents()
		events[3] = variable(uefi.ImageSecurityDatabase, "db", certificateList(der))
		l := makeLog(t, events...)
		r, err := l.Replay(tpm2.AlgSHA256)
		if err != nil {
			t.Fatal(err)
		}
		confirmed, err := c.Confirm(l, tpm2.AlgSHA256, map[int][]byte{7: r.Value(7)})
		if err != nil {
			t.Fatal(err)
		}
		return confirmed.Claims()
	}
	const name = "secureBootKeys.db.certificates"
	for _, der := range []string{"one", "two", "one", "two!"} {
		got, want := claims(&cache, der)[name], claims(nil, der)[name]
		if !want.Value.Known() || !cmp.Equal(got, want, cmp.AllowUnexported(evidence.Value{})) {
			t.Errorf("database of %q: %v with a cache, %v without", der, got.Value, want.Value)
		}
	}
}

func TestOnlyProvenDataOfAStrongBankIsKept(t *testing.T) {
	digest := make([]byte, 32)
	for name, tc := range map[string]struct {
		bank  tpm2.Alg
		event judged
		want  bool
	}{
		"proven":           {tpm2.AlgSHA256, judged{digest: digest, cover: coverWhole}, true},
		"nothing proven":   {tpm2.AlgSHA256, judged{digest: digest, cover: coverNone}, false},
		"proven in part":   {tpm2.AlgSHA256, judged{digest: digest, cover: coverPart}, false},
		"proven to be lie": {tpm2.AlgSHA256, judged{digest: digest, cover: coverLie}, false},
		"no digest":        {tpm2.AlgSHA256, judged{cover: coverWhole}, false},
		"short digest":     {tpm2.AlgSHA384, judged{digest: digest, cover: coverWhole}, false},
		"SHA-1":            {tpm2.AlgSHA1, judged{digest: digest[:20], cover: coverWhole}, false},
		"no bank":          {0, judged{cover: coverWhole}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cache := &Cache{}
			a := &analysis{judge: judge{tc.bank, tc.bank.DigestSize()}, cache: cache}
			for i := range 2 {
				want := fmt.Sprint(i)
				if tc.want {
					want = "0"
				}
				if got := a.derive(&tc.event, useAuthority, func() string { return fmt.Sprint(i) }); got != want {
					t.Errorf("text %d is %q, want %q", i, got, want)
				}
			}
			if kept := len(cache.newer) + len(cache.older); (kept > 0) != tc.want {
				t.Errorf("%d texts kept", kept)
			}
			if other := a.derive(&tc.event, useCertificates, func() string { return "other use" }); other != "other use" {
				t.Errorf("one use has the text of another: %q", other)
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache
	key := func(i int) (k cacheKey) {
		binary.LittleEndian.PutUint32(k.digest[:], uint32(i))
		return k
	}
	const often = 1 << 30
	c.put(key(often), "often asked for")
	for i := range 10 * maxCached {
		c.put(key(i), "text")
		if n := len(c.newer) + len(c.older); n > 2*maxCached {
			t.Fatalf("%d texts kept, at most %d allowed", n, 2*maxCached)
		}
		if s, ok := c.get(key(often)); !ok || s != "often asked for" {
			t.Fatalf("text asked for before each of %d others is gone", i)
		}
	}
	if _, ok := c.get(key(0)); ok {
		t.Error("a text is kept for ever")
	}
	c.put(key(-1), strings.Repeat("x", maxCachedText+1))
	if _, ok := c.get(key(-1)); ok {
		t.Error("a text above its limit is kept")
	}
}

func TestCacheServesManyAtOnce(t *testing.T) {
	var c Cache
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				var k cacheKey
				binary.LittleEndian.PutUint32(k.digest[:], uint32(i%300))
				want := fmt.Sprint(i % 300)
				if s, ok := c.get(k); ok && s != want {
					t.Errorf("text of %s is %s", want, s)
				}
				c.put(k, want)
			}
		})
	}
	wg.Wait()
}
