// Package keyprovidertest is the suite that every key provider passes: what it wraps
// unwraps for the same context only, everything else is refused with its reason, and
// no secret is told.
//
// It does not show that a provider keeps its keys well: only that it does what
// keyprovider.Provider says. Start with [Run].
package keyprovidertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// A Fault is a way in which a provider fails.
type Fault string

// The faults.
const (
	Down       Fault = "down"         // it cannot be reached
	Slow       Fault = "slow"         // it does not answer in time
	Garbage    Fault = "garbage"      // what it answers is not its protocol
	AnotherKey Fault = "another key"  // it decrypts everything to another key
	Refusing   Fault = "refusing"     // it does not accept the credential
	Dropped    Fault = "key is gone"  // the key was destroyed
	NotReady   Fault = "not ready"    // it is there and says that it cannot serve now
	Dying      Fault = "dying"        // it ends in the middle of an answer
	TooMuch    Fault = "endless text" // its answer does not end
)

// wants is the error of each fault; AnotherKey may be seen in two places.
func (f Fault) wants() []error {
	switch f {
	case Garbage, TooMuch:
		return []error{keyprovider.ErrGarbage}
	case AnotherKey:
		return []error{seal.ErrOpen, keyprovider.ErrGarbage}
	case Refusing:
		return []error{keyprovider.ErrRefused}
	case Dropped:
		return []error{keyprovider.ErrUnknownKey}
	case Down, Slow, NotReady, Dying:
		return []error{keyprovider.ErrUnavailable}
	}
	return nil
}

// A Subject is one kind of provider.
type Subject struct {
	Env keyprovider.Env
	// Spec opens the provider, Other one of the same kind with other keys.
	Spec, Other string
	// Faulty opens one with the keys of Open that fails in a way; a nil function of a
	// fault means that the kind cannot fail so.
	Faulty map[Fault]func(t testing.TB) *keyprovider.Opened
	// Secrets are texts that no error may show.
	Secrets []string
	// ReadOnly providers do not rotate.
	ReadOnly bool
	// Slow providers are opened and asked less often.
	Slow bool
}

// suite is one run.
type suite struct {
	Subject
	ctx    context.Context
	shared *keyprovider.Opened // of a slow provider, which most tests share

	mu     sync.Mutex // guards what follows
	errors []string
	keys   [][]byte // data keys that were wrapped
}

var (
	contextA = seal.Context{Purpose: "vtpm state", Name: "web-1"}
	contexts = []seal.Context{contextA, {Purpose: "vtpm state", Name: "web-2"}, {Purpose: "vtpm stat", Name: "eweb-1"}, {Purpose: "", Name: ""}}
)

// Run runs the suite.
func Run(t *testing.T, subject Subject) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := &suite{Subject: subject, ctx: t.Context()}
	defer func() {
		if s.shared != nil { // a test failed
			s.shared.Close()
		}
	}()
	t.Run("unwraps for its context only", s.contexts)
	t.Run("refuses what is altered", s.altered)
	t.Run("refuses what others wrapped", s.others)
	t.Run("stops when it is told", s.cancelled)
	t.Run("serves many at once", s.concurrent)
	t.Run("rotates", s.rotates)
	for f, open := range s.Faulty {
		t.Run("when it is "+string(f), func(t *testing.T) { s.fault(t, f, open) })
	}
	t.Run("is of no use when closed", s.closed)
	t.Run("tells no secret", s.secrets)
}

// open opens the provider, or gives the slow one that is open.
func (s *suite) open(t *testing.T) *keyprovider.Opened {
	t.Helper()
	if !s.Slow {
		return s.openSpec(t, s.Spec)
	}
	if s.shared == nil {
		p, err := keyprovider.OpenSpec(s.ctx, s.Spec, s.Env)
		if err != nil {
			t.Fatalf("OpenSpec(%q) = %v", s.Spec, err)
		}
		s.shared = p
	}
	return s.shared
}

