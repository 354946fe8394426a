package integrity

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/tpm2"
)

// Limits of what is kept of a machine. Old boots go; a baseline that was once
// approved stays until there are too many.
const (
	maxBoots     = 50
	maxBaselines = 100
	maxHistory   = 64 << 20
)

// A Version is one baseline that was in force, and why.
type Version struct {
	Number   int // from 1
	Made     time.Time
	Actor    string
	Reason   string
	Boot     uint64 // counter of the one that it was learned from
	Baseline *baseline.Baseline
}

// A BootRecord is a boot that is over, and what was said of it.
type BootRecord struct {
	Counter  uint64
	Started  time.Time
	Judged   time.Time // of the last report
	Baseline int       // number of the version
	Early    Outcome
	Late     Outcome
	Boot     *Boot
	Shape    baseline.Shape
}

// An Outcome is the result of one part of a boot.
type Outcome string

// The results. The zero Outcome is that of a part that was not reached.
const (
	NotReached Outcome = ""
	Learned    Outcome = "learned" // it became the baseline, and was compared with nothing
	Passed     Outcome = "passed"
	Failed     Outcome = "failed"
	Unknown    Outcome = "unknown" // the record of the boot is not whole
)

// History is what is kept of a machine between boots. It has no secrets, and
// belongs where nobody but the host can change it.
type History struct {
	BootCounter uint64
	Versions    []Version    // in order; the newest is in force
	Boots       []BootRecord // in order
	Plan        *Plan        // for one coming boot; nil for none
}

// InForce returns the version that boots are judged by: the newest, of whatever shape the
// machine was then, for a machine that gets its old size back must not get back the boot
// loader and kernel of that time. It returns nil when there is none.
func (h *History) InForce() *Version {
	if len(h.Versions) == 0 {
		return nil
	}
	return &h.Versions[len(h.Versions)-1]
}

// Version returns the version with a number.
func (h *History) Version(number int) (*Version, error) {
	for i := range h.Versions {
		if h.Versions[i].Number == number {
			return &h.Versions[i], nil
		}
	}
	return nil, fmt.Errorf("baseline %d %w", number, ErrNotKept)
}

// Boot returns the boot with a counter.
func (h *History) Boot(counter uint64) (*BootRecord, error) {
	for i := range h.Boots {
		if h.Boots[i].Counter == counter {
			return &h.Boots[i], nil
		}
	}
	return nil, fmt.Errorf("boot %d %w", counter, ErrNotKept)
}

// ErrNotKept is a boot or a baseline that there never was, or no longer is.
var ErrNotKept = errors.New("is not kept")

// add puts a version in force.
func (h *History) add(v Version) *Version {
	v.Number = 1
	if n := len(h.Versions); n > 0 {
		v.Number = h.Versions[n-1].Number + 1
	}
	h.Versions, h.Plan = append(h.Versions, v), nil // what was planned went on from another
	if extra := len(h.Versions) - maxBaselines; extra > 0 {
		h.Versions = slices.Delete(h.Versions, 0, extra)
	}
	return &h.Versions[len(h.Versions)-1]
}

// keep replaces or adds the record of a boot, which is not the last one when the machine
// has gone on in an earlier.
func (h *History) keep(r BootRecord) {
	i, there := slices.BinarySearchFunc(h.Boots, r.Counter, func(b BootRecord, counter uint64) int { return cmp.Compare(b.Counter, counter) })
	if there {
		h.Boots[i] = r
		return
	}
	h.Boots = slices.Insert(h.Boots, i, r)
	if extra := len(h.Boots) - maxBoots; extra > 0 {
		h.Boots = slices.Delete(h.Boots, 0, extra)
	}
}

// begin keeps that a boot has begun, until more is known of it. Of those that came to nothing
// only the last is kept: a machine that restarts without end pushes no boot out.
func (h *History) begin(r BootRecord) {
	h.Boots = slices.DeleteFunc(h.Boots, func(b BootRecord) bool { return b.Judged.IsZero() })
	h.keep(r)
}

type historyV1 struct {
	Version     int         `json:"version"`
	BootCounter uint64      `json:"bootCounter,string"`
	Baselines   []versionV1 `json:"baselines"`
	Boots       []bootV1    `json:"boots"`
	Plan        *planV2     `json:"plan,omitempty"` // from version 2 on
}

