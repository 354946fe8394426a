package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/assay-project/assay/eventlog/ima"
	"github.com/assay-project/assay/tpm2"
)

// imaBanks are the banks that a kernel extends for IMA.
var imaBanks = [...]tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}

// isIMA reports whether data is an IMA list: each entry of one begins with PCR
// 10, where a boot log begins with PCR 0 or a record of its own format.
func isIMA(data []byte) bool {
	return bytes.HasPrefix(data, []byte("10 ")) || len(data) >= 4 && binary.LittleEndian.Uint32(data) == ima.PCR
}

func reportIMA(data []byte, bank string) (*logReport, error) {
	parse := ima.Parse
	if bytes.HasPrefix(data, []byte("10 ")) {
		parse = ima.ParseASCII
	}
	l, err := parse(data)
	if err != nil {
		return nil, err
	}
	if bank == "" {
		bank = tpm2.AlgSHA256.BankName()
	}
	r := newLogReport()
	r.Format, r.Bank, r.Banks = new("ima"), bank, []string{l.Alg().BankName()}
	for _, a := range imaBanks {
		value, _ := l.Replay(a)
		r.PCRs[a.BankName()] = map[string]string{strconv.Itoa(ima.PCR): hex.EncodeToString(value)}
	}
	for i, e := range l.Entries() {
		r.Events = append(r.Events, imaEvent(l, i, e))
	}
	return r, nil
}

// imaEvent describes an entry, whose digest covers all its fields. The original
// template has a padding that is not in the list, so its words stay a hint here.
func imaEvent(l *ima.List, i int, e ima.Entry) logEvent {
	out := logEvent{
		Index: i, PCR: e.PCR, Type: e.Template, Late: true, measured: true,
		Digests: map[string]string{l.Alg().BankName(): hex.EncodeToString(e.Digest)},
	}
	f, err := e.Fields()
	switch {
	case err != nil:
		out.Description = "entry that cannot be read"
	case e.Violation():
		out.Description = "violation: " + f.Name + " changed while it was measured"
	default:
		if h, ok := l.Alg().Hash(); ok && e.Template != "ima" {
			sum := h.New()
			sum.Write(e.Data)
			out.Proven = bytes.Equal(sum.Sum(nil), e.Digest)
		}
		out.Description = fmt.Sprintf("%s %s:%x", f.Name, f.HashName, f.Digest)
	}
	return out
}
