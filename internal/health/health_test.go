package health

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/internal/channel"
	"github.com/assay-project/assay/tpm2"
)

// A fixture is a guest and the host's monitor of it, in a bubble of synctest.
type fixture struct {
	t       *testing.T
	guest   *agenttest.Guest
	cfg     Config
	monitor *Monitor
	mu      sync.Mutex // guards got and reports
	got     []Assessment
	reports []Report
	port    net.Conn                // the guest's end
	wrap    func(net.Conn) net.Conn // the host's end, if a test changes it
	done    chan error
}

const good = "good-uki"

// inBubble runs a test over a guest that booted well; the monitor runs, no agent does.
func inBubble(t *testing.T, change func(*fixture), body func(*fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, guest: agenttest.NewGuest(t, good), done: make(chan error, 1)}
		f.cfg = Config{
			EK: f.guest.EK("L-2"), Now: time.Now, Random: rand.Reader,
			Assessed: func(a Assessment) { keep(f, &f.got, a) }, Heard: func(r Report) { keep(f, &f.reports, r) },
		}
		if change != nil {
			change(f)
		}
		var err error
		if f.monitor, err = New(f.cfg); err != nil {
			t.Fatal(err)
		}
		var host net.Conn
		if f.port, host = agenttest.Port(); f.wrap != nil {
			host = f.wrap(host)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { f.done <- f.monitor.Run(ctx, host) }()
		body(f)
		cancel()
		f.port.Close()
		if err := <-f.done; err != nil {
			t.Errorf("Run = %v", err)
		}
		time.Sleep(time.Minute) // whoever waits finds the port closed
		synctest.Wait()
	})
}

func keep[T any](f *fixture, list *[]T, v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*list = append(*list, v)
}

// assessed are the assessments so far.
func (f *fixture) assessed() []Assessment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// wait lets time pass and everybody finish.
func (f *fixture) wait(d time.Duration) {
	f.t.Helper()
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// start runs an agent in the guest; stop ends it, the port stays.
func (f *fixture) start(s *agent.Server) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ctx, &lease{Conn: f.port})
	}()
	return func() { cancel(); <-done }
}

// A lease is a port of which a close ends what one agent has of it.
type lease struct {
	net.Conn
	once sync.Once
}

func (l *lease) Close() (err error) {
	l.once.Do(func() { err = l.SetDeadline(time.Now()) })
	return err
}

// again lets the port be used after an agent's end.
func (f *fixture) again() {
	f.t.Helper()
	if err := f.port.SetDeadline(time.Time{}); err != nil {
		f.t.Fatal(err)
	}
}

// last is the newest assessment, of n in all.
func (f *fixture) last(n int) Assessment {
	f.t.Helper()
	got := f.assessed()
	if len(got) != n {
		for _, a := range got {
			f.t.Logf("%s: %s %v", a.Time.Format("15:04:05"), a.State, a.Reasons)
		}
		f.t.Fatalf("%d assessments, want %d", len(got), n)
	}
	if n == 0 {
		return Assessment{}
	}
	return got[n-1]
}

// is checks the newest assessment, of n in all; code may be "" for none.
func (f *fixture) is(n int, state State, code evidence.Code) Assessment {
	f.t.Helper()
	a := f.last(n)
	if a.State != state {
		f.t.Errorf("state %q, want %q: %+v", a.State, state, a.Reasons)
	}
	if code == "" && len(a.Reasons) != 0 || code != "" && !slices.ContainsFunc(a.Reasons, func(r evidence.Reason) bool { return r.Code == code }) {
		f.t.Errorf("reasons %+v, want %q", a.Reasons, code)
	}
	for _, r := range a.Reasons {
		if _, ok := evidence.Describe(r.Code); !ok {
			f.t.Errorf("code %q is not explained", r.Code)
		}
	}
	return a
}

func TestAMachineAttestsAfterItsBootAndAgainAndAgain(t *testing.T) {
	for _, template := range []string{"L-1", "L-2", "H-3"} {
		t.Run(template, func(t *testing.T) {
			inBubble(t, func(f *fixture) { f.cfg.EK = f.guest.EK(template) }, func(f *fixture) {
				f.wait(time.Minute)
				f.start(f.guest.Agent())
				f.wait(time.Second)
				a := f.is(1, Healthy, "")
				if a.Result.Verdict != evidence.Trusted || a.Result.Evidence.Proof != tpm.ProofActivation || !a.Result.Claims["secureBoot"].Value.IsTrue() || !a.AgentSeen {
					t.Errorf("assessment %+v", a)
				}
				f.wait(14*time.Minute + 50*time.Second)
				f.last(1)
				for n := 2; n < 5; n++ {
					f.wait(15 * time.Minute)
					f.is(n, Healthy, "")
				}
				f.monitor.Ask()
				f.wait(time.Second)
				f.is(5, Healthy, "")
			})
		})
	}
}

