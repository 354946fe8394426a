package libtpms

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// CVE-2022-23645: swtpm took the size of the header from the header of a state file and
// read from there on, also beyond its end. Each size of a header but its own is refused,
// and so is each size of the whole but the file's.
func TestCVE2022x23645TheHeaderOfAStateFileLies(t *testing.T) {
	file := sample(t, "suspended.permall")
	if _, err := Open(file, nil); err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(file)
	for size := range uint16(1<<16 - 1) {
		binary.BigEndian.PutUint16(b[2:], size)
		if _, err := Open(b, nil); size != fileHeaderSize && !errors.Is(err, ErrFormat) {
			t.Fatalf("a header that says that it has %d bytes: %v", size, err)
		}
	}
	for _, total := range []uint32{0, 1, fileHeaderSize, uint32(len(file) - 1), uint32(len(file) + 1), 1 << 31, 1<<32 - 1} {
		b := bytes.Clone(file)
		binary.BigEndian.PutUint32(b[6:], total)
		if _, err := Open(b, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("a header that says that the file has %d bytes: %v", total, err)
		}
	}
	for n := range fileHeaderSize {
		if _, err := Open(file[:n], nil); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes of a header: %v", n, err)
		}
	}
}

// swtpm issues 1171 and 1179: in its linear files, which hold several states in one, an
// offset and a size whose sum overflows reached beyond the file. Such a file is not read
// at all: neither its table nor anything that it points to.
func TestSWTPM1171LinearFilesAreNotRead(t *testing.T) {
	for name, section := range map[string]struct{ offset, length uint32 }{
		"good":           {64, 16},
		"beyond the end": {1 << 20, 16},
		"overflow":       {1<<32 - 8, 16},
		"all there is":   {0, 1<<32 - 1},
	} {
		b := append([]byte("swtpmlin"), 0, 1, 0, 64) // magic, version, size of the header
		for range 4 {
			b = binary.BigEndian.AppendUint32(b, section.offset)
			b = binary.BigEndian.AppendUint32(b, section.length)
		}
		b = append(b, sample(t, "suspended.permall")...)
		if s, err := Open(b, nil); s != nil || !errors.Is(err, ErrVersion) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: Open = %v, %v, want a refusal", name, s != nil, err)
		}
		if _, err := KeyBits(b); err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: KeyBits = %v", name, err)
		}
	}
}
