package health

import (
	"bytes"
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/channel"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// The steps of an attestation. Each has one request, and takes the answer to that alone.
const (
	stepNone     stepKind = iota
	stepKey               // Enrol: the attestation key
	stepSecret            // Activate: the proof that it is in the machine's TPM
	stepEvidence          // Challenge
)

type stepKind uint8

// A step is the request that waits for an answer.
type step struct {
	kind      stepKind
	ak        *tpm2.Public // proven to be in the TPM only from stepEvidence on
	secret    []byte
	key       *tpm.Key // proven
	nonce     []byte
	challenge string // of the issuer
	issued    bool   // the nonce is the issuer's
	problem   error  // why there will be no token
}

// enrol begins an attestation with the key: which one the agent uses may change with
// each of its starts.
func (r *run) enrol() {
	r.id++
	r.step = step{kind: stepKey}
	r.heard, r.stale = false, false
	r.request(&channel.Enrol{Head: channel.Head{ID: r.id}})
}

// answer takes the answer to the request that waits; all others are late or made up.
func (r *run) answer(m channel.Message) {
	if r.phase != asking {
		return
	}
	switch m := m.(type) {
	case *channel.Key:
		if m.ID == r.id && r.step.kind == stepKey {
			r.activate(m)
		}
	case *channel.Secret:
		if m.ID == r.id && r.step.kind == stepSecret {
			r.challenge(m)
		}
	case *channel.Evidence:
		if m.ID == r.id && r.step.kind == stepEvidence {
			r.appraise(m)
		}
	case *channel.Failure:
		if m.ID == r.id && r.step.kind != stepNone {
			r.failed(m)
		}
	}
}

// activate makes a credential that only the machine's TPM opens, and only while it
// holds the agent's key (Part 1, 24).
func (r *run) activate(m *channel.Key) {
	ak, err := tpm2.ParsePublic(m.AKPublic)
	if err != nil {
		r.unverified(evidence.Refuse("ak.malformed", "the agent's attestation key cannot be read: %v", err).About("akPublic"))
		return
	}
	if err := tpm.CheckAK(ak); err != nil {
		r.unverified(err)
		return
	}
	name, err := ak.Name()
	if err != nil {
		r.unverified(evidence.Refuse("ak.malformed", "%v", err).About("akPublic"))
		return
	}
	secret := make([]byte, r.cfg.EK.NameAlg.DigestSize())
	if _, err := io.ReadFull(r.cfg.Random, secret); err != nil {
		r.broken(err)
		return
	}
	c, err := tpm2.MakeCredential(r.cfg.Random, r.cfg.EK, name, secret)
	if err != nil {
		r.broken(err)
		return
	}
	r.id++
	r.step = step{kind: stepSecret, ak: ak, secret: secret}
	r.request(&channel.Activate{Head: channel.Head{ID: r.id}, Template: r.template, CredentialBlob: c.Blob, EncryptedSecret: c.Secret})
}

// challenge has the key quote, if it is proven.
func (r *run) challenge(m *channel.Secret) {
	if subtle.ConstantTimeCompare(m.Secret, r.step.secret) != 1 {
		r.unverified(evidence.Refuse(codeForeign, "the credential was answered wrongly: the agent's attestation key is not in this machine's TPM").About("akPublic"))
		return
	}
	key, err := tpm.NewKey(r.step.ak, tpm.ProofActivation)
	if err != nil {
		r.unverified(err)
		return
	}
	next := step{kind: stepEvidence, key: key, ak: r.step.ak}
	if err := r.nonce(&next); err != nil {
		r.broken(err)
		return
	}
	r.id++
	r.step = next
	r.request(&channel.Challenge{Head: channel.Head{ID: r.id}, Nonce: next.nonce, Limit: channel.MaxEvidence})
}

// nonce takes the issuer's, so that the same evidence serves for a token. Without a
// token the machine is assessed all the same.
func (r *run) nonce(s *step) error {
	if r.cfg.Issuer != nil {
		err := r.issuerNonce(s)
		if err == nil {
			return nil
		}
		s.problem = err
	}
	s.nonce = make([]byte, 32)
	_, err := io.ReadFull(r.cfg.Random, s.nonce)
	return err
}

func (r *run) issuerNonce(s *step) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Deadline/2)
	defer cancel()
	ak, err := wire.Encode(s.ak)
	if err != nil {
		return err
	}
	ek, err := wire.Encode(r.cfg.EK)
	if err != nil {
		return err
	}
	if err := r.cfg.Issuer.Enrolled(ctx, ak, ek); err != nil {
		return err
	}
	s.nonce, s.challenge, err = r.cfg.Issuer.Challenge(ctx)
	if err == nil && (len(s.nonce) < channel.MinNonce || len(s.nonce) > channel.MaxNonce) {
		err = fmt.Errorf("the issuer's nonce has %d bytes", len(s.nonce))
	}
	s.issued = err == nil
	return err
}

