package ekca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// all is a TPM with all that it can be made with but RSA-3072, which is slow.
func all() Options {
	return Options{Keys: []Kind{RSA2048, P256, P384, P521}, DeviceIdentity: true, Platform: testPlatform()}
}

func TestManufacturedTPMHasItsIdentityInPlace(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	tpm := newEngine(t)
	got := mustManufacture(t, tpm, ca, all())
	m := restart(t, tpm)
	want := map[tpm2.Handle][]byte{indexChain: ca.issuing.cert.Raw, indexPlatform: got.Platform}
	handles := []tpm2.Handle{}
	for _, k := range got.Keys {
		want[k.Index] = k.Certificate
		handles = append(handles, k.Handle)
		name, err := k.Public.Name()
		if err != nil {
			t.Fatal(err)
		}
		if at, err := m.readName(k.Handle); err != nil || !bytes.Equal(at, name) {
			t.Errorf("%s: at %#x is %x, %v, want %x", k.Kind, uint32(k.Handle), at, err, name)
		}
		m.remakes(t, k.Kind, name)
	}
	for index, content := range want {
		in, err := m.readIndex(index)
		if err != nil || !bytes.Equal(in, content) {
			t.Errorf("index %#x: %d bytes, %v, want %d", uint32(index), len(in), err, len(content))
		}
		// As swtpm_setup leaves it.
		if a := m.attributes(t, index); a != 0x62072801 {
			t.Errorf("index %#x has attributes %#x", uint32(index), uint32(a))
		}
	}
	taken, err := m.handles(0x01000000)
	if err != nil || len(taken) != len(want) {
		t.Errorf("NV indices are %x, %v, want %d", taken, err, len(want))
	}
	slices.Sort(handles)
	if persistent, err := m.handles(0x81000000); err != nil || !cmp.Equal(persistent, handles) {
		t.Errorf("persistent keys are %x, %v, want %x", persistent, err, handles)
	}
	if transient, err := m.handles(0x80000000); err != nil || len(transient) != 0 {
		t.Errorf("left loaded: %x, %v", transient, err)
	}
}

// remakes holds that the template gives the key again, as software in the guest
// makes it (EK Credential Profile, 2.2.1.4).
func (m *module) remakes(t *testing.T, k Kind, want []byte) {
	t.Helper()
	h, public, err := m.createPrimary(k)
	if err != nil {
		t.Fatalf("%s: %v", k, err)
	}
	if name, err := public.Name(); err != nil || !bytes.Equal(name, want) {
		t.Errorf("%s: template gives %x, %v, want %x", k, name, err, want)
	}
	if err := m.tpm.Flush(h); err != nil {
		t.Error(err)
	}
}

func (m *module) attributes(t *testing.T, index tpm2.Handle) tpm2.NVAttributes {
	t.Helper()
	var out command.NVReadPublicOut
	if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVReadPublic, Handles: []client.Entity{{Handle: index}}, Out: &out}); err != nil {
		t.Fatal(err)
	}
	return out.NVPublic.Attributes
}

func TestPlacesAreThoseOfTheRegistry(t *testing.T) {
	want := map[Kind][2]tpm2.Handle{
		RSA2048: {0x81010001, 0x01c00002}, P256: {0x8101000a, 0x01c0000a}, P384: {0x81010016, 0x01c00016}, P521: {0x81010018, 0x01c00018},
		RSA3072: {0x8101001c, 0x01c0001c}, IDevID: {0x81020000, 0x01c90200}, IAK: {0x81020001, 0x01c90100},
	}
	for _, k := range Kinds() {
		p, err := placeOf(k)
		if err != nil || want[k] != [2]tpm2.Handle{p.handle, p.index} {
			t.Errorf("%s is at %#x, %#x, %v", k, uint32(p.handle), uint32(p.index), err)
		}
		template, err := Template(k)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tpm2.EKTemplateOf(template); ok != k.Endorsement() || ok && (e.Name != p.template || tpm2.Handle(e.NVCert) != p.index) {
			t.Errorf("%s: template is %q at %#x", k, e.Name, e.NVCert)
		}
		delete(want, k)
	}
	if len(want) != 0 {
		t.Errorf("no longer there: %v", want)
	}
}

func TestGuestCannotChangeCertificates(t *testing.T) {
	tpm := newEngine(t)
	got := mustManufacture(t, tpm, newAuthority(t, AuthorityOptions{}), Options{Keys: []Kind{P256}})
	m := restart(t, tpm)
	index := got.Keys[0].Index
	for name, c := range map[string]*client.Command{
		"write by the platform": {Code: tpm2.CCNVWrite, Handles: platformIndex(index, nil), In: &command.NVWriteIn{Data: []byte{1}}},
		"write by the owner":    {Code: tpm2.CCNVWrite, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: index}}, In: &command.NVWriteIn{Data: []byte{1}}},
		"remove by the owner":   {Code: tpm2.CCNVUndefineSpace, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: index}}},
	} {
		if _, err := m.tpm.Run(c); err == nil {
			t.Errorf("%s: succeeds", name)
		}
	}
	if in, err := m.readIndex(index); err != nil || !bytes.Equal(in, got.Keys[0].Certificate) {
		t.Errorf("certificate is now %x, %v", in, err)
	}
}