func TestABootIsAttestedAgain(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		stop := f.start(f.guest.Agent())
		f.wait(time.Second)
		f.is(1, Healthy, "")
		stop()
		f.again()
		f.guest.Boot(good, "99999999-2222-3333-4444-555555555555")
		f.monitor.Booted()
		f.wait(2 * time.Minute) // firmware and kernel
		f.last(1)
		f.start(f.guest.Agent())
		f.wait(time.Second)
		if a := f.is(2, Healthy, ""); !strings.HasPrefix(a.Boot, "9999") {
			t.Errorf("boot %q", a.Boot)
		}
	})
}

// baselineOf is that of a recorded boot.
func baselineOf(t *testing.T, scenario string) *baseline.Baseline {
	t.Helper()
	b, err := evidence.ParseBundle(evidencetest.Recorded(t, scenario, "ecc").JSON(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := tpm.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tpm.BaselineOf(e, baseline.Shape{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestABootThatIsAnotherOneIsNamed(t *testing.T) {
	for scenario, want := range map[string]struct {
		state State
		code  evidence.Code
	}{
		good:               {Healthy, ""},
		"bad-uki-cmdline":  {Departed, "baseline.mismatch"},
		"persist/boot4":    {Departed, "secureboot.off"},
		"neg-uki-unproven": {Departed, "eventlog.replay-mismatch"},
		"neg-no-log":       {Departed, "eventlog.absent"},
	} {
		t.Run(scenario, func(t *testing.T) {
			reference := baselineOf(t, good)
			inBubble(t, func(f *fixture) {
				f.cfg.Reference = func() Reference { return Reference{Baseline: reference, Profile: baseline.Default()} }
				switch scenario {
				case "neg-uki-unproven":
					f.guest.Extend(4, bytes.Repeat([]byte{1}, 32)) // by who took over: the log does not say it
				case "neg-no-log":
					delete(f.guest.Root, agenttest.BootLog)
				default:
					f.guest.Boot(scenarioNamed(t, scenario), "11111111-2222-3333-4444-555555555555")
				}
			}, func(f *fixture) {
				f.start(f.guest.Agent())
				f.wait(time.Second)
				a := f.is(1, want.state, want.code)
				if want.code == "baseline.mismatch" && (a.Comparison == nil || len(a.Comparison.Judged()) == 0) {
					t.Error("the assessment names no difference")
				}
			})
		})
	}
}

// scenarioNamed finds a recorded boot by a part of its name.
func scenarioNamed(t *testing.T, name string) string {
	t.Helper()
	all := evidencetest.Scenarios(t)
	if !slices.Contains(all, name) {
		t.Fatalf("no boot %q was recorded: %v", name, all)
	}
	return name
}

// hostile is a guest's side that a test plays: what it answers to each request.
type hostile struct {
	f    *fixture
	conn *channel.Conn
	// answer gives what is sent for a request; nothing for nil.
	answer func(m channel.Message) []channel.Message
	asked  map[string]int
}

const bootID = "11111111-2222-3333-4444-555555555555"

// play has the guest's side answer by a function, after it said hello.
func (f *fixture) play(answer func(m channel.Message) []channel.Message) *hostile {
	h := &hostile{f: f, conn: channel.NewAgent(f.port), answer: answer, asked: map[string]int{}}
	go func() {
		if h.conn.Write(&channel.Hello{Agent: "hostile", Boot: bootID}) != nil {
			return
		}
		for {
			r, err := h.conn.Next()
			if err != nil {
				return
			}
			if r.Message == nil {
				f.t.Errorf("the host sends what is no message: %v", r.Err)
				continue
			}
			h.asked[kindOf(r.Message)]++
			for _, m := range answer(r.Message) {
				if h.conn.Write(m) != nil {
					return
				}
			}
		}
	}()
	return h
}

func kindOf(m channel.Message) string {
	b, err := channel.Encode(m)
	if err != nil {
		return "?"
	}
	var head channel.Head
	if json.Unmarshal(b[1:], &head) != nil {
		return "?"
	}
	return head.Type
}

// honest answers as the guest's own agent does; a test changes what it says.
type honest struct {
	t   *testing.T
	g   *agenttest.Guest
	tpm *agent.TPM
}

func newHonest(f *fixture) *honest {
	f.t.Helper()
	m, err := f.guest.Prover()
	if err != nil {
		f.t.Fatal(err)
	}
	return &honest{f.t, f.guest, m}
}

func (h *honest) answer(m channel.Message) channel.Message {
	switch m := m.(type) {
	case *channel.Enrol:
		return &channel.Key{Head: channel.Head{ID: m.ID}, AKPublic: h.tpm.AKPublic()}
	case *channel.Activate:
		secret, err := h.tpm.Activate(m.Template, m.CredentialBlob, m.EncryptedSecret)
		if err != nil {
			return &channel.Failure{Head: channel.Head{ID: m.ID}, Message: err.Error()}
		}
		return &channel.Secret{Head: channel.Head{ID: m.ID}, Secret: secret}
	case *channel.Challenge:
		b, err := h.tpm.Evidence(h.g.Root, m.Nonce, false)
		if err != nil {
			h.t.Error(err)
			return nil
		}
		text, err := b.Encode()
		if err != nil {
			h.t.Error(err)
		}
		return &channel.Evidence{Head: channel.Head{ID: m.ID}, Bundle: text}
	}
	return nil
}

// edit changes a bundle's text.
func edit(t *testing.T, e *channel.Evidence, change func(map[string]any)) *channel.Evidence {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(e.Bundle, &all); err != nil {
		t.Fatal(err)
	}
	change(all)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	e.Bundle = text
	return e
}

func TestWhatDoesNotComeFromThisMachinesTPMIsUnverified(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(f *fixture, m channel.Message, honest channel.Message) channel.Message
		code   evidence.Code
	}{
		"a key that is none": {func(_ *fixture, _, a channel.Message) channel.Message {
			if k, ok := a.(*channel.Key); ok {
				k.AKPublic = []byte{1, 2, 3}
			}
			return a
		}, "ak.malformed"},
		"the endorsement key itself": {func(f *fixture, _, a channel.Message) channel.Message {
			if k, ok := a.(*channel.Key); ok {
				k.AKPublic = evidencetest.Encode(f.t, f.cfg.EK)
			}
			return a
		}, "ak.attributes"},
		"a key of software": {func(f *fixture, _, a channel.Message) channel.Message {
			if k, ok := a.(*channel.Key); ok {
				soft := evidencetest.NewTPM(f.t, evidencetest.P256, evidencetest.Recorded(f.t, good, "ecc"))
				k.AKPublic = evidencetest.Encode(f.t, &soft.Public)
			}
			return a
		}, codeForeign},
		"a wrong secret": {func(_ *fixture, _, a channel.Message) channel.Message {
			if s, ok := a.(*channel.Secret); ok {
				s.Secret[0] ^= 1
			}
			return a
		}, codeForeign},
		"a short secret": {func(_ *fixture, _, a channel.Message) channel.Message {
			if s, ok := a.(*channel.Secret); ok {
				s.Secret = s.Secret[:31]
			}
			return a
		}, codeForeign},
		"an old quote": {func(f *fixture, m, a channel.Message) channel.Message {
			if c, ok := m.(*channel.Challenge); ok {
				c.Nonce = bytes.Repeat([]byte{1}, 32)
				return newHonest(f).answer(c)
			}
			return a
		}, "quote.nonce-mismatch"},
		"a quote of another TPM": {func(f *fixture, m, a channel.Message) channel.Message {
			if c, ok := m.(*channel.Challenge); ok {
				other := &fixture{t: f.t, guest: agenttest.NewGuest(f.t, good)}
				return newHonest(other).answer(c)
			}
			return a
		}, "ak.untrusted"},
		"another's quote under this key's name": {func(f *fixture, m, a channel.Message) channel.Message {
			if c, ok := m.(*channel.Challenge); ok {
				other := &fixture{t: f.t, guest: agenttest.NewGuest(f.t, good)}
				e, ok := newHonest(other).answer(c).(*channel.Evidence)
				own, ok2 := a.(*channel.Evidence)
				if !ok || !ok2 {
					f.t.Fatal("no evidence")
				}
				var mine map[string]any
				if err := json.Unmarshal(own.Bundle, &mine); err != nil {
					f.t.Fatal(err)
				}
				return edit(f.t, e, func(b map[string]any) { b["akPublic"] = mine["akPublic"] })
			}
			return a
		}, "quote.signature"},
		"changed register values": {func(f *fixture, _, a channel.Message) channel.Message {
			if e, ok := a.(*channel.Evidence); ok {
				return edit(f.t, e, func(b map[string]any) {
					b["pcrs"].(map[string]any)["sha256"].(map[string]any)["7"] = strings.Repeat("00", 32)
				})
			}
			return a
		}, "quote.pcr-digest"},
		"a bundle of another type": {func(_ *fixture, _, a channel.Message) channel.Message {
			if e, ok := a.(*channel.Evidence); ok {
				e.Bundle = json.RawMessage(`{"type":"snp"}`)
			}
			return a
		}, "bundle.unsupported"},
		"no bundle": {func(_ *fixture, _, a channel.Message) channel.Message {
			if e, ok := a.(*channel.Evidence); ok {
				e.Bundle = json.RawMessage(`{"hello":1}`)
			}
			return a
		}, "bundle.malformed"},
		"no quote": {func(_ *fixture, _, a channel.Message) channel.Message {
			if e, ok := a.(*channel.Evidence); ok {
				e.Bundle = json.RawMessage(`{"type":"tpm"}`)
			}
			return a
		}, "quote.absent"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(f *fixture) {
				agent := newHonest(f)
				f.play(func(m channel.Message) []channel.Message {
					if a := tc.change(f, m, agent.answer(m)); a != nil {
						return []channel.Message{a}
					}
					return nil
				})
				f.wait(time.Second)
				if a := f.is(1, Unverified, tc.code); a.Token != "" {
					t.Error("there is a token")
				}
			})
		})
	}
}

func TestWhoDoesNotAnswerIsSilent(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(agent *honest, m channel.Message) []channel.Message
		code   evidence.Code
		after  time.Duration
		words  string
	}{
		"to the first request": {func(*honest, channel.Message) []channel.Message { return nil }, codeSilent, time.Minute, "did not answer in 1m0s"},
		"to the challenge": {func(a *honest, m channel.Message) []channel.Message {
			if _, ok := m.(*channel.Challenge); ok {
				return nil
			}
			return []channel.Message{a.answer(m)}
		}, codeSilent, time.Minute, "did not answer"},
		"with answers to other requests": {func(a *honest, m channel.Message) []channel.Message {
			out := a.answer(m)
			switch o := out.(type) {
			case *channel.Key:
				o.ID += 7
			case *channel.Evidence:
				o.ID += 7
			}
			return []channel.Message{out}
		}, codeSilent, time.Minute, "did not answer"},
		"with evidence for another request": {func(a *honest, m channel.Message) []channel.Message {
			out := a.answer(m)
			if e, ok := out.(*channel.Evidence); ok {
				e.ID += 7
			}
			return []channel.Message{out}
		}, codeSilent, time.Minute, "did not answer"},
		"with a key for another request": {func(a *honest, m channel.Message) []channel.Message {
			out := a.answer(m)
			if k, ok := out.(*channel.Key); ok {
				k.ID += 7
			}
			return []channel.Message{out}
		}, codeSilent, time.Minute, "did not answer"},
		"with a secret for another request": {func(a *honest, m channel.Message) []channel.Message {
			out := a.answer(m)
			if s, ok := out.(*channel.Secret); ok {
				s.ID += 7
			}
			return []channel.Message{out}
		}, codeSilent, time.Minute, "did not answer"},
		"with failures of other requests": {func(_ *honest, m channel.Message) []channel.Message {
			if e, ok := m.(*channel.Enrol); ok {
				return []channel.Message{&channel.Failure{Head: channel.Head{ID: e.ID + 7}, Message: "no TPM"}}
			}
			return nil
		}, codeSilent, time.Minute, "did not answer"},
		"with answers of other kinds": {func(_ *honest, m channel.Message) []channel.Message {
			e, ok := m.(*channel.Enrol)
			if !ok {
				return nil
			}
			return []channel.Message{
				&channel.Secret{Head: e.Head, Secret: bytes.Repeat([]byte{1}, 32)}, &channel.Evidence{Head: e.Head, Bundle: json.RawMessage(`{}`)},
			}
		}, codeSilent, time.Minute, "did not answer"},
		"but says that it cannot": {func(_ *honest, m channel.Message) []channel.Message {
			if e, ok := m.(*channel.Enrol); ok {
				return []channel.Message{&channel.Failure{Head: e.Head, Message: "no TPM"}}
			}
			return nil
		}, codeFailed, 0, "no TPM"},
		"but says hello again and again": {func(_ *honest, m channel.Message) []channel.Message {
			if _, ok := m.(*channel.Enrol); ok {
				return []channel.Message{&channel.Hello{Agent: "hostile", Boot: bootID}}
			}
			return nil
		}, codeSilent, time.Minute, "did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(f *fixture) {
				agent := newHonest(f)
				f.wait(6 * time.Minute) // past the boot's own deadline
				f.is(1, Silent, codeSilent)
				h := f.play(func(m channel.Message) []channel.Message {
					return slices.DeleteFunc(tc.answer(agent, m), func(m channel.Message) bool { return m == nil })
				})
				f.wait(gap) // the word of an agent is heard, not sooner
				f.wait(tc.after)
				f.wait(time.Second)
				a := f.is(2, Silent, tc.code)
				if !strings.Contains(a.Reasons[0].Message, tc.words) {
					t.Errorf("reason %q, want %q in it", a.Reasons[0].Message, tc.words)
				}
				if n := h.asked["enrol"]; n > maxRestarts+1 {
					t.Errorf("the guest made the host begin %d times", n)
				}
			})
		})
	}
}

