package engine_test

import (
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A guessing is a TPM with a secret that is protected against guessing.
type guessing struct{ *machine }

const guessed = ownerPersistent

func newGuessing(t *testing.T) *guessing {
	t.Helper()
	x := &guessing{newMachine(t)}
	in := &command.CreatePrimaryIn{
		InPublic:    keyedHashTemplate(fixed | tpm2.AttrUserWithAuth),
		InSensitive: tpm2.SensitiveCreate{UserAuth: []byte("right"), Data: []byte("secret")},
	}
	x.do(tpm2.CCCreatePrimary, handles(owner), password(""), in, nil)
	x.persist(owner, x.handle, guessed)
	x.do(tpm2.CCHierarchyChangeAuth, handles(lockout), password(""), &command.HierarchyChangeAuthIn{NewAuth: []byte("lock")}, nil)
	return x
}

// A guess is something done to a guessing, the code that it gives, and the count of
// failures after it.
type guess struct {
	do    func(x *guessing) tpm2.RC
	want  tpm2.RC
	tries uint32
}

func useSecret(auth string) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC { return x.run(tpm2.CCUnseal, handles(guessed), password(auth), nil, nil) }
}

func useLockout(auth string) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		return x.run(tpm2.CCDictionaryAttackLockReset, handles(lockout), password(auth), nil, nil)
	}
}

func wait(seconds int) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC { x.now += time.Duration(seconds) * time.Second; return 0 }
}

// parameters sets the limits and goes on with then, while no time passes.
func parameters(tries, recovery, lockoutRecovery uint32, then ...func(x *guessing) tpm2.RC) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		in := &command.DictionaryAttackParametersIn{NewMaxTries: tries, NewRecoveryTime: recovery, LockoutRecovery: lockoutRecovery}
		rc := x.run(tpm2.CCDictionaryAttackParameters, handles(lockout), password("lock"), in, nil)
		for _, do := range then {
			rc = do(x)
		}
		return rc
	}
}

func shutdown(kind tpm2.StartupType) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		return x.run(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: kind}, nil)
	}
}

// power turns the power off and on.
func power(kind tpm2.StartupType) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC { x.restart(nil, kind); return 0 }
}

func repeat(n int, s guess) []guess {
	var out []guess
	for range n {
		out = append(out, s)
	}
	return out
}

