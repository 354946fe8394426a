//go:build unix

package state

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/wire"
)

var update = flag.Bool("update", false, "make the golden files that are missing")

// goldenID is the TPM of the golden files.
func goldenID() ID {
	return ID{0, 1, 2, 3, 4, 5, 0x46, 7, 0x88, 9, 10, 11, 12, 13, 14, 15}
}

// makeGolden makes the files of the newest version.
func makeGolden(t *testing.T, cfg Config) (nvram, entry []byte) {
	t.Helper()
	a := newMemAnchor()
	cfg.Anchor = a
	data, f := imageOf(t, cfg, goldenID(), 5)
	c := content(6)
	c.Volatile = []byte("volatile")
	mustSave(t, f, c)
	d := f.cfg.disk.(*memDisk)
	d.left, d.torn = 0, blockSize
	mustBeCut(t, f.SavePermanent(content(7).Permanent))
	e := &entryOf{goldenID(), a.known[goldenID()]}
	return data, e.encode()
}

// entryOf is a ledger's file for one TPM.
type entryOf struct {
	id   ID
	mark Mark
}

func (e *entryOf) encode() []byte {
	one := (&entry{Version: Version, Oldest: Version, id: e.id, turn: 1, mark: e.mark}).encode()
	return append((&entry{Version: Version, Oldest: Version, id: e.id}).encode(), one...)
}

func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGoldenFilesOfEveryVersionStayReadable(t *testing.T) {
	dir := t.TempDir()
	cfg, err := sharedConfig(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Now = noon
	nvram, ledger := "testdata/v1.nvram.gz", "testdata/v1.ledger"
	if _, err := os.Stat(nvram); *update && errors.Is(err, os.ErrNotExist) {
		data, entry := makeGolden(t, cfg)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(data)
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, nvram, b.Bytes())
		mustWrite(t, ledger, entry)
	}
	path := filepath.Join(dir, "f")
	mustWrite(t, path, gunzip(t, mustRead(t, nvram)))
	mustWrite(t, filepath.Join(dir, "anchors", goldenID().String()), mustRead(t, ledger))
	f, got := mustOpen(t, path, cfg)
	want := content(6)
	want.Volatile = []byte("volatile")
	if diff := cmp.Diff(want, got); diff != "" || f.ID() != goldenID() || f.Generation() != 6 || !f.Anchored() || !f.Saved().Equal(noon()) {
		t.Errorf("generation %d of %s, anchored %v: %s", f.Generation(), f.ID(), f.Anchored(), diff)
	}
	if n := f.Notices(); len(n) != 1 || n[0].Kind != Torn {
		t.Errorf("notices %v", n)
	}
	mustSave(t, f, content(8))
	mustClose(t, f)
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(8)) {
		t.Errorf("goes on: %v", err)
	}
}

func testHeader() *header {
	return &header{Version: 1, Oldest: 1, id: goldenID(), slots: slotCount, slotSize: minSlotSize, provider: []byte("vault-1"), wrapped: []byte("wrapped"), extra: []byte{}}
}

func testFileKey() seal.Secret { return seal.NewSecret(bytes.Repeat([]byte{9}, seal.KeySize)) }

