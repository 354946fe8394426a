package keyprovider_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

func TestAVaultTokenIsRenewedAndReplaced(t *testing.T) {
	v := startVault(t)
	now := added
	v.now = func() time.Time { return now }
	env := environ(map[string]string{"SECRET_ID": secretID})
	env.Now = v.now
	spec := create(t, v.spec("assay", "role-id="+roleID+"&secret-id-env=SECRET_ID"), env)
	p := opener(spec, env)(t)
	defer p.Close()
	use := func(want int, when string) {
		t.Helper()
		if _, err := p.KeyID(t.Context()); err != nil || v.logins != want {
			t.Errorf("%s: %d logins, %v, want %d", when, v.logins, err, want)
		}
	}
	use(2, "first use") // one was for creating
	now = now.Add(6 * time.Minute)
	use(2, "while the token lives")
	now = now.Add(time.Minute)
	use(3, "after two thirds of its life")
	now = now.Add(5 * time.Minute)
	if next, err := p.Renew(t.Context()); err != nil || next != 5*time.Minute {
		t.Errorf("Renew = %s, %v", next, err)
	}
	now = now.Add(6 * time.Minute)
	use(3, "after it was renewed for ten minutes")
	v.mu.Lock()
	clear(v.tokens)
	v.mu.Unlock()
	if next, err := p.Renew(t.Context()); err != nil || next != 5*time.Minute {
		t.Errorf("Renew of a revoked token = %s, %v", next, err)
	}
	use(4, "after it was revoked")
}

func TestATokenThatAnAgentReplacedIsUsed(t *testing.T) {
	v, env := startVault(t), environ(nil)
	token := private(t, "hvs.old")
	p := opener(v.spec("assay", "token-file="+token), env)(t)
	defer p.Close()
	create(t, v.spec("assay", "token-file="+private(t, rootToken)), env)
	if _, err := p.KeyID(t.Context()); !errors.Is(err, keyprovider.ErrRefused) {
		t.Errorf("with an old token: %v", err)
	}
	rewrite(t, token, "hvs.new")
	v.mu.Lock()
	v.issue("hvs.new", time.Hour, time.Hour)
	v.mu.Unlock()
	if _, err := p.KeyID(t.Context()); err != nil {
		t.Errorf("after an agent has written a new token: %v", err)
	}
}

// A failures is what a renewal told.
type failures struct {
	mu    sync.Mutex // guards what follows
	texts []string
}

func (f *failures) add(err error, again time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.texts = append(f.texts, err.Error()+", again in "+again.String())
}

func (f *failures) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.texts)
}

// inTheBubble runs f with virtual time; the server, which is outside, has its clock.
func inTheBubble(t *testing.T, v *fakeVault, f func(t *testing.T)) {
	var clock atomic.Int64
	v.now = func() time.Time { return time.Unix(clock.Load(), 0) }
	synctest.Test(t, func(t *testing.T) {
		clock.Store(time.Now().Unix())
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Second):
					clock.Store(time.Now().Unix())
				}
			}
		}()
		f(t)
	})
}

// days is longer than any token of these tests lives without renewal.
const days = 20 * time.Hour

