package eventlog

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
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

// sha1Record lays out one record of a SHA-1 log.
func sha1Record(pcr uint32, typ Type, data string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, pcr)
	b = binary.LittleEndian.AppendUint32(b, uint32(typ))
	d := sha1.Sum([]byte(data))
	b = append(b, d[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func TestEveryCutWithinARecordIsRefused(t *testing.T) {
	for name, whole := range map[string][]byte{
		"crypto agile": makeLogBytes(made{pcr: 5, typ: PostCode, data: "abc"}, made{pcr: 4, typ: EFIAction, data: actionCalling}),
		"SHA-1":        slices.Concat(sha1Record(5, PostCode, "abc"), sha1Record(4, EFIAction, actionCalling)),
	} {
		l, err := Parse(whole)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ends := map[int]bool{}
		r := reader{log: l, data: whole}
		for range l.Len() {
			if err := r.next(new(Event)); err != nil {
				t.Fatal(err)
			}
			ends[r.off] = true
		}
		for n := range len(whole) {
			_, err := Parse(whole[:n])
			var at *ParseError
			if ends[n] != (err == nil) || err != nil && !errors.As(err, &at) {
				t.Errorf("%s: first %d of %d bytes: %v", name, n, len(whole), err)
			}
		}
		if _, err := Parse(append(slices.Clone(whole), 1)); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: one byte more: %v, want %v", name, err, ErrTruncated)
		}
	}
}

func TestPaddingIsToldFromRecords(t *testing.T) {
	log := makeLogBytes(made{pcr: 0, typ: PostCode, data: "abc"})
	for name, tc := range map[string]struct {
		tail   string
		want   error
		events int
	}{
		"none":                     {"", nil, 2},
		"zeros":                    {strings.Repeat("\x00", 999), nil, 2},
		"three zeros":              {"\x00\x00\x00", nil, 2},
		"ones":                     {strings.Repeat("\xff", 999), nil, 2},
		"ones, then anything":      {strings.Repeat("\xff", 8) + "abc", nil, 2},
		"five ones":                {strings.Repeat("\xff", 5), nil, 2},
		"ones of the register":     {"\xff\xff\xff\xff\x01\x00\x00\x00", ErrRegister, 0},
		"zeros, then a one":        {strings.Repeat("\x00", 999) + "\x01", ErrTruncated, 0},
		"zero records, then a one": {strings.Repeat("\x00", 16) + "\x01", ErrTruncated, 0},
	} {
		l, err := Parse(append(slices.Clone(log), tc.tail...))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: Parse = %v, want %v", name, err, tc.want)
			continue
		}
		if err == nil && (l.Len() != tc.events || l.End() != len(log)) {
			t.Errorf("%s: %d events to byte %d, want %d to %d", name, l.Len(), l.End(), tc.events, len(log))
		}
	}
}

func TestLimitsHold(t *testing.T) {
	large := strings.Repeat("x", maxData)
	many := make([]made, MaxEvents)
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":                  {nil, ErrEmpty},
		"zeros only":               {make([]byte, 100), ErrEmpty},
		"above 1 MiB":              {make([]byte, MaxSize+1), ErrTooLarge},
		"as many events as may be": {makeLogBytes(many[:MaxEvents-1]...), nil},
		"one event more":           {makeLogBytes(many...), ErrTooLarge},
		"large data":               {makeLogBytes(made{pcr: 4, typ: IPL, data: large}), nil},
		"larger data":              {makeLogBytes(made{pcr: 4, typ: IPL, data: large + "x"}), ErrDataSize},
		"large dbx":                {makeLogBytes(made{pcr: 7, typ: EFIVariableDriverConfig, data: large + "x"}), nil},
		"too large dbx":            {makeLogBytes(made{pcr: 7, typ: EFIVariableDriverConfig, data: strings.Repeat("x", maxLargeData+1)}), ErrDataSize},
		"PCR 24":                   {makeLogBytes(made{pcr: 24, typ: IPL}), ErrRegister},
		"PCR 23":                   {makeLogBytes(made{pcr: 23, typ: IPL}), nil},
		"unmeasured without PCR":   {makeLogBytes(made{pcr: NoPCR, typ: NoAction}), nil},
		"measured without PCR":     {makeLogBytes(made{pcr: NoPCR, typ: IPL}), ErrRegister},
	} {
		if _, err := Parse(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: Parse = %v, want %v", name, err, tc.want)
		}
	}
}

