package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-project/assay/internal/access"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func TestCallersRememberedAreBounded(t *testing.T) {
	c := newCallers(Limits{Callers: 10}.withDefaults())
	place, ok := c.enter("busy", true)
	if !ok {
		t.Fatal("first request of a caller is refused")
	}
	for i := range 1000 {
		c.spend(strangerKey(fmt.Sprintf("[2001:db8:%x::1]:1", i)), false, noon())
	}
	if len(c.byKey) != 10 || c.used.Len() != 10 {
		t.Errorf("%d callers remembered, want 10", len(c.byKey))
	}
	if c.byKey["busy"] == nil {
		t.Error("a caller with a request under way was forgotten")
	}
	place.leave()
}

func TestAddressesThatAreOneStranger(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b string
		same bool
	}{
		"ports":            {"192.0.2.1:1", "192.0.2.1:2", true},
		"IPv4 in IPv6":     {"[::ffff:192.0.2.1]:1", "192.0.2.1:2", true},
		"one /64":          {"[2001:db8::1]:1", "[2001:db8::ffff:2]:1", true},
		"two /64":          {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		"two IPv4":         {"192.0.2.1:1", "192.0.2.2:1", false},
		"zones of a link":  {"[fe80::1%eth0]:1", "[fe80::1%eth1]:1", true},
		"no address":       {"", "@", true},
		"none and an IPv4": {"", "192.0.2.1:1", false},
	} {
		if a, b := strangerKey(tc.a), strangerKey(tc.b); (a == b) != tc.same {
			t.Errorf("%s: %q and %q", name, a, b)
		}
	}
}

func TestGateLetsWaitOnlySoManySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(Limits{InFlight: 1, Queue: 1, Wait: time.Second})
		if !g.enter(t.Context()) {
			t.Fatal("an empty gate is closed")
		}
		waited := make(chan bool)
		go func() { waited <- g.enter(t.Context()) }()
		synctest.Wait()
		if g.enter(t.Context()) {
			t.Error("the queue has no bound")
		}
		if <-waited {
			t.Error("there was no turn, but it entered")
		}
		go func() { waited <- g.enter(t.Context()) }()
		synctest.Wait()
		g.leave()
		if !<-waited {
			t.Error("there was a turn in time, but it did not enter")
		}
	})
}

func TestUnguardedCallMayDoNothing(t *testing.T) {
	if who := callOf(context.Background()).who; who.Name != "" {
		t.Errorf("a call that no guard saw is by %q", who.Name)
	}
	s, err := newServer(Config{Now: noon}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.authorize(Route{Needs: access.Attest}, httptest.NewRequest("GET", "/", nil), access.Principal{}); err == nil {
		t.Error("nobody may attest")
	}
	if err := s.authorize(Route{}, httptest.NewRequest("GET", "/", http.NoBody), access.Principal{}); err == nil {
		t.Error("nobody may use a route for any principal")
	}
}

func TestKnownCredentialsAreBounded(t *testing.T) {
	k := newKnownCredentials()
	for i := range maxKnown + 1000 {
		k.add(access.Digest{byte(i), byte(i >> 8), byte(i >> 16), 1})
	}
	if len(k.digests) != maxKnown {
		t.Errorf("%d credentials remembered, want %d", len(k.digests), maxKnown)
	}
}
