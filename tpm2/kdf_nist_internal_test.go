package tpm2

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
)

// KDFa is SP 800-108 in counter mode with information that the TPM lays out, and NIST's
// vectors have information of their own: they are of the loop that both share.
func TestTheLoopOfKDFaIsNISTs(t *testing.T) {
	text, err := os.ReadFile("testdata/kdf-counter.txt")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]Alg{"[SHA1]": AlgSHA1, "[SHA256]": AlgSHA256, "[SHA384]": AlgSHA384, "[SHA512]": AlgSHA512}
	var hash Alg
	fields := map[string]string{}
	field := func(name string) []byte {
		b, err := hex.DecodeString(fields[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("%s = %q: %v", name, fields[name], err)
		}
		return b
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if a, ok := hashes[line]; ok {
			hash = a
		}
		key, value, _ := strings.Cut(line, " = ")
		fields[key] = value
		if key != "KO" {
			continue
		}
		h, _ := hash.Hash()
		mac, info, want := hmac.New(h.New, field("KI")), field("FixedInputData"), field("KO")
		bits, err := strconv.Atoi(fields["L"])
		if err != nil {
			t.Fatal(err)
		}
		got, err := derive(mac, bits, func(counter uint32) {
			mac.Write(binary.BigEndian.AppendUint32(nil, counter))
			mac.Write(info)
		})
		if n++; err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, COUNT = %s: derive = %x, %v, want %x", hash.BankName(), fields["COUNT"], got, err, want)
		}
	}
	if n != 16 {
		t.Errorf("%d vectors, want 16", n)
	}
}
