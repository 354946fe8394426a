package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// keys are made once; small ones, which firmware takes as well.
var keys = sync.OnceValue(func() []*rsa.PrivateKey {
	out := make([]*rsa.PrivateKey, 4)
	for i := range out {
		out[i], _ = rsa.GenerateKey(rand.Reader, 1024)
	}
	return out
})

// A signer is a certificate with its key.
type signer struct {
	x509 *x509.Certificate
	cert *cms.Certificate
	key  *rsa.PrivateKey
}

// issue makes a certificate that is over; parent nil signs itself.
func issue(t testing.TB, i int, name string, parent *signer) *signer {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, IsCA: parent == nil, BasicConstraintsValid: true,
		NotBefore: time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	s := &signer{key: keys()[i]}
	if parent == nil {
		parent = &signer{x509: c, key: s.key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.x509, s.key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if s.x509, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if s.cert, err = cms.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return s
}

// makeImage lays out a small PE32+ image with two sections, out of order in the
// file, and something behind them.
func makeImage(tail int) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0x600+tail)
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], 0x80)
	copy(b[0x80:], "PE\x00\x00\x64\x86\x02\x00")
	le.PutUint16(b[0x80+20:], 112+16*8)
	o := b[0x98:]
	le.PutUint16(o, 0x20B)
	le.PutUint32(o[60:], 0x200) // SizeOfHeaders
	le.PutUint16(o[68:], 10)    // EFI application
	le.PutUint32(o[108:], 16)
	for n, s := range []struct {
		name   string
		offset uint32
	}{{".text", 0x400}, {".data", 0x200}} {
		e := b[0x98+112+16*8+40*n:]
		copy(e, s.name)
		le.PutUint32(e[8:], 0x180)
		le.PutUint32(e[12:], 0x1000*uint32(n+1))
		le.PutUint32(e[16:], 0x200)
		le.PutUint32(e[20:], s.offset)
	}
	for i := 0x200; i < len(b); i++ {
		b[i] = byte(i * 7)
	}
	return b
}

// directory is where the security directory of makeImage is.
const directory = 0x98 + 112 + 8*4