func TestGuessingIsLimited(t *testing.T) {
	const clearing, state = tpm2.StartupClear, tpm2.StartupState
	wrong, locked := sessionRC(tpm2.RCAuthFail, 1), tpm2.RCLockout
	fail := func(tries uint32) guess { return guess{useSecret("wrong"), wrong, tries} }
	good := func(tries uint32) guess { return guess{useSecret("right"), 0, tries} }
	refused := func(tries uint32) guess { return guess{useSecret("right"), locked, tries} }
	for name, steps := range map[string][]guess{
		"three failures lock until one is forgiven": {
			fail(1), fail(2), fail(3), refused(3), {wait(999), 0, 3}, refused(3), {wait(1), 0, 2}, good(2), {wait(1999), 0, 1}, {wait(1), 0, 0}, fail(1),
		},
		"many are forgiven at once":               {fail(1), fail(2), {wait(1 << 20), 0, 0}, good(0)},
		"a success forgives nothing":              {fail(1), good(1), fail(2), fail(3), refused(3)},
		"a failure starts the time anew":          {fail(1), {wait(600), 0, 1}, fail(2), {wait(600), 0, 2}, {wait(400), 0, 1}},
		"power lost without use":                  {{power(clearing), 0, 0}, good(0)},
		"power lost after use":                    {good(0), {power(clearing), 0, 1}, {power(clearing), 0, 1}},
		"power lost after use three times":        {good(0), {power(clearing), 0, 1}, good(1), {power(clearing), 0, 2}, good(2), {power(clearing), 0, 3}, refused(3), {power(clearing), 0, 3}},
		"an orderly shutdown after use":           {good(0), {shutdown(clearing), 0, 0}, {power(clearing), 0, 0}},
		"a shutdown to resume after use":          {good(0), {shutdown(state), 0, 0}, {power(state), 0, 0}, good(0)},
		"use after the shutdown":                  {{shutdown(clearing), 0, 0}, good(0), {power(clearing), 0, 1}},
		"a failure after the shutdown":            {{shutdown(state), 0, 0}, fail(1), {power(clearing), 0, 2}},
		"failures outlive power":                  {fail(1), fail(2), {shutdown(clearing), 0, 2}, {power(clearing), 0, 2}, fail(3), refused(3)},
		"time without power does not count":       {fail(1), {wait(900), 0, 1}, {shutdown(clearing), 0, 1}, {power(clearing), 0, 1}, {wait(900), 0, 1}, {wait(100), 0, 0}},
		"reset by the lockout authority":          {fail(1), fail(2), fail(3), {useLockout("lock"), 0, 0}, good(0)},
		"more tries":                              {{parameters(5, 1000, 1000), 0, 0}, fail(1), fail(2), fail(3), good(3), fail(4), fail(5), refused(5)},
		"fewer tries than failures":               {fail(1), fail(2), {parameters(2, 1000, 1000), 0, 2}, refused(2), {wait(1000), 0, 1}, good(1)},
		"no tries at all":                         {{parameters(0, 1000, 1000), 0, 0}, refused(0)},
		"another recovery time":                   {{parameters(3, 10, 1000), 0, 0}, fail(1), fail(2), {wait(10), 0, 1}, {wait(10), 0, 0}},
		"without recovery time nothing counts":    append([]guess{{parameters(3, 0, 1000), 0, 0}}, repeat(10, fail(0))...),
		"nor is anything kept":                    {fail(1), fail(2), {parameters(3, 0, 1000), 0, 0}, good(0), {power(clearing), 0, 0}},
		"from the next command on":                {fail(1), fail(2), {parameters(1, 0, 1000, useSecret("right")), 0, 0}},
		"though counting begins again at once":    {fail(1), fail(2), {parameters(3, 0, 1000, parameters(3, 1000, 1000)), 0, 0}, fail(1)},
		"and not after a shutdown at once":        {fail(1), {parameters(3, 0, 1000, shutdown(clearing)), 0, 0}, {power(clearing), 0, 0}},
		"an entity without protection":            {{unprotected("wrong"), sessionRC(tpm2.RCBadAuth, 1), 0}, {unprotected("right"), 0, 0}},
		"locked out, others go on":                {fail(1), fail(2), fail(3), {unprotected("right"), 0, 3}},
		"the lockout authority fails":             {{useLockout("wrong"), wrong, 0}, {useLockout("lock"), locked, 0}, good(0), {wait(999), 0, 0}, {useLockout("lock"), locked, 0}, {wait(1), 0, 0}, {useLockout("lock"), 0, 0}},
		"it fails later":                          {{wait(5000), 0, 0}, {useLockout("wrong"), wrong, 0}, {wait(999), 0, 0}, {useLockout("lock"), locked, 0}, {wait(1), 0, 0}, {useLockout("lock"), 0, 0}},
		"its lock outlives power":                 {{useLockout("wrong"), wrong, 0}, {shutdown(clearing), 0, 0}, {power(clearing), 0, 0}, {useLockout("lock"), locked, 0}, {wait(1000), 0, 0}, {useLockout("lock"), 0, 0}},
		"its lock until the next startup":         {{parameters(3, 1000, 0), 0, 0}, {useLockout("wrong"), wrong, 0}, {wait(1 << 20), 0, 0}, {useLockout("lock"), locked, 0}, {power(clearing), 0, 0}, {useLockout("lock"), 0, 0}},
		"or resume":                               {{parameters(3, 1000, 0), 0, 0}, {useLockout("wrong"), wrong, 0}, {shutdown(state), 0, 0}, {power(state), 0, 0}, {useLockout("lock"), 0, 0}},
		"power lost after use of the lockoutAuth": {{useLockout("lock"), 0, 0}, {power(clearing), 0, 0}},
		"by an HMAC session":                      {{useHMAC("wrong", 0, ""), wrong, 1}, {useHMAC("right", 0, ""), 0, 1}},
		"by a session bound to it":                {{useHMAC("right", guessed, "right"), 0, 0}, {useHMAC("right", guessed, "wrong"), wrong, 1}, {useHMAC("wrong", guessed, "wrong"), wrong, 2}},
		"by a session bound to the lockoutAuth":   {{useHMAC("right", lockout, "wrong"), wrong, 0}, {useHMAC("right", lockout, "lock"), locked, 0}, good(0)},
		"by what only encrypts":                   {{encryptBound("wrong"), wrong, 1}, {encryptBound("right"), 0, 1}},
		"a policy session bound to it":            {{policyBound("wrong"), wrong, 1}, {policyBound("right"), 0, 1}},
		"locked out, a bound session, too":        {fail(1), fail(2), fail(3), {encryptBound("right"), locked, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newGuessing(t)
			for i, s := range steps {
				if got := s.do(x); got != s.want {
					t.Errorf("step %d: %v, want %v", i, got, s.want)
				}
				if got := x.property(tpm2.PTLockoutCounter); got != s.tries {
					t.Errorf("step %d: %d failures are counted, want %d", i, got, s.tries)
				}
			}
		})
	}
}

