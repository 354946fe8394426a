package eventlog

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
)

func TestSamplesParseAndReplayAsTheirManifestSays(t *testing.T) {
	for _, s := range manifest(t) {
		t.Run(s.File, func(t *testing.T) {
			l, err := Parse(sample(t, "eventlogs/"+s.File))
			if strings.Contains(s.Expected, "parse error") || s.Format.ReferenceError != "" {
				if err == nil {
					t.Fatalf("Parse accepted it with %d events, want an error", l.Len())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Kind != "bios" {
				return
			}
			checkShape(t, l, s)
			checkReplay(t, l, s.Replayed)
		})
	}
}

func checkShape(t *testing.T, l *Log, s sampleEntry) {
	t.Helper()
	got := 0
	// Of a crypto agile log the manifest counts neither the Spec ID event nor the trust point.
	for e := range l.All() {
		if e.Index == 0 && s.Format.CryptoAgile || e.PCR == NoPCR && s.Format.CryptoAgile {
			continue
		}
		got++
	}
	if got != s.Format.Events {
		t.Errorf("%d events, want %d", got, s.Format.Events)
	}
	var banks []string
	for _, a := range l.Banks() {
		banks = append(banks, a.BankName())
	}
	if strings.Join(banks, " ") != strings.Join(s.Format.Banks, " ") {
		t.Errorf("banks %v, want %v", banks, s.Format.Banks)
	}
}

func checkReplay(t *testing.T, l *Log, want pcrBanks) {
	t.Helper()
	for name, values := range want {
		a := bankByName(t, name)
		r, err := l.Replay(a)
		if err != nil {
			t.Errorf("Replay(%s): %v", name, err)
			continue
		}
		for k, v := range values {
			pcr, _ := strconv.Atoi(k)
			if got := hex.EncodeToString(r.Value(pcr)); got != v {
				t.Errorf("%s PCR %d = %s, want %s", name, pcr, got, v)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for name, b := range samples(f) {
		if strings.HasSuffix(name, ".bin") && len(b) < 12000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		n := 0
		for e := range l.All() {
			if e.Index != n {
				t.Fatalf("event %d has index %d", n, e.Index)
			}
			n++
		}
		if n != l.Len() {
			t.Fatalf("All gives %d events, Len is %d", n, l.Len())
		}
		for _, a := range l.Banks() {
			_, _ = l.Replay(a)
		}
	})
}
