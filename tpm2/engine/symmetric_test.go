package engine_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

func TestHashesAndMACsOfOneCommand(t *testing.T) {
	m := newMachine(t)
	data := bytes.Repeat([]byte("abc"), 100)
	sum := sha256.Sum256(data)
	var h command.HashOut
	m.do(tpm2.CCHash, nil, nil, &command.HashIn{Data: data, HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleOwner}, &h)
	if !bytes.Equal(h.OutHash, sum[:]) {
		t.Errorf("Hash = %x, want %x", h.OutHash, sum)
	}
	m.do(tpm2.CCLoadExternal, nil, nil, outsideHMAC(usable|tpm2.AttrSign, "a key").external(), nil)
	key := m.handle
	want := hmac.New(sha256.New, []byte("a key"))
	want.Write(data)
	var mac command.HMACOut
	m.do(tpm2.CCHMAC, handles(key), password(""), &command.HMACIn{Buffer: data, InScheme: tpm2.AlgNull}, &mac)
	if !bytes.Equal(mac.OutMAC, want.Sum(nil)) {
		t.Errorf("HMAC = %x, want %x", mac.OutMAC, want.Sum(nil))
	}
}
