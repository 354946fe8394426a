package keyprovider

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// What a program, a server or a file says is read without a panic, and what is
// accepted is what stands there.
func FuzzAnswerOfAProgram(f *testing.F) {
	f.Add([]byte(`{"id": 1, "keyId": "AQI=", "data": "AAAA"}`))
	f.Add([]byte(`{"id": 1, "error": "C_Login", "kind": "refused"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		a, err := parseAnswer(line, 1)
		if err == nil && (a.ID != 1 || len(a.Data) > maxOutside || a.Error != "" || a.Kind != "") {
			t.Errorf("parseAnswer(%q) = %+v", line, a)
		}
	})
}

func FuzzTextOfAKMIPServer(f *testing.F) {
	f.Add(append([]byte{1}, make([]byte, 60)...))
	f.Add(append([]byte{2}, make([]byte, 64)...))
	f.Add([]byte{kmipFetched, 1})
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 {
			return // which an envelope's wrapped key is not
		}
		e, err := parseKMIPText(text)
		if err != nil || text[0] == kmipFetched {
			return
		}
		if again := bytes.Join([][]byte{text[:1], e.IV, e.Data, e.Tag}, nil); !bytes.Equal(again, text) || len(e.Data) == 0 {
			t.Errorf("parseKMIPText(%x) = %+v", text, e)
		}
	})
}

func FuzzSealedKeyFile(f *testing.F) {
	public, err := wire.Encode(&tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Parameters: tpm2.PublicParms{KeyedHash: tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}}})
	if err != nil {
		f.Fatal(err)
	}
	envelope, err := seal.Seal(bytes.NewReader(make([]byte, 99)), seal.Key{Secret: seal.NewSecret(make([]byte, 32))}, tpmContext, []byte(plainHeader+"\n"))
	if err != nil {
		f.Fatal(err)
	}
	o := sealedObject{pcrs: "sha256:7", parent: []byte{1, 2}, private: []byte{3}}
	f.Add(sealedLine(&o, public, envelope))
	f.Fuzz(func(t *testing.T, rest []byte) {
		o, e, err := parseSealed(rest)
		if err != nil {
			return
		}
		if _, err := wire.Encode(&o.public); err != nil || e == nil {
			t.Errorf("parseSealed(%q) = %v, and its public area does not encode: %v", rest, e, err)
		}
	})
}
