package vtpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// certified is a fixture whose TPMs have certificates.
func certified(t *testing.T) (*fixture, *ekca.Authority) {
	t.Helper()
	f := newFixture(t)
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := ekca.AuthorityConfig{Provider: p, Random: rand.Reader, Now: time.Now}
	a, err := ekca.CreateAuthority(context.Background(), filepath.Join(f.Dir(), "ca"), ekca.AuthorityOptions{Name: "Test"}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Issuer = a
	f.reopen()
	return f, a
}

// unrevoked are the serial numbers of what the authority has not revoked, by TPM.
func unrevoked(t *testing.T, a *ekca.Authority, tpm string) (serials []string, revoked int) {
	t.Helper()
	all, err := a.Issued(tpm)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Revoked == nil {
			serials = append(serials, c.Serial)
		} else {
			revoked++
		}
	}
	return serials, revoked
}

func recorded(t *testing.T, f *fixture, name string) (*Record, []string) {
	t.Helper()
	d, err := f.Describe(context.Background(), name)
	if err != nil || d.Record == nil {
		t.Fatalf("%v, %s", err, d.Problem)
	}
	var serials []string
	for _, k := range d.Record.Identity {
		serials = append(serials, k.Serial)
	}
	return d.Record, serials
}

func TestIdentityIsReadOffAndRunning(t *testing.T) {
	f, _ := certified(t)
	ctx := context.Background()
	f.create("web")
	before, err := f.Identity(ctx, "web")
	if err != nil || len(before.Keys) != 3 || len(before.Chain) != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	for _, k := range before.Keys {
		if !k.Matches || !k.Persistent {
			t.Errorf("%s: %s", k.Kind, k.Problem)
		}
	}
	again, err := f.Identity(ctx, "web")
	if err != nil || again.Generation != before.Generation {
		t.Errorf("reading it makes generation %d of %d, %v", again.Generation, before.Generation, err)
	}
	i, _ := f.started("web")
	defer i.Close()
	running, err := f.Identity(ctx, "web")
	if err != nil || !cmp.Equal(running.Keys, before.Keys) || running.ID != before.ID {
		t.Errorf("while it runs: %v %s", err, cmp.Diff(running, before))
	}
	if _, err := f.Identity(ctx, "nobody"); !errors.Is(err, ErrUnknown) {
		t.Errorf("of nobody: %v", err)
	}
}