func TestAMachineWithoutAnAgentIsSilentAfterItsBoot(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.wait(5*time.Minute - time.Second)
		f.last(0)
		f.wait(2 * time.Second)
		if a := f.is(1, Silent, codeSilent); a.AgentSeen || !strings.Contains(a.Reasons[0].Message, "since the machine started") {
			t.Errorf("assessment %+v", a)
		}
		f.wait(17 * time.Minute)
		f.is(2, Silent, codeSilent)
		// It comes in the end, and is asked at once.
		f.start(f.guest.Agent())
		f.wait(gap)
		f.wait(time.Second)
		f.is(3, Healthy, "")
	})
}

func TestAPausedMachineIsNotSilent(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.monitor.Pause()
		f.wait(10 * time.Hour)
		f.last(0)
		f.monitor.Resume()
		f.wait(4 * time.Minute)
		f.last(0)
		f.start(f.guest.Agent())
		f.wait(time.Second)
		f.is(1, Healthy, "")
		f.monitor.Pause()
		f.wait(10 * time.Hour)
		f.monitor.Resume()
		f.wait(time.Second)
		f.is(2, Healthy, "") // it was due
	})
}

func TestAnAgentThatIsReplacedIsAskedAgain(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		stop := f.start(f.guest.Agent())
		f.wait(time.Second)
		f.is(1, Healthy, "")
		stop()
		f.again()
		f.guest.Key = agent.KeyConfig{RSA: true} // with another key
		f.start(f.guest.Agent())
		f.wait(gap)
		f.wait(time.Second)
		f.is(2, Healthy, "")
	})
}