type versionV1 struct {
	Number   int             `json:"number"`
	Made     time.Time       `json:"made"`
	Actor    string          `json:"actor"`
	Reason   string          `json:"reason"`
	Boot     uint64          `json:"bootCounter,string"`
	Baseline json.RawMessage `json:"baseline"`
}

type bootV1 struct {
	Counter  uint64         `json:"bootCounter,string"`
	Started  time.Time      `json:"started"`
	Judged   time.Time      `json:"judged"`
	Baseline int            `json:"baseline"`
	Early    Outcome        `json:"early"`
	Late     Outcome        `json:"late"`
	Shape    baseline.Shape `json:"shape"`
	Bank     string         `json:"bank"`
	Start    uint8          `json:"startLocality"`
	EarlyEnd int            `json:"earlyEvents"`
	LateEnd  int            `json:"lateEvents"`
	Broken   bool           `json:"broken"`
	Banks    []string       `json:"banks,omitempty"`       // all of the TPM, from version 2 on
	Uneven   []string       `json:"unevenBanks,omitempty"` // from version 2 on
	Events   []measuredV1   `json:"events"`
}

type measuredV1 struct {
	PCR    int    `json:"pcr"`
	Digest string `json:"digest"`
	Time   uint64 `json:"milliseconds"`
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"`
	Signer string `json:"signer,omitempty"`
	Proven bool   `json:"proven,omitempty"`
	// Others are the digests in other banks, from version 2 on.
	Others map[string]string `json:"others,omitempty"`
}

// historyVersion is the format of docs/formats/integrity.md. Version 1, which is read too,
// has one bank.
const historyVersion = 2

// MarshalJSON writes the format of docs/formats/integrity.md.
func (h *History) MarshalJSON() ([]byte, error) {
	out := historyV1{Version: historyVersion, BootCounter: h.BootCounter, Baselines: []versionV1{}, Boots: []bootV1{}, Plan: h.Plan.v2()}
	for _, v := range h.Versions {
		b, err := json.Marshal(v.Baseline)
		if err != nil {
			return nil, err
		}
		out.Baselines = append(out.Baselines, versionV1{v.Number, v.Made, v.Actor, v.Reason, v.Boot, b})
	}
	for i := range h.Boots {
		out.Boots = append(out.Boots, h.Boots[i].v1())
	}
	return json.Marshal(out)
}

func (r *BootRecord) v1() bootV1 {
	b := r.Boot
	out := bootV1{
		Counter: r.Counter, Started: r.Started, Judged: r.Judged, Baseline: r.Baseline, Early: r.Early, Late: r.Late, Shape: r.Shape,
		Bank: b.bank.BankName(), Start: b.start, EarlyEnd: b.early, LateEnd: b.late, Broken: b.broken, Events: []measuredV1{},
		Banks: bankNames(b.active), Uneven: bankNames(b.uneven),
	}
	for i, e := range b.events {
		n := b.named[i]
		m := measuredV1{e.PCR, hex.EncodeToString(e.Digest), e.Time, n.Kind, n.Name, n.Detail, n.Signer, n.Proven, nil}
		for _, d := range e.Others {
			if m.Others == nil {
				m.Others = map[string]string{}
			}
			m.Others[d.HashAlg.BankName()] = hex.EncodeToString(d.Digest)
		}
		out.Events = append(out.Events, m)
	}
	return out
}

func bankNames(banks []tpm2.Alg) (out []string) {
	for _, b := range banks {
		out = append(out, b.BankName())
	}
	return out
}

var (
	errVersion = errors.New("version is not known")
	errLimit   = errors.New("exceeds its limit")
	errOrder   = errors.New("is not in order")
	errDigest  = errors.New("digest is not lower-case hex of the bank's size")
	errWord    = errors.New("word is not known")
)

// rules bound a history: what is kept, with room for the baselines' own limits.
var rules = strictjson.Rules{Bytes: maxHistory, Depth: 12, Members: 64, Values: 4 << 20, FoldNames: true}

// ParseHistory reads what [History.MarshalJSON] wrote. What is unknown, stands
// twice or contradicts itself is an error.
func ParseHistory(data []byte) (*History, error) {
	h, err := parseHistory(data)
	if err != nil {
		return nil, fmt.Errorf("read integrity record: %w", err)
	}
	return h, nil
}

