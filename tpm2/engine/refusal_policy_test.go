package engine_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// randomAssertion is a random policy command that holds on a new machine, for TPM2_Unseal.
func randomAssertion(r *rand.Rand) meant {
	pcrs := []tpm2.Handle{0, 7}
	switch r.IntN(6) {
	case 0:
		return meant{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCUnseal}}
	case 1:
		return meant{cc: tpm2.CCPolicyLocality, in: &command.PolicyLocalityIn{Locality: 1 | tpm2.Locality(r.IntN(4))<<1}}
	case 2:
		return meant{cc: tpm2.CCPolicyPCR, in: &command.PolicyPCRIn{PCRs: selection(tpm2.AlgSHA256, int(pcrs[r.IntN(2)]))}}
	case 3:
		return meant{cc: tpm2.CCPolicyAuthValue}
	case 4:
		return meant{cc: tpm2.CCPolicyCounterTimer, in: &command.PolicyCounterTimerIn{OperandB: make([]byte, 1+r.IntN(8)), Operation: tpm2.OpUnsignedGE}}
	}
	return meant{cc: tpm2.CCPolicySecret, handles: handles(tpm2.HandleOwner), in: &command.PolicySecretIn{PolicyRef: []byte{byte(r.IntN(4))}}}
}

// satisfy runs the assertions in a new session, unless one is refused: a session
// takes one locality and one command only.
func (m *machine) satisfy(kind tpm2.SessionType, policy []meant) (*session, bool) {
	m.Helper()
	s := m.session(sessionConfig{kind: kind})
	for _, a := range policy {
		var auths []auth
		if len(a.handles) > 0 {
			auths = password("")
		}
		if m.run(a.cc, append(slices.Clone(a.handles), s.handle), auths, a.in, nil) != tpm2.RCSuccess {
			m.flush(s.handle)
			return nil, false
		}
		s.withAuthValue = s.withAuthValue || a.cc == tpm2.CCPolicyAuthValue
	}
	return s, true
}

// others are policies that differ from this one in one assertion or in the order.
func others(r *rand.Rand, policy []meant) [][]meant {
	var out [][]meant
	for i := range policy {
		out = append(out, slices.Delete(slices.Clone(policy), i, i+1), slices.Insert(slices.Clone(policy), i, policy[i]))
		changed := slices.Clone(policy)
		changed[i] = randomAssertion(r)
		swapped := slices.Clone(policy)
		swapped[i], swapped[0] = swapped[0], swapped[i]
		out = append(out, changed, swapped)
	}
	return append(out, append(slices.Clone(policy), randomAssertion(r)))
}

// An object with a random policy is used by a session that made just its assertions,
// in order, with the authValue if that is one of them; no other session uses it.
func TestAPolicyIsSatisfiedByItselfOnly(t *testing.T) {
	for seed := range uint64(holders(t)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m, r := newMachine(t), rand.New(rand.NewPCG(seed, 4))
			policy := []meant{randomAssertion(r)}
			for range r.IntN(4) {
				policy = append(policy, randomAssertion(r))
			}
			trial, ok := m.satisfy(tpm2.SessionTrial, policy)
			if !ok {
				t.Skip("no session can satisfy it")
			}
			template := keyedHashTemplate(fixed | tpm2.AttrNoDA)
			template.AuthPolicy = m.policyDigest(trial)
			h := m.child(m.storage(""), template, "auth", "the secret")
			m.flush(trial.handle)
			use := func(policy []meant, change func(s *session), auth string) tpm2.RC {
				s, ok := m.satisfy(tpm2.SessionPolicy, policy)
				if !ok {
					return tpm2.RCPolicy
				}
				if change != nil {
					change(s)
				}
				rc := m.run(tpm2.CCUnseal, handles(h), s.with(auth), nil, nil)
				m.flush(s.handle)
				m.locality = 0
				return rc
			}
			if rc := use(policy, nil, "auth"); rc != tpm2.RCSuccess {
				t.Fatalf("Unseal = %v with its policy, want success", rc)
			}
			for _, other := range others(r, policy) {
				if reflect.DeepEqual(other, policy) {
					continue
				}
				if rc := use(other, nil, "auth"); rc == tpm2.RCSuccess {
					t.Errorf("the policy %+v is satisfied by %+v", policy, other)
				}
			}
			for name, tc := range map[string]struct {
				of     tpm2.CC
				auth   string
				change func(s *session)
			}{
				"a wrong authValue":      {tpm2.CCPolicyAuthValue, "other", nil},
				"no authValue":           {tpm2.CCPolicyAuthValue, "auth", func(s *session) { s.withAuthValue = false }},
				"another locality":       {tpm2.CCPolicyLocality, "auth", func(*session) { m.locality = 3 }},
				"a PCR that changed":     {tpm2.CCPolicyPCR, "auth", func(*session) { m.do(tpm2.CCPCREvent, handles(0), password(""), &command.PCREventIn{}, nil) }},
				"a policy that restarts": {policy[0].cc, "auth", func(s *session) { m.do(tpm2.CCPolicyRestart, handles(s.handle), nil, nil, nil) }},
			} {
				if slices.ContainsFunc(policy, func(a meant) bool { return a.cc == tc.of }) && use(policy, tc.change, tc.auth) == tpm2.RCSuccess {
					t.Errorf("the policy %+v is satisfied with %s", policy, name)
				}
			}
		})
	}
}