// appraise judges the evidence.
func (r *run) appraise(m *channel.Evidence) {
	o := tpm.Options{Policy: r.cfg.Policy, Expect: tpm.Expect{Nonce: r.step.nonce, Keys: []*tpm.Key{r.step.key}, At: r.cfg.Now()}}
	reference := Reference{None: true}
	if r.cfg.Reference != nil {
		reference = r.cfg.Reference()
	}
	o.Baseline, o.Profile = reference.Baseline, reference.Profile
	a := tpm.AppraiseBundle(m.Bundle, o)
	if m.NoIMA {
		a.NotChecked = append(a.NotChecked, "the IMA list: it is too long for the channel")
	}
	out := Assessment{State: stateOf(a), Reasons: a.Reasons, Result: &a.Result, Comparison: a.Comparison, Bundle: bytes.Clone(m.Bundle)}
	out.noToken(r.step.problem)
	if out.State == Healthy && o.Baseline == nil && !reference.None {
		out.State = Unknown
		out.Reasons = append(out.Reasons, evidence.Refuse(codeNoBaseline, "this machine has no baseline yet: what its TPM proves was compared with nothing").Reason)
	}
	if out.State == Healthy && r.step.issued {
		ctx, cancel := context.WithTimeout(r.ctx, r.cfg.Deadline/2)
		defer cancel()
		var err error
		out.Token, err = r.cfg.Issuer.Token(ctx, r.step.challenge, m.Bundle)
		out.noToken(err)
	}
	r.conclude(out)
}

// stateOf keeps apart a boot that the machine's TPM proves to be another one than it
// should be, and a quote that proves nothing (SPEC T9).
func stateOf(a *tpm.Appraisal) State {
	if a.Verdict == evidence.Trusted && a.Verified != nil {
		return Healthy
	}
	if a.Evidence.Signature != evidence.SignatureValid || slices.ContainsFunc(a.Reasons, ofQuote) {
		return Unverified
	}
	return Departed
}

// ofQuote reports whether a reason is about the quote and its key, not about what the
// quote proves.
func ofQuote(r evidence.Reason) bool {
	area, _, _ := strings.Cut(string(r.Code), ".")
	return slices.Contains([]string{"quote", "ak", "ek", "certificate", "bundle"}, area)
}

// failed is the agent's own word that it cannot answer.
func (r *run) failed(m *channel.Failure) {
	if r.step.kind == stepSecret {
		r.unverified(evidence.Refuse(codeForeign, "the agent's attestation key did not answer a credential for this machine's TPM; the agent says: %s", m.Message).About("akPublic"))
		return
	}
	r.conclude(Assessment{State: Silent, Reasons: []evidence.Reason{
		evidence.Refuse(codeFailed, "the agent cannot answer; it says: %s", m.Message).Reason,
	}})
}