func TestGarbageIsDroppedAndCounted(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		go io.WriteString(f.port, strings.Repeat("garbage\n", 50)+`{"v":2,"type":"hello"}`+"\n")
		f.wait(6 * time.Minute)
		a := f.is(1, Silent, codeSilent)
		if !strings.Contains(a.Reasons[0].Message, "51 lines") || !strings.Contains(a.Reasons[0].Message, "version") || a.AgentSeen {
			t.Errorf("reason %q", a.Reasons[0].Message)
		}
		f.start(f.guest.Agent())
		f.wait(gap)
		f.wait(time.Second)
		f.is(2, Healthy, "")
	})
}

// A guest that writes without end is read slowly, and can neither keep the monitor
// from its deadlines nor cause work for it.
func TestAFloodIsReadSlowly(t *testing.T) {
	for name, unit := range map[string]string{"line feeds": "\n", "no line feed": "x", "hellos": hello(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(f *fixture) { f.cfg.BootDeadline = time.Minute }, func(f *fixture) {
				var total atomic.Int64
				go func() {
					block := []byte(strings.Repeat(unit, 4096/len(unit)+1))
					for {
						n, err := f.port.Write(block)
						if total.Add(int64(n)); err != nil {
							return
						}
					}
				}()
				const minutes = 3
				f.wait(minutes * time.Minute)
				written := int(total.Load())
				if most := channel.MaxEvidence + 2<<20 + 60*minutes*pace; written > most {
					t.Errorf("%d bytes were read in %d minutes, at most %d are allowed", written, minutes, most)
				}
				if n := len(f.assessed()); n < 1 || n > minutes {
					t.Errorf("%d assessments in %d minutes", n, minutes)
				}
				for _, a := range f.assessed() {
					if a.State != Silent {
						t.Errorf("assessment %+v", a)
					}
				}
			})
		})
	}
}

