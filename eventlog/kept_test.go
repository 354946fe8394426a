package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// confirmBytes is what a verifier does with a log.
func confirmBytes(c *Cache, data []byte, bank tpm2.Alg, quoted map[int][]byte) (*Confirmed, error) {
	l, err := c.Parse(data)
	if err != nil {
		return nil, err
	}
	return c.Confirm(l, bank, quoted)
}

// replayed returns the registers that a log leads to.
func replayed(t *testing.T, data []byte, bank tpm2.Alg) map[int][]byte {
	t.Helper()
	l, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Replay(bank)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int][]byte{}
	for pcr := range maxPCR {
		out[pcr] = r.Value(pcr)
	}
	return out
}

func TestKeptLogsProveWhatTheyProveAnew(t *testing.T) {
	var cache Cache
	n := 0
	for range 2 { // cold, then kept
		confirmedLogs(t, func(name string, l *Log, bank tpm2.Alg, quoted map[int][]byte) {
			plain, err := l.Confirm(bank, quoted)
			cached, cachedErr := confirmBytes(&cache, l.data, bank, quoted)
			if fmt.Sprint(err) != fmt.Sprint(cachedErr) {
				t.Fatalf("%s, %s: %v, with a cache %v", name, bank.BankName(), err, cachedErr)
			}
			if err != nil {
				return
			}
			n++
			values := cmp.AllowUnexported(evidence.Value{})
			if d := cmp.Diff(plain.Claims(), cached.Claims(), values); d != "" {
				t.Errorf("%s, %s: claims (-without +with):\n%s", name, bank.BankName(), d)
			}
			if d := cmp.Diff(plain.Claims(), cached.SharedClaims(), values); d != "" {
				t.Errorf("%s, %s: shared claims (-without +with):\n%s", name, bank.BankName(), d)
			}
			if d := cmp.Diff(plain.Findings(), cached.Findings()); d != "" {
				t.Errorf("%s, %s: findings (-without +with):\n%s", name, bank.BankName(), d)
			}
			if again, err := confirmBytes(&cache, bytes.Clone(l.data), bank, quoted); err != nil || again != cached && l.weight() <= keptLargest {
				t.Errorf("%s, %s: confirmed again: %p, want the result kept, %p (%v)", name, bank.BankName(), again, cached, err)
			}
		})
	}
	if n < 50 {
		t.Errorf("%d logs compared", n)
	}
}

func TestKeptLogIsMissedWhenAnyByteDiffers(t *testing.T) {
	data := makeLog(t, secureBootEvents()...).data
	quoted := replayed(t, data, tpm2.AlgSHA256)
	var cache Cache
	kept, err := confirmBytes(&cache, data, tpm2.AlgSHA256, quoted)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range data {
		other := bytes.Clone(data)
		other[i] ^= 1
		got, err := confirmBytes(&cache, other, tpm2.AlgSHA256, quoted)
		plain, plainErr := confirmBytes(nil, other, tpm2.AlgSHA256, quoted)
		if got == kept || fmt.Sprint(err) != fmt.Sprint(plainErr) {
			t.Fatalf("byte %d changed: %p, %v; without a cache %p, %v", i, got, err, plain, plainErr)
		}
		if err != nil {
			refused++
		}
	}
	if got, err := confirmBytes(&cache, append(bytes.Clone(data), 0), tpm2.AlgSHA256, quoted); got == kept {
		t.Errorf("a longer log has the result kept (%v)", err)
	}
	if refused < len(data)/2 {
		t.Errorf("%d of %d changes refused", refused, len(data))
	}
	if got, err := confirmBytes(&cache, bytes.Clone(data), tpm2.AlgSHA256, quoted); err != nil || got == nil {
		t.Errorf("the log itself afterwards: %v", err)
	}
}

func TestKeptResultIsMissedWhenTheRegistersDiffer(t *testing.T) {
	data := makeLog(t, secureBootEvents()...).data
	quoted := replayed(t, data, tpm2.AlgSHA256)
	var cache Cache
	kept, err := confirmBytes(&cache, data, tpm2.AlgSHA256, quoted)
	if err != nil {
		t.Fatal(err)
	}
	for pcr := range maxPCR {
		for name, change := range map[string]func(map[int][]byte){
			"a bit differs": func(q map[int][]byte) { q[pcr] = bytes.Clone(q[pcr]); q[pcr][31] ^= 1 },
			"is shorter":    func(q map[int][]byte) { q[pcr] = q[pcr][:31] },
			"has no value":  func(q map[int][]byte) { q[pcr] = nil },
			"is not quoted": func(q map[int][]byte) { delete(q, pcr) },
		} {
			other := maps.Clone(quoted)
			change(other)
			got, err := confirmBytes(&cache, data, tpm2.AlgSHA256, other)
			plain, plainErr := confirmBytes(nil, data, tpm2.AlgSHA256, other)
			if got == kept || fmt.Sprint(err) != fmt.Sprint(plainErr) {
				t.Fatalf("PCR %d %s: %p, %v; without a cache %v", pcr, name, got, err, plainErr)
			}
			if err == nil && !cmp.Equal(got.Claims(), plain.Claims(), cmp.AllowUnexported(evidence.Value{})) {
				t.Errorf("PCR %d %s: claims differ from those without a cache", pcr, name)
			}
		}
	}
	if got, err := confirmBytes(&cache, data, tpm2.AlgSHA1, quoted); got == kept || err == nil {
		t.Errorf("another bank: %p, %v", got, err)
	}
	strange := maps.Clone(quoted)
	strange[maxPCR] = make([]byte, 32)
	if got, _ := confirmBytes(&cache, data, tpm2.AlgSHA256, strange); got == kept {
		t.Error("a register that no TPM has makes no difference")
	}
}

