package keyprovider

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/tpmtest"
)

// What is sealed to registers has no other way in: not by its empty authorization.
func TestRegistersCannotBeGoneRound(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	for pcrs, open := range map[string]bool{"sha256:7": false, noPCRs: true} {
		o, err := sealTo(tpm, pcrs, seal.NewSecret(bytes.Repeat([]byte{7}, seal.KeySize)))
		if err != nil {
			t.Fatal(err)
		}
		root, err := storageRoot(tpm)
		if err != nil {
			t.Fatal(err)
		}
		var loaded command.LoadOut
		h, err := tpm.Run(&client.Command{
			Code: tpm2.CCLoad, Handles: []client.Entity{root.Entity}, In: &command.LoadIn{InPrivate: o.private, InPublic: o.public}, Out: &loaded,
		})
		if err != nil {
			t.Fatal(err)
		}
		var out command.UnsealOut
		_, err = tpm.Run(&client.Command{Code: tpm2.CCUnseal, Handles: []client.Entity{{Handle: h, Name: loaded.Name}}, Out: &out})
		if (err == nil) != open {
			t.Errorf("%s: Unseal by the empty authorization = %x, %v", pcrs, out.OutData, err)
		}
		if err := tpm.Flush(h); err != nil {
			t.Error(err)
		}
		root.close()
	}
}