func hello(t *testing.T) string {
	t.Helper()
	line, err := channel.Encode(&channel.Hello{Agent: "a", Boot: bootID})
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

// A guest that reads nothing gets no more than what was under way.
func TestAGuestThatReadsNothingIsSilent(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		conn := channel.NewAgent(f.port)
		go func() {
			for conn.Write(&channel.Hello{Agent: "a", Boot: bootID}) == nil {
				time.Sleep(20 * time.Second)
			}
		}()
		f.wait(time.Hour)
		if n := len(f.assessed()); n < 30 {
			t.Errorf("%d assessments in an hour", n)
		}
		for _, a := range f.assessed() {
			if a.State != Silent {
				t.Errorf("assessment %+v", a)
			}
		}
	})
}

// A bottomless port takes all that the host writes, as the buffer of a socket does.
type bottomless struct {
	net.Conn
	written atomic.Int64
}

func (b *bottomless) Write(p []byte) (int, error) {
	b.written.Add(int64(len(p)))
	return len(p), nil
}

func TestASilentGuestsPortDoesNotFill(t *testing.T) {
	port := new(bottomless)
	wrap := func(f *fixture) {
		f.wrap = func(c net.Conn) net.Conn { port.Conn = c; return port }
	}
	inBubble(t, wrap, func(f *fixture) {
		if err := channel.NewAgent(f.port).Write(&channel.Hello{Agent: "a", Boot: bootID}); err != nil {
			t.Fatal(err)
		}
		f.wait(48 * time.Hour)
		if n := port.written.Load(); n > 500 {
			t.Errorf("%d bytes wait for a guest that reads nothing", n)
		}
	})
}

