package vmbackup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/wire"
)

// A backup that was cut anywhere makes no machine, and leaves nothing.
func TestACutBackupMakesNoMachine(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	here.create()
	file, k := here.backup()
	text := mustRead(t, file)
	head := len(Magic) + 60
	at := []int{0, 3, len(Magic), len(Magic) + 5, head, 200, 400, len(text) / 4, len(text) / 2, len(text) - 100, len(text) - 17, len(text) - 1}
	cut := filepath.Join(here.dir, "cut")
	for _, n := range at {
		if err := os.WriteFile(cut, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: cut, Keys: k})
		if !errors.Is(err, ErrCut) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrKey) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(text), err)
		}
	}
	if err := os.WriteFile(cut, append(slices.Clone(text), 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: cut, Keys: k}); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a byte more: %v", err)
	}
	there.empty()
}

// empty sees that a site has no machine, no folder of one and no TPM.
func (s *site) empty() {
	s.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "vms"))
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			s.Errorf("folder %q is left", e.Name())
		}
	}
	if names, err := s.tpms.Names(); err != nil || len(names) != 0 {
		s.Errorf("TPMs %v are left, %v", names, err)
	}
}

// One altered bit in each part is found: in the header, in the recipients, and in each
// piece of the body.
func TestAnAlteredBitMakesNoMachine(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	here.create()
	file, k := here.backup()
	text := mustRead(t, file)
	bad := filepath.Join(here.dir, "bad")
	for _, at := range []int{9, 11, 14, 20, 30, 70, 150, 300, len(text) / 8, len(text) / 3, len(text) / 2, len(text) - 60, len(text) - 1} {
		altered := slices.Clone(text)
		altered[at] ^= 4
		if err := os.WriteFile(bad, altered, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: bad, Keys: k}); err == nil {
			t.Errorf("bit of byte %d: no error", at)
			there.delete("web-1")
		}
	}
	there.empty()
}