func parse(t testing.TB, b []byte) *authenticode.Image {
	t.Helper()
	i, err := authenticode.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func sign(t testing.TB, image []byte, by *signer, along ...*signer) []byte {
	t.Helper()
	s := cms.Signing{Random: rand.Reader, Key: by.key, Certificate: by.cert}
	for _, a := range along {
		s.Others = append(s.Others, a.cert)
	}
	out, err := authenticode.Sign(image, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// list is a database of entries; a type of nil ends none.
func list(t testing.TB, entries ...sigdb.Signature) *sigdb.Database {
	t.Helper()
	var b []byte
	for _, e := range entries {
		size := uint32(28 + 16 + len(e.Data))
		b = append(b, e.Type[:]...)
		b = binary.LittleEndian.AppendUint32(b, size)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, size-28)
		b = append(append(b, e.Owner[:]...), e.Data...)
	}
	d, err := sigdb.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func cert(s *signer) sigdb.Signature { return sigdb.Signature{Type: sigdb.X509, Data: s.cert.Raw} }

func imageDigest(t testing.TB, b []byte, h crypto.Hash, typ uefi.GUID) sigdb.Signature {
	t.Helper()
	d, err := parse(t, b).Digest(h)
	if err != nil {
		t.Fatal(err)
	}
	return sigdb.Signature{Type: typ, Data: d}
}

// tbs is an entry with the digest of a certificate and a time of revocation.
func tbs(s *signer, h crypto.Hash, typ uefi.GUID) sigdb.Signature {
	w := h.New()
	w.Write(s.cert.TBS)
	return sigdb.Signature{Type: typ, Data: append(w.Sum(nil), make([]byte, 16)...)}
}

func codes(err error) (out []evidence.Code) {
	for _, r := range evidence.Reasons(err) {
		out = append(out, r.Code)
	}
	return out
}

func TestTheDigestCoversAllButChecksumAndSignatures(t *testing.T) {
	for _, tail := range []int{0, 3} {
		b := makeImage(tail)
		want, err := parse(t, b).Digest(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(b); i += 1 + i/0x200*6 { // every byte of the headers, some of the rest
			c := bytes.Clone(b)
			c[i] ^= 0x10
			image, err := authenticode.Parse(bytes.NewReader(c), int64(len(c)))
			if err != nil {
				continue
			}
			free := i >= 0x98+64 && i < 0x98+68 || i >= directory && i < directory+8
			got, err := image.Digest(crypto.SHA256)
			if err == nil && bytes.Equal(got, want) != free {
				t.Errorf("tail %d, byte %#x: same digest %v, want %v", tail, i, !free, free)
			}
		}
	}
}

func TestTheDigestIsOfTheFileAsItIs(t *testing.T) {
	by := issue(t, 0, "signer", nil)
	odd, even := makeImage(3), append(makeImage(3), make([]byte, 5)...)
	a, b := imageDigest(t, odd, crypto.SHA256, sigdb.SHA256), imageDigest(t, even, crypto.SHA256, sigdb.SHA256)
	if bytes.Equal(a.Data, b.Data) {
		t.Error("fill at the end of an unsigned file makes no difference")
	}
	if c := imageDigest(t, sign(t, odd, by), crypto.SHA256, sigdb.SHA256); !bytes.Equal(b.Data, c.Data) {
		t.Error("the signed file has another digest than the filled one")
	}
}

func TestImagesAreJudgedAsFirmwareJudgesThem(t *testing.T) {
	root, other := issue(t, 0, "root", nil), issue(t, 1, "other", nil)
	leaf := issue(t, 2, "leaf", root)
	plain := makeImage(0)
	signed, twice := sign(t, plain, leaf), sign(t, sign(t, plain, leaf), other)
	sha := func(b []byte) sigdb.Signature { return imageDigest(t, b, crypto.SHA256, sigdb.SHA256) }
	for name, tc := range map[string]struct {
		image   []byte
		db, dbx []sigdb.Signature
		want    []evidence.Code // none: it starts
		by      int
	}{
		"unsigned":                                       {plain, []sigdb.Signature{cert(root)}, nil, []evidence.Code{"image.unsigned"}, 0},
		"unsigned, its digest in db":                     {plain, []sigdb.Signature{sha(plain)}, nil, nil, 0},
		"unsigned, its SHA-512 in db":                    {plain, []sigdb.Signature{imageDigest(t, plain, crypto.SHA512, sigdb.SHA512)}, nil, nil, 0},
		"unsigned, its digest in both":                   {plain, []sigdb.Signature{sha(plain)}, []sigdb.Signature{sha(plain)}, []evidence.Code{"image.revoked-hash"}, 0},
		"unsigned, its SHA-384 in dbx":                   {plain, []sigdb.Signature{sha(plain)}, []sigdb.Signature{imageDigest(t, plain, crypto.SHA384, sigdb.SHA384)}, []evidence.Code{"image.revoked-hash"}, 0},
		"its digest in db, as that of another algorithm": {plain, []sigdb.Signature{{Type: sigdb.SHA1, Data: sha(plain).Data}}, nil, []evidence.Code{"image.unsigned"}, 0},
		"no database":                                    {signed, nil, nil, []evidence.Code{"image.no-anchor"}, 0},
		"under the root in db":                           {signed, []sigdb.Signature{cert(other), cert(root)}, nil, nil, 1},
		"the signer in db":                               {signed, []sigdb.Signature{cert(leaf)}, nil, nil, 1},
		"another root in db":                             {signed, []sigdb.Signature{cert(other)}, nil, []evidence.Code{"image.no-anchor"}, 0},
		"signed by nobody in db, its digest is":          {signed, []sigdb.Signature{cert(other), sha(signed)}, nil, nil, 0},
		"its digest in dbx":                              {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{sha(signed)}, []evidence.Code{"image.revoked-hash"}, 0},
		"its digest in dbx, of an algorithm not used":    {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{imageDigest(t, signed, crypto.SHA384, sigdb.SHA384)}, nil, 1},
		"its root in dbx":                                {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{cert(root)}, []evidence.Code{"image.revoked-certificate"}, 0},
		"its signer in dbx":                              {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{cert(leaf)}, []evidence.Code{"image.revoked-certificate"}, 0},
		"the digest of its signer's certificate in dbx":  {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{tbs(leaf, crypto.SHA256, sigdb.X509SHA256)}, []evidence.Code{"image.revoked-certificate"}, 0},
		"the digest of its root's certificate in dbx":    {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{tbs(root, crypto.SHA384, sigdb.X509SHA384)}, []evidence.Code{"image.revoked-certificate"}, 0},
		"the digest of another certificate in dbx":       {signed, []sigdb.Signature{cert(root)}, []sigdb.Signature{tbs(other, crypto.SHA256, sigdb.X509SHA256)}, nil, 1},
		"two signatures, the first's root":               {twice, []sigdb.Signature{cert(root)}, nil, nil, 1},
		"two signatures, the second's root":              {twice, []sigdb.Signature{cert(other)}, nil, nil, 2},
		"two signatures, both roots":                     {twice, []sigdb.Signature{cert(other), cert(root)}, nil, nil, 1},
		"two signatures, no root":                        {twice, nil, nil, []evidence.Code{"image.no-anchor", "image.no-anchor"}, 0},
		"two signatures, the second forbidden":           {twice, []sigdb.Signature{cert(root)}, []sigdb.Signature{cert(other)}, []evidence.Code{"image.revoked-certificate"}, 0},
		"two signatures, the first forbidden":            {twice, []sigdb.Signature{cert(other)}, []sigdb.Signature{cert(root)}, []evidence.Code{"image.revoked-certificate"}, 0},
		"two signatures, an anchor's digest in dbx": {
			twice, []sigdb.Signature{cert(root), cert(other)}, []sigdb.Signature{tbs(root, crypto.SHA256, sigdb.X509SHA256)}, nil, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var dbx *sigdb.Database
			if tc.dbx != nil {
				dbx = list(t, tc.dbx...)
			}
			v, err := parse(t, tc.image).Verify(authenticode.NewKeys(list(t, tc.db...), dbx))
			if d := cmp.Diff(tc.want, codes(err)); d != "" || (v == nil) != (err != nil) {
				t.Fatalf("Verify = %v, %v (-want +got):\n%s", v, err, d)
			}
			if v != nil && v.Signature != tc.by {
				t.Errorf("allowed by signature %d, want %d", v.Signature, tc.by)
			}
		})
	}
	if v, err := parse(t, plain).Verify(new(authenticode.Keys)); v != nil || err == nil {
		t.Error("the zero Keys allow an image")
	}
}

// TestAForgedImageIsRefused changes a byte of the code and then the digest in the
// signed content, so that only the digest of that content gives it away.
func TestAForgedImageIsRefused(t *testing.T) {
	by := issue(t, 0, "signer", nil)
	good := sign(t, makeImage(0), by)
	db := authenticode.NewKeys(list(t, cert(by)), list(t))
	was := imageDigest(t, good, crypto.SHA256, sigdb.SHA256).Data
	changed := bytes.Clone(good)
	changed[0x410] ^= 1
	is := imageDigest(t, changed, crypto.SHA256, sigdb.SHA256).Data
	forged := bytes.Replace(changed, was, is, 1)
	attribute := bytes.Clone(forged) // and the digest of that, so that only the signature is left
	content, ok := contentOf(t, good), false
	newContent := bytes.Replace(content, was, is, 1)
	if at := bytes.Index(attribute, digest(content)); at >= 0 {
		copy(attribute[at:], digest(newContent))
		ok = true
	}
	if !ok {
		t.Fatal("the digest of the content is not in the file")
	}
	for name, tc := range map[string]struct {
		b    []byte
		want evidence.Code
	}{
		"a byte of the code":                    {changed, "image.digest-mismatch"},
		"and the digest in the content":         {forged, "image.signature-invalid"},
		"and the digest of the content":         {attribute, "image.signature-invalid"},
		"a signature of another image put here": {append(bytes.Clone(makeWith(good, 0x420)), good[0x600:]...), "image.digest-mismatch"},
	} {
		v, err := parse(t, tc.b).Verify(db)
		if d := cmp.Diff([]evidence.Code{tc.want}, codes(err)); v != nil || d != "" {
			t.Errorf("%s: Verify = %v, %v (-want +got):\n%s", name, v, err, d)
		}
	}
}

// makeWith is the image's part of a signed image with one byte changed.
func makeWith(signed []byte, at int) []byte {
	b := bytes.Clone(signed[:0x600])
	b[at] ^= 1
	return b
}

func digest(b []byte) []byte {
	w := crypto.SHA256.New()
	w.Write(b)
	return w.Sum(nil)
}

// contentOf is what the first signature of makeImage(0) covers.
func contentOf(t *testing.T, b []byte) []byte {
	t.Helper()
	s, _, err := cms.Parse(b[0x608:])
	if err != nil {
		t.Fatal(err)
	}
	return s.ContentBody()
}

func TestOneSignatureThatCannotBeReadCounts(t *testing.T) {
	by, other := issue(t, 0, "signer", nil), issue(t, 1, "other", nil)
	good := sign(t, sign(t, makeImage(0), by), other)
	first := int(binary.LittleEndian.Uint32(good[0x600:]))
	second := 0x600 + (first+7)&^7
	put := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	db, dbx := list(t, cert(by)), list(t, sigdb.Signature{Type: sigdb.SHA256, Data: make([]byte, 32)})
	shorter := bytes.Clone(good)
	binary.LittleEndian.PutUint32(shorter[directory+4:], binary.LittleEndian.Uint32(shorter[directory+4:])-8)
	for name, tc := range map[string]struct {
		b    []byte
		dbx  *sigdb.Database
		want []evidence.Code
	}{
		"both whole":                        {good, dbx, nil},
		"the second malformed":              {put(second+8+19, 0x31), dbx, []evidence.Code{"image.signature-malformed"}},
		"the second malformed, no dbx":      {put(second+8+19, 0x31), nil, nil},
		"the second's digest unknown":       {put(second+8+32, 0x61), dbx, nil},
		"the second of another type":        {put(second+6, 0x01), dbx, nil},
		"the second of a GUID that is not":  {put(second+6, 0xF1, 0x0E), dbx, nil},
		"the second's length beyond":        {put(second, 0xFF, 0xFF), dbx, []evidence.Code{"image.signature-malformed"}},
		"the second's length zero":          {put(second, 0, 0), dbx, []evidence.Code{"image.signature-malformed"}},
		"the first's length into the other": {put(0x600, 0x08), dbx, []evidence.Code{"image.signature-malformed"}},
		"a table that ends within":          {shorter[:len(shorter)-8], dbx, []evidence.Code{"image.signature-malformed"}},
	} {
		v, err := parse(t, tc.b).Verify(authenticode.NewKeys(db, tc.dbx))
		if d := cmp.Diff(tc.want, codes(err)); d != "" || (v == nil) != (err != nil) {
			t.Errorf("%s: Verify = %v, %v (-want +got):\n%s", name, v, err, d)
		}
	}
}

// attach puts one signature behind makeImage(0).
func attach(signature []byte) []byte {
	entry := binary.LittleEndian.AppendUint32(nil, uint32(8+len(signature)))
	entry = append(append(entry, 0, 2, 2, 0), signature...)
	entry = append(entry, make([]byte, -len(entry)&7)...)
	b := append(makeImage(0), entry...)
	binary.LittleEndian.PutUint32(b[directory:], 0x600)
	binary.LittleEndian.PutUint32(b[directory+4:], uint32(len(entry)))
	return b
}

func TestASignatureOfSomethingElseDoesNotCount(t *testing.T) {
	by := issue(t, 0, "signer", nil)
	content := contentOf(t, sign(t, makeImage(0), by))
	indirect := []byte("\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x04")
	data := []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01")
	for name, tc := range map[string]struct {
		typ     []byte
		wrapped bool
		want    []evidence.Code
	}{
		"as images have it":     {indirect, true, nil},
		"content of other kind": {data, true, []evidence.Code{"image.signature-malformed"}},
		"without ContentInfo":   {indirect, false, []evidence.Code{"image.algorithm"}}, // the name is not where firmware looks
	} {
		b, err := cms.Sign(&cms.Signing{
			Random: rand.Reader, Key: by.key, Certificate: by.cert, ContentType: tc.typ,
			Content: cms.DER(0x30, content), Attributes: true, Wrapped: tc.wrapped,
		}, content)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parse(t, attach(b)).Verify(authenticode.NewKeys(list(t, cert(by)), nil))
		if d := cmp.Diff(tc.want, codes(err)); d != "" || (v == nil) != (err != nil) {
			t.Errorf("%s: Verify = %v, %v (-want +got):\n%s", name, v, err, d)
		}
	}
}

func TestASignatureMayComeUnderTheGUIDOfPKCS7(t *testing.T) {
	by := issue(t, 0, "signer", nil)
	good := sign(t, makeImage(0), by)
	data := good[0x608 : 0x600+binary.LittleEndian.Uint32(good[0x600:])]
	entry := binary.LittleEndian.AppendUint32(nil, uint32(24+len(data)))
	entry = append(entry, 0, 2, 0xF1, 0x0E)
	guid := uefi.MustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
	entry = append(append(entry, guid[:]...), data...)
	entry = append(entry, make([]byte, -len(entry)&7)...)
	b := append(bytes.Clone(good[:0x600]), entry...)
	binary.LittleEndian.PutUint32(b[directory+4:], uint32(len(entry)))
	if v, err := parse(t, b).Verify(authenticode.NewKeys(list(t, cert(by)), nil)); v == nil {
		t.Error(err)
	}
}

func TestFilesThatAreNoImagesAreRefused(t *testing.T) {
	good := makeImage(0)
	put := func(at int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], v)
		return b
	}
	const sections = 0x98 + 112 + 16*8
	for name, b := range map[string][]byte{
		"empty":                         nil,
		"no DOS header":                 put(0, 'X'),
		"PE header beyond the end":      put(0x3C, 0xFF, 0xFF, 0xFF, 0xFF),
		"no PE header":                  put(0x80, 'X'),
		"another optional header":       put(0x98, 0x0C),
		"a short optional header":       put(0x80+20, 100, 0),
		"17 data directories":           put(0x98+108, 17),
		"directories that do not fill":  put(0x98+108, 15),
		"headers beyond the end":        put(0x98+60, 0, 0, 0, 1),
		"headers of nothing":            put(0x98+60, 0, 0, 0, 0),
		"too many sections":             put(0x86, 0xFF, 0xFF),
		"a section beyond the end":      put(sections+20, 0x01, 0x04),
		"a section in the headers":      put(sections+20, 0, 1),
		"a section of 4 GB":             put(sections+16, 0xFF, 0xFF, 0xFF, 0xFF),
		"certificates beyond the end":   put(directory, 0, 6, 0, 0, 1),
		"certificates of 4 GB":          put(directory, 0, 4, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF),
		"certificates over the headers": put(directory, 0, 1, 0, 0, 8),
	} {
		_, err := authenticode.Parse(bytes.NewReader(b), int64(len(b)))
		if d := cmp.Diff([]evidence.Code{"image.malformed"}, codes(err)); d != "" {
			t.Errorf("%s: Parse = %v (-want +got):\n%s", name, err, d)
		}
	}
	for n := range good {
		if i, err := authenticode.Parse(bytes.NewReader(good[:n]), int64(n)); err == nil {
			if _, err := i.Digest(crypto.SHA256); err == nil && n < 0x600 {
				t.Errorf("the first %d bytes were accepted", n)
			}
		}
	}
	overlap := put(sections+40+16, 0, 4) // the second section over the first
	_, err := parse(t, overlap).Digest(crypto.SHA256)
	if d := cmp.Diff([]evidence.Code{"image.malformed"}, codes(err)); d != "" {
		t.Errorf("sections that overlap: Digest = %v (-want +got):\n%s", err, d)
	}
}

func TestSectionsAreFoundByName(t *testing.T) {
	i := parse(t, makeImage(0))
	s, ok := i.Section(".data")
	if !ok || s.Offset != 0x200 || i.Open(s).Size() != 0x180 {
		t.Errorf("Section = %+v, %v", s, ok)
	}
	if _, ok := i.Section(".none"); ok || i.Subsystem != 10 || i.Machine != 0x8664 {
		t.Errorf("image of machine %#x, subsystem %d", i.Machine, i.Subsystem)
	}
	names := []string{i.Sections[0].Name, i.Sections[1].Name}
	if !slices.Equal(names, strings.Fields(".text .data")) {
		t.Errorf("sections %v", names)
	}
}

func FuzzParse(f *testing.F) {
	by := issue(f, 0, "signer", nil)
	good := sign(f, makeImage(3), by)
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{1}, uint32(0x608))
	k := authenticode.NewKeys(list(f, cert(by)), list(f))
	want := imageDigest(f, good, crypto.SHA256, sigdb.SHA256).Data
	f.Fuzz(func(t *testing.T, patch []byte, at uint32) {
		b := bytes.Clone(good)
		copy(b[int(at)%len(b):], patch)
		i, err := authenticode.Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		v, err := i.Verify(k)
		if (v == nil) == (err == nil) {
			t.Fatalf("Verify = %v, %v", v, err)
		}
		if got, err := i.Digest(crypto.SHA256); v != nil && (err != nil || !bytes.Equal(got, want)) {
			t.Fatalf("an image with the digest %x is verified: %v", got, err)
		}
	})
}