// specID lays out the first record of a crypto agile log.
func specID(algs ...tpm2.Alg) []byte {
	b := []byte(specIDSignature)
	b = append(b, 0, 0, 0, 0, 0, 2, 0, 2)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(algs)))
	for _, a := range algs {
		b = binary.LittleEndian.AppendUint16(b, uint16(a))
		b = binary.LittleEndian.AppendUint16(b, uint16(max(a.DigestSize(), 7)))
	}
	b = append(b, 0)
	head := binary.LittleEndian.AppendUint32(nil, 0)
	head = binary.LittleEndian.AppendUint32(head, uint32(NoAction))
	head = append(head, make([]byte, 20)...)
	return append(binary.LittleEndian.AppendUint32(head, uint32(len(b))), b...)
}

// agileRecord lays out one record with digests of the algorithms given.
func agileRecord(algs ...tpm2.Alg) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 4)
	b = binary.LittleEndian.AppendUint32(b, uint32(IPL))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(algs)))
	for _, a := range algs {
		b = binary.LittleEndian.AppendUint16(b, uint16(a))
		b = append(b, bytes.Repeat([]byte{byte(a)}, max(a.DigestSize(), 7))...)
	}
	return binary.LittleEndian.AppendUint32(b, 0)
}

func TestDigestsFollowTheDeclaredBanks(t *testing.T) {
	const odd = tpm2.Alg(0x010B) // SHA-256 to a reader of eight bits
	two := []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256}
	for name, tc := range map[string]struct {
		spec, event []tpm2.Alg
		want        error
	}{
		"all":              {two, two, nil},
		"another order":    {two, []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA1}, nil},
		"fewer":            {two, two[1:], nil},
		"none":             {two, nil, nil},
		"one twice":        {two, []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA1}, ErrDigests},
		"undeclared":       {two, []tpm2.Alg{tpm2.AlgSHA384}, ErrDigests},
		"more":             {two[:1], two, ErrDigests},
		"16-bit number":    {two, []tpm2.Alg{odd}, ErrDigests},
		"unknown declared": {[]tpm2.Alg{odd, tpm2.AlgSHA256}, []tpm2.Alg{odd, tpm2.AlgSHA256}, nil},
		"six banks":        {[]tpm2.Alg{1, 2, 3, 5, 6, 7}, nil, ErrSpecID},
	} {
		l, err := Parse(append(specID(tc.spec...), agileRecord(tc.event...)...))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: Parse = %v, want %v", name, err, tc.want)
			continue
		}
		if err != nil {
			continue
		}
		e := l.Events()[1]
		for _, a := range tc.spec {
			var want []byte
			if slices.Contains(tc.event, a) {
				want = bytes.Repeat([]byte{byte(a)}, max(a.DigestSize(), 7))
			}
			if got := e.Digest(a); !bytes.Equal(got, want) {
				t.Errorf("%s: Digest(%#x) = %x, want %x", name, uint16(a), got, want)
			}
		}
	}
}

func TestReplayNeedsADigestOfTheBankInEachEvent(t *testing.T) {
	l, err := Parse(slices.Concat(specID(tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSM3), agileRecord(tpm2.AlgSHA256, tpm2.AlgSM3), agileRecord(tpm2.AlgSHA256, tpm2.AlgSM3)))
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[tpm2.Alg]error{
		tpm2.AlgSHA256: nil,
		tpm2.AlgSHA1:   ErrIncomplete,
		tpm2.AlgSHA512: ErrNoBank,
		tpm2.AlgSM3:    ErrNoHash,
	} {
		if _, err := l.Replay(a); !errors.Is(err, want) {
			t.Errorf("Replay(%s) = %v, want %v", a.BankName(), err, want)
		}
	}
}

