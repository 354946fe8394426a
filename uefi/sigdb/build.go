package sigdb

import (
	"encoding/binary"

	"github.com/assay-project/assay/uefi"
)

// sizes are those of the data of each type that firmware takes; 0 is any (edk2,
// mSupportSigItem).
var sizes = map[uefi.GUID]int{
	X509: 0, SHA1: 20, SHA256: 32, SHA384: 48, SHA512: 64, RSA2048: 256,
	X509SHA256: 32 + uefi.TimeSize, X509SHA384: 48 + uefi.TimeSize, X509SHA512: 64 + uefi.TimeSize,
}

// Encode lays signatures out as lists, in order: a certificate has a list of its own,
// and digests of one type that follow one another share one.
func Encode(signatures []Signature) []byte {
	var out []byte
	for at, s := range signatures {
		each := 16 + len(s.Data)
		if last := at - 1; last >= 0 && s.Type != X509 && signatures[last].Type == s.Type && len(signatures[last].Data) == len(s.Data) {
			out = append(append(out, s.Owner[:]...), s.Data...)
			continue
		}
		n := 1 // how many share the list
		for s.Type != X509 && at+n < len(signatures) && signatures[at+n].Type == s.Type && len(signatures[at+n].Data) == len(s.Data) {
			n++
		}
		out = append(out, s.Type[:]...)
		out = binary.LittleEndian.AppendUint32(out, uint32(listHeader+n*each))
		out = binary.LittleEndian.AppendUint32(out, 0)
		out = binary.LittleEndian.AppendUint32(out, uint32(each))
		out = append(append(out, s.Owner[:]...), s.Data...)
	}
	return out
}

// merge returns what an append of the lists more to the lists old leaves: old, then
// those signatures of more that old does not have, owner included (edk2,
// FilterSignatureList).
func merge(old, more *Database) []byte {
	known := map[string]bool{}
	key := func(s Signature) string { return string(s.Type[:]) + string(s.Owner[:]) + string(s.Data) }
	for s := range old.All() {
		known[key(s)] = true
	}
	out := append([]byte(nil), old.data...)
	for b := more.data; len(b) > 0; {
		l, err := list(b)
		if err != nil {
			return out // Parse has seen the same bytes
		}
		typ := uefi.GUID(b[:16])
		kept := append([]byte(nil), b[:listHeader+l.header]...)
		for s := b[listHeader+l.header : l.size]; len(s) >= l.each; s = s[l.each:] {
			if !known[key(Signature{typ, uefi.GUID(s[:16]), s[16:l.each]})] {
				kept = append(kept, s[:l.each]...)
			}
		}
		if len(kept) > listHeader+l.header {
			binary.LittleEndian.PutUint32(kept[16:], uint32(len(kept)))
			out = append(out, kept...)
		}
		b = b[l.size:]
	}
	return out
}
