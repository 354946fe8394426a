package engine

import "github.com/assay-project/assay/tpm2"

// dictionary is the state of the protection against guessing (Part 1, 19.8).
// Times are seconds.
type dictionary struct {
	failedTries     uint32
	maxTries        uint32
	recoveryTime    uint32 // 0 ends the protection
	lockoutRecovery uint32 // 0: until the next TPM Reset
	lockoutEnabled  bool   // lockoutAuth may be used
}

// healing has the times, in milliseconds since power on, from which recovery counts.
type healing struct{ tries, lockout uint64 }

// heal forgives failures whose time has passed (Part 1, 19.8.4, 19.8.6).
func (t *TPM) heal() {
	d := &t.permanent.dictionary
	if !d.lockoutEnabled && d.lockoutRecovery != 0 && (t.vol.time-t.vol.heal.lockout)/1000 >= uint64(d.lockoutRecovery) {
		d.lockoutEnabled = true
		t.touch()
	}
	if d.failedTries == 0 {
		return
	}
	if d.recoveryTime == 0 { // Part 1, 19.8.3: nothing is protected
		d.failedTries = 0
		t.touch()
		return
	}
	n := (t.vol.time - t.vol.heal.tries) / 1000 / uint64(d.recoveryTime)
	if n == 0 {
		return
	}
	t.vol.heal.tries += n * uint64(d.recoveryTime) * 1000
	d.failedTries -= uint32(min(n, uint64(d.failedTries))) // bounded by failedTries
	t.touch()
}

// lockedOut returns TPM_RC_LOCKOUT when no protected authValue may be tried now;
// lockoutAuth has a lock of its own (Part 1, 19.8.5).
func (t *TPM) lockedOut(lockoutAuth bool) error {
	d := &t.permanent.dictionary
	if lockoutAuth && !d.lockoutEnabled || !lockoutAuth && d.failedTries >= d.maxTries {
		return tpm2.RCLockout
	}
	// Part 1, 19.8.7: a power loss from here on counts as a failure.
	if !lockoutAuth && t.permanent.orderlyState != shutdownDAUsed {
		t.permanent.orderlyState = shutdownDAUsed
		t.touch()
	}
	return nil
}

// authFailed counts a wrong authValue and returns the response code: of an
// entity without protection TPM_RC_BAD_AUTH, else TPM_RC_AUTH_FAIL.
func (c *call) authFailed(u *authUse) error {
	t, h := c.t, u.entity
	if s := u.session; s != nil {
		if s.lockoutBound {
			h = tpm2.HandleLockout
		}
		if !s.daBound && (!u.authorizes() || !t.protected(h) || !s.includeAuth) {
			return tpm2.RCBadAuth
		}
	} else if !t.protected(h) {
		return tpm2.RCBadAuth
	}
	t.countFailure(h == tpm2.HandleLockout)
	return tpm2.RCAuthFail
}

// countFailure records one wrong authValue (Part 1, 19.8.3).
func (t *TPM) countFailure(lockoutAuth bool) {
	d := &t.permanent.dictionary
	if lockoutAuth {
		d.lockoutEnabled = false
		t.vol.heal.lockout = t.vol.time
	} else {
		if d.recoveryTime != 0 && d.failedTries < d.maxTries {
			d.failedTries++
		}
		t.vol.heal.tries = t.vol.time
	}
	t.touch()
}
