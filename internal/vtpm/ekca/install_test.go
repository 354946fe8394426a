package ekca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// site is an authority of somebody else's: a root and two below it.
type site struct{ root, middle, issuing *foreign }

func newSite(tb testing.TB) *site {
	tb.Helper()
	from, to := noon.AddDate(-1, 0, 0), noon.AddDate(10, 0, 0)
	root := newForeign(tb, "Site root", nil, from, to)
	middle := newForeign(tb, "Site middle", root, from, to)
	return &site{root, middle, newForeign(tb, "Site", middle, from, to)}
}

// certify issues what a request asks for, changed by change.
func (s *site) certify(tb testing.TB, request []byte, change func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: r.Subject, NotBefore: noon.AddDate(0, 0, -1), NotAfter: noon.AddDate(5, 0, 0),
		ExtraExtensions: r.Extensions, BasicConstraintsValid: true,
	}
	if change != nil {
		change(t)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, s.issuing.cert, r.PublicKey, s.issuing.key)
	if err != nil {
		tb.Fatal(err)
	}
	return mustParse(tb, der)
}

func (s *site) bundle(leaf *x509.Certificate) []*x509.Certificate {
	return []*x509.Certificate{leaf, s.issuing.cert, s.middle.cert, s.root.cert}
}

// scratch is a copy of a TPM, as its owner makes one of its state.
func scratch(tb testing.TB, t *engine.TPM) *engine.TPM {
	tb.Helper()
	state, err := t.Permanent()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := engine.Restore(engine.Config{Random: rand.Reader, Now: func() time.Duration { return 0 }}, state, nil)
	if err != nil {
		tb.Fatal(err)
	}
	c.PowerOn()
	return c
}

func request(tb testing.TB, t *engine.TPM, k Kind) []byte {
	tb.Helper()
	der, err := NewRequest(scratch(tb, t), k, "web-1", rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func TestRequestAsksForTheProfile(t *testing.T) {
	tpm := newEngine(t)
	mustManufacture(t, tpm, None{}, Options{})
	for _, k := range DefaultKeys() {
		r, err := x509.ParseCertificateRequest(request(t, tpm, k))
		if err != nil || r.CheckSignature() != nil || r.Subject.CommonName != "web-1" {
			t.Fatalf("%s: %v", k, err)
		}
		c := newSite(t).certify(t, r.Raw, nil)
		template, _ := Template(k)
		public, err := tpm.EndorsementKey(template)
		if err != nil {
			t.Fatal(err)
		}
		if err := matches(c, k, public); err != nil {
			t.Errorf("%s: what it asks for is not its certificate: %v", k, err)
		}
		if s := tree(t, extension(t, c, oidSubjectAltName, true)); s != "([4]("+wantDevice+"))" {
			t.Errorf("%s: subject alternative name %s", k, s)
		}
	}
	if _, err := NewRequest(scratch(t, tpm), IAK, "", rand.Reader); !errors.Is(err, ErrNoRequest) {
		t.Errorf("a device key: %v", err)
	}
	if _, err := NewRequest(scratch(t, tpm), "x", "", rand.Reader); err == nil {
		t.Error("an unknown key")
	}
}

// A guest put a key of its own at the handle of the endorsement key: it must not
// come by a certificate for it.
func TestRequestIsForTheKeyOfTheSeed(t *testing.T) {
	tpm := newEngine(t)
	got := mustManufacture(t, tpm, None{}, Options{Keys: []Kind{P256}})
	swapKey(t, tpm, got.Keys[0].Handle)
	r, err := x509.ParseCertificateRequest(request(t, tpm, P256))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := got.Keys[0].Public.Key(); !sameKey(want, r.PublicKey) {
		t.Error("the request is for another key")
	}
}

// swapKey is a guest that replaces the key at a handle by an ordinary one, and
// locks the endorsement hierarchy.
func swapKey(t *testing.T, tpm *engine.TPM, h tpm2.Handle) {
	t.Helper()
	m := restart(t, tpm)
	template, err := Template(P256)
	if err != nil {
		t.Fatal(err)
	}
	template.Unique.ECC.X = []byte("mine")
	var out command.CreatePrimaryOut
	run := func(c *client.Command) tpm2.Handle {
		t.Helper()
		h, err := m.tpm.Run(c)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	run(&client.Command{Code: tpm2.CCEvictControl, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: h}}, In: &command.EvictControlIn{PersistentHandle: h}})
	mine := run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleEndorsement}}, In: &command.CreatePrimaryIn{InPublic: *template}, Out: &out})
	run(&client.Command{Code: tpm2.CCEvictControl, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: mine}}, In: &command.EvictControlIn{PersistentHandle: h}})
	run(&client.Command{Code: tpm2.CCHierarchyChangeAuth, Handles: []client.Entity{{Handle: tpm2.HandleEndorsement}}, In: &command.HierarchyChangeAuthIn{NewAuth: []byte("guest")}})
}