// unprotected uses the authValue of a key with noDA.
func unprotected(auth string) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		in := &command.CreatePrimaryIn{
			InPublic:    keyedHashTemplate(fixed | tpm2.AttrUserWithAuth | tpm2.AttrNoDA),
			InSensitive: tpm2.SensitiveCreate{UserAuth: []byte("right"), Data: []byte("secret")},
		}
		x.do(tpm2.CCCreatePrimary, handles(owner), password(""), in, nil)
		defer x.flush(x.handle)
		return x.run(tpm2.CCUnseal, handles(x.handle), password(auth), nil, nil)
	}
}

// useHMAC uses the secret by a session, bound or not.
func useHMAC(auth string, bind tpm2.Handle, bindAuth string) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		s := x.session(sessionConfig{bind: bind, bindAuth: bindAuth})
		defer x.flush(s.handle)
		return x.run(tpm2.CCUnseal, handles(guessed), s.with(auth), nil, nil)
	}
}

// encryptBound uses a session bound to the secret only to encrypt a response: a
// right HMAC tells that the authValue was right (Part 1, 19.8.3).
func encryptBound(auth string) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		s := x.session(sessionConfig{bind: guessed, bindAuth: auth, symmetric: aes128()})
		defer x.flush(s.handle)
		return x.run(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), &command.GetRandomIn{BytesRequested: 8}, nil)
	}
}

// policyBound does so with a policy session.
func policyBound(auth string) func(x *guessing) tpm2.RC {
	return func(x *guessing) tpm2.RC {
		s := x.session(sessionConfig{kind: tpm2.SessionPolicy, bind: guessed, bindAuth: auth, symmetric: aes128()})
		defer x.flush(s.handle)
		return x.run(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionEncrypt), &command.GetRandomIn{BytesRequested: 8}, nil)
	}
}

func TestLockoutIsTold(t *testing.T) {
	x := newGuessing(t)
	inLockout := func() bool {
		return tpm2.PermanentAttributes(x.property(tpm2.PTPermanent))&tpm2.PermanentInLockout != 0
	}
	for n := range 3 {
		if inLockout() {
			t.Errorf("in lockout after %d failures", n)
		}
		useSecret("wrong")(x)
	}
	if !inLockout() {
		t.Error("not in lockout after 3 failures")
	}
}

func TestOnlyTheLockoutAuthorityRulesGuessing(t *testing.T) {
	m := newMachine(t)
	m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCDictionaryAttackLockReset, handles(owner), password(""), nil)
	in := &command.DictionaryAttackParametersIn{NewMaxTries: 1}
	m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCDictionaryAttackParameters, handles(platform), password(""), in)
	m.fails(tpm2.RCAuthMissing, tpm2.CCDictionaryAttackParameters, handles(lockout), nil, in)
	if got := m.property(tpm2.PTMaxAuthFail); got != 3 {
		t.Errorf("maxTries is %d, want 3", got)
	}
}
