package sigdb_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// keys are made once.
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

func issue(t testing.TB, i int, name string, parent *signer) *signer {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, IsCA: parent == nil, BasicConstraintsValid: true}
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

func x509Entry(s *signer) sigdb.Signature { return sigdb.Signature{Type: sigdb.X509, Data: s.cert.Raw} }

func hashEntry(b byte) sigdb.Signature {
	return sigdb.Signature{Type: sigdb.SHA256, Owner: uefi.ShimLock, Data: bytes.Repeat([]byte{b}, 32)}
}

// at is a time some days after another.
func at(days int) uefi.Time {
	return uefi.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, days))
}

func update(t testing.TB, r sigdb.Role, more bool, when uefi.Time, payload []byte, by *signer, along ...*signer) []byte {
	t.Helper()
	s := cms.Signing{Random: rand.Reader, Key: by.key, Certificate: by.cert}
	for _, a := range along {
		s.Others = append(s.Others, a.cert)
	}
	b, err := sigdb.NewUpdate(r, more, when, payload, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func apply(v sigdb.Variables, r sigdb.Role, more bool, b []byte) (*sigdb.Change, error) {
	u, err := sigdb.ParseUpdate(b)
	if err != nil {
		return nil, err
	}
	return v.Verify(r, more, u)
}

func codes(err error) (out []evidence.Code) {
	for _, r := range evidence.Reasons(err) {
		out = append(out, r.Code)
	}
	return out
}

func TestUpdatesAreJudgedAsFirmwareJudgesThem(t *testing.T) {
	pk, kek, other := issue(t, 0, "pk", nil), issue(t, 1, "kek", nil), issue(t, 2, "other", nil)
	underKEK, underPK := issue(t, 3, "leaf", kek), issue(t, 3, "leaf", pk)
	lists := func(s ...sigdb.Signature) []byte { return sigdb.Encode(s) }
	user := sigdb.Variables{
		sigdb.PK:  {lists(x509Entry(pk)), at(0)},
		sigdb.KEK: {lists(x509Entry(kek)), at(0)},
		sigdb.DBX: {lists(hashEntry(1)), at(10)},
	}
	setup := sigdb.Variables{}
	now := lists(hashEntry(1), hashEntry(2))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	ecCert, err := x509.CreateCertificate(rand.Reader, template, template, ec.Public(), ec)
	if err != nil {
		t.Fatal(err)
	}
	later := at(11)
	fraction := later
	fraction.Nanosecond = 1
	withHeader := bytes.Clone(lists(hashEntry(1)))
	withHeader[20] = 1 // a header of one byte, and one byte less of signatures
	withHeader = append(withHeader[:28:28], append([]byte{0}, withHeader[28:]...)...)
	withHeader[16]++
	for name, tc := range map[string]struct {
		v    sigdb.Variables
		role sigdb.Role
		more bool
		b    []byte
		want []evidence.Code
		data []byte
		time uefi.Time
	}{
		"dbx replaced by a key in KEK":       {user, sigdb.DBX, false, update(t, sigdb.DBX, false, later, now, kek), nil, now, later},
		"dbx replaced by a key under KEK":    {user, sigdb.DBX, false, update(t, sigdb.DBX, false, later, now, underKEK), nil, now, later},
		"db added to, which was not there":   {user, sigdb.DB, true, update(t, sigdb.DB, true, later, now, kek), nil, now, later},
		"dbx added to, one known":            {user, sigdb.DBX, true, update(t, sigdb.DBX, true, later, now, kek), nil, append(lists(hashEntry(1)), lists(hashEntry(2))...), later},
		"dbx added to, all known":            {user, sigdb.DBX, true, update(t, sigdb.DBX, true, later, lists(hashEntry(1)), kek), nil, lists(hashEntry(1)), later},
		"dbx added to, of an earlier time":   {user, sigdb.DBX, true, update(t, sigdb.DBX, true, at(1), lists(hashEntry(3)), kek), nil, append(lists(hashEntry(1)), lists(hashEntry(3))...), at(10)},
		"dbx replaced, of an earlier time":   {user, sigdb.DBX, false, update(t, sigdb.DBX, false, at(1), now, kek), []evidence.Code{"update.replay"}, nil, later},
		"dbx replaced, of the same time":     {user, sigdb.DBX, false, update(t, sigdb.DBX, false, at(10), now, kek), []evidence.Code{"update.replay"}, nil, later},
		"dbx deleted":                        {user, sigdb.DBX, false, update(t, sigdb.DBX, false, later, nil, kek), nil, nil, later},
		"dbx by the platform key":            {user, sigdb.DBX, false, update(t, sigdb.DBX, false, later, now, pk), []evidence.Code{"update.signer"}, nil, later},
		"dbx by a stranger":                  {user, sigdb.DBX, false, update(t, sigdb.DBX, false, later, now, other), []evidence.Code{"update.signer"}, nil, later},
		"one to replace, used to add":        {user, sigdb.DBX, true, update(t, sigdb.DBX, false, later, now, kek), []evidence.Code{"update.signature-invalid"}, nil, later},
		"one of dbx, used for db":            {user, sigdb.DB, false, update(t, sigdb.DBX, false, later, now, kek), []evidence.Code{"update.signature-invalid"}, nil, later},
		"its payload changed":                {user, sigdb.DBX, false, bytes.Replace(update(t, sigdb.DBX, false, later, now, kek), hashEntry(2).Data, hashEntry(4).Data, 1), []evidence.Code{"update.signature-invalid"}, nil, later},
		"a time with a fraction":             {user, sigdb.DBX, false, update(t, sigdb.DBX, false, fraction, now, kek), []evidence.Code{"update.time"}, nil, later},
		"KEK by the platform key":            {user, sigdb.KEK, false, update(t, sigdb.KEK, false, later, lists(x509Entry(other)), pk), nil, lists(x509Entry(other)), later},
		"KEK by a key under the platform's":  {user, sigdb.KEK, false, update(t, sigdb.KEK, false, later, lists(x509Entry(other)), underPK), []evidence.Code{"update.signer"}, nil, later},
		"KEK by a key in KEK":                {user, sigdb.KEK, false, update(t, sigdb.KEK, false, later, lists(x509Entry(other)), kek), []evidence.Code{"update.signer"}, nil, later},
		"PK by the platform key":             {user, sigdb.PK, false, update(t, sigdb.PK, false, later, lists(x509Entry(other)), pk), nil, lists(x509Entry(other)), later},
		"PK by itself":                       {user, sigdb.PK, false, update(t, sigdb.PK, false, later, lists(x509Entry(other)), other), []evidence.Code{"update.signer"}, nil, later},
		"PK deleted":                         {user, sigdb.PK, false, update(t, sigdb.PK, false, later, nil, pk), nil, nil, later},
		"PK of two keys":                     {user, sigdb.PK, false, update(t, sigdb.PK, false, later, lists(x509Entry(other), x509Entry(pk)), pk), []evidence.Code{"update.list"}, nil, later},
		"PK added to":                        {user, sigdb.PK, true, update(t, sigdb.PK, true, later, lists(x509Entry(other)), pk), []evidence.Code{"update.list"}, nil, later},
		"setup mode, PK by itself":           {setup, sigdb.PK, false, update(t, sigdb.PK, false, at(0), lists(x509Entry(pk)), pk), nil, lists(x509Entry(pk)), at(0)},
		"setup mode, PK by another":          {setup, sigdb.PK, false, update(t, sigdb.PK, false, at(0), lists(x509Entry(pk)), other), []evidence.Code{"update.signer"}, nil, later},
		"setup mode, PK of nothing":          {setup, sigdb.PK, false, update(t, sigdb.PK, false, at(0), nil, pk), []evidence.Code{"update.signer"}, nil, later},
		"setup mode, db by a stranger":       {setup, sigdb.DB, false, update(t, sigdb.DB, false, at(0), now, other), nil, now, at(0)},
		"a certificate of an elliptic key":   {user, sigdb.DB, false, update(t, sigdb.DB, false, later, lists(sigdb.Signature{Type: sigdb.X509, Data: ecCert}), kek), []evidence.Code{"update.list"}, nil, later},
		"a digest of another size":           {user, sigdb.DB, false, update(t, sigdb.DB, false, later, lists(sigdb.Signature{Type: sigdb.SHA256, Data: make([]byte, 31)}), kek), []evidence.Code{"update.list"}, nil, later},
		"an entry of an unknown type":        {user, sigdb.DB, false, update(t, sigdb.DB, false, later, lists(sigdb.Signature{Data: make([]byte, 32)}), kek), []evidence.Code{"update.list"}, nil, later},
		"a list with a header":               {user, sigdb.DB, false, update(t, sigdb.DB, false, later, withHeader, kek), []evidence.Code{"update.list"}, nil, later},
		"lists that do not fit":              {user, sigdb.DB, false, update(t, sigdb.DB, false, later, now[:40], kek), []evidence.Code{"update.list"}, nil, later},
		"a role that is none":                {user, 0, false, update(t, sigdb.DB, false, later, now, kek), []evidence.Code{"update.list"}, nil, later},
		"the zero variables, PK by a key":    {nil, sigdb.PK, false, update(t, sigdb.PK, false, at(0), lists(x509Entry(kek)), pk), []evidence.Code{"update.signer"}, nil, later},
		"what is there now cannot be read":   {sigdb.Variables{sigdb.PK: user[sigdb.PK], sigdb.KEK: user[sigdb.KEK], sigdb.DB: {[]byte{1}, at(0)}}, sigdb.DB, true, update(t, sigdb.DB, true, later, now, kek), []evidence.Code{"update.list"}, nil, later},
		"KEK cannot be read, db by its key":  {sigdb.Variables{sigdb.PK: user[sigdb.PK], sigdb.KEK: {[]byte{1}, at(0)}}, sigdb.DB, true, update(t, sigdb.DB, true, later, now, kek), []evidence.Code{"update.signer"}, nil, later},
		"with SHA-384 in place of SHA-256":   {user, sigdb.DBX, false, sha384(update(t, sigdb.DBX, false, later, now, kek)), []evidence.Code{"update.algorithm"}, nil, later},
		"with a digest that nobody knows":    {user, sigdb.DBX, false, digestOf(update(t, sigdb.DBX, false, later, now, kek), 9), []evidence.Code{"update.algorithm"}, nil, later},
		"a signature that cannot be read":    {user, sigdb.DBX, false, broken(update(t, sigdb.DBX, false, later, now, kek)), []evidence.Code{"update.malformed"}, nil, later},
		"a certificate of another type":      {user, sigdb.DBX, false, otherType(update(t, sigdb.DBX, false, later, now, kek)), []evidence.Code{"update.malformed"}, nil, later},
		"a signature that holds the content": {user, sigdb.DBX, false, withContent(t, kek, later, now), []evidence.Code{"update.malformed"}, nil, later},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := apply(tc.v, tc.role, tc.more, tc.b)
			if d := cmp.Diff(tc.want, codes(err)); d != "" || (c == nil) != (err != nil) {
				t.Fatalf("Verify = %v, %v (-want +got):\n%s", c, err, d)
			}
			if err != nil {
				return
			}
			if !bytes.Equal(c.Value().Data, tc.data) || c.Value().Time != tc.time || c.Role() != tc.role {
				t.Errorf("%v = %x of %v, want %x of %v", c.Role(), c.Value().Data, c.Value().Time.Time(), tc.data, tc.time.Time())
			}
			after := tc.v.Apply(c)
			if _, ok := after[tc.role]; ok != (tc.data != nil) {
				t.Errorf("after it the variable is there: %v", ok)
			}
		})
	}
	if after := user.Apply(must(t, user, update(t, sigdb.PK, false, later, nil, pk))); !after.SetupMode() || user.SetupMode() {
		t.Error("the machine without a platform key is not in setup mode, or the one with is")
	}
}

