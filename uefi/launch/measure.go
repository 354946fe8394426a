package launch

import (
	"bytes"
	"encoding/hex"
	"io"
	"slices"
	"strconv"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/wire"
)

// Banks are the algorithms that a prediction has values in.
func Banks() []tpm2.Alg {
	return []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}
}

// Registers are those that a prediction speaks of.
const Registers = 16

// Digests are those of one thing, by bank.
type Digests map[tpm2.Alg][]byte

// MarshalJSON writes digests as small hexadecimal digits under the names of banks.
func (d Digests) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	sep := "{"
	for _, a := range Banks() {
		if v, ok := d[a]; ok {
			out.WriteString(sep + `"` + a.BankName() + `":"` + hex.EncodeToString(v) + `"`)
			sep = ","
		}
	}
	if out.Len() == 0 {
		out.WriteString("{")
	}
	out.WriteString("}")
	return out.Bytes(), nil
}

// digest reads r to its end.
func digest(r io.Reader) (Digests, error) {
	hashes := map[tpm2.Alg]interface {
		io.Writer
		Sum([]byte) []byte
	}{}
	var all []io.Writer
	for _, a := range Banks() {
		if h, ok := a.Hash(); ok {
			w := h.New()
			hashes[a] = w
			all = append(all, w)
		}
	}
	if _, err := io.Copy(io.MultiWriter(all...), r); err != nil {
		return nil, err
	}
	out := Digests{}
	for a, w := range hashes {
		out[a] = w.Sum(nil)
	}
	return out, nil
}

func digestOf(data []byte) Digests {
	out := Digests{}
	for _, a := range Banks() {
		if h, ok := a.Hash(); ok {
			w := h.New()
			w.Write(data)
			out[a] = w.Sum(nil)
		}
	}
	return out
}

// A Name is what a person calls a measured thing, in the words of package eventlog.
type Name struct {
	Kind   string `json:"kind"` // one of the Kind constants of package eventlog
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"`
	Signer string `json:"signer,omitempty"`
}

// An Event is one measurement that a boot will make.
type Event struct {
	PCR     int     `json:"pcr"`
	Digests Digests `json:"digests"`
	Name
}

// A Component is one file of the chain.
type Component struct {
	Path string `json:"path"`
	Kind Kind   `json:"kind"`
	Size int64  `json:"size"`
	// Digests are Authenticode's of a program, and those of the content of others.
	Digests Digests `json:"digests"`
	// Signers are those that its signatures name, which proves nothing.
	Signers []string `json:"signers,omitempty"`
	// Authority is what allows it: a database and the entry in it.
	Authority string                `json:"authority,omitempty"`
	SBAT      []sigdb.SBATComponent `json:"sbat,omitempty"`
	// Reasons are why it is not started.
	Reasons []evidence.Reason `json:"reasons,omitempty"`
}

// A Prediction is what a boot will be.
type Prediction struct {
	Verdict Verdict           `json:"verdict"`
	Reasons []evidence.Reason `json:"reasons"` // for every verdict but Starts
	Chain   []*Component      `json:"chain"`   // in the order in which they are opened
	// Events are in the order of each register. They end where the prediction does.
	Events []Event `json:"events"`

	open   map[int][]evidence.Reason // why registers are unknown
	values map[tpm2.Alg]*[Registers][]byte
}

func newPrediction() *Prediction {
	p := &Prediction{Reasons: []evidence.Reason{}, Chain: []*Component{}, Events: []Event{}, open: map[int][]evidence.Reason{}}
	p.leave(unknown(codeFirmware, "firmware, the machine's shape and its devices make it"), 0, 1, 2, 3, 6)
	p.leave(unknown(codeSystem, "the operating system writes it"), 10, 15)
	return p
}

// leave says that registers cannot be predicted.
func (p *Prediction) leave(why *undecided, pcrs ...int) {
	for _, pcr := range pcrs {
		p.open[pcr] = append(p.open[pcr], why.Reason)
	}
}

// extend adds a measurement.
func (p *Prediction) extend(pcr int, d Digests, n Name) {
	p.Events = append(p.Events, Event{pcr, d, n})
}

