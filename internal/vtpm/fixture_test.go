package vtpm

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// providers are key providers in memory, by name, which a test takes away.
type providers struct {
	mu   sync.Mutex
	keys map[string][]seal.Key
	down map[string]error
	// held are the newest keys of the providers that were opened, one for each time.
	held []seal.Secret
	// thinks is called before a key is wrapped; nil for a provider that answers at once.
	thinks func()
}

func newProviders(names ...string) *providers {
	p := &providers{keys: map[string][]seal.Key{}, down: map[string]error{}}
	for _, n := range names {
		p.rotate(n)
	}
	return p
}

// rotate puts a new key before those that a provider has.
func (p *providers) rotate(name string) {
	k, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[name] = append([]seal.Key{k}, p.keys[name]...)
}

// fail has a provider answer with an error; nil ends that.
func (p *providers) fail(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down[name] = err
}

// drop leaves a provider its newest n keys.
func (p *providers) drop(name string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[name] = p.keys[name][:n]
}

func (p *providers) open(_ context.Context, spec string) (Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys, ok := p.keys[spec]
	if !ok {
		return nil, fmt.Errorf("%w: %q", keyprovider.ErrNoProvider, spec)
	}
	var own []seal.Key
	for _, k := range keys { // Close destroys the keys
		own = append(own, seal.Key{ID: k.ID, Secret: k.Secret.Clone()})
	}
	l, err := keyprovider.NewLocal(rand.Reader, own...)
	p.held = append(p.held, own[0].Secret)
	return &testProvider{l, p, spec}, err
}

// inMemory counts the providers that were opened, and those whose keys are still held.
func (p *providers) inMemory() (opened, held int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.held {
		if s.Len() > 0 {
			held++
		}
	}
	return len(p.held), held
}

type testProvider struct {
	*keyprovider.Local
	of   *providers
	name string
}

func (t *testProvider) err() error {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	return t.of.down[t.name]
}

func (t *testProvider) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	if err := t.err(); err != nil {
		return nil, err
	}
	if t.of.thinks != nil {
		t.of.thinks()
	}
	return t.Local.Wrap(ctx, c, key)
}

func (t *testProvider) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	if err := t.err(); err != nil {
		return seal.Secret{}, err
	}
	return t.Local.Unwrap(ctx, c, wrapped)
}

// fixture is a root for a test.
type fixture struct {
	*Root
	t   testing.TB
	cfg Config
	p   *providers

	mu     sync.Mutex
	events []Event
}

const tester = "uid 4711"

func newFixture(t testing.TB) *fixture {
	f := &fixture{t: t, p: newProviders("main", "other")}
	f.cfg = Config{
		Dir: filepath.Join(shortDir(t), "root"), Provider: f.p.open, Random: rand.Reader, Now: time.Now,
		DefaultProvider: func() string { return "main" },
		Event: func(e Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, e)
		},
	}
	f.reopen()
	t.Cleanup(func() {
		if f.Root != nil {
			f.Close()
		}
	})
	return f
}

// shortDir is a folder whose name leaves room for a socket's.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// reopen is another process's view of the folder.
func (f *fixture) reopen() {
	f.t.Helper()
	if f.Root != nil {
		if err := f.Close(); err != nil {
			f.t.Error(err)
		}
	}
	r, err := OpenRoot(context.Background(), f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Root = r
}

// create makes TPMs.
func (f *fixture) create(names ...string) {
	f.t.Helper()
	for _, name := range names {
		if _, err := f.Create(context.Background(), tester, CreateOptions{Name: name}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// last is the last event of a TPM.
func (f *fixture) last(name string) Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.events) - 1; i >= 0; i-- {
		if f.events[i].TPM == name {
			return f.events[i]
		}
	}
	return Event{}
}

// inProcess speaks to the machine of an instance.
type inProcess struct{ i *Instance }

func (p inProcess) Send(request []byte) ([]byte, error) {
	return p.i.Machine().Execute(nil, 0, request), nil
}

// started opens a TPM and starts it.
func (f *fixture) started(name string) (*Instance, *client.TPM) {
	f.t.Helper()
	i, err := f.Open(context.Background(), name, tester)
	if err != nil {
		f.t.Fatal(err)
	}
	i.Machine().PowerOn()
	c := client.New(inProcess{i}, rand.Reader)
	if err := c.Startup(tpm2.StartupClear); err != nil {
		f.t.Fatal(err)
	}
	return i, c
}

// anIndex is where tests keep a number.
const anIndex = tpm2.Handle(0x01800001)

// remember keeps a text in an NV index of the owner's.
func remember(t testing.TB, c *client.TPM, text string) {
	t.Helper()
	_, err := c.Run(&client.Command{
		Code: tpm2.CCNVDefineSpace, Handles: []client.Entity{{Handle: tpm2.HandleOwner}},
		In: &command.NVDefineSpaceIn{PublicInfo: tpm2.NVPublic{
			NVIndex: anIndex, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.NVOwnerWrite | tpm2.NVOwnerRead, DataSize: uint16(len(text)),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Run(&client.Command{
		Code: tpm2.CCNVWrite, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: anIndex}},
		In: &command.NVWriteIn{Data: []byte(text)},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// recall reads that text; the error is the TPM's.
func recall(c *client.TPM, n int) (string, error) {
	var out command.NVReadOut
	_, err := c.Run(&client.Command{
		Code: tpm2.CCNVRead, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: anIndex}},
		In: &command.NVReadIn{Size: uint16(n)}, Out: &out,
	})
	return string(out.Data), err
}

func newClient(i *Instance) *client.TPM { return client.New(inProcess{i}, rand.Reader) }

// extend is TPM2_PCR_Extend of one register.
func extend(n uint32) *client.Command {
	return &client.Command{
		Code: tpm2.CCPCRExtend, Handles: []client.Entity{{Handle: tpm2.Handle(n)}},
		In: &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}},
	}
}

// pcr reads a register of the SHA-256 bank.
func pcr(t testing.TB, c *client.TPM, n int) string {
	t.Helper()
	sel := tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(n)}}
	var out command.PCRReadOut
	if _, err := c.Run(&client.Command{Code: tpm2.CCPCRRead, In: &command.PCRReadIn{PCRSelectionIn: sel}, Out: &out}); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", out.PCRValues[0])
}