func TestInstalledCertificateIsInPlaceWithItsChain(t *testing.T) {
	ca, site := newAuthority(t, AuthorityOptions{}), newSite(t)
	tpm := newEngine(t)
	made := mustManufacture(t, tpm, ca, Options{Keys: []Kind{RSA2048, P256}, Platform: testPlatform()})
	leaf := site.certify(t, request(t, tpm, RSA2048), nil)
	bundle := site.bundle(leaf)
	slices.Reverse(bundle[1:]) // in any order
	tpm.PowerOn()
	got, err := Install(context.Background(), tpm, bundle, InstallOptions{At: noon, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != RSA2048 || got.Index != 0x01c00002 || !bytes.Equal(got.Replaced, made.Keys[0].Certificate) || got.Chain != 3 || !got.PlatformStale {
		t.Errorf("installed %s at %#x, chain %d, platform stale %v", got.Kind, uint32(got.Index), got.Chain, got.PlatformStale)
	}
	m := restart(t, tpm)
	if in, err := m.readIndex(got.Index); err != nil || !bytes.Equal(in, leaf.Raw) {
		t.Errorf("index has %d bytes, %v", len(in), err)
	}
	if a := m.attributes(t, got.Index); a != 0x62072801 {
		t.Errorf("index has attributes %#x", uint32(a))
	}
	// The other key still has its chain; no root is there.
	chain, err := m.readChain()
	want := []*x509.Certificate{site.issuing.cert, site.middle.cert, ca.issuing.cert}
	if err != nil || !slices.EqualFunc(chain, want, (*x509.Certificate).Equal) {
		t.Errorf("chain has %d certificates, %v", len(chain), err)
	}
	// Back to fewer: what the longer chain took is gone.
	m = restart(t, tpm)
	if err := m.writeChain([][]byte{ca.issuing.cert.Raw}); err != nil {
		t.Fatal(err)
	}
	if chain, err := m.readChain(); err != nil || len(chain) != 1 {
		t.Errorf("chain has %d certificates, %v", len(chain), err)
	}
}

func TestLongChainFlowsOver(t *testing.T) {
	tpm := newEngine(t)
	m := restart(t, tpm)
	var chain [][]byte
	f := newForeign(t, "Root", nil, noon, noon.AddDate(1, 0, 0))
	for range 12 {
		f = newForeign(t, strings.Repeat("x", 60), f, noon, noon.AddDate(1, 0, 0))
		chain = append(chain, f.cert.Raw)
	}
	if err := m.writeChain(chain); err != nil {
		t.Fatal(err)
	}
	got, err := m.readChain()
	if err != nil || len(got) != len(chain) {
		t.Fatalf("%d of %d certificates, %v", len(got), len(chain), err)
	}
	for i := range got {
		if !bytes.Equal(got[i].Raw, chain[i]) {
			t.Errorf("certificate %d differs", i)
		}
	}
	if taken, err := m.handles(indexChain); err != nil || len(taken) < 2 {
		t.Errorf("chain takes %x, %v", taken, err)
	}
	if err := m.writeChain(nil); err != nil {
		t.Fatal(err)
	}
	if taken, err := m.handles(indexChain); err != nil || len(taken) != 0 {
		t.Errorf("left: %x, %v", taken, err)
	}
}

func TestInstallRefuses(t *testing.T) {
	site := newSite(t)
	tpm, other := newEngine(t), newEngine(t)
	mustManufacture(t, tpm, newAuthority(t, AuthorityOptions{}), Options{Keys: []Kind{RSA2048, P256}})
	r := request(t, tpm, P256)
	good := site.certify(t, r, nil)
	without := func(id asn1.ObjectIdentifier) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = slices.DeleteFunc(slices.Clone(c.ExtraExtensions), func(e pkix.Extension) bool { return e.Id.Equal(id) })
		}
	}
	stranger := newForeign(t, "Site", nil, noon.AddDate(-1, 0, 0), noon.AddDate(1, 0, 0))
	late := newForeign(t, "Old", site.root, noon.AddDate(-2, 0, 0), noon.AddDate(-1, 0, 0))
	roots := x509.NewCertPool()
	roots.AddCert(stranger.cert)
	for name, tc := range map[string]struct {
		bundle []*x509.Certificate
		opts   InstallOptions
		want   error
		says   string
	}{
		"another TPM's":             {bundle: site.bundle(site.certify(t, request(t, other, P256), nil)), want: ErrOtherKey},
		"an authority's":            {bundle: []*x509.Certificate{site.issuing.cert}, want: ErrOtherKey},
		"this key as an authority":  {bundle: []*x509.Certificate{site.certify(t, r, func(c *x509.Certificate) { c.IsCA = true })}, want: ErrUsage, says: "authority"},
		"expired":                   {bundle: []*x509.Certificate{site.certify(t, r, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) })}, want: ErrExpired},
		"not yet valid":             {bundle: []*x509.Certificate{site.certify(t, r, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) })}, want: ErrExpired},
		"no time":                   {bundle: []*x509.Certificate{good}, opts: InstallOptions{At: time.Time{}}, want: ErrExpired},
		"no extended key usage":     {bundle: []*x509.Certificate{site.certify(t, r, without(oidExtKeyUsage))}, want: ErrUsage, says: "2.23.133.8.1"},
		"no key usage":              {bundle: []*x509.Certificate{site.certify(t, r, without(oidKeyUsage))}, want: ErrUsage, says: "keyAgreement"},
		"a chain with a gap":        {bundle: []*x509.Certificate{good, site.middle.cert, site.root.cert}, want: ErrChain},
		"a stranger of that name":   {bundle: []*x509.Certificate{good, stranger.cert}, want: ErrChain},
		"an expired authority":      {bundle: append(site.bundle(good), late.cert), want: ErrExpired, says: "CN=Old"},
		"not below the roots asked": {bundle: site.bundle(good), opts: InstallOptions{At: noon, Roots: roots}, want: ErrChain},
		"nothing":                   {},
	} {
		copied := scratch(t, tpm)
		before, err := copied.Permanent()
		if err != nil {
			t.Fatal(err)
		}
		if tc.opts.Random = rand.Reader; name != "no time" {
			tc.opts.At = noon
		}
		_, err = Install(context.Background(), copied, tc.bundle, tc.opts)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %v %q", name, err, tc.want, tc.says)
		}
		if after, err := copied.Permanent(); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the TPM changed, %v", name, err)
		}
	}
	roots.AddCert(site.root.cert)
	for name, o := range map[string]InstallOptions{"under roots": {At: noon, Roots: roots, Random: rand.Reader}, "as it is": {At: noon, Random: rand.Reader}} {
		if _, err := Install(context.Background(), scratch(t, tpm), site.bundle(good), o); err != nil {
			t.Errorf("%s: the good one: %v", name, err)
		}
	}
	if _, err := Install(context.Background(), scratch(t, tpm), []*x509.Certificate{good}, InstallOptions{At: noon, Random: rand.Reader}); err != nil {
		t.Errorf("the good one alone: %v", err)
	}
}

