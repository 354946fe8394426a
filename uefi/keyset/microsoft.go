package keyset

import (
	_ "embed" // Microsoft's certificates

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
)

// What Microsoft publishes for firmware; data/README.md says where it is from.
var (
	//go:embed data/kek-2011.der
	kek2011 []byte
	//go:embed data/kek-2023.der
	kek2023 []byte
	//go:embed data/windows-2011.der
	windows2011 []byte
	//go:embed data/windows-2023.der
	windows2023 []byte
	//go:embed data/uefi-2011.der
	uefi2011 []byte
	//go:embed data/uefi-2023.der
	uefi2023 []byte
	//go:embed data/dbx.esl
	revocations []byte
)

// MicrosoftOwner is the owner that Microsoft's entries have.
var MicrosoftOwner = uefi.MustGUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")

func microsoft(ders ...[]byte) []sigdb.Signature {
	var out []sigdb.Signature
	for _, der := range ders {
		out = append(out, sigdb.Signature{Type: sigdb.X509, Owner: MicrosoftOwner, Data: der})
	}
	return out
}

// microsoftKEK may change db and dbx.
func microsoftKEK() []sigdb.Signature { return microsoft(kek2011, kek2023) }

// microsoftDB signs Windows, and the boot loaders of others. The authorities of 2011
// have expired; firmware does not mind, and what they signed goes on starting.
func microsoftDB() []sigdb.Signature {
	return microsoft(windows2011, windows2023, uefi2011, uefi2023)
}

// Revocations are Microsoft's list of what may not start, as signature lists.
func Revocations() []byte { return append([]byte(nil), revocations...) }
