package baseline

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/tpm2"
)

// Limits of a baseline file. The largest of the samples has 360 events.
const (
	maxFile     = 8 << 20
	maxEvents   = 16384 // of all registers, as of a log
	maxAccepted = 64    // digests of one event, values of one register
	maxBanks    = 8
)

// fileV1 is the JSON of docs/formats/baseline.md.
type fileV1 struct {
	Version int              `json:"version"`
	Bank    string           `json:"bank"`
	Shape   Shape            `json:"shape"`
	PCRs    map[string]pcrV1 `json:"pcrs"`
	// OtherBanks is there from version 2 on, and empty when there was no other.
	OtherBanks *[]bankV2 `json:"otherBanks,omitempty"`
}

type bankV2 struct {
	Bank string           `json:"bank"`
	PCRs map[string]pcrV1 `json:"pcrs"`
}

type pcrV1 struct {
	Early  []string  `json:"early,omitempty"`
	Late   []string  `json:"late"`
	Events []eventV1 `json:"events"`
}

type eventV1 struct {
	Digests   []string   `json:"digests"`
	Kind      string     `json:"kind"`
	Component string     `json:"component"`
	Detail    string     `json:"detail,omitempty"`
	Signer    string     `json:"signer,omitempty"`
	Proven    bool       `json:"proven"`
	Late      bool       `json:"late"`
	Modules   []moduleV1 `json:"modules,omitempty"`
}

type moduleV1 struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Signer string `json:"signer,omitempty"`
}

// MarshalJSON writes the format of docs/formats/baseline.md.
func (b *Baseline) MarshalJSON() ([]byte, error) {
	f := fileV1{Version: 1, Bank: b.bank.BankName(), Shape: b.shape, PCRs: b.registers()}
	if b.banks {
		others := []bankV2{}
		for _, o := range b.others {
			others = append(others, bankV2{o.bank.BankName(), o.registers()})
		}
		f.Version, f.OtherBanks = Version, &others
	}
	return json.Marshal(f)
}

func (b *Baseline) registers() map[string]pcrV1 {
	out := map[string]pcrV1{}
	for pcr, r := range b.pcrs {
		p := pcrV1{Early: hexes(r.early), Late: hexes(r.late), Events: []eventV1{}}
		for _, e := range r.events {
			v := eventV1{
				Digests: hexes(e.digests), Kind: e.kind, Component: e.component,
				Detail: e.detail, Signer: e.signer, Proven: e.proven, Late: e.late,
			}
			for _, m := range e.modules {
				v.Modules = append(v.Modules, moduleV1{m.name, m.digest, m.signer})
			}
			p.Events = append(p.Events, v)
		}
		out[strconv.Itoa(pcr)] = p
	}
	return out
}

func hexes(in [][]byte) []string {
	var out []string
	for _, b := range in {
		out = append(out, hex.EncodeToString(b))
	}
	return out
}

var (
	errVersion   = errors.New("version is not known")
	errSize      = errors.New("exceeds its limit")
	errTrailing  = errors.New("file continues after the baseline")
	errDuplicate = errors.New("member is there twice")
	errEmpty     = errors.New("covers no register")
	errPCR       = errors.New("register is not one that is compared")
	errDigest    = errors.New("digest is not lower-case hex of the bank's size")
)

// Parse reads a baseline file. Unknown and repeated members are errors: a
// misspelt restriction must not be passed over.
func Parse(data []byte) (*Baseline, error) {
	b, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	return b, nil
}

func parse(data []byte) (*Baseline, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("file of %d bytes %w", len(data), errSize)
	}
	if err := unique(data); err != nil {
		return nil, err
	}
	var f fileV1
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errTrailing
	}
	if f.Version < 1 || f.Version > Version {
		return nil, fmt.Errorf("version %d: %w", f.Version, errVersion)
	}
	if f.OtherBanks == nil == (f.Version > 1) {
		return nil, fmt.Errorf("version %d and otherBanks: %w", f.Version, errVersion)
	}
	all := []bankV2{{f.Bank, f.PCRs}}
	if f.OtherBanks != nil {
		all = append(all, *f.OtherBanks...)
	}
	return banksOf(all, f.Shape, f.OtherBanks != nil)
}

// banksOf makes the baseline of the first bank, with the others in it.
func banksOf(all []bankV2, shape Shape, known bool) (*Baseline, error) {
	if len(all) > maxBanks {
		return nil, fmt.Errorf("number of banks (%d) %w", len(all), errSize)
	}
	events := 0
	for _, f := range all {
		for _, p := range f.PCRs {
			if events += len(p.Events); events > maxEvents {
				return nil, fmt.Errorf("number of events %w", errSize)
			}
		}
	}
	var out *Baseline
	for _, f := range all {
		b, err := f.baseline(shape)
		if err != nil {
			return nil, err
		}
		if out == nil {
			b.banks, out = known, b
			continue
		}
		if have, _ := out.Banks(); slices.Contains(have, b.bank) {
			return nil, fmt.Errorf("bank %q: %w", f.Bank, errDuplicate)
		}
		out.others = append(out.others, b)
	}
	return out, nil
}

