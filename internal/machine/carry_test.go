package machine

import (
	"errors"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
)

func TestAMachineThatIsBoundElsewhereDoesNotStart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.root.cfg.Place = fleet.Place{Host: "h1", Site: "north"}
	h.create(func(d *fleet.Definition) { d.Host, d.Site = "h2", "north" })
	err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{})
	if !errors.Is(err, fleet.ErrElsewhere) || !strings.Contains(err.Error(), `"h2"`) || !strings.Contains(err.Error(), `"h1"`) {
		t.Errorf("Run = %v", err)
	}
	h.update(func(d *fleet.Definition) { d.Host = "h1" })
	h.run(boot(t, "good-uki"))
}

// Of a machine that could not be completed nothing is left: no folder, no TPM.
func TestAnArrivalThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]Arrival{
		"a TPM that does not open":   {Definition: definition(), TPM: &CarriedTPM{Sealed: []byte("none")}},
		"an event that does not fit": {Definition: definition(), Event: strings.Repeat("x", maxEventLine)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if _, err := h.root.Arrive(t.Context(), "bob", a); err == nil {
				t.Error("no error")
			}
			if names, err := h.root.Names(); err != nil || len(names) != 0 || h.tpms() != 0 {
				t.Errorf("left: %v, %d TPMs, %v", names, h.tpms(), err)
			}
			h.create() // the name is free
		})
	}
}

func TestAnArrivalWithANameOrAnIdentityThatIsTakenIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	card, err := h.root.Card("web-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		a    Arrival
		want error
	}{
		"name":     {Arrival{Definition: definition()}, ErrExists},
		"identity": {Arrival{Definition: definition(func(d *fleet.Definition) { d.Name = "web-2" }), ID: card.ID}, ErrOriginal},
	} {
		if _, err := h.root.Arrive(t.Context(), "bob", tc.a); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	other := newHost(t)
	other.foreignTPM()
	if _, err := other.root.Arrive(t.Context(), "bob", Arrival{Definition: definition()}); !errors.Is(err, ErrExists) {
		t.Errorf("a name whose TPM is here: %v", err)
	}
}
