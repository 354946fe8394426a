package health

import (
	"context"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/channel"
)

// A machine whose first baseline waits for a person is compared with nothing, and is not
// healthy for want of it, nor is one of which nothing is known; what its TPM proves against
// it counts all the same. One that nobody judges is healthy without a baseline, but not
// against one that it has.
func TestNoBootIsHealthyForWantOfABaseline(t *testing.T) {
	other := baselineOf(t, "bad-uki-cmdline")
	for name, tc := range map[string]struct {
		reference Reference
		want      map[string]State
	}{
		"waits for a person":   {Reference{Profile: baseline.Default()}, map[string]State{good: Unknown, "bad-uki-cmdline": Unknown, "persist/boot4": Departed}},
		"not known":            {Reference{}, map[string]State{good: Unknown}},
		"judged by nobody":     {Reference{Profile: baseline.Default(), None: true}, map[string]State{good: Healthy, "persist/boot4": Departed}},
		"has one all the same": {Reference{Baseline: other, Profile: baseline.Default(), None: true}, map[string]State{good: Departed}},
	} {
		for scenario, want := range tc.want {
			t.Run(name+"/"+scenario, func(t *testing.T) {
				i := &issuer{nonce: make([]byte, 32)}
				inBubble(t, func(f *fixture) {
					f.cfg.Reference = func() Reference { return tc.reference }
					f.cfg.Issuer = i
					f.guest.Boot(scenarioNamed(t, scenario), bootID)
				}, func(f *fixture) {
					f.start(f.guest.Agent())
					f.wait(time.Second)
					a := f.last(1)
					if a.State != want || (a.Token != "") != (want == Healthy) || want == Unknown && a.Reasons[0].Code != codeNoBaseline {
						t.Errorf("%q with token %q: %+v", a.State, a.Token, a.Reasons)
					}
				})
			})
		}
	}
}

// A slowIssuer takes its time, as an attestation service may: up to half the deadline.
type slowIssuer struct {
	issuer
	asked, goOn chan struct{}
}

func (i *slowIssuer) Token(ctx context.Context, challenge string, bundle []byte) (string, error) {
	close(i.asked)
	<-i.goOn
	return i.issuer.Token(ctx, challenge, bundle)
}

func TestWhatABootProvedIsNotSaidOfTheNext(t *testing.T) {
	for name, next := range map[string]func(*Monitor){"a boot": (*Monitor).Booted, "another memory": (*Monitor).Restored} {
		t.Run(name, func(t *testing.T) {
			i := &slowIssuer{issuer: issuer{nonce: make([]byte, 32)}, asked: make(chan struct{}), goOn: make(chan struct{})}
			inBubble(t, func(f *fixture) { f.cfg.Issuer = i }, func(f *fixture) {
				stop := f.start(f.guest.Agent())
				<-i.asked
				stop()
				next(f.monitor) // after the evidence was sent
				close(i.goOn)
				f.wait(4 * time.Minute)
				f.last(0)
				f.wait(2 * time.Minute)
				f.is(1, Silent, codeSilent)
			})
		})
	}
}

// The start of the next boot and the last words of the one before lie there together.
func TestTheLastWordsOfABootAreNotOfTheNext(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		h := newHonest(f)
		f.play(func(m channel.Message) []channel.Message {
			if _, last := m.(*channel.Challenge); last {
				for range 2 * cap(f.monitor.orders) { // more than the queue takes
					f.monitor.Booted()
				}
			}
			if a := h.answer(m); a != nil {
				return []channel.Message{a}
			}
			return nil
		})
		f.wait(time.Minute)
		f.last(0)
	})
}

// Who takes an assessment elsewhere can tell that it is of a boot before.
func TestAnAssessmentIsOfOneStart(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.start(f.guest.Agent())
		f.wait(time.Second)
		a := f.is(1, Healthy, "")
		if !f.monitor.Current(a.Of) {
			t.Error("it is of another start")
		}
		f.monitor.Restored()
		if f.monitor.Current(a.Of) {
			t.Error("it is still of what runs")
		}
		f.wait(time.Second) // the agent in the new memory is asked at once
		if a := f.is(2, Healthy, ""); !f.monitor.Current(a.Of) {
			t.Error("the next is of another start")
		}
	})
}
