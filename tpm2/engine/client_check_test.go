package engine_test

import (
	"bytes"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

var _ transport.TPM = (*machine)(nil)

// The test client and go-tpm agree with the TPM on sessions of all kinds.
func TestSessionsAreUnderstood(t *testing.T) {
	for name, cfg := range map[string]sessionConfig{
		"HMAC":       {},
		"SHA-384":    {hash: tpm2.AlgSHA384},
		"bound":      {bind: tpm2.HandleOwner},
		"encrypting": {symmetric: aes128(), bind: tpm2.HandleEndorsement},
		"XOR":        {symmetric: tpm2.SymDef{Algorithm: tpm2.AlgXOR, Hash: tpm2.AlgSHA256}, bind: tpm2.HandleEndorsement},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.session(cfg)
			bits := tpm2.SessionAudit
			if s.symmetric.Algorithm != tpm2.AlgNull {
				bits |= tpm2.SessionEncrypt
			}
			for range 3 {
				var out command.GetRandomOut
				m.do(tpm2.CCGetRandom, nil, s.with("", bits), &command.GetRandomIn{BytesRequested: 16}, &out)
				if len(out.RandomBytes) != 16 {
					t.Errorf("GetRandom = %x, want 16 bytes", out.RandomBytes)
				}
			}
			wrong := s.with("", bits)
			wrong[0].hmac = bytes.Repeat([]byte{1}, s.hash.DigestSize())
			m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCGetRandom, nil, wrong, &command.GetRandomIn{BytesRequested: 16})
		})
	}
}

func TestGoTPMTalksToTheEngine(t *testing.T) {
	m := newMachine(t)
	rsp, err := gotpm.GetRandom{BytesRequested: 20}.Execute(m, gotpm.HMAC(gotpm.TPMAlgSHA256, 16, gotpm.AESEncryption(128, gotpm.EncryptOut)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(rsp.RandomBytes.Buffer); n != 20 {
		t.Errorf("GetRandom gave %d bytes, want 20", n)
	}
}