func TestEveryOtherSpellingOfAHeaderIsRefused(t *testing.T) {
	good, err := testHeader().encode(testFileKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseHeader(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := parseHeader(good[:n]); err == nil {
			t.Errorf("the first %d bytes are a header", n)
		}
	}
	if _, err := parseHeader(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte more is a header")
	}
	for name, change := range map[string]func(*header){
		"version 0":             func(h *header) { h.Version = 0 },
		"oldest reader 0":       func(h *header) { h.Oldest = 0 },
		"oldest above version":  func(h *header) { h.Version, h.Oldest = 1, 2 },
		"no id":                 func(h *header) { h.id = ID{} },
		"five slots":            func(h *header) { h.slots = 5 },
		"small slots":           func(h *header) { h.slotSize = minSlotSize - blockSize },
		"large slots":           func(h *header) { h.slotSize = maxSlotSize + blockSize },
		"half a block":          func(h *header) { h.slotSize = minSlotSize + 1 },
		"long provider":         func(h *header) { h.provider = make([]byte, 256) },
		"no wrapped key":        func(h *header) { h.wrapped = nil },
		"long wrapped key":      func(h *header) { h.wrapped = make([]byte, maxWrapped+1) },
		"extra in version 1":    func(h *header) { h.extra = []byte{1} },
		"long extra, version 2": func(h *header) { h.Version = 2; h.extra = make([]byte, maxHeaderExtra+1) },
	} {
		h := testHeader()
		change(h)
		if b, err := h.encode(testFileKey()); err == nil {
			t.Errorf("%s: written as %x", name, b[:40])
		}
	}
	later := testHeader()
	later.Version, later.extra = 2, []byte("later")
	b, err := later.encode(testFileKey())
	if err != nil {
		t.Fatal(err)
	}
	if h, err := parseHeader(b); err != nil || string(h.extra) != "later" {
		t.Errorf("a later version that we can read: %v", err)
	}
	b[headerSize-sha256Size-1] = 1
	redigest(b)
	if _, err := parseHeader(b); !errors.Is(err, Damaged) {
		t.Errorf("something after the fields: %v", err)
	}
}

const sha256Size = 32

func redigest(b []byte) {
	sum := digest(b[:headerSize-sha256Size])
	copy(b[headerSize-sha256Size:], sum[:])
}

// The header's MAC is over all of it: a change with a digest that fits is seen too.
func TestAHeaderThatSomebodyChangedDoesNotPass(t *testing.T) {
	cfg := config(t)
	data, _ := image(t, cfg, 3)
	for name, at := range map[string]int{"id": 12, "provider": 12 + 16 + 1 + 4 + 2, "wrapped": 12 + 16 + 1 + 4 + 2 + 4 + 2 + 120} {
		b := bytes.Clone(data)
		for _, h := range [][]byte{b[:headerSize], b[len(b)-headerSize:]} {
			h[at] ^= 1
			redigest(h)
		}
		_, _, err := openBytes(cfg, b)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != BadProvider && fault.Kind != WrongKey {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testRecord() *record {
	return &record{generation: 9, saved: 5, anchored: true, recovered: 3, table: [slotCount]uint64{9, 6, 7, 8}, permanent: []byte("p"), volatile: []byte("v"), meta: []byte("m"), extra: []byte{}}
}

func TestEveryPrefixOfARecordIsRefused(t *testing.T) {
	r := testRecord()
	text, err := wire.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := recordOverhead + 3; len(text) != want {
		t.Errorf("record of %d bytes, want %d", len(text), want)
	}
	for n := range text {
		if err := wire.Decode(text[:n], new(record)); !errors.Is(err, wire.ErrShort) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	if err := wire.Decode(append(text, 0), new(record)); !errors.Is(err, wire.ErrTrailing) {
		t.Errorf("a byte more: %v", err)
	}
	sealed, err := sealText(&zeros{}, testFileKey(), goldenID(), 9, text)
	if err != nil || len(sealed) != len(text)+sealOverhead {
		t.Fatalf("sealed to %d bytes, %v", len(sealed), err)
	}
	if _, err := openSealed(testFileKey(), goldenID(), 8, sealed); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("as another generation: %v", err)
	}
	if _, err := openSealed(testFileKey(), ID{1}, 9, sealed); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("as another TPM: %v", err)
	}
	// Sealed by a holder of the key, and yet not what it says.
	sealed, err = sealText(&zeros{}, testFileKey(), goldenID(), 10, text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSealed(testFileKey(), goldenID(), 10, sealed); err == nil {
		t.Error("a record of generation 9 opens as 10")
	}
}

// zeros is a random source for texts that must come out the same.
type zeros struct{}

func (*zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestInspectNeedsNoKey(t *testing.T) {
	cfg := config(t)
	path, id := saved(t, cfg, 6)
	info, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.ID != id || info.Version != 1 || info.Oldest != 1 || info.Provider != "test" || info.Newest() != 6 || !generationsAre(info, 3, 4, 5, 6) || info.SlotSize != minSlotSize {
		t.Errorf("%+v", info)
	}
	if e, err := seal.Parse(info.Wrapped); err != nil || e.KeyID() == "" {
		t.Errorf("wrapped key: %v", err)
	}
	for _, s := range info.Slots {
		if !s.Saved.Equal(noon()) {
			t.Errorf("%+v", s)
		}
	}
}

func FuzzHeader(f *testing.F) {
	good, err := testHeader().encode(testFileKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:200])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > headerSize-sha256Size {
			return
		}
		b = append(b, make([]byte, headerSize-len(b))...)
		redigest(b)
		h, err := parseHeader(b)
		if err != nil {
			var k Kind
			if !errors.As(err, &k) {
				t.Fatalf("not a kind of fault: %v", err)
			}
			return
		}
		again, err := wire.Encode(h)
		if err != nil || !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("written back as %x, %v", again, err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	text, err := wire.Encode(testRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if wire.Decode(b, &r) != nil {
			return
		}
		if again, err := wire.Encode(&r); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written back as %x, %v", again, err)
		}
	})
}

// FuzzOpen changes a file by a script: at each offset so many bytes are replaced,
// and where it asks for it the block gets a stamp that fits.
func FuzzOpen(f *testing.F) {
	p, err := sharedConfig(filepath.Join(f.TempDir(), "f"))
	if err != nil {
		f.Fatal(err)
	}
	p.Anchor = nil
	data, _ := image(f, p, 7)
	f.Add([]byte{0, 0, 1, 4, 1, 2, 3, 4}, false)
	f.Add([]byte{0x40, 0x10, 0, 1, 9}, true)
	f.Fuzz(func(t *testing.T, script []byte, fits bool) {
		b := bytes.Clone(data)
		for len(script) >= 4 {
			at := (int(script[0])<<16 | int(script[1])<<8 | int(script[2])) % len(b)
			n := min(int(script[3]), len(script)-4, len(b)-at)
			copy(b[at:], script[4:4+n])
			script = script[4+n:]
			if block := at / blockSize * blockSize; fits && at >= headerSize && at < len(b)-headerSize {
				s, _ := readStamp(b[block : block+blockSize])
				if s.generation == 0 {
					s = stamp{uint64(at), uint8((at - headerSize) / minSlotSize), uint16((at - headerSize) % minSlotSize / blockSize)}
				}
				s.seal(b[block : block+blockSize])
			}
			if len(script) > 0 && script[0] == 0xff {
				b = b[:at]
				break
			}
		}
		got, _, err := openBytes(p, b)
		if err != nil {
			var fault *Fault
			if !errors.As(err, &fault) {
				t.Fatalf("not a fault: %v", err)
			}
			return
		}
		// Who sets stamps can pass the newest generation off as an unfinished one:
		// that is a roll-back, which only an anchor can tell.
		if n := numberOf(got); !same(got, content(n)) || n < 4 || n > 7 {
			t.Fatalf("opens as %.60q", got.Permanent)
		}
	})
}

func FuzzLedgerEntry(f *testing.F) {
	e := &entryOf{goldenID(), mark(4)}
	f.Add(e.encode()[entrySize : entrySize+100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > entrySize-4 {
			return
		}
		b = append(b, make([]byte, entrySize-len(b))...)
		sum := checksum(b)
		copy(b[entrySize-4:], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
		e, err := parseEntries(b, goldenID())
		if err != nil && !errors.Is(err, ErrLedgerEntry) || err == nil && e.id != goldenID() {
			t.Fatalf("%+v, %v", e, err)
		}
	})
}
