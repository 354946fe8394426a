package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A policy with TPM2_PolicyAuthValue or TPM2_PolicyPassword let the authValue of a
// PIN index be tried without end: only passwords and HMAC sessions met its limit.
func TestAPolicyDoesNotPassOverThePINLimit(t *testing.T) {
	for name, cc := range map[string]tpm2.CC{"AuthValue": tpm2.CCPolicyAuthValue, "Password": tpm2.CCPolicyPassword} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			p := index(tpm2.NVPinFail.Attributes() | tpm2.NVNoDA | tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVPolicyRead)
			p.AuthPolicy = asserted(zeros(), tpm2.CCPolicyAuthValue)
			m.defineNV(p)
			m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, pinData(0, 2))
			read := func(value string) tpm2.RC {
				s := m.satisfied(assertion{cc: cc})
				defer m.flush(s.handle)
				s.withAuthValue, s.withPassword = cc == tpm2.CCPolicyAuthValue, cc == tpm2.CCPolicyPassword
				return m.run(tpm2.CCNVRead, handles(anIndex, anIndex), s.with(value), &command.NVReadIn{Size: 8}, nil)
			}
			bad, spent := sessionRC(tpm2.RCBadAuth, 1), sessionRC(tpm2.RCAuthUnavailable, 1)
			for i, try := range []struct {
				value string
				want  tpm2.RC
			}{{"no", bad}, {"pin", 0}, {"no", bad}, {"no", bad}, {"pin", spent}, {"no", spent}} {
				if rc := read(try.value); rc != try.want {
					t.Errorf("try %d of %q = %v (%#x), want %v", i+1, try.value, rc, uint32(rc), try.want)
				}
			}
			if got, want := m.content(8), pinData(2, 2).Data; !bytes.Equal(got, want) {
				t.Errorf("the index holds %x, want %x", got, want)
			}
		})
	}
}

// A first write of a part left 0xff in the rest: a limit of 4,294,967,295 tries.
func TestAPINWithoutALimitIsLockedOut(t *testing.T) {
	m := newMachine(t)
	m.defineNV(index(tpm2.NVPinFail.Attributes() | tpm2.NVNoDA | tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVAuthRead))
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, &command.NVWriteIn{Data: []byte{0, 0}})
	if got := m.content(8); !bytes.Equal(got, make([]byte, 8)) {
		t.Errorf("the index holds %x, want zeros", got)
	}
	m.fails(tpm2.RCAuthUnavailable, tpm2.CCNVRead, handles(anIndex, anIndex), password("pin"), &command.NVReadIn{Size: 8})
}
