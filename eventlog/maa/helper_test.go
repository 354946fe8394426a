package maa_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/maa"
	"github.com/assay-project/assay/internal/sampletest"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/tpm2"
)

// honest is a boot of Windows with Secure Boot and Defender's early-launch driver.
const honest = "win-x1carbon-vbs-hvci-resume.bin"

var logs = sampletest.Files("../testdata/logs.zip")

func sample(t testing.TB, name string) []byte {
	t.Helper()
	all, err := logs()
	if err != nil {
		t.Fatal(err)
	}
	data, ok := all["eventlogs/bios/"+name]
	if !ok {
		data, ok = all["eventlogs/adversarial/"+name]
	}
	if !ok {
		t.Fatalf("there is no sample %s", name)
	}
	return data
}

// confirm confirms a log against its own replay, as if a quote had signed that.
func confirm(t testing.TB, data []byte, bank tpm2.Alg) (*eventlog.Confirmed, error) {
	t.Helper()
	l, err := eventlog.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	regs, err := l.Replay(bank)
	if err != nil {
		t.Fatal(err)
	}
	quoted := map[int][]byte{}
	for pcr := range 24 {
		quoted[pcr] = regs.Value(pcr)
	}
	return l.Confirm(bank, quoted)
}

// events returns the claim of a log, "" when there is none.
func events(t testing.TB, data []byte, bank tpm2.Alg) string {
	t.Helper()
	c, err := confirm(t, data, bank)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := maa.Events(c)
	if !ok {
		return ""
	}
	return text
}

// library evaluates the policy that comes with assay for this claim.
func library(t testing.TB, text string) bool {
	t.Helper()
	all, err := policy.Library()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(l policy.LibraryPolicy) bool { return l.Name == "azure-windows-events" })
	p, err := policy.Parse(all[i].Text, policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	claims := []policy.Claim{{Type: "aikValidated", Value: policy.BoolValue(true), Issuer: policy.FromService}}
	if text != "" {
		claims = append(claims, policy.Claim{Type: "events", Value: policy.StringValue(text), Issuer: policy.FromService})
	}
	r, err := p.Evaluate(claims)
	if err != nil {
		t.Fatal(err)
	}
	return r.Permitted()
}

// A record is one event as a log keeps it.
type record struct {
	pcr    uint32
	typ    eventlog.Type
	digest []byte // SHA-256; nil is computed from data
	data   []byte
}

// records takes a log apart, without the Spec ID event.
func records(t testing.TB, data []byte) []record {
	t.Helper()
	l, err := eventlog.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var out []record
	for _, e := range l.Events()[1:] {
		out = append(out, record{e.PCR, e.Type, e.Digest(tpm2.AlgSHA256), e.Data})
	}
	return out
}

// specID is the first record of a log that declares the bank SHA-256 alone
// (PFP 10.4.5.1).
func specID() []byte {
	body := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	body = binary.LittleEndian.AppendUint32(body, 1)
	body = binary.LittleEndian.AppendUint16(body, uint16(tpm2.AlgSHA256))
	body = append(binary.LittleEndian.AppendUint16(body, 32), 0)
	out := make([]byte, 0, 128)
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint32(out, uint32(eventlog.NoAction))
	out = append(out, make([]byte, 20)...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
	return append(out, body...)
}

// encode makes a log of records (PFP 10.2.2).
func encode(all []record) []byte {
	out := specID()
	for _, r := range all {
		digest := r.digest
		if digest == nil {
			digest = sum(r.data)
		}
		out = binary.LittleEndian.AppendUint32(out, r.pcr)
		out = binary.LittleEndian.AppendUint32(out, uint32(r.typ))
		out = binary.LittleEndian.AppendUint32(out, 1)
		out = binary.LittleEndian.AppendUint16(out, uint16(tpm2.AlgSHA256))
		out = append(out, digest...)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(r.data)))
		out = append(out, r.data...)
	}
	return out
}

// tag writes one tag of Windows.
func tag(id uint32, value []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, id)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(value))), value...)
}

// boundary is a trust boundary with the given members.
func boundary(members ...[]byte) []byte { return tag(0x40010001, bytes.Join(members, nil)) }

// wide writes text as Windows does, with its end.
func wide(s string) (b []byte) {
	for _, c := range s + "\x00" {
		b = binary.LittleEndian.AppendUint16(b, uint16(c))
	}
	return b
}