func (s *suite) openSpec(t *testing.T, spec string) *keyprovider.Opened {
	t.Helper()
	p, err := keyprovider.OpenSpec(t.Context(), spec, s.Env)
	if err != nil {
		t.Fatalf("OpenSpec(%q) = %v", spec, err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// key makes a data key and remembers it.
func (s *suite) key(t *testing.T) seal.Secret {
	t.Helper()
	k, err := seal.Random(rand.Reader, seal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, bytes.Clone(k.Expose()))
	return k
}

// note keeps what an error says, for the last test.
func (s *suite) note(err error) error {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.errors = append(s.errors, fmt.Sprintf("%v %+v", err, err))
	}
	return err
}

func (s *suite) wrap(t *testing.T, p keyprovider.Provider, c seal.Context) (seal.Secret, []byte) {
	t.Helper()
	k := s.key(t)
	w, err := p.Wrap(t.Context(), c, k)
	if s.note(err) != nil {
		t.Fatalf("Wrap = %v", err)
	}
	if bytes.Contains(w, k.Expose()) {
		t.Error("the wrapped key shows the key")
	}
	return k, w
}

func (s *suite) mustUnwrap(t *testing.T, p keyprovider.Provider, c seal.Context, w []byte, want seal.Secret) {
	t.Helper()
	got, err := p.Unwrap(t.Context(), c, w)
	if s.note(err) != nil || !got.Equal(want) {
		t.Errorf("Unwrap = %d bytes, %v, want the key", got.Len(), err)
	}
}

// refused checks that w does not unwrap, and that the error is one of want.
func (s *suite) refused(t *testing.T, p keyprovider.Provider, c seal.Context, w []byte, want ...error) {
	t.Helper()
	got, err := p.Unwrap(t.Context(), c, w)
	s.note(err)
	if got.Len() != 0 || !isOne(err, want) {
		t.Errorf("Unwrap = %d bytes, %v, want one of %v", got.Len(), err, want)
	}
}

func isOne(err error, of []error) bool {
	for _, want := range of {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

func (s *suite) contexts(t *testing.T) {
	p := s.open(t)
	for i, c := range contexts {
		k, w := s.wrap(t, p, c)
		if len(w) > 4096 {
			t.Errorf("wrapped key of %d bytes, and an envelope holds 4096", len(w))
		}
		s.mustUnwrap(t, p, c, w, k)
		s.mustUnwrap(t, s.open(t), c, w, k)
		for j, other := range contexts {
			if i != j {
				s.refused(t, p, other, w, seal.ErrOpen)
			}
		}
	}
	short := seal.NewSecret(make([]byte, 16))
	if w, err := p.Wrap(t.Context(), contextA, short); s.note(err) == nil {
		t.Errorf("a key of 16 bytes was wrapped: %x", w)
	}
	if _, err := p.Wrap(t.Context(), contextA, seal.Secret{}); s.note(err) == nil {
		t.Error("no key was wrapped")
	}
}

// kinds are what altered text may be refused as: it can look like another's.
var kinds = []error{seal.ErrOpen, seal.ErrFormat, seal.ErrVersion, keyprovider.ErrUnknownKey}

func (s *suite) altered(t *testing.T) {
	p := s.open(t)
	_, w := s.wrap(t, p, contextA)
	step := 1
	if s.Slow {
		step = 1 + len(w)/40
	}
	for n := 0; n < len(w); n += step {
		s.refused(t, p, contextA, w[:n], kinds...)
		changed := bytes.Clone(w)
		changed[n] ^= 1 << (n % 8)
		s.refused(t, p, contextA, changed, kinds...)
	}
	s.refused(t, p, contextA, append(bytes.Clone(w), 0), kinds...)
	s.refused(t, p, contextA, nil, seal.ErrFormat)
	s.refused(t, p, contextA, []byte("vault:v1:AAAA"), seal.ErrFormat)
	s.refused(t, p, contextA, bytes.Repeat([]byte{0xff}, 5000), seal.ErrFormat)
}

func (s *suite) others(t *testing.T) {
	p := s.open(t)
	_, w := s.wrap(t, p, contextA)
	other := s.openSpec(t, s.Other)
	s.refused(t, other, contextA, w, keyprovider.ErrUnknownKey, seal.ErrOpen)
	_, w = s.wrap(t, other, contextA)
	s.refused(t, p, contextA, w, keyprovider.ErrUnknownKey, seal.ErrOpen)
	kek, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{kek.ID, "vault:transit/x:v1", "kmip:1", "pkcs11:x:00", "trusted:x", ""} {
		// A key that stands in an envelope is not taken for a wrapped key.
		w, err := seal.Seal(rand.Reader, seal.Key{ID: id, Secret: kek.Secret}, contextA, make([]byte, seal.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		s.refused(t, p, contextA, w, keyprovider.ErrUnknownKey, seal.ErrFormat, seal.ErrOpen)
	}
}

func (s *suite) cancelled(t *testing.T) {
	p := s.open(t)
	k, w := s.wrap(t, p, contextA)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := p.Unwrap(ctx, contextA, w); !errors.Is(s.note(err), context.Canceled) || got.Len() != 0 {
		t.Errorf("Unwrap = %d bytes, %v, want %v", got.Len(), err, context.Canceled)
	}
	if got, err := p.Wrap(ctx, contextA, k); !errors.Is(s.note(err), context.Canceled) || got != nil {
		t.Errorf("Wrap = %x, %v, want %v", got, err, context.Canceled)
	}
	s.mustUnwrap(t, p, contextA, w, k) // and it can be used again
}

func (s *suite) concurrent(t *testing.T) {
	p := s.open(t)
	n := 16
	if s.Slow {
		n = 4
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c := seal.Context{Purpose: "concurrent", Name: fmt.Sprint(i)}
			for range 3 {
				k := s.key(t)
				w, err := p.Wrap(t.Context(), c, k)
				if err != nil {
					t.Errorf("Wrap = %v", err)
					return
				}
				got, err := p.Unwrap(t.Context(), c, w)
				if err != nil || !got.Equal(k) {
					t.Errorf("Unwrap = %d bytes, %v, want the key", got.Len(), err)
				}
			}
		})
	}
	wg.Wait()
}

func (s *suite) rotates(t *testing.T) {
	p := s.open(t)
	before, err := p.KeyID(t.Context())
	if err != nil || before == "" {
		t.Fatalf("KeyID = %q, %v", before, err)
	}
	k, old := s.wrap(t, p, contextA)
	s.under(t, old, before)
	next, err := p.Rotate(t.Context())
	if s.ReadOnly {
		if s.note(err) == nil {
			t.Error("rotated, and the kind does not")
		}
		s.mustUnwrap(t, p, contextA, old, k)
		return
	}
	if s.note(err) != nil {
		t.Fatalf("Rotate = %v", err)
	}
	s.mustUnwrap(t, p, contextA, old, k) // who has it open goes on
	p = s.openSpec(t, next.String())
	after, err := p.KeyID(t.Context())
	if err != nil || after == before {
		t.Fatalf("KeyID after Rotate = %q, %v, and before %q", after, err, before)
	}
	s.mustUnwrap(t, p, contextA, old, k)
	k2, w2 := s.wrap(t, p, contextA)
	s.under(t, w2, after)
	s.mustUnwrap(t, p, contextA, w2, k2)
	if err := p.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// under checks which key a wrapped key says that it needs.
func (s *suite) under(t *testing.T, w []byte, want string) {
	t.Helper()
	e, err := seal.Parse(w)
	if err != nil || e.KeyID() != want {
		t.Errorf("wrapped under %q, %v, want %q", e.KeyID(), err, want)
	}
}

// patience is how long a provider that fails may take to say so.
const patience = 30 * time.Second

func (s *suite) fault(t *testing.T, f Fault, open func(testing.TB) *keyprovider.Opened) {
	good := s.open(t)
	k, w := s.wrap(t, good, contextA)
	p := open(t)
	defer p.Close()
	if f == Slow {
		// The caller's own patience is shorter, and that is what the error says.
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := p.Unwrap(short, contextA, w); !errors.Is(s.note(err), context.DeadlineExceeded) || errors.Is(err, keyprovider.ErrUnavailable) {
			t.Errorf("Unwrap = %v, want %v alone", err, context.DeadlineExceeded)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := p.Unwrap(ctx, contextA, w)
	if s.note(err); got.Len() != 0 || !isOne(err, f.wants()) {
		t.Errorf("Unwrap = %d bytes, %v, want one of %v", got.Len(), err, f.wants())
	}
	wants := append(f.wants(), keyprovider.ErrGarbage)
	if f == Dropped {
		// OpenBao takes it for the wish to make a key, which is not permitted.
		wants = append(wants, keyprovider.ErrRefused)
	}
	if wrapped, err := p.Wrap(ctx, contextA, k); s.note(err) == nil || wrapped != nil || !isOne(err, wants) {
		t.Errorf("Wrap = %x, %v, want one of %v", wrapped, err, f.wants())
	}
	if !errors.Is(err, keyprovider.ErrUnavailable) && isOne(keyprovider.ErrUnavailable, f.wants()) {
		t.Errorf("%v does not say that asking again helps", err)
	}
}

func (s *suite) closed(t *testing.T) {
	p := s.open(t)
	k, w := s.wrap(t, p, contextA)
	if err := p.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if got, err := p.Unwrap(t.Context(), contextA, w); s.note(err) == nil {
		t.Errorf("Unwrap after Close = %d bytes", got.Len())
	}
	if got, err := p.Wrap(t.Context(), contextA, k); s.note(err) == nil {
		t.Errorf("Wrap after Close = %x", got)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	s.shared = nil
}

func (s *suite) secrets(t *testing.T) {
	hidden := s.Secrets
	for _, k := range s.keys {
		hidden = append(hidden, string(k), hex.EncodeToString(k), base64.StdEncoding.EncodeToString(k))
	}
	if len(s.errors) < 10 {
		t.Errorf("only %d errors were seen", len(s.errors))
	}
	for _, text := range s.errors {
		for _, h := range hidden {
			if strings.Contains(text, h) {
				t.Errorf("the error %q shows a secret", text)
			}
		}
	}
}