func TestOnlyConfirmedLogsAreKept(t *testing.T) {
	data := makeLog(t, secureBootEvents()...).data
	quoted := replayed(t, data, tpm2.AlgSHA256)
	wrong := maps.Clone(quoted)
	wrong[7] = make([]byte, 32)
	var cache Cache
	for range 2 {
		if _, err := confirmBytes(&cache, data, tpm2.AlgSHA256, wrong); err == nil {
			t.Fatal("registers that the log does not lead to were confirmed")
		}
	}
	if n := len(cache.logs.newer) + len(cache.logs.older); n != 0 {
		t.Errorf("%d logs kept that nothing confirmed", n)
	}
	l, err := cache.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		q := maps.Clone(quoted)
		q[16] = binary.BigEndian.AppendUint32(nil, uint32(i)) // never compared
		if _, err := cache.Confirm(l, tpm2.AlgSHA256, q); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.results.list); n != keptResults {
		t.Errorf("%d results of one log kept", n)
	}
}

func TestKeptLogsAreBounded(t *testing.T) {
	var k logs
	often := &Log{data: []byte("often asked for"), results: new(results)}
	k.put(often)
	total := func(m map[uint64]*Log) (sum int) {
		for l := range maps.Values(m) {
			sum += l.weight()
		}
		return sum
	}
	for i := range 3000 {
		l := &Log{data: binary.BigEndian.AppendUint32(make([]byte, 60<<10), uint32(i)), results: new(results)}
		k.put(l)
		if got := k.find(slices.Clone(l.data)); got != l {
			t.Fatalf("log %d is not found", i)
		}
		if k.find([]byte("often asked for")) != often {
			t.Fatalf("the log asked for before each of %d others is gone", i)
		}
		if i%100 == 0 && (total(k.newer) > keptWeight || total(k.older) > keptWeight || total(k.newer) != k.weight) {
			t.Fatalf("after %d logs: %d and %d bytes kept, %d counted, %d allowed", i, total(k.newer), total(k.older), k.weight, keptWeight)
		}
	}
	if k.find(make([]byte, 60<<10+4)) != nil {
		t.Error("a log is kept for ever")
	}
	var c Cache
	large := &Log{data: make([]byte, keptLargest), results: new(results)}
	c.remember(large, tpm2.AlgSHA256, nil, new(Confirmed))
	if len(c.logs.newer) != 0 || large.known(tpm2.AlgSHA256, nil) != nil {
		t.Error("a log above the limit is kept")
	}
}

// A collision of the hash that finds candidates must not confuse two logs.
func TestKeptLogIsNotAnotherOfTheSameHash(t *testing.T) {
	var k logs
	one := &Log{data: []byte("one"), results: new(results)}
	k.put(one)
	k.newer[k.hash([]byte("two"))] = one
	if k.find([]byte("two")) != nil {
		t.Error("a log was found by its hash alone")
	}
	if k.find([]byte("one")) != one {
		t.Error("the log itself is not found")
	}
}

func TestKeptLogsServeManyAtOnce(t *testing.T) {
	var cache Cache
	events := secureBootEvents()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				l := makeLog(t, append(slices.Clone(events), made{pcr: 8, typ: IPL, data: fmt.Sprint(i % 5)})...)
				r, err := l.Replay(tpm2.AlgSHA256)
				if err != nil {
					t.Error(err)
					return
				}
				q := map[int][]byte{7: r.Value(7), 8: r.Value(8)}
				got, err := confirmBytes(&cache, l.data, tpm2.AlgSHA256, q)
				if err != nil || !bytes.Equal(got.Late()[8], r.Value(8)) {
					t.Errorf("log %d: %v", i%5, err)
					return
				}
				_ = got.SharedClaims()["secureBoot"]
			}
		})
	}
	wg.Wait()
}
