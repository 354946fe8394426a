// Package health is the host's half of attestation by an agent in the guest: it
// proves that the agent's key is in the machine's own virtual TPM, has the machine
// attest after each boot and then again and again, and keeps apart what can be wrong.
//
// The host knows the endorsement key of each of its TPMs, so that no certificate is
// needed: an attestation key counts when it answers a credential made for that very
// key (Part 1, 24), and a quote when it is by that key over a nonce of this
// moment. All else that comes over the channel is the guest's word: that the agent
// started, which boot it says it is, what its kernel said of modules. It is bounded
// in size and rate, and decides nothing.
//
// A healthy machine is one that booted as its baseline and policy ask and can prove
// it. What its programs do since is not known. That a machine is silent is no proof of
// anything either.
//
// Read [Config], then [Monitor] and [Monitor.Run].
//
// TPM 2.0 Library, Part 1, chapters 24 and 36, version 1.83.
package health

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/channel"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/tpm2"
)

// A State is what an assessment came to. The zero State says nothing, and is never
// "healthy".
type State string

// The states. The last three are kept apart for those who have to act on them.
const (
	Unknown State = ""
	Healthy State = "healthy"
	// Departed: the machine's own TPM proves a boot that is not as it should be.
	Departed State = "departed"
	// Unverified: the quote cannot be verified, or is not by this machine's TPM.
	Unverified State = "unverified"
	// Silent: no answer came in time, or the agent could give none.
	Silent State = "silent"
)

// An Assessment is the outcome of one attempt to have the machine attest.
type Assessment struct {
	Time    time.Time         `json:"time"`
	State   State             `json:"state"`
	Reasons []evidence.Reason `json:"reasons"`
	// Result is the appraisal of the evidence; nil when none came.
	Result *evidence.Result `json:"result,omitempty"`
	// Comparison is with the baseline; nil when there was nothing to compare.
	Comparison *baseline.Comparison `json:"comparison,omitempty"`
	// Bundle is the evidence as it came; nil for none. It is up to 3 MiB.
	Bundle []byte `json:"-"`
	// Token states a healthy result to others, when there is an [Issuer]: whoever has it
	// speaks for the machine. TokenProblem says why there is none, and may name files of the
	// host; TokenRefusal has of that what may be told to anybody. Both have 1 KiB at most.
	Token        string `json:"token,omitempty"`
	TokenProblem string `json:"tokenProblem,omitempty"`
	TokenRefusal string `json:"tokenRefusal,omitempty"`
	// AgentSeen says that an agent has spoken in this boot, as far as the host can tell.
	AgentSeen bool `json:"agentSeen"`
	// Boot is what the agent calls the boot: the guest's word.
	Boot string `json:"boot,omitempty"`
	// Of is the start of the machine that it is of; see [Monitor.Current].
	Of uint64 `json:"-"`
}

// A Refusal is an [Issuer]'s own word that there is no token, which may be told to anybody.
// Other errors are of the way there, and may name files of the host.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// maxProblem is how much is kept of why there is no token, in bytes.
const maxProblem = 1 << 10

// noToken says why there is no token; nil for no reason.
func (a *Assessment) noToken(err error) {
	if err == nil {
		return
	}
	short := func(words string) string { return strings.ToValidUTF8(words[:min(len(words), maxProblem)], "") }
	a.Token, a.TokenProblem, a.TokenRefusal = "", short(err.Error()), ""
	var no Refusal
	if errors.As(err, &no) {
		a.TokenRefusal = short(string(no))
	}
}

// An Issuer makes tokens of evidence: an attestation service.
type Issuer interface {
	// Enrolled says that an attestation key is proven to be in the TPM of an endorsement
	// key; both are TPMT_PUBLIC.
	Enrolled(ctx context.Context, ak, ek []byte) error
	// Challenge gives the nonce that evidence must answer, and what [Issuer.Token] knows
	// it by.
	Challenge(ctx context.Context) (nonce []byte, challenge string, err error)
	// Token appraises a bundle that answers the challenge. An error says why there is no token.
	Token(ctx context.Context, challenge string, bundle []byte) (token string, err error)
}

// A Reference is what a boot must match. Its zero value is of a machine for which that is not
// known, or not yet approved: it is not healthy, whatever its TPM proves.
type Reference struct {
	Baseline *baseline.Baseline
	Profile  baseline.Profile
	// None compares with nothing where there is no baseline: nobody judges the machine.
	None bool
}

