package machine

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/tpm2"
)

// A HealthStatus is what the machine's agent last proved, or did not.
type HealthStatus struct {
	health.Assessment
	// Heard is what the agent says that it saw; its word, no proof.
	Heard *health.Report `json:"heard,omitempty"`
	// More is how many differences there are that Comparison does not have.
	More int `json:"moreDifferences,omitempty"`
}

// attestation is the host's half of the agent's port.
type attestation struct {
	mu      sync.Mutex      // guards what follows
	monitor *health.Monitor // nil before there is one
	still   bool            // the machine's processors stand still
	left    *time.Duration  // what another host had left for the agent; nil for a machine of this one
}

// begin makes m the monitor, and tells it what was said before it was there.
func (a *attestation) begin(m *health.Monitor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.monitor = m
	if a.left != nil {
		m.Arrived(*a.left)
	}
	if a.still {
		m.Pause()
	}
}

// rest says whether the machine's processors stand still.
func (a *attestation) rest(still bool) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.still = still
	switch {
	case a.monitor == nil:
	case still:
		a.monitor.Pause()
	default:
		a.monitor.Resume()
	}
}

// arrived says that the machine came from another host, and how long its agent had left there.
func (a *attestation) arrived(left time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left = &left; a.monitor != nil {
		a.monitor.Arrived(left)
	}
}

// serveAgent offers the agent's port, when the definition has one.
func (s *supervisor) serveAgent(ctx context.Context) error {
	if !s.definition.Agent {
		return nil
	}
	s.agent = &attestation{still: s.going != nil || s.waiting}
	return s.listen(ctx, agentSocket, s.attest)
}

// attest drives the agent. Deriving the endorsement key takes longer than a start may,
// and so takes place while the firmware runs.
func (s *supervisor) attest(ctx context.Context, port *net.UnixConn) {
	m, err := s.newHealth(ctx)
	if err == nil {
		s.agent.begin(m)
		err = m.Run(ctx, port)
	}
	if err != nil && ctx.Err() == nil {
		s.root.cfg.Log.Info("the port of a machine's agent is closed", slog.String("machine", s.home.Name()), slog.Any("reason", err))
	}
}

func (s *supervisor) newHealth(ctx context.Context) (*health.Monitor, error) {
	ek, err := s.endorsementKey(ctx)
	if err != nil {
		return nil, err
	}
	var issuer health.Issuer
	if s.root.cfg.Issuer != nil {
		issuer = s.root.cfg.Issuer(s.home.Name())
	}
	var m *health.Monitor
	m, err = health.New(health.Config{
		Issuer: issuer,
		EK:     ek, Now: s.root.cfg.Now, Random: s.root.cfg.Random,
		Reference: s.references,
		Assessed:  func(a health.Assessment) { s.inLoop(ctx, func() { s.current(m, a.Of, func() { s.assessed(a) }) }) },
		Heard:     func(r health.Report) { s.inLoop(ctx, func() { s.current(m, r.Of, func() { s.heard(r) }) }) },
	})
	return m, err
}

// current does what is of the machine as it runs now; what the TPM took since is looked at
// first.
func (s *supervisor) current(m *health.Monitor, of uint64, do func()) {
	s.measured()
	if m.Current(of) {
		do()
	}
}

// references gives the agent's monitor what a quote must match at that moment: no machine is
// healthy while that is not known.
func (s *supervisor) references() health.Reference {
	if r := s.reference.Load(); r != nil {
		return *r
	}
	return health.Reference{}
}

// endorsementKey is the machine's own, from the state of its TPM: never from the guest.
func (s *supervisor) endorsementKey(ctx context.Context) (*tpm2.Public, error) {
	id, err := s.root.cfg.TPMs.Identity(ctx, s.home.Name())
	if err != nil {
		return nil, err
	}
	for _, k := range id.Keys {
		if k.Kind == ekca.P256 {
			return tpm2.ParsePublic(k.Public)
		}
	}
	return nil, errors.New("the TPM has no endorsement key of the kind P-256")
}

// inLoop has the machine's loop do something.
func (s *supervisor) inLoop(ctx context.Context, do func()) {
	select {
	case s.todo <- do:
	case <-ctx.Done():
	}
}

// asDefined tells secure boot that the machine has off by its definition from one that is off
// all the same: no attestation succeeds in either, and only the second surprises anybody.
func asDefined(d *fleet.Definition, reasons []evidence.Reason) []evidence.Reason {
	const off = "secureboot.off" // of package evidence/tpm
	if d.Shielded.SecureBoot {
		return reasons
	}
	out := slices.Clone(reasons)
	for i := range out {
		if out[i].Code == off {
			out[i].Code, out[i].Message = codeSecureBootOff, "secure boot is off, as the machine's definition has it"
		}
	}
	return out
}

// assessed takes the outcome of an attestation. The log has those that differ from the
// one before.
func (s *supervisor) assessed(a health.Assessment) {
	a.Reasons = asDefined(s.definition, a.Reasons)
	before := s.health
	s.health = &HealthStatus{Assessment: a}
	if before != nil {
		s.health.Heard = before.Heard
	}
	if a.State == health.Unknown || before != nil && before.State == a.State && slices.Equal(before.Reasons, a.Reasons) {
		return
	}
	s.tell([]integrity.Notice{{ //nolint:errcheck // said there
		Type: integrity.EventAttestation, Instance: s.home.Name(), Time: s.root.cfg.Now(), BootCounter: s.monitor.BootCounter(),
		Health: string(a.State), Reasons: a.Reasons,
	}})
}

// heard takes what the agent says that it saw.
func (s *supervisor) heard(r health.Report) {
	now := HealthStatus{}
	if s.health != nil {
		now = *s.health
	}
	now.Heard = &r // what was given away stays as it is
	s.health = &now
	if s.root.cfg.Heard != nil {
		s.root.cfg.Heard(s.home.Name(), s.monitor.BootCounter(), r)
	}
}

// booted tells the agent's monitor of a new boot.
func (s *supervisor) booted() {
	if a := s.agent; a != nil {
		a.mu.Lock()
		a.left = nil
		a.mu.Unlock()
	}
	s.unproven((*health.Monitor).Booted)
}

// unproven forgets what was proved of what ran until now, and tells the agent's monitor why.
func (s *supervisor) unproven(why func(*health.Monitor)) {
	if s.agent == nil {
		return
	}
	s.health = new(HealthStatus)
	if m := s.agent.get(); m != nil {
		why(m)
	}
}

// get is the monitor, nil before there is one.
func (a *attestation) get() *health.Monitor {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.monitor
}

// refer lets the agent's monitor know what a boot is to match. Of a machine that comes from
// another host nothing is known before its history.
func (s *supervisor) refer() {
	if s.waiting {
		return
	}
	now := s.judgedBy()
	if before := s.reference.Swap(&now); before != nil && before.Baseline == now.Baseline && before.None == now.None {
		return
	}
	if m := s.agent.get(); m != nil {
		m.Ask() // what was proved was compared with another
	}
}

// judgedBy is the baseline in force. A machine that nobody judges, and that has none, is
// compared with nothing.
func (s *supervisor) judgedBy() health.Reference {
	p, err := baseline.ProfileNamed(s.definition.Policy)
	if err != nil {
		return health.Reference{}
	}
	if v := s.history.InForce(); v != nil {
		return health.Reference{Baseline: v.Baseline, Profile: p}
	}
	return health.Reference{Profile: p, None: !s.definition.Shielded.IntegrityMonitoring}
}