func must(t *testing.T, v sigdb.Variables, b []byte) *sigdb.Change {
	t.Helper()
	c, err := apply(v, sigdb.PK, false, b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// digestOf names another digest algorithm in the signature.
func digestOf(b []byte, last byte) []byte {
	return bytes.ReplaceAll(b, []byte("\x60\x86\x48\x01\x65\x03\x04\x02\x01"), append([]byte("\x60\x86\x48\x01\x65\x03\x04\x02"), last))
}

func sha384(b []byte) []byte { return digestOf(b, 2) }

func broken(b []byte) []byte {
	b = bytes.Clone(b)
	b[40] = 0
	return b
}

func otherType(b []byte) []byte {
	b = bytes.Clone(b)
	b[24]++
	return b
}

// withContent makes an update whose signature brings its own content.
func withContent(t *testing.T, by *signer, when uefi.Time, payload []byte) []byte {
	t.Helper()
	good := update(t, sigdb.DBX, false, when, payload, by)
	data, err := cms.Sign(&cms.Signing{
		Random: rand.Reader, Key: by.key, Certificate: by.cert,
		ContentType: []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"), Content: cms.DER(4, payload),
	}, payload)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(good[:40])
	out[16], out[17] = byte(24+len(data)), byte((24+len(data))>>8)
	return append(append(out, data...), payload...)
}

func TestEveryPrefixOfAnUpdateIsRefused(t *testing.T) {
	pk := issue(t, 0, "pk", nil)
	b := update(t, sigdb.PK, false, at(0), sigdb.Encode([]sigdb.Signature{x509Entry(pk)}), pk)
	for n := range b {
		if _, err := apply(sigdb.Variables{}, sigdb.PK, false, b[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
	if _, err := apply(sigdb.Variables{}, sigdb.PK, false, append(bytes.Clone(b), 0)); err == nil {
		t.Error("one byte more was accepted")
	}
}

func TestSbvarsignMakesUpdatesThatAreTaken(t *testing.T) {
	path, err := exec.LookPath("sbvarsign")
	if err != nil {
		if os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") != "" {
			t.Fatal("sbvarsign is not there: run make setup")
		}
		t.Skip("sbvarsign is not there")
	}
	kek := issue(t, 1, "kek", nil)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	cert := file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: kek.cert.Raw}))
	key := file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(kek.key)}))
	payload := sigdb.Encode([]sigdb.Signature{hashEntry(7)})
	for name, more := range map[string]bool{"NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS,APPEND_WRITE": true, "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,TIME_BASED_AUTHENTICATED_WRITE_ACCESS": false} {
		out := filepath.Join(dir, "out.auth")
		c := exec.CommandContext(t.Context(), path, "--key", key, "--cert", cert, "--output", out, "--attr", name, "db", file("db.esl", payload))
		if text, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		v := sigdb.Variables{sigdb.PK: {sigdb.Encode([]sigdb.Signature{x509Entry(kek)}), at(0)}, sigdb.KEK: {sigdb.Encode([]sigdb.Signature{x509Entry(kek)}), at(0)}}
		change, err := apply(v, sigdb.DB, more, b)
		if err != nil || !bytes.Equal(change.Value().Data, payload) {
			t.Errorf("append %v: %v", more, err)
		}
		if _, err := apply(v, sigdb.DB, !more, b); err == nil {
			t.Errorf("append %v: taken for the other kind", more)
		}
	}
}