// broken is a fault of ours: nothing is known of the machine.
func (r *run) broken(err error) {
	r.conclude(Assessment{State: Unknown, Reasons: []evidence.Reason{evidence.Refuse(codeHost, "the host could not assess the machine: %v", err).Reason}})
}

func (r *run) unverified(err error) {
	r.conclude(Assessment{State: Unverified, Reasons: evidence.Reasons(err)})
}

// silent ends a wait in which no answer came.
func (r *run) silent() {
	words := "the agent did not answer in " + r.cfg.Deadline.String()
	if r.phase == booting {
		words = "no agent has spoken in the " + r.cfg.BootDeadline.String() + " since the machine started"
		if left := time.Duration(r.patience.Load()); left != 0 {
			words = "no agent has spoken in the " + left.Round(time.Second).String() + " that it had left when the machine came from another host"
		}
	}
	if r.noise > 0 {
		words += fmt.Sprintf("; %d lines came that are no messages, the last: %v", r.noise, r.noiseErr)
	}
	r.conclude(Assessment{State: Silent, Reasons: []evidence.Reason{evidence.Refuse(codeSilent, "%s", words).Reason}})
}

// conclude passes an assessment on, and waits for the next. What a boot proved is not said
// of the next one, which may have begun while an issuer was asked.
func (r *run) conclude(a Assessment) {
	if r.catchUp() {
		return
	}
	now := r.cfg.Now()
	a.Time, a.AgentSeen, a.Boot, a.Of = now.UTC(), r.seen, r.boot, r.start
	kind := r.step.kind
	r.step = step{}
	if a.State == Silent && !r.heard {
		r.step.kind = kind // its answer did not come; see ask
	}
	r.phase, r.next, r.last = idle, now.Add(r.cfg.Interval), now
	r.late.Store(0)
	r.noise, r.noiseErr = 0, nil
	r.cfg.Assessed(a)
}

// heartbeat passes on what the agent saw, when that is new.
func (r *run) heartbeat(m *channel.Heartbeat) {
	now := r.cfg.Now()
	old := &r.report
	if r.cfg.Heard == nil || !old.Time.IsZero() && now.Sub(old.Time) < gap {
		return
	}
	kernel := func(k *channel.Kernel) channel.Kernel {
		if k == nil {
			return channel.Kernel{}
		}
		return *k
	}
	if old.Boot == m.Boot && slices.Equal(old.Modules, m.Modules) && kernel(old.Kernel) == kernel(m.Kernel) && !old.Time.IsZero() {
		return
	}
	r.report = Report{Time: now.UTC(), Boot: m.Boot, Modules: m.Modules, Kernel: m.Kernel, Reasons: moduleReasons(m.Modules), Of: r.start}
	r.cfg.Heard(r.report)
}

// moduleReasons puts modules into words (SPEC T10).
func moduleReasons(modules []channel.Module) []evidence.Reason {
	out := make([]evidence.Reason, 0, len(modules))
	for _, m := range modules {
		name, code, what := m.Name, codeModuleRejected, "did not load"
		if name == "" {
			name = "a module that the kernel does not name"
		}
		if m.Loaded {
			code, what = codeModuleUntrusted, "is loaded, and its signature is not accepted"
		}
		words := fmt.Sprintf("%s %s: %s", name, what, m.Reason)
		if m.By != "" {
			words += "; tried by " + m.By
		}
		out = append(out, evidence.Refuse(code, "%s (%s)", words, m.Source).About(m.Name).Reason)
	}
	return out
}

// Reason codes of this package; package evidence explains them.
const (
	codeSilent          evidence.Code = "agent.silent"
	codeFailed          evidence.Code = "agent.failed"
	codeForeign         evidence.Code = "agent.foreign-tpm"
	codeHost            evidence.Code = "agent.host"
	codeModuleRejected  evidence.Code = "agent.module-rejected"
	codeModuleUntrusted evidence.Code = "agent.module-untrusted"

	// codeNoBaseline is of package integrity.
	codeNoBaseline evidence.Code = "integrity.baseline-unapproved"
)
