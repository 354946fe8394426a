package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/internal/channel"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// A host speaks to an agent in this process.
type host struct {
	t    *testing.T
	port io.ReadWriteCloser
	conn *channel.Conn
	done chan error
}

// serve runs an agent; the host has heard its hello.
func serve(t *testing.T, s *agent.Server) *host {
	t.Helper()
	guest, port := agenttest.Port()
	h := &host{t, port, channel.NewHost(port), make(chan error, 1)}
	go func() { h.done <- s.Serve(t.Context(), guest) }()
	if m, ok := h.next().(*channel.Hello); !ok || m.Boot != "11111111-2222-3333-4444-555555555555" || m.Agent != "test" {
		t.Fatalf("the agent's first words are %+v", m)
	}
	return h
}

func (h *host) next() channel.Message {
	h.t.Helper()
	r, err := h.conn.Next()
	if err != nil || r.Message == nil {
		h.t.Fatalf("Next = %+v, %v", r, err)
	}
	return r.Message
}

func (h *host) ask(m channel.Message) channel.Message {
	h.t.Helper()
	if err := h.conn.Write(m); err != nil {
		h.t.Fatal(err)
	}
	return h.next()
}

func id(n uint64) channel.Head { return channel.Head{ID: n} }

func TestTheAgentAnswersItsHost(t *testing.T) {
	t.Parallel()
	g := agenttest.NewGuest(t, "good-uki")
	h := serve(t, g.Agent())
	key, ok := h.ask(&channel.Enrol{Head: id(1)}).(*channel.Key)
	if !ok || key.ID != 1 {
		t.Fatalf("enrol: %+v", key)
	}
	var ak tpm2.Public
	if err := wire.Decode(key.AKPublic, &ak); err != nil {
		t.Fatal(err)
	}
	name, err := ak.Name()
	if err != nil {
		t.Fatal(err)
	}
	c, err := tpm2.MakeCredential(rand.Reader, g.EK("L-2"), name, nonce)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := h.ask(&channel.Activate{Head: id(2), Template: "L-2", CredentialBlob: c.Blob, EncryptedSecret: c.Secret}).(*channel.Secret); !ok || s.ID != 2 || !bytes.Equal(s.Secret, nonce) {
		t.Errorf("activate: %+v", s)
	}
	e, ok := h.ask(&channel.Challenge{Head: id(3), Nonce: nonce, Limit: channel.MaxEvidence}).(*channel.Evidence)
	if !ok || e.ID != 3 {
		t.Fatalf("challenge: %+v", e)
	}
	trusted, err := tpm.NewKey(&ak, tpm.ProofActivation)
	if err != nil {
		t.Fatal(err)
	}
	if a := tpm.AppraiseBundle(e.Bundle, tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{trusted}}}); a.Verdict != evidence.Trusted {
		t.Errorf("verdict %v: %+v", a.Verdict, a.Reasons)
	}
	if m, ok := h.ask(new(channel.Greet)).(*channel.Hello); !ok {
		t.Errorf("greet: %+v", m)
	}
	h.port.Close()
	if err := <-h.done; !errors.Is(err, io.EOF) {
		t.Errorf("Serve = %v", err)
	}
	if n := len(loaded(t, g)); n != 0 {
		t.Errorf("%d objects are left in the TPM", n)
	}
}