func TestStartValueOfRegisters(t *testing.T) {
	post := made{pcr: 0, typ: PostCode, data: "x"}
	locality := func(n string) made { return made{pcr: 0, typ: NoAction, data: localitySignature + n} }
	from := func(start byte) string {
		var r Registers
		r.alg, r.size = tpm2.AlgSHA256, 32
		r.values[0][31] = start
		var d [tpm2.MaxDigest]byte
		sum(tpm2.AlgSHA256, d[:], []byte("x"))
		r.extend(0, d[:32])
		return hex.EncodeToString(r.Value(0))
	}
	hcrtm := made{pcr: 0, typ: EFIHCRTMEvent, data: "x"}
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"zero":                     {[]made{post}, from(0)},
		"locality 3":               {[]made{locality("\x03"), post}, from(3)},
		"locality 4":               {[]made{locality("\x04"), post}, from(4)},
		"locality 0":               {[]made{locality("\x00"), post}, from(0)},
		"locality 2 is none":       {[]made{locality("\x02"), post}, from(0)},
		"locality of another size": {[]made{locality("\x03\x00"), post}, from(0)},
		"locality in PCR 1":        {[]made{{pcr: 1, typ: NoAction, data: localitySignature + "\x03"}, post}, from(0)},
		"locality too late":        {[]made{post, locality("\x03")}, from(0)},
		"H-CRTM":                   {[]made{hcrtm}, from(4)},
	} {
		r, err := makeLog(t, tc.events...).Replay(tpm2.AlgSHA256)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(r.Value(0)); got != tc.want {
			t.Errorf("%s: PCR 0 = %s, want %s", name, got, tc.want)
		}
	}
}

func TestRegistersOfADynamicLaunchStartAtOnes(t *testing.T) {
	r, err := makeLog(t, made{pcr: 18, typ: EventTag, data: "x"}).Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	for pcr, want := range map[int]byte{0: 0, 16: 0, 17: 0xFF, 22: 0xFF, 23: 0} {
		if got := r.Value(pcr); got[0] != want || r.Extended(pcr) {
			t.Errorf("PCR %d = %x, extended %v", pcr, got, r.Extended(pcr))
		}
	}
	if !r.Extended(18) || r.Value(24) != nil || r.Value(-1) != nil || r.Extended(-1) || r.Extended(24) {
		t.Error("PCR 18 is not extended, or there are more than 24 PCRs")
	}
	if zero := new(Registers); zero.Value(0) != nil || zero.Extended(0) {
		t.Error("the zero Registers have values")
	}
}

func TestFormatsAreToldApart(t *testing.T) {
	cc := append(specID(tpm2.AlgSHA384), agileRecord(tpm2.AlgSHA384)...)
	seven := bytes.Clone(cc)
	binary.LittleEndian.PutUint32(seven[len(specID(tpm2.AlgSHA384)):], 7)
	for name, tc := range map[string]struct {
		in   []byte
		want Format
	}{
		"tcg2":               {makeLogBytes(made{pcr: 4, typ: IPL}), FormatTCG2},
		"tcg1":               {sha1Record(4, IPL, "x"), FormatTCG1},
		"wbcl":               {makeLogBytes(made{pcr: 13, typ: Separator, data: wbclMarker}), FormatWBCL},
		"wbcl of TPM 1.2":    {sha1Record(12, EventTag, "\x01\x00\x01\x40\x00\x00\x00\x00"), FormatWBCL},
		"cc":                 {cc, FormatCC},
		"SHA-384 with PCR 7": {seven, FormatTCG2},
	} {
		l, err := Parse(tc.in)
		if err != nil || l.Format() != tc.want {
			t.Errorf("%s: %v, %v, want %v", name, l.Format(), err, tc.want)
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

// FuzzAnalyse takes a log through all that a verifier or the command line does.
func FuzzAnalyse(f *testing.F) {
	for name, b := range samples(f) {
		if strings.HasSuffix(name, ".bin") && len(b) < 12000 {
			f.Add(b)
		}
	}
	f.Add(makeLogBytes(secureBootEvents()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		for _, a := range replayable {
			in, err := l.Inspect(a)
			if err != nil {
				continue
			}
			in.Claims()
			in.Early()
			in.Late()
			in.Components()
			in.Findings()
			r, err := l.Replay(a)
			if err != nil {
				t.Fatalf("Inspect replays %s, Replay does not: %v", a.BankName(), err)
			}
			quoted := map[int][]byte{}
			for pcr := range 15 {
				quoted[pcr] = r.Value(pcr)
			}
			if c, err := l.Confirm(a, quoted); err == nil {
				c.Claims()
			}
		}
	})
}