// A hibernated machine starts its TPM anew, and its agent goes on as if nothing was.
func TestAnAgentThatSaysNoHelloIsGreeted(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.start(f.guest.Agent())
		f.wait(time.Second)
		f.is(1, Healthy, "")
		f.monitor.Booted()
		f.wait(time.Minute) // until a heartbeat
		f.is(2, Healthy, "")
	})
}

func TestAnAgentThatIsOlderThanItsMonitorIsGreeted(t *testing.T) {
	wrap := func(f *fixture) {
		f.wrap = func(c net.Conn) net.Conn {
			f.start(f.guest.Agent())
			if r, err := channel.NewHost(c).Next(); err != nil || r.Message == nil { // by the monitor before
				t.Errorf("Next = %+v, %v", r, err)
			}
			return c
		}
	}
	inBubble(t, wrap, func(f *fixture) {
		f.wait(time.Second)
		f.is(1, Healthy, "")
	})
}

func TestAGuestThatComesBackIsAskedAtOnce(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		agent, stalled := newHonest(f), atomic.Bool{}
		stalled.Store(true)
		f.play(func(m channel.Message) []channel.Message {
			if stalled.Load() {
				return nil
			}
			return []channel.Message{agent.answer(m)}
		})
		f.wait(time.Minute + time.Second)
		f.is(1, Silent, codeSilent)
		f.wait(15*time.Minute + 10*time.Second) // it is due, and has not read the last request
		stalled.Store(false)
		if err := channel.NewAgent(f.port).Write(&channel.Heartbeat{Boot: bootID}); err != nil {
			t.Fatal(err)
		}
		f.wait(time.Second)
		f.is(2, Healthy, "")
	})
}

func TestAGuestCausesFewAttestations(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.play(func(m channel.Message) []channel.Message {
			e, ok := m.(*channel.Enrol)
			if !ok {
				return nil
			}
			// It fails at once, and says that it started anew.
			return []channel.Message{&channel.Failure{Head: e.Head, Message: "no"}, &channel.Hello{Agent: "hostile", Boot: bootID}}
		})
		f.wait(time.Minute)
		if n := len(f.assessed()); n < 3 || n > 7 {
			t.Errorf("%d attestations in a minute", n)
		}
	})
}

