package instances

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/varstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fixture is the routes over a real folder of machines, none of which runs.
type fixture struct {
	testing.TB
	dir     string // of the host
	disks   string
	handler http.Handler
	api     *API
	backups *vmbackup.Store
	root    *machine.Root
	tpms    *vtpm.Root
	find    *finding.Store
	// provider knows the key provider main alone.
	provider func(ctx context.Context, spec string) (vtpm.Provider, error)

	mu         sync.Mutex // guards all below
	principals map[string]access.Principal
	trail      []audit.Entry
	told       []string      // what the host was told
	hold       chan struct{} // when set, a start waits for it, and has said so by entered
	entered    chan struct{}
	auditFault error
	startFault error  // why no machine starts, which may not be told
	relabel    func() // called when the next operation is said to begin
}

// patience is that of a request, however busy the machine is that tests.
const patience = 10 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type testProvider struct{ *keyprovider.Local }

func newFixture(t testing.TB) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "i") // a socket's path has 107 bytes, and names of tests are long
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fixture{TB: t, dir: dir, disks: filepath.Join(dir, "disks"), principals: map[string]access.Principal{}}
	must(t, os.MkdirAll(filepath.Join(f.disks, "web-1"), 0o700))
	key, err := keyprovider.NewKey(rand.Reader)
	must(t, err)
	f.provider = func(_ context.Context, spec string) (vtpm.Provider, error) {
		if spec != "main" {
			return nil, keyprovider.ErrNoProvider
		}
		l, err := keyprovider.NewLocal(rand.Reader, seal.Key{ID: key.ID, Secret: key.Secret.Clone()})
		return testProvider{l}, err
	}
	tpms, err := vtpm.OpenRoot(t.Context(), vtpm.Config{Dir: filepath.Join(dir, "tpms"), Provider: f.provider, Random: rand.Reader, Now: time.Now})
	must(t, err)
	f.tpms = tpms
	matrix, err := fleet.DefaultMatrix()
	must(t, err)
	template, err := varstore.New(varstore.OVMF4M).Bytes()
	must(t, err)
	variables := filepath.Join(dir, "vars.fd")
	must(t, os.WriteFile(variables, template, 0o600))
	f.root, err = machine.OpenRoot(machine.Config{
		Dir: filepath.Join(dir, "vms"), TPMs: tpms, Provider: f.provider, DefaultProvider: func() string { return "main" },
		Keyset: keysOf, Matrix: matrix,
		Firmware: machine.Firmware{Code: "/code.fd", SecureCode: "/secure.fd", Variables: variables}, Accelerator: qemu.TCG,
		Random: rand.Reader, Now: time.Now,
	})
	must(t, err)
	f.backups, err = vmbackup.New(vmbackup.Config{Machines: f.root, Provider: f.provider, Random: rand.Reader, Now: time.Now})
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "backups"), 0o700))
	f.find = &finding.Store{Dir: filepath.Join(dir, finding.Folder), Random: rand.Reader}
	f.open()
	t.Cleanup(func() {
		must(t, f.api.Close())
		must(t, tpms.Close())
	})
	return f
}

// open makes the API, as at the start of its service.
func (f *fixture) open() {
	f.Helper()
	var err error
	f.api, err = New(f.Context(), Config{
		Machines: f.root, Findings: f.find, Images: gallery.Open(filepath.Join(f.dir, "images"), time.Now), Host: f, Audit: f, Dir: filepath.Join(f.dir, "operations"), Disks: []string{f.disks}, Now: time.Now, Rand: rand.Reader,
		Patience: patience, Backups: f.backups, BackupDir: filepath.Join(f.dir, "backups"),
	})
	must(f, err)
	f.handler, err = apiserver.New(f.Context(), apiserver.Config{Principals: f, Audit: f, Now: time.Now, Rand: rand.Reader, Limits: apiserver.Limits{Answer: patience}}, f.api)
	must(f, err)
}

// keysOf gives every machine the same keys: they take long to make.
func keysOf(name string) (*keyset.Set, error) {
	if name != fleet.DefaultKeyset {
		return nil, keysets.ErrNone
	}
	return ownKeys()
}

var ownKeys = sync.OnceValues(func() (*keyset.Set, error) {
	set, _, err := keyset.New("own", keyset.Options{Kind: keyset.Own, Now: time.Now(), Random: rand.Reader})
	return set, err
})