// An issuerFunc is an issuer.
type issuerFunc func(context.Context, *Batch) (*Certificates, error)

func (f issuerFunc) Issue(ctx context.Context, b *Batch) (*Certificates, error) { return f(ctx, b) }

func TestManufactureLeavesNoHalfIdentity(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	other := mustManufacture(t, newEngine(t), ca, Options{Keys: []Kind{P256}}).Keys[0].Certificate
	boom := errors.New("no paper")
	for name, tc := range map[string]struct {
		issuer Issuer
		want   error
	}{
		"the issuer fails": {issuerFunc(func(context.Context, *Batch) (*Certificates, error) { return nil, boom }), boom},
		"a certificate of another key": {issuerFunc(func(_ context.Context, b *Batch) (*Certificates, error) {
			return &Certificates{Keys: [][]byte{other}}, nil
		}), ErrOtherKey},
		"too few certificates": {issuerFunc(func(context.Context, *Batch) (*Certificates, error) { return &Certificates{}, nil }), nil},
		"no certificate": {issuerFunc(func(_ context.Context, b *Batch) (*Certificates, error) {
			return &Certificates{Keys: [][]byte{{1, 2, 3}}}, nil
		}), nil},
	} {
		tpm := newEngine(t)
		out, err := Manufacture(context.Background(), transport(tpm), tc.issuer, Options{TPM: testTPM, Keys: []Kind{P256}, Random: rand.Reader})
		if out != nil || err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		m := restart(t, tpm)
		if taken, err := m.handles(0x01000000); err != nil || len(taken) != 0 {
			t.Errorf("%s: NV has %x, %v", name, taken, err)
		}
	}
}

func TestManufactureRefuses(t *testing.T) {
	used := newEngine(t)
	mustManufacture(t, used, None{}, Options{Keys: []Kind{P256}})
	used.PowerOn()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	live := context.Background()
	for name, tc := range map[string]struct {
		ctx  context.Context
		fail func() error
		want error
		says string
	}{
		"a TPM that has an identity": {fail: func() error {
			_, err := Manufacture(live, transport(used), None{}, Options{Random: rand.Reader})
			return err
		}, want: ErrNotNew},
		"an ended context": {fail: func() error {
			_, err := Manufacture(ended, transport(newEngine(t)), None{}, Options{Random: rand.Reader})
			return err
		}, want: context.Canceled},
		"an unknown key": {fail: func() error {
			_, err := Manufacture(live, transport(newEngine(t)), None{}, Options{Keys: []Kind{"rsa1024"}, Random: rand.Reader})
			return err
		}, says: "rsa1024"},
		"a key twice": {fail: func() error {
			_, err := Manufacture(live, transport(newEngine(t)), None{}, Options{Keys: []Kind{P256, P256}, Random: rand.Reader})
			return err
		}, says: "twice"},
		"a device key as an endorsement key": {fail: func() error {
			_, err := Manufacture(live, transport(newEngine(t)), None{}, Options{Keys: []Kind{IAK}, Random: rand.Reader})
			return err
		}, says: "no endorsement key"},
		"device keys without an endorsement key": {fail: func() error {
			ca := newAuthority(t, AuthorityOptions{})
			_, err := Manufacture(live, transport(newEngine(t)), ca, Options{Keys: []Kind{}, DeviceIdentity: true, Random: rand.Reader})
			return err
		}, says: "no endorsement key is certified"},
		"a platform without a name": {fail: func() error {
			ca := newAuthority(t, AuthorityOptions{})
			_, err := Manufacture(live, transport(newEngine(t)), ca, Options{Keys: []Kind{P256}, Platform: &Platform{Model: "x", Version: "1"}, Random: rand.Reader})
			return err
		}, says: "manufacturer is missing"},
	} {
		err := tc.fail()
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %v %q", name, err, tc.want, tc.says)
		}
	}
}

func TestWithoutAnIssuerThereAreKeysOnly(t *testing.T) {
	tpm := newEngine(t)
	got := mustManufacture(t, tpm, None{}, Options{})
	if len(got.Keys) != len(DefaultKeys()) || got.Chain != nil || got.Platform != nil {
		t.Errorf("%d keys, chain %v", len(got.Keys), got.Chain)
	}
	m := restart(t, tpm)
	if taken, err := m.handles(0x01000000); err != nil || len(taken) != 0 {
		t.Errorf("NV has %x, %v", taken, err)
	}
}

func mustParse(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// Asked: 150 ms with certificates. The spread is that of the search for primes.
func BenchmarkManufacture(b *testing.B) {
	ca := newAuthority(b, AuthorityOptions{})
	for b.Loop() {
		mustManufacture(b, newEngine(b), ca, Options{})
	}
}

func BenchmarkManufactureWithAll(b *testing.B) {
	ca := newAuthority(b, AuthorityOptions{})
	o := all()
	o.Keys = nil
	for b.Loop() {
		mustManufacture(b, newEngine(b), ca, o)
	}
}