func TestBundleIsPEMOrDER(t *testing.T) {
	s := newSite(t)
	var der, text []byte
	for _, c := range s.bundle(s.issuing.cert) {
		der = append(der, c.Raw...)
		text = append(text, encodePEM(c.Raw)...)
	}
	for name, in := range map[string][]byte{"DER": der, "PEM": text, "PEM with words": append([]byte("subject=x\n"), text...)} {
		if got, err := ParseBundle(in); err != nil || len(got) != 4 || !got[3].Equal(s.root.cert) {
			t.Errorf("%s: %d, %v", name, len(got), err)
		}
	}
	for name, in := range map[string][]byte{
		"nothing": nil, "words": []byte("hello"), "half": der[:len(der)-1],
		"a key":                 []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"no certificate in PEM": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"too many":              bytes.Repeat(text, 3), "too long": make([]byte, 1<<20),
	} {
		if got, err := ParseBundle(in); err == nil {
			t.Errorf("%s: %d certificates", name, len(got))
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	s := newSite(f)
	f.Add(s.root.cert.Raw)
	f.Add(append(encodePEM(s.issuing.cert.Raw), encodePEM(s.root.cert.Raw)...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		certs, err := ParseBundle(in)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range certs {
			again = append(again, encodePEM(c.Raw)...)
		}
		if back, err := ParseBundle(again); len(certs) > 0 && (err != nil || !slices.EqualFunc(certs, back, (*x509.Certificate).Equal)) {
			t.Errorf("%d certificates, and %d again, %v", len(certs), len(back), err)
		}
	})
}

func TestChainFollowsSignaturesNotNames(t *testing.T) {
	s := newSite(t)
	leaf := newForeign(t, "Leaf", s.issuing, noon, noon.AddDate(1, 0, 0)).cert
	stranger := newForeign(t, "Site", newForeign(t, "Elsewhere", nil, noon, noon.AddDate(1, 0, 0)), noon, noon.AddDate(1, 0, 0)).cert
	got := needed([]*x509.Certificate{leaf, leaf}, []*x509.Certificate{stranger, s.root.cert, s.middle.cert, s.issuing.cert})
	if len(got) != 2 || !bytes.Equal(got[0], s.issuing.cert.Raw) || !bytes.Equal(got[1], s.middle.cert.Raw) {
		t.Errorf("%d authorities: a stranger's, or the root, or not all", len(got))
	}
}
