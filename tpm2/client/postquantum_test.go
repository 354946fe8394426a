package client_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"filippo.io/mldsa"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/tpmtest"
)

// signByMLDSA87 makes a key with an authValue and has it sign a message in parts, under
// a session that vouches for the largest signature there is.
func signByMLDSA87(t *testing.T, tpm *client.TPM, message []byte) (public []byte, sig tpm2.Signature) {
	t.Helper()
	run := func(c *client.Command) tpm2.Handle {
		t.Helper()
		h, err := tpm.Run(c)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	template := tpm2.Public{Type: tpm2.AlgMLDSA, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrSign}
	template.Parameters.MLDSA.ParameterSet = tpm2.MLDSA87
	var made command.CreatePrimaryOut
	in := &command.CreatePrimaryIn{InPublic: template, InSensitive: tpm2.SensitiveCreate{UserAuth: []byte("auth")}}
	h := run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleOwner}}, In: in, Out: &made})
	key := client.Entity{Handle: h, Name: made.Name, Auth: []byte("auth")}
	h = run(&client.Command{Code: tpm2.CCSignSequenceStart, Handles: []client.Entity{key}, In: &command.SignSequenceStartIn{Context: []byte("context")}})
	sequence := client.Entity{Handle: h, Name: []byte{}} // Part 1, 32.4: a sequence has no Name
	for part := range slices.Chunk(message, tpm2.MaxBuffer) {
		run(&client.Command{Code: tpm2.CCSequenceUpdate, Handles: []client.Entity{sequence}, In: &command.SequenceUpdateIn{Buffer: part}})
	}
	s, err := tpm.StartSession(client.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var out command.SignSequenceCompleteOut
	run(&client.Command{
		Code: tpm2.CCSignSequenceComplete, Handles: []client.Entity{sequence, key}, Out: &out, In: &command.SignSequenceCompleteIn{},
		Uses: []client.Use{{}, {Session: s}},
	})
	return made.OutPublic.Unique.MLDSA, out.Signature
}

func TestAMessageIsSignedByMLDSA(t *testing.T) {
	sim := tpmtest.OpenConfig(t, tpmtest.Config{Profile: "post-quantum"})
	tpm := client.New(sim, rand.Reader)
	message := make([]byte, 5000)
	public, sig := signByMLDSA87(t, tpm, message)
	key, err := mldsa.NewPublicKey(mldsa.MLDSA87(), public)
	if err != nil {
		t.Fatal(err)
	}
	if err := mldsa.Verify(key, message, sig.MLDSA, &mldsa.Options{Context: "context"}); err != nil {
		t.Errorf("the signature does not verify: %v", err)
	}
	other := client.New(tpmtest.Open(t), rand.Reader) // of the default profile
	_, err = other.Run(&client.Command{Code: tpm2.CCSignSequenceStart, Handles: []client.Entity{{Handle: 0x80000000}}, In: &command.SignSequenceStartIn{}})
	if !errors.Is(err, tpm2.RCCommandCode) {
		t.Errorf("TPM2_SignSequenceStart of another profile = %v, want TPM_RC_COMMAND_CODE", err)
	}
}