func parseHistory(data []byte) (*History, error) {
	if _, err := strictjson.Parse(data, rules); err != nil {
		return nil, err
	}
	var f historyV1
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if f.Version < 1 || f.Version > historyVersion {
		return nil, fmt.Errorf("version %d: %w", f.Version, errVersion)
	}
	if len(f.Boots) > maxBoots || len(f.Baselines) > maxBaselines {
		return nil, fmt.Errorf("%d boots and %d baselines: %w", len(f.Boots), len(f.Baselines), errLimit)
	}
	h := &History{BootCounter: f.BootCounter}
	for i, v := range f.Baselines {
		if v.Number < 1 || i > 0 && v.Number <= h.Versions[i-1].Number {
			return nil, fmt.Errorf("baseline %d: %w", v.Number, errOrder)
		}
		b, err := baseline.Parse(v.Baseline)
		if err != nil {
			return nil, fmt.Errorf("baseline %d: %w", v.Number, err)
		}
		h.Versions = append(h.Versions, Version{v.Number, v.Made, v.Actor, v.Reason, v.Boot, b})
	}
	for i := range f.Boots {
		r, err := f.Boots[i].record()
		if err == nil && (r.Counter > h.BootCounter || i > 0 && r.Counter <= h.Boots[i-1].Counter) {
			err = errOrder
		}
		if err != nil {
			return nil, fmt.Errorf("boot %d: %w", f.Boots[i].Counter, err)
		}
		h.Boots = append(h.Boots, r)
	}
	return h, f.Plan.read(h)
}

func (v *bootV1) record() (_ BootRecord, err error) {
	bank, ok := tpm2.AlgOfBank(v.Bank)
	if _, usable := bank.Hash(); !ok || !usable {
		return BootRecord{}, fmt.Errorf("bank %q: %w", v.Bank, errWord)
	}
	if len(v.Events) > MaxEvents {
		return BootRecord{}, fmt.Errorf("%d events: %w", len(v.Events), errLimit)
	}
	if v.EarlyEnd < 0 || v.EarlyEnd > len(v.Events) || v.LateEnd != 0 && v.LateEnd != len(v.Events) {
		return BootRecord{}, fmt.Errorf("end of the boot: %w", errOrder)
	}
	for _, o := range []Outcome{v.Early, v.Late} {
		if !slices.Contains([]Outcome{NotReached, Learned, Passed, Failed, Unknown}, o) {
			return BootRecord{}, fmt.Errorf("outcome %q: %w", o, errWord)
		}
	}
	b := &Boot{bank: bank, start: v.Start, early: v.EarlyEnd, late: v.LateEnd, broken: v.Broken}
	if b.active, err = banksNamed(v.Banks); err == nil {
		b.uneven, err = banksNamed(v.Uneven)
	}
	if err != nil {
		return BootRecord{}, err
	}
	for i, e := range v.Events {
		d, err := hex.DecodeString(e.Digest)
		if err != nil || len(d) != bank.DigestSize() || hex.EncodeToString(d) != e.Digest {
			return BootRecord{}, fmt.Errorf("event %d: %w", i, errDigest)
		}
		if e.PCR < 0 || e.PCR >= registers {
			return BootRecord{}, fmt.Errorf("event %d: PCR %d: %w", i, e.PCR, errLimit)
		}
		others, err := e.others()
		if err != nil {
			return BootRecord{}, fmt.Errorf("event %d: %w", i, err)
		}
		b.events = append(b.events, Event{e.PCR, d, e.Time, others})
		b.named = append(b.named, Name{e.Kind, e.Name, e.Detail, e.Signer, e.Proven})
	}
	return BootRecord{v.Counter, v.Started, v.Judged, v.Baseline, v.Early, v.Late, b, v.Shape}, nil
}

func banksNamed(names []string) (out []tpm2.Alg, err error) {
	for _, name := range names {
		bank, ok := tpm2.AlgOfBank(name)
		if !ok || slices.Contains(out, bank) {
			return nil, fmt.Errorf("bank %q: %w", name, errWord)
		}
		out = append(out, bank)
	}
	return out, nil
}

func (m *measuredV1) others() (out []tpm2.HA, err error) {
	for name, text := range m.Others {
		bank, ok := tpm2.AlgOfBank(name)
		d, err := hex.DecodeString(text)
		if !ok || err != nil || len(d) != bank.DigestSize() || hex.EncodeToString(d) != text {
			return nil, fmt.Errorf("bank %q: %w", name, errDigest)
		}
		out = append(out, tpm2.HA{HashAlg: bank, Digest: d})
	}
	slices.SortFunc(out, func(a, b tpm2.HA) int { return cmp.Compare(a.HashAlg, b.HashAlg) })
	return out, nil
}
