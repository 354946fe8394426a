package integrity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/assay-project/assay/eventlog/baseline"
)

// ErrNoBoot is a boot that a baseline cannot be learned from.
var ErrNoBoot = errors.New("no whole boot to learn from")

// A Seen names what a person looked at. The counter does not do that alone: a machine that
// goes on in a snapshot of its boot may measure something else there.
type Seen struct {
	Boot   uint64 `json:"bootCounter,string"`
	Digest string `json:"digest"` // the SHA-256 of it, in hexadecimal digits
}

// ErrNotSeen is an approval of something that nobody looked at.
var ErrNotSeen = errors.New("nothing was learned: this is not what was reviewed")

// Review returns what would change if the latest boot became the baseline, and what is to
// be said to [Monitor.Approve]. Without a baseline all that it measured is new.
func (m *Monitor) Review() (seen Seen, changes []baseline.Difference, err error) {
	if err := m.learnable(); err != nil {
		return Seen{}, nil, err
	}
	v := m.history.InForce()
	if v == nil {
		return m.seen(), m.latest.all(m.cfg.Profile), nil
	}
	return m.seen(), v.Baseline.Compare(m.latest, m.cfg.Profile).Differences, nil
}

// seen names the latest boot and what it is compared with, by all that a baseline of it
// would hold.
func (m *Monitor) seen() Seen {
	h := sha256.New()
	fmt.Fprintf(h, "assay reviewed boot\n%d %d %#v\n", m.boot, m.inForce(), m.cfg.Shape)
	m.latest.describe(h)
	return Seen{m.boot, hex.EncodeToString(h.Sum(nil))}
}

// describe writes all that is compared of a boot.
func (b *Boot) describe(w io.Writer) {
	fmt.Fprintf(w, "%d %d %d %d %v %v\n", b.bank, b.start, b.early, b.late, b.active, b.uneven)
	for _, e := range b.kept() {
		fmt.Fprintf(w, "%d %x", e.PCR, e.Digest)
		for _, o := range e.Others {
			fmt.Fprintf(w, " %d %x", o.HashAlg, o.Digest)
		}
		fmt.Fprintln(w)
	}
}

func (m *Monitor) learnable() error {
	switch {
	case m.cfg.Off:
		return fmt.Errorf("%w: integrity monitoring is off", ErrNoBoot)
	case m.latest == nil || m.latest.late == 0:
		return fmt.Errorf("%w: the machine has not started its operating system", ErrNoBoot)
	case m.latest.Broken():
		return fmt.Errorf("%w: the record of this boot is not whole", ErrNoBoot)
	}
	return nil
}

// Approve makes the latest boot the baseline, and judges it again by that. seen is what
// [Monitor.Review] told of: the guest may have restarted since, or gone on in a snapshot,
// with something that nobody looked at.
func (m *Monitor) Approve(seen Seen, actor, reason string) ([]Notice, error) {
	if err := m.learnable(); err != nil {
		return nil, err
	}
	switch now := m.seen(); {
	case seen.Boot != now.Boot:
		return nil, fmt.Errorf("%w: that was boot %d, and the machine is in boot %d: review that", ErrNotSeen, seen.Boot, now.Boot)
	case seen.Digest != now.Digest:
		return nil, fmt.Errorf("%w: boot %d measured something else since, as a machine does that goes on in a snapshot, or the baseline is another: review it again", ErrNotSeen, now.Boot)
	}
	return m.put(Version{Actor: actor, Reason: reason, Boot: m.boot, Baseline: baseline.From(m.latest, m.cfg.Shape)}), nil
}

// Restore puts an earlier version in force again, as a new one, and judges the
// latest boot by it where there is one.
func (m *Monitor) Restore(number int, actor, reason string) ([]Notice, error) {
	old, err := m.history.Version(number)
	if err != nil {
		return nil, err
	}
	return m.put(Version{Actor: actor, Reason: strings.TrimSpace(fmt.Sprintf("restored from %d: %s", number, reason)), Boot: old.Boot, Baseline: old.Baseline}), nil
}

func (m *Monitor) put(v Version) []Notice {
	v.Made = m.cfg.Now()
	kept := m.history.add(v)
	set := m.notice(EventSetPolicy, 0)
	set.Actor, set.Baseline = kept.Actor, kept.Number
	out := []Notice{set}
	if m.learnable() != nil {
		return out
	}
	at := Moment{Attempt: m.watch.attempt, Boot: m.latest}
	early, _ := m.judge(at, kept, false)
	late, c := m.judge(at, kept, true)
	e, l := m.outcomes(m.latest, c, true)
	m.keep(e, l, kept.Number)
	return append(out, early, late)
}