func TestListsAreReadAsTheyWereLaidOut(t *testing.T) {
	pk := issue(t, 0, "pk", nil)
	want := []sigdb.Signature{x509Entry(pk), x509Entry(pk), hashEntry(1), hashEntry(2), {Type: sigdb.SHA384, Data: make([]byte, 48)}, hashEntry(3)}
	b := sigdb.Encode(want)
	d, err := sigdb.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	var got []sigdb.Signature
	for s := range d.All() {
		got = append(got, s)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
	if n := 2*(28+16+len(pk.cert.Raw)) + 28 + 2*48 + 28 + 64 + 28 + 48; len(b) != n {
		t.Errorf("%d bytes, want %d: digests share a list", len(b), n)
	}
}

func TestSBATRevokesWhatIsOlder(t *testing.T) {
	level, err := sigdb.ParseSBATLevel([]byte("sbat,1,2025021800\nshim,4\ngrub,5\n"))
	if err != nil {
		t.Fatal(err)
	}
	const head = "sbat,1,SBAT Version,sbat,1,https://example.org\n"
	for text, want := range map[string]*sigdb.SBATRevocation{
		head + "grub,5,Free Software Foundation,grub,2.12,https://example.org\ngrub.debian,5,Debian,grub2,2.12-1,https://example.org\n\x00\x00": nil,
		head + "grub,4,Free Software Foundation,grub,2.06,https://example.org\n":                                                                {Component: "grub", Got: 4, Want: 5},
		head + "grub,6,F,grub,2,u\nshim,3,S,shim,15,u":                                                                                          {Component: "shim", Got: 3, Want: 4},
		head: nil,
	} {
		image, err := sigdb.ParseSBAT([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, level.Revoked(image)); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	for _, bad := range []string{"", "sbat,1", "grub,4,a,b,c,d", head + "grub,x,a,b,c,d", head + ",1,a,b,c,d", head + "grub,-1,a,b,c,d"} {
		if _, err := sigdb.ParseSBAT([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	old := &sigdb.SBATLevel{Date: "2021030218"}
	if !level.Newer(old) || old.Newer(level) || level.Newer(level) || !old.Newer(nil) {
		t.Error("the later date is not the newer")
	}
}

func FuzzUpdate(f *testing.F) {
	pk := issue(f, 0, "pk", nil)
	good := update(f, sigdb.PK, false, at(0), sigdb.Encode([]sigdb.Signature{x509Entry(pk)}), pk)
	f.Add(good, byte(sigdb.PK), false)
	f.Add(good, byte(sigdb.DB), true)
	v := sigdb.Variables{sigdb.PK: {sigdb.Encode([]sigdb.Signature{x509Entry(pk)}), at(0)}, sigdb.KEK: {sigdb.Encode([]sigdb.Signature{x509Entry(pk)}), at(0)}}
	f.Fuzz(func(t *testing.T, b []byte, role byte, more bool) {
		for _, v := range []sigdb.Variables{v, {}} {
			c, err := apply(v, sigdb.Role(role), more, b)
			if (c == nil) == (err == nil) {
				t.Fatalf("Verify = %v, %v", c, err)
			}
			if c != nil && !v.SetupMode() {
				t.Fatal("an update that nobody signed is taken") // the one that was is not later
			}
		}
	})
}

func FuzzSBAT(f *testing.F) {
	f.Add([]byte("sbat,1,a,b,c,d\ngrub,1,a,b,c,d\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = sigdb.ParseSBAT(b) })
}