// Only while the host knows the machine to boot is a new boot's first word worth more time.
func TestTheGuestsWordsMoveNoDeadline(t *testing.T) {
	for name, tc := range map[string]struct {
		late bool          // the wait for the first words is over
		want time.Duration // until the guest is silent
	}{
		"in a boot":         {false, time.Minute + 50*time.Second},
		"long after a boot": {true, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) { f.cfg.Interval = 59*time.Minute + 50*time.Second }, func(f *fixture) {
				go io.Copy(io.Discard, f.port)
				conn := channel.NewAgent(f.port)
				say := func(boot string) {
					t.Helper()
					if err := conn.Write(&channel.Hello{Agent: "a", Boot: boot}); err != nil {
						t.Fatal(err)
					}
				}
				if tc.late {
					f.wait(5*time.Minute + time.Second)
					f.is(1, Silent, codeSilent)
				}
				before := len(f.assessed())
				say(bootID)
				if before > 0 {
					f.wait(gap) // then it is asked
				}
				f.wait(50 * time.Second)
				say("22222222-2222-3333-4444-555555555555")
				f.wait(tc.want - 50*time.Second - 2*time.Second)
				f.last(before)
				f.wait(4 * time.Second)
				f.is(before+1, Silent, codeSilent)
			})
		})
	}
}

func TestModulesAreDataNotProof(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.wait(time.Second)
		f.play(func(m channel.Message) []channel.Message { return nil })
		conn := channel.NewAgent(f.port)
		beat := func(modules ...channel.Module) {
			t.Helper()
			if err := conn.Write(&channel.Heartbeat{Boot: bootID, Modules: modules, Kernel: &channel.Kernel{Tainted: 1}}); err != nil {
				t.Fatal(err)
			}
			f.wait(gap)
		}
		evil := channel.Module{Name: "evil", Reason: "no key", By: "insmod", Source: "audit"}
		beat()
		beat(evil)
		beat(evil) // nothing new
		beat(evil, channel.Module{Loaded: true, Reason: "forced", Source: "modules"})
		told := func() []Report {
			f.mu.Lock()
			defer f.mu.Unlock()
			return slices.Clone(f.reports)
		}
		if n := len(told()); n != 3 {
			t.Fatalf("%d reports, want 3: %+v", n, told())
		}
		want := []evidence.Reason{
			{Code: codeModuleRejected, Message: "evil did not load: no key; tried by insmod (audit)", Component: "evil"},
			{Code: codeModuleUntrusted, Message: "a module that the kernel does not name is loaded, and its signature is not accepted: forced (modules)"},
		}
		if diff := cmp.Diff(want, told()[2].Reasons); diff != "" {
			t.Errorf("reasons (-want +got)\n%s", diff)
		}
		for range 100 { // faster than is taken
			if err := conn.Write(&channel.Heartbeat{Boot: bootID, Kernel: &channel.Kernel{Tainted: uint64(rand.Text()[0])}}); err != nil {
				t.Fatal(err)
			}
		}
		f.wait(time.Second)
		if n := len(told()); n > 4 {
			t.Errorf("%d reports at once", n-3)
		}
	})
}

// issuer makes tokens as a test wants it.
type issuer struct {
	enrolled, challenged, token error
	nonce                       []byte
	bundles                     int
}

func (i *issuer) Enrolled(_ context.Context, ak, ek []byte) error {
	if len(ak) == 0 || len(ek) == 0 {
		return errors.New("no keys")
	}
	return i.enrolled
}

func (i *issuer) Challenge(context.Context) ([]byte, string, error) {
	return i.nonce, "opaque", i.challenged
}

func (i *issuer) Token(_ context.Context, challenge string, bundle []byte) (string, error) {
	i.bundles++
	if challenge != "opaque" || !bytes.Contains(bundle, []byte("quotes")) {
		return "", errors.New("wrong evidence")
	}
	return "token", i.token
}

