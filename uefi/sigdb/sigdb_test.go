package sigdb

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/uefi"
)

// makeList lays out one EFI_SIGNATURE_LIST.
func makeList(typ uefi.GUID, header []byte, each int, entries ...[]byte) []byte {
	size := listHeader + len(header) + each*len(entries)
	b := append([]byte{}, typ[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	b = binary.LittleEndian.AppendUint32(b, uint32(each))
	b = append(b, header...)
	for _, e := range entries {
		b = append(b, make([]byte, 16)...)
		b = append(b, e...)
	}
	return b
}

func testCertificate(t testing.TB, subject pkix.Name) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestAllSignaturesOfAllListsAreRead(t *testing.T) {
	cert := testCertificate(t, pkix.Name{CommonName: "a key"})
	hash1, hash2 := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	b := append(makeList(X509, nil, 16+len(cert), cert), makeList(SHA256, []byte{9, 9}, 48, hash1, hash2)...)
	b = append(b, makeList(SHA256, nil, 48)...)
	d, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for s := range d.All() {
		got = append(got, s.Data)
	}
	if diff := cmp.Diff([][]byte{cert, hash1, hash2}, got); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
	if c := d.Count(); c != (Count{Certificates: 1, Digests: 2}) {
		t.Errorf("Count() = %+v", c)
	}
}

func TestListsThatContradictThemselvesAreRefused(t *testing.T) {
	good := makeList(SHA256, nil, 48, make([]byte, 32))
	put := func(at int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"signature of 0 bytes":      put(24, 0),
		"signature of 16 bytes":     put(24, 16),
		"signatures do not fill":    put(24, 47),
		"size below the header":     put(16, 27),
		"size 0":                    put(16, 0),
		"size beyond the end":       put(16, uint32(len(good)+1)),
		"size overflows 32 bits":    put(16, 0xFFFFFFFF),
		"header overflows 32 bits":  put(20, 0xFFFFFFFF),
		"header larger than list":   put(20, 49),
		"trailing byte":             append(bytes.Clone(good), 0),
		"signature size overflows":  put(24, 0xFFFFFFFF),
		"size of the header itself": put(16, listHeader+1),
	} {
		if _, err := Parse(b); !errors.Is(err, ErrList) {
			t.Errorf("%s: Parse = %v, want %v", name, err, ErrList)
		}
	}
	for n := 1; n < len(good); n++ {
		if _, err := Parse(good[:n]); !errors.Is(err, ErrList) {
			t.Errorf("first %d bytes: Parse = %v, want %v", n, err, ErrList)
		}
	}
	if _, err := Parse(nil); err != nil {
		t.Errorf("an empty database is one: %v", err)
	}
}

func TestNamesOfCertificatesAreReadLeniently(t *testing.T) {
	named := testCertificate(t, pkix.Name{CommonName: "UEFI CA", Organization: []string{"Example"}})
	unnamed := testCertificate(t, pkix.Name{Organization: []string{"Example"}, Country: []string{"DE"}})
	negative := bytes.Replace(named, []byte{0x02, 0x01, 0x01}, []byte{0x02, 0x01, 0xFF}, 1)
	for name, tc := range map[string]struct {
		der     []byte
		subject string
	}{
		"common name":     {named, "UEFI CA"},
		"no common name":  {unnamed, "DE, Example"},
		"negative serial": {negative, "UEFI CA"},
	} {
		subject, issuer, ok := Names(tc.der)
		if !ok || subject != tc.subject || issuer != tc.subject {
			t.Errorf("%s: Names = %q, %q, %v, want %q twice", name, subject, issuer, ok, tc.subject)
		}
	}
	if _, err := x509.ParseCertificate(negative); err == nil {
		t.Error("crypto/x509 takes the negative serial: the case shows nothing any more")
	}
	if _, _, ok := Names(named[:60]); ok {
		t.Error("a cut certificate has names")
	}
}

func TestSBATLevelIsRead(t *testing.T) {
	got, err := ParseSBATLevel([]byte("sbat,1,2025021800\nshim,4\ngrub,5\n\x00"))
	if err != nil {
		t.Fatal(err)
	}
	want := &SBATLevel{Date: "2025021800", Components: []SBATComponent{{"sbat", 1}, {"shim", 4}, {"grub", 5}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParseSBATLevel (-want +got):\n%s", d)
	}
	for _, bad := range []string{"", "\n", "shim,4", "sbat", "sbat,x", "sbat,1\n,2", "sbat,1\nshim,-1"} {
		if _, err := ParseSBATLevel([]byte(bad)); !errors.Is(err, ErrSBAT) {
			t.Errorf("ParseSBATLevel(%q) = %v, want %v", bad, err, ErrSBAT)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(makeList(SHA256, []byte{1}, 48, make([]byte, 32), make([]byte, 32)))
	f.Add(makeList(X509, nil, 16+40, make([]byte, 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		n := 0
		for s := range d.All() {
			n++
			_, _, _ = Names(s.Data)
		}
		if c := d.Count(); c.Certificates+c.Digests+c.Others != n {
			t.Fatalf("Count() = %+v, All gives %d", c, n)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add(testCertificate(f, pkix.Name{CommonName: "x"}))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = Names(b) })
}

func FuzzSBATLevel(f *testing.F) {
	f.Add([]byte("sbat,1,2025021800\nshim,4\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = ParseSBATLevel(b) })
}
