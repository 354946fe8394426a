package keyprovider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// renew prolongs the token by half of its life, and returns when to do so again; 0 for
// one that does not end. A login that is too old is replaced.
func (h *vaultHolder) renew(ctx context.Context) (time.Duration, error) {
	v := h.server
	if v.shut.is() {
		return 0, errClosed
	}
	own, cancel := context.WithTimeout(ctx, v.patience)
	defer cancel()
	next, err := v.renewOnce(own)
	if errors.Is(err, ErrRefused) && v.forget(false) {
		next, err = v.renewOnce(own)
	}
	return next, asked(ctx, err)
}

// renewOnce looks at the token first: of one that does not end, or that cannot be
// prolonged, Vault and OpenBao refuse the renewal with different texts.
func (v *vaultServer) renewOnce(ctx context.Context) (time.Duration, error) {
	token, err := v.authenticate(ctx)
	if err != nil {
		return 0, err
	}
	defer token.Destroy()
	answer, err := v.send(ctx, http.MethodGet, "auth/token/lookup-self", nil, token)
	if err != nil {
		return 0, fmt.Errorf("look at the token: %w", err)
	}
	about, err := member(answer, "data")
	if err != nil {
		return 0, err
	}
	left := seconds(about, "ttl")
	renewable, _ := about.Get("renewable")
	ends, _ := about.Get("expire_time")
	switch {
	case left == 0 && ends != nil && string(ends) != "null": // whole seconds: its last one reads as none
		left = time.Second
	case left == 0:
		return 0, nil
	}
	switch {
	case string(renewable) == "true":
	case v.roleID != "":
		return left / 2, nil // authenticate logs in again in time
	default:
		return left / 2, fmt.Errorf("%w: the token ends in %s and cannot be renewed: put another in its place", ErrRefused, left)
	}
	if answer, err = v.send(ctx, http.MethodPost, "auth/token/renew-self", []byte("{}"), token); err != nil {
		return 0, fmt.Errorf("renew the token: %w", err)
	}
	auth, err := member(answer, "auth")
	if err != nil {
		return 0, err
	}
	life := seconds(auth, "lease_duration")
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.login.token.Equal(token) && life > 0 {
		v.login.until = v.now().Add(life * 2 / 3)
	}
	return life / 2, nil
}