// Config is what a monitor is made of. EK, Now, Random and Assessed are required.
type Config struct {
	// EK is an endorsement key of the machine's own TPM, as the host has it from the
	// TPM's state: never from the guest.
	EK *tpm2.Public
	// Reference gives what the boot must match at that moment; nil compares with nothing.
	Reference func() Reference
	// Policy decides about claims; nil asks for secure boot to be proven on.
	Policy *policy.Policy
	// Interval is from one attestation to the next; 0 means 15 minutes.
	Interval time.Duration
	// Deadline is how long the agent may take for one attestation; 0 means a minute.
	Deadline time.Duration
	// BootDeadline is how long a machine may take from power on until its agent speaks;
	// 0 means 5 minutes.
	BootDeadline time.Duration
	Now          func() time.Time
	Random       io.Reader
	// Issuer makes tokens of healthy results; nil for none.
	Issuer Issuer
	// Assessed takes each assessment, and Heard (nil for nobody) what the agent saw when
	// that has changed. Both run in the goroutine of [Monitor.Run]; at most one of each
	// comes in ten seconds, whatever the guest does, but for [Monitor.Ask]. Who hands them to
	// another goroutine asks [Monitor.Current] there.
	Assessed func(Assessment)
	Heard    func(Report)
}

// A Report is what the agent says that it saw: data, not proof.
type Report struct {
	Time    time.Time         `json:"time"`
	Boot    string            `json:"boot"`
	Modules []channel.Module  `json:"modules"`
	Kernel  *channel.Kernel   `json:"kernel,omitempty"`
	Reasons []evidence.Reason `json:"reasons"` // one for each module
	// Of is the start of the machine that it is of; see [Monitor.Current].
	Of uint64 `json:"-"`
}

// gap is the least time between two attestations, or two reports, that the guest causes.
const gap = 10 * time.Second

// ErrConfig is a [Config] that lacks something.
var ErrConfig = errors.New("health monitor: EK, Now, Random and Assessed are required")

// A Monitor watches over one machine. Its methods but Run return at once and may be
// called by anybody at any time.
type Monitor struct {
	cfg      Config
	template string // of the endorsement key
	orders   chan order
	starts   atomic.Uint64 // of the machine, as its host saw them
	patience atomic.Int64  // of what follows the last start, as a duration; 0 for that of a boot
	late     atomic.Int64  // when what is waited for has not come, as Unix nanoseconds; 0 for nothing
}

// An order is what the host's side knows of the machine, or wants of it.
type order uint8

const (
	orderBooted order = iota + 1
	orderAsk
	orderPause
	orderResume
	orderPowerOff
	orderRestored
)

// New makes a monitor. The endorsement key must follow a standard template, by which the agent
// makes it again.
func New(cfg Config) (*Monitor, error) {
	if cfg.EK == nil || cfg.Now == nil || cfg.Random == nil || cfg.Assessed == nil {
		return nil, ErrConfig
	}
	if err := tpm.CheckEK(cfg.EK); err != nil {
		return nil, err
	}
	t, ok := tpm2.EKTemplateOf(cfg.EK)
	if !ok {
		return nil, errors.New("health monitor: the endorsement key follows no standard template")
	}
	cfg.Interval = orDefault(cfg.Interval, 15*time.Minute)
	cfg.Deadline = orDefault(cfg.Deadline, time.Minute)
	cfg.BootDeadline = orDefault(cfg.BootDeadline, 5*time.Minute)
	return &Monitor{cfg: cfg, template: t.Name, orders: make(chan order, 16)}, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Booted says that the machine began a new boot, as its TPM saw it: all that the agent
// said before is of another one. What is being judged at that moment is said no more.
func (m *Monitor) Booted() {
	m.patience.Store(0)
	m.starts.Add(1) // before the order, which may find no room
	m.order(orderBooted)
}

// Restored says that the machine has another memory than before, and an agent in it that
// need not know: what was proven before is of another machine state.
func (m *Monitor) Restored() {
	m.patience.Store(0)
	m.starts.Add(1)
	m.order(orderRestored)
}

// Left says how long the agent still has for what is waited for; 0 when nothing is.
func (m *Monitor) Left() time.Duration {
	at := m.late.Load()
	if at == 0 {
		return 0
	}
	return max(time.Unix(0, at).Sub(m.cfg.Now()), 1)
}

// Arrived is [Monitor.Restored] for a machine that another host had until now, whose monitor
// had left that much: a move gives the agent no new time, but for what it needs to answer.
func (m *Monitor) Arrived(left time.Duration) {
	if left <= 0 {
		left = m.cfg.Deadline
	}
	m.patience.Store(int64(min(max(left, gap), m.cfg.BootDeadline)))
	m.starts.Add(1)
	m.order(orderRestored)
}

// Current reports whether an [Assessment] or a [Report] is of what runs now. It must be asked
// where [Monitor.Booted] and [Monitor.Restored] are called, or after.
func (m *Monitor) Current(of uint64) bool { return m.starts.Load() == of }

// Ask has the machine attest now.
func (m *Monitor) Ask() { m.order(orderAsk) }

// Pause says that the machine's processors stand still: no deadline passes.
func (m *Monitor) Pause() { m.order(orderPause) }

// Resume says that they run again.
func (m *Monitor) Resume() { m.order(orderResume) }

// PowerOff asks the agent to end the machine, which it does if it is its init. An agent
// that does not answer is not asked.
func (m *Monitor) PowerOff() { m.order(orderPowerOff) }

// order drops what nobody takes: a monitor that does not run has nobody to ask.
func (m *Monitor) order(o order) {
	select {
	case m.orders <- o:
	default:
	}
}