func TestTheAgentSaysWhatItCannotDo(t *testing.T) {
	t.Parallel()
	g := agenttest.NewGuest(t, "good-uki")
	for name, tc := range map[string]struct {
		spoil func(*agent.Server)
		ask   channel.Message
		want  string
	}{
		"no TPM": {
			func(s *agent.Server) {
				s.Prover = func() (*agent.TPM, error) { return nil, errors.New("no TPM is\nthere \x1b[31m") }
			}, &channel.Enrol{Head: id(7)}, "no TPM is; there ?[31m",
		},
		"a long fault": {
			func(s *agent.Server) {
				s.Prover = func() (*agent.TPM, error) { return nil, errors.New(strings.Repeat("ä", 2000)) }
			}, &channel.Challenge{Head: id(7), Nonce: nonce, Limit: 4096}, "??",
		},
		"template":  {nil, &channel.Activate{Head: id(7), Template: "Z-1", CredentialBlob: nonce, EncryptedSecret: nonce}, "no template"},
		"garbage":   {nil, &channel.Activate{Head: id(7), Template: "L-2", CredentialBlob: nonce, EncryptedSecret: nonce}, "TPM_RC"},
		"limit":     {nil, &channel.Challenge{Head: id(7), Nonce: nonce, Limit: 500}, "are taken"},
		"power off": {nil, &channel.PowerOff{Head: id(7)}, "not the init"},
	} {
		t.Run(name, func(t *testing.T) {
			s := g.Agent()
			if tc.spoil != nil {
				tc.spoil(s)
			}
			h := serve(t, s)
			if f, ok := h.ask(tc.ask).(*channel.Failure); !ok || f.ID != 7 || !strings.Contains(f.Message, tc.want) {
				t.Errorf("answer %+v, want a failure with %q", f, tc.want)
			}
			if tc.spoil == nil { // it goes on
				if m, ok := h.ask(&channel.Enrol{Head: id(8)}).(*channel.Key); !ok || m.ID != 8 {
					t.Errorf("afterwards: %+v", m)
				}
			}
			h.port.Close()
			<-h.done
		})
	}
}

func TestAHostileHostChangesNothing(t *testing.T) {
	t.Parallel()
	h := serve(t, agenttest.NewGuest(t, "good-uki").Agent())
	for _, noise := range []string{
		"\n", "garbage\n", "\x1e{\"v\":1,\"type\":\"hello\"}\n", "\x1e{\"v\":9,\"type\":\"greet\"}\n", strings.Repeat("x", 3*channel.MaxRequest) + "\n",
		"\x1e{\"v\":1,\"type\":\"challenge\",\"id\":1,\"nonce\":\"\",\"limit\":1}\n", "\x1e{\"v\":1,\"type\":\"cut",
	} {
		if _, err := io.WriteString(h.port, noise); err != nil {
			t.Fatal(err)
		}
	}
	if m, ok := h.ask(&channel.Enrol{Head: id(8)}).(*channel.Key); !ok || m.ID != 8 {
		t.Errorf("after the noise: %+v", m)
	}
	h.port.Close()
	<-h.done
}

func TestTheHostEndsAMachineThatIsItsInit(t *testing.T) {
	t.Parallel()
	s := agenttest.NewGuest(t, "good-uki").Agent()
	s.PowerOff = true
	h := serve(t, s)
	if err := h.conn.Write(&channel.PowerOff{Head: id(1)}); err != nil {
		t.Fatal(err)
	}
	if err := <-h.done; !errors.Is(err, agent.ErrPowerOff) {
		t.Errorf("Serve = %v", err)
	}
}

func TestTheAgentSaysWhatItSees(t *testing.T) {
	g := agenttest.NewGuest(t, "good-uki")
	synctest.Test(t, func(t *testing.T) {
		s := g.Agent()
		var calls atomic.Int64
		s.KernelLog = func() []string {
			calls.Add(1)
			return []string{"Loading of unsigned module is rejected"}
		}
		h := serve(t, s)
		start := time.Now()
		for n := 1; n <= 3; n++ {
			m, ok := h.next().(*channel.Heartbeat)
			if !ok || len(m.Modules) != 1 || m.Kernel == nil || calls.Load() != int64(n) {
				t.Errorf("heartbeat %d: %+v after %d calls", n, m, calls.Load())
			}
			if got := time.Since(start); got != time.Duration(n)*time.Minute {
				t.Errorf("heartbeat %d came after %s", n, got)
			}
		}
		h.port.Close()
		<-h.done
	})
}

func TestAnAgentEndsThatNobodyListensTo(t *testing.T) {
	g := agenttest.NewGuest(t, "good-uki")
	synctest.Test(t, func(t *testing.T) {
		guest, port := agenttest.Port()
		defer port.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := g.Agent().Serve(ctx, guest); err != nil { // its hello is never read
			t.Errorf("Serve = %v", err)
		}
	})
}

func TestAMachineWithoutABootIDIsNotServed(t *testing.T) {
	guest, port := agenttest.Port()
	defer port.Close()
	s := &agent.Server{Root: fstest.MapFS{}}
	if err := s.Serve(t.Context(), guest); err == nil || !strings.Contains(err.Error(), "boot id") {
		t.Errorf("Serve = %v", err)
	}
}
