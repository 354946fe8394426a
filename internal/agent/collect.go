// Package agent is what runs in a guest or on a host: it gathers evidence and
// answers challenges with it, those of its host over a serial port ([Server]) or those
// of a service over HTTPS ([Client]).
//
// The quote is by the machine's own TPM ([OpenTPM]), or comes as files, as tpm2_quote
// and tpm2_createak write them ([Collect]); logs come from the kernel. It proves
// nothing; who receives the evidence does. What it reads from its host or a service
// is bounded and checked as much as they check the agent. Start with [TPM.Evidence].
//
// TPM 2.0 Library, Part 1, chapters 24 and 36, version 1.83.
package agent

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Where Linux exports what was measured.
const (
	bootLogPath = "sys/kernel/security/tpm0/binary_bios_measurements"
	imaPath     = "sys/kernel/security/ima/binary_runtime_measurements"
	pcrPath     = "sys/class/tpm/tpm0/pcr-%s/%d"
)

// The most that is read of each: what a service takes (docs/formats/evidence-bundle.md).
const (
	maxBootLog = 1 << 20
	maxIMA     = 2 << 20
	maxFile    = 64 << 10
)

// Files name what the TPM's tools wrote. Quote, Signature and AKPublic are required.
type Files struct {
	Quote     string // TPMS_ATTEST
	Signature string // TPMT_SIGNATURE (tpm2_quote --format tss)
	AKPublic  string // TPM2B_PUBLIC or TPMT_PUBLIC (tpm2_createak --format tss)
	AKCert    string // DER
	IMA       bool   // send the kernel's list of runtime measurements too
}

// A Bundle is evidence of type "tpm" (docs/formats/evidence-bundle.md).
type Bundle struct {
	Type     string                       `json:"type"`
	Quotes   []Quote                      `json:"quotes"`
	PCRs     map[string]map[string]string `json:"pcrs"`
	AKPublic []byte                       `json:"akPublic"`
	AKCert   []byte                       `json:"akCert,omitempty"`
	EventLog []byte                       `json:"eventLog,omitempty"`
	IMALog   []byte                       `json:"imaLog,omitempty"`

	noIMA bool // there is a list, and it is too long
}

// A Quote is what TPM2_Quote returned (Part 3, 18.4).
type Quote struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
}

// Collect reads the tools' files from tools and the kernel's from root ("/").
// A missing boot log is no error: the service says what it means.
func Collect(root, tools fs.FS, f Files) (*Bundle, error) {
	b := &Bundle{Type: "tpm", Quotes: make([]Quote, 1)}
	for _, in := range []struct {
		what, name string
		to         *[]byte
	}{
		{"quote", f.Quote, &b.Quotes[0].Attest},
		{"signature", f.Signature, &b.Quotes[0].Signature},
		{"attestation key", f.AKPublic, &b.AKPublic},
		{"attestation key's certificate", f.AKCert, &b.AKCert},
	} {
		if in.name == "" {
			continue
		}
		data, err := readAtMost(tools, in.name, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", in.what, err)
		}
		*in.to = data
	}
	b.AKPublic = unwrap(b.AKPublic)
	quoted, err := tpm2.ParseAttest(b.Quotes[0].Attest)
	if err != nil {
		return nil, fmt.Errorf("quote %q: %w", f.Quote, err)
	}
	if b.PCRs, err = readPCRs(root, quoted); err != nil {
		return nil, err
	}
	if b.EventLog, err = optional(root, bootLogPath, maxBootLog); err != nil {
		return nil, err
	}
	if f.IMA {
		if b.IMALog, err = optional(root, imaPath, maxIMA); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// unwrap takes the size off a TPM2B_PUBLIC, as the tools write it.
func unwrap(b []byte) []byte {
	var w sized
	if wire.Decode(b, &w) == nil {
		return w.inner
	}
	return b
}

type sized struct{ inner []byte }

// Wire lays out a TPM2B (Part 2, 10.4).
func (s *sized) Wire(c *wire.Codec) { c.Sized16(&s.inner, maxFile) }

// readPCRs reads the registers that the quote selects, as the kernel shows them
// (since Linux 5.12).
func readPCRs(root fs.FS, quoted *tpm2.Attest) (map[string]map[string]string, error) {
	if quoted.Type != tpm2.AttestQuote {
		return nil, errors.New("the quote file holds another kind of attestation")
	}
	out := map[string]map[string]string{}
	for _, sel := range quoted.Attested.Quote.PCRSelect {
		bank := sel.Hash.BankName()
		values := map[string]string{}
		for i := range sel.Select.All() {
			data, err := readAtMost(root, fmt.Sprintf(pcrPath, bank, i), 2*tpm2.MaxDigest+2)
			if err != nil {
				return nil, fmt.Errorf("read PCR %d of bank %s: %w", i, bank, err)
			}
			value := strings.ToLower(strings.TrimSpace(string(data)))
			if b, err := hex.DecodeString(value); err != nil || len(b) != sel.Hash.DigestSize() {
				return nil, fmt.Errorf("PCR %d of bank %s reads %q, which is no digest", i, bank, value)
			}
			values[strconv.Itoa(i)] = value
		}
		out[bank] = values
	}
	return out, nil
}

func optional(root fs.FS, name string, limit int64) ([]byte, error) {
	b, err := readAtMost(root, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

var errTooLong = errors.New("too long to be sent")

// readAtMost reads a file whose size the kernel may not tell.
func readAtMost(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", name, limit, errTooLong)
	}
	return b, nil
}

// Encode writes the bundle as its JSON object.
func (b *Bundle) Encode() ([]byte, error) { return json.Marshal(b) }