// Start is that of a host whose machines called bad do not start.
func (f *fixture) Start(ctx context.Context, actor, name string) error {
	f.tell("start " + name + " by " + actor)
	f.mu.Lock()
	hold, entered, fault := f.hold, f.entered, f.startFault
	f.mu.Unlock()
	if fault != nil {
		return &StartError{Cause: fault}
	}
	if hold != nil {
		close(entered)
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch {
	case strings.HasPrefix(name, "bad"):
		return &StartError{Words: "QEMU says no"}
	case strings.HasPrefix(name, "panic"):
		panic("a bug in /secret/path")
	}
	return nil
}

// Create is that of a host without images.
func (f *fixture) Create(ctx context.Context, actor, provider string, d *fleet.Definition) error {
	_, err := f.root.Create(ctx, actor, machine.CreateOptions{Definition: d, Provider: provider})
	return err
}

// Boots is that of a host on which images called bad do not boot.
func (f *fixture) Boots(_ context.Context, file, _, keyset string) (boots, why string, err error) {
	switch {
	case keyset != fleet.DefaultKeyset:
		return "", "", keysets.ErrNone
	case strings.Contains(file, "bad"):
		return "no", "it is not signed", nil
	}
	return "yes", "", nil
}

func (f *fixture) Changed(_ context.Context, name string) { f.tell("changed " + name) }
func (f *fixture) Deleted(_ context.Context, name string) { f.tell("deleted " + name) }

func (f *fixture) tell(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, what)
}

func (f *fixture) RecordAudit(_ context.Context, e audit.Entry) error {
	f.mu.Lock()
	f.trail = append(f.trail, e)
	relabel, fault := f.relabel, f.auditFault
	if e.Outcome == "begun" {
		f.relabel = nil
	}
	f.mu.Unlock()
	if e.Outcome == "begun" && relabel != nil {
		relabel()
	}
	return fault
}

// actions are the audit entries of a principal.
func (f *fixture) actions(who string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []string{}
	for _, e := range f.trail {
		if e.Actor == who {
			out = append(out, e.Action+" "+e.Subject+" "+e.Outcome)
		}
	}
	return out
}

func (f *fixture) Principals(context.Context) ([]access.Principal, error) { return nil, nil }

func (f *fixture) PrincipalByToken(_ context.Context, d access.Digest) (access.Principal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.principals {
		if p.TokenHash == d {
			return p, nil
		}
	}
	return access.Principal{}, access.ErrNotFound
}

func (f *fixture) PrincipalByCertificate(context.Context, access.Digest) (access.Principal, error) {
	return access.Principal{}, access.ErrNotFound
}

// principal adds one and returns its API token.
func (f *fixture) principal(p access.Principal) string {
	f.Helper()
	token, hash, _, err := access.NewToken(rand.Reader)
	must(f, err)
	p.TokenHash = hash
	f.mu.Lock()
	defer f.mu.Unlock()
	f.principals[p.Name] = p
	return token
}

// admin is a principal who may do everything.
func (f *fixture) admin() string {
	return f.principal(access.Principal{Name: "admin", Roles: []access.Role{access.Admin}})
}

type answer struct {
	testing.TB
	status int
	body   []byte
	header http.Header
}

// do sends a request.
func (f *fixture) do(token, method, path, body string) answer {
	f.Helper()
	return f.doWith(nil, token, method, path, body)
}

// doWith sends a request with header fields of its own.
func (f *fixture) doWith(header map[string]string, token, method, path, body string) answer {
	f.Helper()
	req := httptest.NewRequestWithContext(f.Context(), method, path, strings.NewReader(body))
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	got := httptest.NewRecorder()
	f.handler.ServeHTTP(got, req)
	text, err := io.ReadAll(got.Body)
	must(f, err)
	return answer{f, got.Code, text, got.Header()}
}

func (a answer) want(what string, status int, words ...string) answer {
	a.Helper()
	missing := slices.ContainsFunc(words, func(w string) bool { return !bytes.Contains(a.body, []byte(w)) })
	if a.status != status || missing {
		a.Errorf("%s: %d %s, want %d with %q", what, a.status, a.body, status, words)
	}
	return a
}

func (a answer) into(v any) {
	a.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

// plain is the definition of a machine without TPM, which is quickly made.
func plain(name string) string {
	return `{"profile":"off","instance":{"name":"` + name + `"}}`
}

// disk makes a file that is a disk and returns its name.
func (f *fixture) disk(name string) string {
	f.Helper()
	file := filepath.Join(f.dir, name)
	must(f, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	return file
}
