package vmbackup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/varstore"
)

// A site has machines, TPMs and one key provider, called "main"; all know "safe", which
// two sites share.
type site struct {
	testing.TB
	dir    string
	key    seal.Key
	tpms   *vtpm.Root
	root   *machine.Root
	store  *Store
	random func() // called at each draw of randomness; nil for nothing
}

type localProvider struct{ *keyprovider.Local }

var safeKey = sync.OnceValue(mustKey)

func mustKey() seal.Key {
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// Read is a draw of randomness.
func (s *site) Read(b []byte) (int, error) {
	if s.random != nil {
		s.random()
	}
	return rand.Read(b)
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "b") // a socket's path has 107 bytes, and names of tests are long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return openSite(t, dir, mustKey())
}

func openSite(t testing.TB, dir string, key seal.Key) *site {
	t.Helper()
	s := &site{TB: t, dir: dir, key: key}
	provider := func(_ context.Context, spec string) (vtpm.Provider, error) {
		key, ok := map[string]seal.Key{"main": s.key, "safe": safeKey()}[spec]
		if !ok {
			return nil, fmt.Errorf("%w: %q", keyprovider.ErrNoProvider, spec)
		}
		l, err := keyprovider.NewLocal(rand.Reader, seal.Key{ID: key.ID, Secret: key.Secret.Clone()})
		return localProvider{l}, err
	}
	var err error
	if s.tpms, err = vtpm.OpenRoot(t.Context(), vtpm.Config{Dir: filepath.Join(dir, "tpms"), Provider: provider, Random: s, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.tpms.Close() })
	matrix, err := fleet.DefaultMatrix()
	if err != nil {
		t.Fatal(err)
	}
	template, err := varstore.New(varstore.OVMF4M).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	variables := filepath.Join(dir, "vars.fd")
	if err := os.WriteFile(variables, template, 0o600); err != nil {
		t.Fatal(err)
	}
	set, _, err := keyset.New("setup", keyset.Options{Kind: keyset.SetupMode, Now: time.Now(), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	s.root, err = machine.OpenRoot(machine.Config{
		Dir: filepath.Join(dir, "vms"), TPMs: s.tpms, Provider: provider, DefaultProvider: func() string { return "main" },
		Keyset: func(string) (*keyset.Set, error) { return set, nil }, Matrix: matrix,
		Firmware: machine.Firmware{Code: "/code.fd", SecureCode: "/secure.fd", Variables: variables}, Accelerator: qemu.TCG, Random: s, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.store, err = New(Config{Machines: s.root, Provider: provider, Random: s, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	s.store.work = 10
	return s
}

// diskSize is that of a test's disk, which has two pieces of data and holes.
const diskSize = 3<<20 + 517

// create makes web-1 with a raw disk, which create returns.
func (s *site) create(change ...func(*fleet.Definition)) string {
	s.Helper()
	file := filepath.Join(s.dir, "web-1.raw")
	f, err := os.Create(file)
	if err != nil {
		s.Fatal(err)
	}
	for _, err := range []error{f.Truncate(diskSize), writeAt(f, "the boot loader", 70_000), writeAt(f, "the end", diskSize-7), f.Close()} {
		if err != nil {
			s.Fatal(err)
		}
	}
	d, err := fleet.ParseDefinition(fmt.Appendf(nil, `{"name": "web-1", "shieldedInstanceConfig": {"enableVtpm": true, "enableIntegrityMonitoring": true},
		"keyset": "setup", "guestOS": "linux", "cpus": 1, "memoryMiB": 512, "networks": [{"kind": "user", "mac": "52:54:00:00:00:07"}],
		"disks": [{"file": %q, "format": "raw", "boot": true}]}`, file))
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range change {
		c(d)
	}
	if _, err := s.root.Create(s.Context(), "alice", machine.CreateOptions{Definition: d}); err != nil {
		s.Fatal(err)
	}
	return file
}

func writeAt(f *os.File, text string, at int64) error {
	_, err := f.WriteAt([]byte(text), at)
	return err
}

// use has the TPM of a machine told of another generation.
func (s *site) use(name string) {
	s.Helper()
	i, err := s.tpms.Prepare(s.Context(), name, "alice")
	if err != nil {
		s.Fatal(err)
	}
	if err := i.Machine().Init(false); err != nil {
		s.Fatal(err)
	}
	i.Machine().Execute(nil, 0, []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0}) // TPM2_Startup(CLEAR)
	if err := errors.Join(i.Machine().Shutdown(), i.Close()); err != nil {
		s.Fatal(err)
	}
}

// backup writes web-1 for recipients of one identity, which it returns with the file.
func (s *site) backup() (file string, k Keys) {
	s.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		s.Fatal(err)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		s.Fatal(err)
	}
	file = filepath.Join(s.dir, fmt.Sprintf("backup-%d", n))
	if _, err := s.store.Backup(s.Context(), "alice", Options{Name: "web-1", To: file, Protection: Protection{Recipients: []string{identity.Recipient().String()}}}); err != nil {
		s.Fatal(err)
	}
	return file, Keys{Identities: [][]byte{[]byte(identity.String())}}
}

// forge is backup by somebody who alters what the file will have.
func (s *site) forge(alter func(*contents)) (file string, k Keys) {
	s.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		s.Fatal(err)
	}
	o := Options{Name: "web-1", WithoutShared: true, Protection: Protection{Recipients: []string{identity.Recipient().String()}}}
	l, _, err := s.store.newLock(s.Context(), &o.Protection, Recipients, "")
	if err != nil {
		s.Fatal(err)
	}
	d, err := s.root.Depart(s.Context(), "web-1")
	if err != nil {
		s.Fatal(err)
	}
	defer d.Close()
	w := &writing{store: s.store, o: &o, actor: "mallory", method: Recipients, lock: l, machine: d, made: time.Now().UTC().Truncate(time.Microsecond)}
	defer w.close()
	if err := w.gather(s.Context()); err != nil {
		s.Fatal(err)
	}
	alter(&w.contents)
	file = filepath.Join(s.dir, "forged")
	f, err := os.Create(file)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := w.write(s.Context(), f); err != nil {
		s.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.Fatal(err)
	}
	return file, Keys{Identities: [][]byte{[]byte(identity.String())}}
}

func (s *site) mustRestore(o RestoreOptions) *Restored {
	s.Helper()
	out, err := s.store.Restore(s.Context(), "bob", o)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// whole reads all of a machine.
func (s *site) whole(name string) *machine.Departure {
	s.Helper()
	d, err := s.root.Depart(s.Context(), name)
	if err != nil {
		s.Fatal(err)
	}
	if err := d.Close(); err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *site) delete(name string) {
	s.Helper()
	if err := s.root.Delete(s.Context(), "alice", name); err != nil {
		s.Fatal(err)
	}
}

func (s *site) names() []string {
	s.Helper()
	names, err := s.root.Names()
	if err != nil {
		s.Fatal(err)
	}
	return names
}

func mustRead(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameDisk compares two disks.
func sameDisk(t testing.TB, a, b string) {
	t.Helper()
	if !bytes.Equal(mustRead(t, a), mustRead(t, b)) {
		t.Errorf("the disk %q is not what %q was", b, a)
	}
}

// last is the newest event of a machine.
func last(d *machine.Departure) *integrity.Notice {
	if len(d.Events) == 0 {
		return &integrity.Notice{}
	}
	return &d.Events[len(d.Events)-1]
}

func codes(n *integrity.Notice) (out []string) {
	for _, r := range n.Reasons {
		out = append(out, string(r.Code))
	}
	return out
}