// finish computes the registers.
func (p *Prediction) finish() {
	if p.Verdict != Starts {
		for pcr := range Registers {
			if len(p.open[pcr]) == 0 {
				p.leave(unknown(codeStopped, "the chain is not known up to the operating system"), pcr)
			}
		}
	}
	p.values = map[tpm2.Alg]*[Registers][]byte{}
	for _, a := range Banks() {
		h, ok := a.Hash()
		if !ok {
			continue
		}
		var all [Registers][]byte
		for pcr := range all {
			all[pcr] = make([]byte, a.DigestSize())
		}
		for _, e := range p.Events {
			w := h.New()
			w.Write(all[e.PCR])
			w.Write(e.Digests[a])
			all[e.PCR] = w.Sum(nil)
		}
		p.values[a] = &all
	}
}

// PCR is the value of a register when the operating system takes over. ok is false
// when it is not known; [Prediction.Unknown] says why.
func (p *Prediction) PCR(bank tpm2.Alg, pcr int) (value []byte, ok bool) {
	all := p.values[bank]
	if all == nil || pcr < 0 || pcr >= Registers || len(p.open[pcr]) > 0 {
		return nil, false
	}
	return bytes.Clone(all[pcr]), true
}

// Values are the registers by bank and number; nil is one that is not known.
func (p *Prediction) Values() map[string]map[string]*string {
	out := map[string]map[string]*string{}
	for _, bank := range Banks() {
		values := map[string]*string{}
		for pcr := range Registers {
			values[strconv.Itoa(pcr)] = nil
			if v, ok := p.PCR(bank, pcr); ok {
				text := hex.EncodeToString(v)
				values[strconv.Itoa(pcr)] = &text
			}
		}
		out[bank.BankName()] = values
	}
	return out
}

// Unknowns are why registers are not known, by number.
func (p *Prediction) Unknowns() map[string][]evidence.Reason {
	out := map[string][]evidence.Reason{}
	for pcr := range Registers {
		if why := p.Unknown(pcr); len(why) > 0 {
			out[strconv.Itoa(pcr)] = why
		}
	}
	return out
}

// Unknown is why a register cannot be predicted; nil when it is.
func (p *Prediction) Unknown(pcr int) []evidence.Reason { return slices.Clone(p.open[pcr]) }

// Find names a digest of a register, whether or not the boot gets there: a program
// that is refused may have been measured before.
func (p *Prediction) Find(bank tpm2.Alg, pcr int, digest []byte) (Name, bool) {
	for _, e := range p.Events {
		if e.PCR == pcr && bytes.Equal(e.Digests[bank], digest) {
			return e.Name, true
		}
	}
	for _, c := range p.Chain {
		program := c.Kind.program()
		if (pcr == 4 && program || pcr == 9 && !program) && bytes.Equal(c.Digests[bank], digest) {
			return c.name(), true
		}
	}
	return Name{}, false
}

// variable measures a variable as a UEFI_VARIABLE_DATA.
func (b *boot) variable(vendor uefi.GUID, name string, data []byte, n Name) {
	v := uefi.VariableData{Vendor: vendor, RawName: utf16Bytes(name), Data: data}
	raw, err := wire.EncodeLE(&v)
	if err != nil { // only of a name that is too long, and names are constants
		b.p.leave(unknown(codeState, "the variable %q is not measured as others are", name), 7)
		return
	}
	b.p.extend(7, digestOf(raw), n)
}

// separator ends what firmware measures by itself (PFP 3.3.2).
func (b *boot) separator(pcr int) {
	b.p.extend(pcr, digestOf(make([]byte, 4)), Name{Kind: eventlog.KindSeparator, Name: "separator"})
}

func (b *boot) action(pcr int, text string) {
	b.p.extend(pcr, digestOf([]byte(text)), Name{Kind: eventlog.KindAction, Name: text})
}

func utf16Bytes(ascii string) []byte {
	var out []byte
	for i := range len(ascii) {
		out = append(out, ascii[i], 0)
	}
	return out
}