func TestAHealthyMachineGetsAToken(t *testing.T) {
	fault := errors.New("open /etc/token: permission denied")
	const no = Refusal("the service does not know this host")
	nonce := bytes.Repeat([]byte{3}, 32)
	for name, tc := range map[string]struct {
		issuer  issuer
		token   string
		problem string
		refusal string // may be told to anybody
	}{
		"a token":             {issuer{nonce: nonce}, "token", "", ""},
		"not enrolled":        {issuer{nonce: nonce, enrolled: fault}, "", fault.Error(), ""},
		"no challenge":        {issuer{challenged: fault}, "", fault.Error(), ""},
		"a nonce of nothing":  {issuer{}, "", "the issuer's nonce has 0 bytes", ""},
		"refused by the rest": {issuer{nonce: nonce, token: fault}, "", fault.Error(), ""},
		"refused the host":    {issuer{nonce: nonce, enrolled: fmt.Errorf("enrol: %w", no)}, "", "enrol: " + string(no), string(no)},
		"refused the machine": {issuer{nonce: nonce, token: no}, "", string(no), string(no)},
		"at length":           {issuer{nonce: nonce, token: Refusal(strings.Repeat("x", 1<<20))}, "", strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(f *fixture) { f.cfg.Issuer = &tc.issuer }, func(f *fixture) {
				f.start(f.guest.Agent())
				f.wait(time.Second)
				if a := f.is(1, Healthy, ""); a.Token != tc.token || a.TokenProblem != tc.problem || a.TokenRefusal != tc.refusal {
					t.Errorf("token %q, %q, %q", a.Token, a.TokenProblem, a.TokenRefusal)
				}
			})
		})
	}
	t.Run("none for a refused boot", func(t *testing.T) {
		i := &issuer{nonce: nonce}
		inBubble(t, func(f *fixture) { f.cfg.Issuer = i; f.guest.Extend(4, nonce) }, func(f *fixture) {
			f.start(f.guest.Agent())
			f.wait(time.Second)
			if a := f.is(1, Departed, "eventlog.replay-mismatch"); a.Token != "" || i.bundles != 0 {
				t.Errorf("token %q after %d bundles", a.Token, i.bundles)
			}
		})
	})
}

func TestAHostWithoutRandomnessKnowsNothing(t *testing.T) {
	inBubble(t, func(f *fixture) { f.cfg.Random = strings.NewReader("") }, func(f *fixture) {
		f.start(f.guest.Agent())
		f.wait(time.Second)
		f.is(1, Unknown, codeHost)
	})
}

func TestTheHostEndsItsGuest(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		s := f.guest.Agent()
		s.PowerOff = true
		done := make(chan error, 1)
		go func() { done <- s.Serve(f.t.Context(), f.port) }()
		f.wait(time.Second)
		f.is(1, Healthy, "")
		f.monitor.PowerOff()
		if err := <-done; !errors.Is(err, agent.ErrPowerOff) {
			t.Errorf("Serve = %v", err)
		}
	})
}

func TestAMachineIsNotEndedBySomethingThatWasMeantForAnother(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.monitor.PowerOff() // nobody is there
		f.wait(time.Second)
		ended := false
		h := f.play(func(m channel.Message) []channel.Message {
			_, off := m.(*channel.PowerOff)
			ended = ended || off
			return nil
		})
		f.wait(time.Minute)
		if h.asked["enrol"] == 0 || ended {
			t.Errorf("the guest was asked %v", h.asked)
		}
		f.monitor.PowerOff() // and does not answer
		f.wait(time.Second)
		if ended {
			t.Error("a guest that does not answer is asked to end")
		}
	})
}

func TestAMonitorNeedsAnEndorsementKey(t *testing.T) {
	whole := func() Config {
		ek := tpm2.EKTemplates()[1].Public
		soft := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, good, "ecc"))
		ek.Unique = soft.Public.Unique
		return Config{EK: &ek, Now: time.Now, Random: rand.Reader, Assessed: func(Assessment) {}}
	}
	if _, err := New(whole()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no EK":            func(c *Config) { c.EK = nil },
		"no clock":         func(c *Config) { c.Now = nil },
		"no randomness":    func(c *Config) { c.Random = nil },
		"nobody to tell":   func(c *Config) { c.Assessed = nil },
		"a key that signs": func(c *Config) { c.EK.Attributes |= tpm2.AttrSign },
		"its own template": func(c *Config) { c.EK.AuthPolicy = bytes.Repeat([]byte{1}, 32) },
		"a point off P256": func(c *Config) { c.EK.Unique.ECC.X = bytes.Repeat([]byte{1}, 32) },
	} {
		c := whole()
		if spoil(&c); c.EK != nil {
			c.EK.Unique.ECC.X = bytes.Clone(c.EK.Unique.ECC.X)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}