func (f *bankV2) baseline(shape Shape) (*Baseline, error) {
	bank, ok := tpm2.AlgOfBank(f.Bank)
	if _, usable := bank.Hash(); !ok || !usable {
		return nil, fmt.Errorf("bank %q is not known", f.Bank)
	}
	out := &Baseline{bank: bank, shape: shape, pcrs: map[int]register{}}
	if len(f.PCRs) == 0 {
		return nil, errEmpty
	}
	for name, p := range f.PCRs {
		pcr, err := strconv.Atoi(name)
		if err != nil || strconv.Itoa(pcr) != name || !compared(pcr) {
			return nil, fmt.Errorf("PCR %q: %w", name, errPCR)
		}
		if out.pcrs[pcr], err = p.register(bank); err != nil {
			return nil, fmt.Errorf("PCR %d: %w", pcr, err)
		}
	}
	out.windows = out.isWindows()
	return out, nil
}

func (p pcrV1) register(bank tpm2.Alg) (r register, err error) {
	if r.early, err = digests(bank, p.Early, 0); err != nil {
		return r, fmt.Errorf("early value: %w", err)
	}
	if r.late, err = digests(bank, p.Late, 1); err != nil {
		return r, fmt.Errorf("late value: %w", err)
	}
	for i, v := range p.Events {
		e := event{kind: v.Kind, component: v.Component, detail: v.Detail, signer: v.Signer, proven: v.Proven, late: v.Late}
		if e.digests, err = digests(bank, v.Digests, 1); err != nil {
			return r, fmt.Errorf("event %d: %w", i, err)
		}
		for _, text := range []string{v.Kind, v.Component, v.Detail, v.Signer} {
			if len(text) > maxWord {
				return r, fmt.Errorf("text of event %d %w", i, errSize)
			}
		}
		for _, m := range v.Modules {
			e.modules = append(e.modules, module{m.Name, m.Digest, m.Signer})
		}
		r.events = append(r.events, e)
	}
	return r, nil
}

func digests(bank tpm2.Alg, in []string, least int) ([][]byte, error) {
	if len(in) > maxAccepted || len(in) < least {
		return nil, fmt.Errorf("number of digests (%d) %w", len(in), errSize)
	}
	var out [][]byte
	for _, s := range in {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != bank.DigestSize() || s != strings.ToLower(s) {
			return nil, fmt.Errorf("%q: %w", s[:min(len(s), 2*tpm2.MaxDigest)], errDigest)
		}
		out = append(out, b)
	}
	return out, nil
}

// Bounds of the JSON itself: nesting, of which the format uses seven levels,
// objects, tokens, and elements of one array.
const (
	maxDepth    = 16
	maxObjects  = 2 * maxEvents
	maxTokens   = 32 * maxEvents
	maxElements = maxEvents
)

// unique refuses an object with the same member twice, in any case of letters:
// the decoder would silently take the last.
func unique(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var n nesting
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := n.take(t); err != nil {
			return err
		}
	}
}

// nesting is where a token stands in a JSON value.
type nesting struct {
	open            []level
	key             bool // the next string is a member's name
	objects, tokens int
}

type level struct {
	members  map[string]bool // of an object, those seen; nil for an array
	elements int
}

func (n *nesting) take(t json.Token) error {
	n.tokens++
	if len(n.open) > 0 {
		n.open[len(n.open)-1].elements++
	}
	switch t := t.(type) {
	case json.Delim:
		if err := n.delim(t); err != nil {
			return err
		}
	case string:
		if n.key {
			members, name := n.open[len(n.open)-1].members, strings.ToLower(t)
			if members[name] {
				return fmt.Errorf("%q: %w", t, errDuplicate)
			}
			members[name], n.key = true, false
			return nil
		}
	}
	if len(n.open) > 0 && n.open[len(n.open)-1].elements > maxElements || n.tokens > maxTokens {
		return fmt.Errorf("number of values %w", errSize)
	}
	n.key = len(n.open) > 0 && n.open[len(n.open)-1].members != nil
	return nil
}

func (n *nesting) delim(t json.Delim) error {
	if t == '}' || t == ']' {
		n.open = n.open[:len(n.open)-1]
		return nil
	}
	if len(n.open) == maxDepth {
		return fmt.Errorf("nesting %w", errSize)
	}
	var l level
	if t == '{' {
		l.members = map[string]bool{}
		n.objects++
	}
	if n.objects > maxObjects {
		return fmt.Errorf("number of objects %w", errSize)
	}
	n.open = append(n.open, l)
	return nil
}