// Each part is wrong by itself, as whoever knows the recipients could write it.
func TestPartsThatDoNotBelongTogetherAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create()
	file, k := s.backup()
	f, err := OpenFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, _, err := s.store.identities(t.Context(), &f.Card, &k)
	if err != nil {
		t.Fatal(err)
	}
	read := func() *contents {
		_, c, err := f.open(ids)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, alter := range map[string]func(*contents){
		"as it was":               func(*contents) {},
		"another header":          func(c *contents) { c.manifest.Header = "00" },
		"another name":            func(c *contents) { c.definition.Name = "web-2" },
		"no TPM":                  func(c *contents) { c.manifest.TPM, c.tpm = nil, nil },
		"a TPM that is not there": func(c *contents) { c.tpm = nil },
		"a TPM too many": func(c *contents) {
			c.definition.Shielded.VTPM, c.definition.Shielded.IntegrityMonitoring = false, false
		},
		"a disk less":                 func(c *contents) { c.manifest.Disks = nil },
		"a disk in another place":     func(c *contents) { c.manifest.Disks[0].Index = 1 },
		"a disk of its own left out":  func(c *contents) { c.manifest.Disks[0].Left = "it is shared" },
		"a shared disk that is in it": func(c *contents) { c.definition.Disks[0].Shared = true },
		"a disk of a negative size":   func(c *contents) { c.manifest.Disks[0].Size = -1 },
		"a disk of more than is read": func(c *contents) { c.manifest.Disks[0].Size = maxDiskBytes + 1 },
		"a later manifest":            func(c *contents) { c.manifest.Version = 2 },
		"variables that are none":     func(c *contents) { c.variables = []byte("none") },
		"a definition without rules":  func(c *contents) { c.definition.CPUs = 0 },
	} {
		c := read()
		alter(c)
		var body bytes.Buffer
		if err := newFrameWriter(&body).putContents(c); err != nil {
			t.Fatal(err)
		}
		_, err := newFrameReader(&body).contents(f.digest)
		if good := name == "as it was"; good != (err == nil) || !good && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The machine's own disk is said to be left out: it would be any file of the host that
// restores it, and no disk is left out that is not shared.
func TestAForgedBackupGetsNoFileOfTheHost(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	here.create(func(d *fleet.Definition) { d.Disks[0].Shared = true })
	victim := filepath.Join(there.dir, "host-secret")
	if err := os.WriteFile(victim, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	file, keys := here.forge(func(c *contents) {
		c.definition.Disks[0].File, c.definition.Disks[0].Shared = victim, false // the machine's own, and writable
	})
	if _, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: keys, Disks: []string{victim}}); !errors.Is(err, ErrDamaged) {
		t.Errorf("Restore = %v, %v", err, there.names())
	}
}

func TestExtentsThatDoNotFitTheirDiskAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		write func(w *frameWriter) error
		good  bool
	}{
		"in order": {func(w *frameWriter) error {
			return errors.Join(w.extent(0, []byte("a")), w.extent(5, []byte("bc")), w.diskEnd(10))
		}, true},
		"beyond the end": {func(w *frameWriter) error { return errors.Join(w.extent(9, []byte("ab")), w.diskEnd(10)) }, false},
		"far beyond":     {func(w *frameWriter) error { return errors.Join(w.extent(-1, []byte("ab")), w.diskEnd(10)) }, false},
		"overlapping": {func(w *frameWriter) error {
			return errors.Join(w.extent(4, []byte("ab")), w.extent(5, []byte("c")), w.diskEnd(10))
		}, false},
		"empty":           {func(w *frameWriter) error { return errors.Join(w.extent(4, nil), w.diskEnd(10)) }, false},
		"of another size": {func(w *frameWriter) error { return w.diskEnd(11) }, false},
		"without its end": {func(w *frameWriter) error { return w.extent(0, []byte("a")) }, false},
		"another part":    {func(w *frameWriter) error { return w.put(frameEvents, []byte("[]      ")) }, false},
		"a part too large": {func(w *frameWriter) error {
			_, err := w.w.Write([]byte{frameExtent, 0xFF, 0xFF, 0xFF, 0xFF})
			return err
		}, false},
		"no such part": {func(w *frameWriter) error { _, err := w.w.Write([]byte{99, 0, 0, 0, 0}); return err }, false},
	} {
		var body bytes.Buffer
		w := newFrameWriter(&body)
		if err := tc.write(w); err != nil {
			t.Fatal(err)
		}
		if _, err := w.end(); err != nil {
			t.Fatal(err)
		}
		r := newFrameReader(&body)
		r.disk = []diskPart{{Size: 10}}
		_, err := r.disks(t.Context(), nowhere{}, func(int) {})
		if tc.good != (err == nil) || !tc.good && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrCut) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABodyWithAnotherDigestOrMoreAfterItsEndIsRefused(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*bytes.Buffer) error{
		"digest": func(b *bytes.Buffer) error { return newFrameWriter(b).put(frameEnd, make([]byte, 32)) },
		"more": func(b *bytes.Buffer) error {
			_, err := newFrameWriter(b).end()
			b.WriteByte(0)
			return err
		},
	} {
		var body bytes.Buffer
		if err := write(&body); err != nil {
			t.Fatal(err)
		}
		if _, err := newFrameReader(&body).disks(t.Context(), nowhere{}, func(int) {}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testHeader is that of a file by a key provider.
func testHeader(tb testing.TB) []byte {
	tb.Helper()
	b, err := wire.Encode(&header{version: 1, oldest: 1, method: Provider, made: 1, id: []byte("id"), name: []byte("web-1"), provider: []byte("safe")})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestHeadersSayWhatIsWrongWithThem(t *testing.T) {
	t.Parallel()
	good := testHeader(t)
	if _, n, err := parseHeader(good); err != nil || n != len(good) {
		t.Fatalf("parseHeader = %d, %v", n, err)
	}
	for n := range good {
		if _, _, err := parseHeader(good[:n]); !errors.Is(err, ErrCut) && (n > len(Magic) || !errors.Is(err, ErrFormat)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for name, tc := range map[string]struct {
		at   int
		to   byte
		want error
	}{
		"magic":       {0, 'B', ErrFormat},
		"too new":     {11, 2, ErrVersion},
		"version 0":   {9, 0, ErrDamaged},
		"no method":   {12, 4, ErrDamaged},
		"no provider": {12, 1, ErrDamaged},
	} {
		b := slices.Clone(good)
		b[tc.at] = tc.to
		if tc.want == ErrVersion {
			b[9] = 2
		}
		if _, _, err := parseHeader(b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(testHeader(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, n, err := parseHeader(b); err == nil && n > maxHeader {
			t.Errorf("a header of %d bytes", n)
		}
	})
}

func FuzzBody(f *testing.F) {
	var body bytes.Buffer
	w := newFrameWriter(&body)
	if err := errors.Join(w.put(frameManifest, []byte(`{"version": 1, "disks": []}`)), w.extent(0, []byte("a")), w.diskEnd(10)); err != nil {
		f.Fatal(err)
	}
	f.Add(body.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := newFrameReader(bytes.NewReader(b)).contents([32]byte{}); err == nil {
			t.Errorf("contents without a header's digest: %+v", c)
		}
		r := newFrameReader(bytes.NewReader(b))
		r.disk = []diskPart{{Size: 10}}
		r.disks(t.Context(), nowhere{}, func(int) {}) //nolint:errcheck // it must not panic
	})
}

// At every draw of randomness, of which each file that is written has some, the host
// loses its power. What is left is the whole machine or none, and a second restore works.
func TestACrashOfARestoreLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	disk := here.create()
	file, k := here.backup()
	var crashed []string
	there.random = func() {
		dir, err := os.MkdirTemp("", "b")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := copyTree(dir, there.dir); err != nil {
			t.Fatal(err)
		}
		crashed = append(crashed, dir)
	}
	there.mustRestore(RestoreOptions{From: file, Keys: k})
	there.random()
	there.random = nil
	if len(crashed) < 10 {
		t.Fatalf("%d moments", len(crashed))
	}
	for i, dir := range crashed {
		if i%4 != 0 && i < len(crashed)-4 { // each takes its time; the last ones matter most
			continue
		}
		s := openSite(t, dir, there.key)
		whole := len(s.names()) == 1
		if whole != (i == len(crashed)-1) && i < len(crashed)-2 {
			t.Errorf("moment %d of %d: machines %v", i, len(crashed), s.names())
		}
		if !whole {
			if _, err := s.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: k, AllowRollback: true}); err != nil {
				t.Errorf("moment %d: Restore again = %v", i, err)
				continue
			}
		}
		s.whole("web-1")
		sameDisk(t, disk, s.root.DiskPath("web-1", "disk0.raw"))
		if rec, err := s.tpms.Owned(t.Context(), "web-1"); err != nil || rec.VM == nil {
			t.Errorf("moment %d: the TPM is %+v, %v", i, rec, err)
		}
	}
}

// copyTree copies a folder that is being written to.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}

// What is given up half-way leaves neither a file nor a machine.
func TestWhatIsGivenUpLeavesNothing(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	here.create()
	file, k := here.backup()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	give := func(string, int64, int64) { cancel() }
	if _, err := there.store.Restore(ctx, "bob", RestoreOptions{From: file, Keys: k, Progress: give}); !errors.Is(err, context.Canceled) {
		t.Errorf("Restore = %v", err)
	}
	there.empty()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	to := Options{Name: "web-1", To: filepath.Join(here.dir, "given-up"), Protection: Protection{Provider: "safe"}, Progress: give}
	if _, err := here.store.Backup(ctx, "alice", to); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup = %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(here.dir, "*given-up*")); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
