package disk

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// Of a folder's entries (FAT specification, "FAT Directory Structure").
const (
	entrySize     = 32
	attrVolume    = 0x08
	attrFolder    = 0x10
	attrLongName  = 0x0F
	entryDeleted  = 0xE5
	lastLongEntry = 0x40
	maxLongName   = 20 // entries: 255 characters
)

// folder reads the entries of a folder.
func (f *FAT) folder(e Entry) ([]Entry, error) {
	parts := []extent{f.root}
	if e.first != 0 { // FAT specification: a folder with cluster 0 is the root
		var err error
		if parts, err = f.chain(e.first, -1); err != nil {
			return nil, err
		}
	}
	var out []Entry
	var long longName
	for _, p := range parts {
		b, err := read(f.r, p.at, int(p.size))
		if err != nil {
			return nil, err
		}
		for ; len(b) >= entrySize; b = b[entrySize:] {
			raw := b[:entrySize]
			switch {
			case raw[0] == 0:
				return out, nil
			case raw[0] == entryDeleted:
				long = longName{}
			case raw[11]&0x3F == attrLongName:
				long.add(raw)
			case raw[11]&attrVolume != 0:
				long = longName{}
			default:
				if e := f.entry(raw, &long); e.short != "." && e.short != ".." {
					out = append(out, e)
				}
				long = longName{}
			}
		}
	}
	return out, nil
}

// entry reads a short entry, with the long name before it.
func (f *FAT) entry(raw []byte, long *longName) Entry {
	le := binary.LittleEndian
	e := Entry{Folder: raw[11]&attrFolder != 0, Size: int64(le.Uint32(raw[28:])), first: uint32(le.Uint16(raw[26:]))}
	if f.width == 32 {
		e.first |= uint32(le.Uint16(raw[20:])) << 16
	}
	name := strings.TrimRight(string(raw[:8]), " ")
	if raw[0] == 0x05 { // stands for a first character 0xE5, which says that an entry is deleted
		name = "\xE5" + name[1:]
	}
	if ext := strings.TrimRight(string(raw[8:11]), " "); ext != "" {
		name += "." + ext
	}
	e.short, e.Name = name, name
	if text, ok := long.name(raw[:11]); ok {
		e.Name = text
	}
	return e
}

// A longName gathers the entries of a long name, which come last part first.
type longName struct {
	units    []uint16
	expected byte // order of the next part; 0 when all are there
	sum      byte
	started  bool
}

func (l *longName) add(raw []byte) {
	order := raw[0]
	if order&lastLongEntry != 0 {
		*l = longName{expected: order &^ lastLongEntry, sum: raw[13], started: true}
		if l.expected == 0 || l.expected > maxLongName {
			*l = longName{}
			return
		}
	}
	if !l.started || order&^lastLongEntry != l.expected || raw[13] != l.sum {
		*l = longName{}
		return
	}
	var part []uint16
	for _, at := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := at[0]; i < at[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(raw[i:]))
		}
	}
	l.units = append(part, l.units...)
	l.expected--
}

// name returns the long name, when all its parts are there and of this short name.
func (l *longName) name(short []byte) (string, bool) {
	if !l.started || l.expected != 0 || l.sum != checksum(short) {
		return "", false
	}
	units := l.units
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units)), len(units) > 0
}

// checksum ties a long name to its short one (FAT specification, ChkSum).
func checksum(short []byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}
