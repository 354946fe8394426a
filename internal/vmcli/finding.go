package vmcli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vtpmcli"
)

// find has an event of a machine begin and end its findings. It holds no machine up.
func (h *hostFlags) find(n *integrity.Notice) {
	h.signal(finding.FromNotice(n))
}

// heard has what an agent says of kernel modules begin and end findings.
func (h *hostFlags) heard(name string, boot uint64, r health.Report) {
	h.signal(finding.FromModules(name, boot, r.Reasons))
}

// booted has a boot that is not judged end what said that the machine does not boot.
func (h *hostFlags) booted(name string) { h.signal(finding.BootCompleted(name)) }

func (h *hostFlags) signal(signals []finding.Signal) {
	if h.recorder != nil {
		h.recorder.Record(signals...)
	}
}

// record begins to take signals; stop waits until they are kept.
func (h *hostFlags) record() (stop func(), err error) {
	s, err := h.Findings(h.env)
	if err != nil {
		return nil, err
	}
	h.recorder = finding.NewRecorder(s, h.env.Now, h.unkept)
	return h.recorder.Close, nil
}

// unkept says that a finding could not be kept; what it is about has taken place.
func (h *hostFlags) unkept(err error) {
	fmt.Fprintf(h.env.Stderr, "findings are not kept: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
}

// recommend looks at the options of a machine that was made or changed.
func (h *hostFlags) recommend(ctx context.Context, r *machine.Root, name string) {
	d, err := r.Describe(ctx, name)
	if err == nil && d.Definition != nil {
		m, merr := h.matrix()
		if err = merr; err == nil {
			signals := finding.Recommend(facts(m, d.Definition, h.runsBy))
			h.book(ctx, func(b *finding.Book, at time.Time) error { return b.Apply(at, signals...) })
		}
	}
	if err != nil {
		fmt.Fprintf(h.env.Stderr, "recommendations for %s: %v\n", name, err)
	}
	h.lag(ctx, r, "", name)
}

// lag compares the variables of machines with their key sets; a name of a set leaves those
// of others out. What cannot be read changes nothing.
func (h *hostFlags) lag(ctx context.Context, r *machine.Root, keyset string, names ...string) {
	var signals []finding.Signal
	for _, name := range names {
		lag, err := r.KeysetLag(ctx, name)
		switch {
		case errors.Is(err, machine.ErrUnknown): // it is on its way out
		case err != nil:
			fmt.Fprintf(h.env.Stderr, "whether %s has the keys of its set is not known: %v\n", name, err)
		case lag.Known && (keyset == "" || keyset == lag.Keyset):
			signals = append(signals, finding.RecommendKeys(name, lag.Keyset, lag.Lacks))
		}
	}
	if len(signals) > 0 {
		h.book(ctx, func(b *finding.Book, at time.Time) error { return b.Apply(at, signals...) })
	}
}

// KeysetChanged looks at the machines of a host after a change of one of its key sets. The
// set is changed: a fault is only said.
func KeysetChanged(ctx context.Context, env *program.Env, host *vtpmcli.Host, keyset string) {
	dir, err := host.MachinesDir(env)
	if err != nil {
		return // there are no machines
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
		return //nolint:nilerr // nor here
	}
	h := &hostFlags{Host: host, env: env, accelerator: qemu.TCG, firmware: machine.DefaultFirmware(), quiet: true} // nothing is started
	err = h.with(ctx, func(r *machine.Root) error {
		names, err := r.Names()
		h.lag(ctx, r, keyset, names...)
		return err
	})
	if err != nil {
		fmt.Fprintf(env.Stderr, "which machines lack what key set %s has now is not known: %v\n", keyset, err)
	}
}

// facts are what recommendations rest on. Health is not among them: each attestation
// says by itself whether it is as it should be.
func facts(m *fleet.Matrix, d *fleet.Definition, accelerator string) finding.Facts {
	supports := func(on func(*fleet.Shielded)) bool {
		with := *d
		on(&with.Shielded)
		return len(m.Judge(&with, accelerator)) == 0
	}
	return finding.Facts{
		Machine:    d.Name,
		SecureBoot: finding.Option{On: d.Shielded.SecureBoot, Supported: supports(func(s *fleet.Shielded) { s.SecureBoot = true })},
		VTPM:       finding.Option{On: d.Shielded.VTPM, Supported: supports(func(s *fleet.Shielded) { s.VTPM = true })},
		Agent:      finding.Option{On: d.Agent, Supported: !strings.HasPrefix(d.GuestOS, "windows")}, // assay-agent is for Linux
	}
}

// carried has the findings of machines go with them to other hosts.
type carried struct{ *hostFlags }

func (c carried) update(ctx context.Context, change func(*finding.Book, time.Time) error) error {
	s, err := c.Findings(c.env)
	if err == nil {
		err = c.recorder.Flush(ctx)
	}
	if err != nil {
		return err
	}
	at := c.env.Now().UTC()
	return s.Update(ctx, at, func(b *finding.Book) error { return change(b, at) })
}

// Pack gives the findings of a machine.
func (c carried) Pack(ctx context.Context, name string) (parcel []byte, err error) {
	err = c.update(ctx, func(b *finding.Book, at time.Time) (err error) {
		parcel, err = b.Pack(name, at)
		return err
	})
	return parcel, err
}

// Check refuses a parcel that Unpack would.
func (c carried) Check(name string, parcel []byte) error {
	_, err := finding.ParseParcel(parcel, name, c.env.Now())
	return err
}

// Unpack takes the findings of a machine that came, but for what ended since.
func (c carried) Unpack(ctx context.Context, name string, parcel []byte, since machine.Stay) error {
	stay := finding.Stay{Began: since.Began}
	for i := range since.Events {
		stay.Signals = append(stay.Signals, finding.FromNotice(&since.Events[i])...)
	}
	return c.update(ctx, func(b *finding.Book, at time.Time) error {
		p, err := finding.ParseParcel(parcel, name, at)
		if err != nil {
			return err
		}
		return b.Unpack(p, at, stay)
	})
}

// Depart ends the findings of a machine that is another host's.
func (c carried) Depart(ctx context.Context, name string) error {
	return c.update(ctx, func(b *finding.Book, at time.Time) error {
		b.Depart(name, at)
		return nil
	})
}

// forget ends the findings of a machine that is deleted.
func (h *hostFlags) forget(ctx context.Context, name string) {
	h.book(ctx, func(b *finding.Book, at time.Time) error {
		b.Forget(name, at)
		return nil
	})
}

// endGone ends the findings of machines that are no more here, where that was not kept when
// they were deleted or went to another host: nobody says it a second time.
func (h *hostFlags) endGone(ctx context.Context, r *machine.Root) {
	gone := func(b *finding.Book) []string {
		return slices.DeleteFunc(b.Machines(), func(name string) bool {
			_, err := r.Card(name)
			return !errors.Is(err, machine.ErrUnknown) || errors.Is(err, machine.ErrLeftover)
		})
	}
	s, err := h.Findings(h.env)
	if err != nil {
		return // said where a finding is kept
	}
	if b, err := s.Load(); err != nil || len(gone(b)) == 0 {
		return
	}
	h.book(ctx, func(b *finding.Book, at time.Time) error {
		for _, name := range gone(b) { // a machine may have come since
			b.Forget(name, at)
		}
		return nil
	})
}

// book changes the findings of the host. What it is called for has taken place, so that
// a fault is only said.
func (h *hostFlags) book(ctx context.Context, change func(*finding.Book, time.Time) error) {
	s, err := h.Findings(h.env)
	if err == nil {
		at := h.env.Now().UTC()
		err = s.Update(ctx, at, func(b *finding.Book) error { return change(b, at) })
	}
	if err != nil {
		h.unkept(err)
	}
}