func TestATokenIsKeptAliveUntilItsProviderIsClosed(t *testing.T) {
	t.Parallel()
	v := startVault(t)
	env := environ(map[string]string{"T": rootToken, "SHORT": "hvs.short"})
	create(t, v.spec("assay", "token-env=T"), env)
	inTheBubble(t, v, func(t *testing.T) {
		v.mu.Lock()
		v.issue("hvs.short", time.Hour, 1000*time.Hour)
		v.mu.Unlock()
		var told failures
		k := keyprovider.KeepRenewed(opener(v.spec("assay", "token-env=SHORT"), env)(t), keyprovider.Renewal{Random: rand.Reader, Failed: told.add})
		time.Sleep(days)
		if _, err := k.KeyID(t.Context()); err != nil || len(told.all()) > 0 {
			t.Errorf("after %s: %v, told %q", days, err, told.all())
		}
		renewals := v.count("renew-self")
		if renewals < 40 || renewals > 51 { // each 24 to 30 minutes
			t.Errorf("%d renewals in %s of a token of an hour", renewals, days)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if n := v.count("renew-self"); n != renewals {
			t.Errorf("%d renewals after Close", n-renewals)
		}
		again := opener(v.spec("assay", "token-env=SHORT"), env)(t)
		defer again.Close()
		if _, err := again.KeyID(t.Context()); !errors.Is(err, keyprovider.ErrRefused) {
			t.Errorf("an hour after Close: %v", err)
		}
	})
}

// count is how many requests with a part in their path there were.
func (v *fakeVault) count(part string) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.seen {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// A token of a login may be renewed for an hour in all here: there are new logins.
func TestALoginIsKeptAliveBeyondItsLongestLife(t *testing.T) {
	t.Parallel()
	v := startVault(t)
	env := environ(map[string]string{"SECRET_ID": secretID})
	inTheBubble(t, v, func(t *testing.T) {
		spec := create(t, v.spec("assay", "role-id="+roleID+"&secret-id-env=SECRET_ID"), env)
		var told failures
		k := keyprovider.KeepRenewed(opener(spec, env)(t), keyprovider.Renewal{Random: rand.Reader, Failed: told.add})
		defer k.Close()
		for range 40 {
			time.Sleep(days / 40)
			if _, err := k.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, seal.KeySize))); err != nil {
				t.Fatal(err)
			}
		}
		if v.logins < 20 || v.logins > 35 || len(told.all()) > 0 {
			t.Errorf("%d logins in %s with tokens of at most an hour; told %q", v.logins, days, told.all())
		}
	})
}

func TestWhatCannotBeRenewedIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(v *fakeVault)
		want    string
		most    int // texts in an hour
	}{
		"a token that never ends":         {func(v *fakeVault) { v.tokens["hvs.t"] = &vaultToken{} }, "", 0},
		"a token that cannot be renewed":  {func(v *fakeVault) { v.tokens["hvs.t"] = &vaultToken{until: v.now().Add(2 * time.Hour)} }, "cannot be renewed", 2},
		"a token that the server forgot":  {func(*fakeVault) {}, "permission denied", 20},
		"a server that is not ready":      {func(v *fakeVault) { v.fault = only("", unready) }, "sealed", 20},
		"an answer that is no JSON":       {func(v *fakeVault) { v.fault = only("", garbled) }, "garbage", 20},
		"a renewal that is not permitted": {func(v *fakeVault) { v.issue("hvs.t", time.Hour, days); v.fault = only("renew-self", forbidden) }, "renew the token", 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := startVault(t)
			inTheBubble(t, v, func(t *testing.T) {
				v.mu.Lock()
				tc.prepare(v)
				v.mu.Unlock()
				var told failures
				k := keyprovider.KeepRenewed(opener(v.spec("assay", "token-env=T"), environ(map[string]string{"T": "hvs.t"}))(t), keyprovider.Renewal{Random: rand.Reader, Failed: told.add})
				time.Sleep(time.Hour)
				if err := k.Close(); err != nil {
					t.Error(err)
				}
				texts := told.all()
				if len(texts) > tc.most || (len(texts) == 0) != (tc.want == "") {
					t.Errorf("told %d times, want up to %d: %q", len(texts), tc.most, texts)
				}
				for _, text := range texts {
					if !strings.Contains(text, tc.want) || strings.Contains(text, "hvs.t") {
						t.Errorf("told %q, want %q and no token", text, tc.want)
					}
				}
			})
		})
	}
}

// A server counts whole seconds: the last one of a token reads as the 0 of one that
// never ends.
func TestATokenInItsLastSecondDoesEnd(t *testing.T) {
	v := startVault(t)
	v.now = func() time.Time { return added }
	v.tokens["hvs.t"] = &vaultToken{until: added.Add(500 * time.Millisecond)}
	p := opener(v.spec("assay", "token-env=T"), environ(map[string]string{"T": "hvs.t"}))(t)
	defer p.Close()
	if next, err := p.Renew(t.Context()); next != 500*time.Millisecond || !errors.Is(err, keyprovider.ErrRefused) {
		t.Errorf("Renew = %s, %v, want to look again within the second", next, err)
	}
}

// Other kinds have nothing that ends, and start nothing.
func TestAKeyFileHasNothingToRenew(t *testing.T) {
	env := environ(nil)
	k := keyprovider.KeepRenewed(opener(create(t, "local:"+t.TempDir()+"/keys", env), env)(t), keyprovider.Renewal{Random: rand.Reader})
	if next, err := k.Renew(t.Context()); next != 0 || err != nil {
		t.Errorf("Renew = %s, %v", next, err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
