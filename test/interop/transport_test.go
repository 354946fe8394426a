package interop

import (
	"testing"

	canonical "github.com/canonical/go-tpm2"
	"github.com/google/go-tpm/legacy/tpm2"

	"github.com/assay-project/assay/tpm2/tpmtest"
)

// The TPM of a test is canonical/go-tpm2's transport.
func TestCanonicalTakesTheTPM(t *testing.T) {
	tpm := canonical.NewTPMContext(tpmtest.Open(t))
	b, err := tpm.GetRandom(16)
	if err != nil || len(b) != 16 {
		t.Errorf("GetRandom = %x, %v", b, err)
	}
	primary, _, _, _, _, err := tpm.CreatePrimary(tpm.OwnerHandleContext(), nil, &canonical.Public{
		Type: canonical.ObjectTypeECC, NameAlg: canonical.HashAlgorithmSHA256,
		Attrs: canonical.AttrFixedTPM | canonical.AttrFixedParent | canonical.AttrSensitiveDataOrigin | canonical.AttrUserWithAuth | canonical.AttrSign,
		Params: &canonical.PublicParamsU{ECCDetail: &canonical.ECCParams{
			Symmetric: canonical.SymDefObject{Algorithm: canonical.SymObjectAlgorithmNull}, CurveID: canonical.ECCCurveNIST_P256,
			Scheme: canonical.ECCScheme{Scheme: canonical.ECCSchemeNull}, KDF: canonical.KDFScheme{Scheme: canonical.KDFAlgorithmNull},
		}},
	}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tpm.FlushContext(primary); err != nil {
		t.Error(err)
	}
}

// It is the io.ReadWriteCloser of go-tpm's legacy package and of go-tpm-tools.
func TestLegacyGoTPMTakesTheTPM(t *testing.T) {
	b, err := tpm2.GetRandom(tpmtest.Open(t), 16)
	if err != nil || len(b) != 16 {
		t.Errorf("GetRandom = %x, %v", b, err)
	}
}