func TestCertificatesAreRevokedWithTheirTPM(t *testing.T) {
	f, a := certified(t)
	ctx := context.Background()
	f.create("web")
	rec, first := recorded(t, f, "web")
	if _, err := f.Clear(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	_, second := recorded(t, f, "web")
	if cmp.Equal(first, second) {
		t.Fatal("cleared, and the same certificates")
	}
	if left, n := unrevoked(t, a, rec.ID.String()); !cmp.Equal(left, second) || n != len(first) {
		t.Errorf("after clear good are %v, revoked %d, want %v", left, n, second)
	}
	// Its twin shows the same certificates, so they stay good while there is one.
	if _, err := f.Clone(ctx, tester, CloneOptions{From: "web", To: "twin", Mode: ModeCopy}); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(ctx, tester, "web"); err != nil {
		t.Fatal(err)
	}
	if left, _ := unrevoked(t, a, rec.ID.String()); !cmp.Equal(left, second) {
		t.Errorf("with a twin good are %v, want %v", left, second)
	}
	f.create("db")
	rec, _ = recorded(t, f, "db")
	if err := f.Delete(ctx, tester, "db"); err != nil {
		t.Fatal(err)
	}
	if left, n := unrevoked(t, a, rec.ID.String()); len(left) != 0 || n != 3 {
		t.Errorf("after its deletion good are %v, revoked %d", left, n)
	}
}

func TestTPMIsMadeAnewWithWhatItHad(t *testing.T) {
	f, _ := certified(t)
	ctx := context.Background()
	vm := &VM{Name: "web-1", UUID: "8e2f9a1c-3f0e-4f58-8c0f-1d4b1c1f7b02", Firmware: "efi", HardwareVersion: 21, GuestOS: "linux", EncryptedHome: yes}
	if _, err := f.Create(ctx, tester, CreateOptions{Name: "web", VM: vm, DeviceIdentity: true, PlatformCertificate: true}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"made", "cleared"} {
		id, err := f.Identity(ctx, "web")
		if err != nil || len(id.Keys) != 5 || id.Platform == "" || !id.PlatformMatches {
			t.Errorf("%s: %d keys, platform certificate matches %v, %v", when, len(id.Keys), id.PlatformMatches, err)
		}
		if block, _ := pem.Decode([]byte(id.Platform)); block == nil || !bytes.Contains(block.Bytes, []byte(vm.UUID)) {
			t.Errorf("%s: platform certificate does not name the machine", when)
		}
		if when == "made" {
			if _, err := f.Clear(ctx, tester, "web"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// site certifies requests as somebody else's authority does.
func site(t *testing.T, request string) (bundle []byte, leaf *x509.Certificate) {
	t.Helper()
	block, _ := pem.Decode([]byte(request))
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Site"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0xabc), Subject: r.Subject, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtraExtensions: r.Extensions, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, r.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{der, caDER} {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})...)
	}
	return bundle, leaf
}

func TestThirdPartyCertificateIsInstalled(t *testing.T) {
	f, a := certified(t)
	ctx := context.Background()
	f.create("web", "db")
	rec, before := recorded(t, f, "web")
	r, err := f.CertificateRequest(ctx, tester, "web", ekca.P256)
	if err != nil {
		t.Fatal(err)
	}
	if e := f.last("web"); e.Type != EventRequest || e.Actor != tester || !strings.Contains(string(e.Detail), "p256") {
		t.Errorf("event %+v", e)
	}
	bundle, leaf := site(t, r.PEM)
	if _, err := f.InstallCertificate(ctx, tester, "db", bundle); !errors.Is(err, ekca.ErrOtherKey) {
		t.Errorf("into another TPM: %v", err)
	}
	i, _ := f.started("web")
	if _, err := f.InstallCertificate(ctx, tester, "web", bundle); !errors.Is(err, ErrBusy) {
		t.Errorf("while it runs: %v", err)
	}
	if _, err := f.CertificateRequest(ctx, tester, "web", ekca.P384); err != nil {
		t.Errorf("a request while it runs: %v", err)
	}
	if err := i.Machine().StoreVolatile(); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.InstallCertificate(ctx, tester, "web", bundle); !errors.Is(err, ErrSuspended) {
		t.Errorf("while it is suspended: %v", err)
	}
	if i, err = f.Open(ctx, "web", tester); err != nil {
		t.Fatal(err)
	}
	if err := i.Machine().Init(true); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	done, err := f.InstallCertificate(ctx, tester, "web", bundle)
	if err != nil || done.Kind != ekca.P256 || done.Index != "01c0000a" || done.Replaced != before[1] || len(done.Notes) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if e := f.last("web"); e.Type != EventInstall || e.Outcome != OutcomeDone || !strings.Contains(string(e.Detail), "CN=Site") {
		t.Errorf("event %+v", e)
	}
	id, err := f.Identity(ctx, "web")
	if err != nil || id.Keys[1].Issuer != "CN=Site" || !id.Keys[1].Matches || id.Keys[1].Serial != "abc" {
		t.Errorf("%+v, %v", id.Keys[1], err)
	}
	after, serials := recorded(t, f, "web")
	if after.Identity[1].Issuer != leaf.Issuer.String() || serials[1] != "abc" {
		t.Errorf("recorded: %+v", after.Identity[1])
	}
	if left, _ := unrevoked(t, a, rec.ID.String()); !cmp.Equal(left, []string{before[0], before[2]}) {
		t.Errorf("good are %v: the one that was replaced is revoked, and no other", left)
	}
	// Once more: there is nothing of this authority's to revoke.
	if done, err := f.InstallCertificate(ctx, tester, "web", bundle); err != nil || done.Replaced != "abc" || len(done.Notes) != 0 {
		t.Errorf("once more: %+v, %v", done, err)
	}
	for name, text := range map[string][]byte{"nothing": nil, "words": []byte("x")} {
		if _, err := f.InstallCertificate(ctx, tester, "web", text); err == nil {
			t.Errorf("%s is installed", name)
		}
	}
	if v := f.Trail(); v != TrailOf(f.Dir()) {
		t.Error("another trail")
	}
}

func TestVerbsOfIdentityPassTheSocket(t *testing.T) {
	f, _ := certified(t)
	ctx := context.Background()
	f.create("web")
	for text, want := range map[string]bool{
		`{"verb":"identity","name":"web"}`:                        true,
		`{"verb":"ek-csr","name":"web","kind":"p256"}`:            true,
		`{"verb":"ek-csr","name":"web","kind":"iak"}`:             false,
		`{"verb":"ek-csr","name":"web","kind":"x"}`:               false,
		`{"verb":"ek-install","name":"web","certificate":"none"}`: false,
	} {
		q, err := ParseRequest([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if v, err := f.Handle(ctx, tester, q); (err == nil) != want {
			t.Errorf("%s: %v, %v", text, v, err)
		}
	}
	q, err := ParseRequest([]byte(`{"verb":"create","name":"x","deviceIdentity":true,"platformCertificate":true}`))
	if err != nil || !q.DeviceIdentity || !q.PlatformCertificate {
		t.Errorf("%+v, %v", q, err)
	}
}
