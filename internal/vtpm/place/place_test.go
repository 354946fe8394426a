//go:build unix

package place

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// A bench is a folder for places, with one key and one ledger.
type bench struct {
	t    *testing.T
	cfg  Config
	log  bytes.Buffer
	dir  string
	file string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	p, err := keyprovider.NewLocal(rand.Reader, seal.Key{ID: "k", Secret: seal.NewSecret(make([]byte, seal.KeySize))})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir()}
	b.cfg = Config{
		Provider: p, ProviderName: "test", Random: rand.Reader, Now: time.Now,
		Ledger: OpenLedger(filepath.Join(b.dir, "ledger"), false), Log: slog.New(slog.NewTextHandler(&b.log, nil)),
	}
	t.Cleanup(func() { b.cfg.Ledger.Close() })
	b.file = b.folder("a")
	return b
}

// folder makes a folder and names the file in it.
func (b *bench) folder(name string) string {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	return filepath.Join(dir, "tpm2-00.permall")
}

func (b *bench) home(file string) *Home {
	b.t.Helper()
	cfg := b.cfg
	cfg.File = file
	h, err := New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

// create makes a TPM, which says who it is.
func (b *bench) create(file, says string) state.ID {
	b.t.Helper()
	id, err := state.NewID(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	f, err := b.home(file).Create(context.Background(), id, []byte(says), Record{MadeBy: "test", Profile: "default"})
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// save has a TPM go on.
func (b *bench) save(file, says string) {
	b.t.Helper()
	o, err := b.home(file).Open(context.Background())
	if err == nil {
		err = o.drop(o.File.SavePermanent([]byte(says)))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// says opens the state of a place.
func (b *bench) says(file string) (string, error) {
	b.t.Helper()
	o, err := b.home(file).Open(context.Background())
	if err != nil {
		return "", err
	}
	text := string(o.Content.Permanent)
	return text, o.drop(nil)
}

func (b *bench) wantSays(file, want string) {
	b.t.Helper()
	if got, err := b.says(file); got != want || err != nil {
		b.t.Errorf("%s says %q, %v, want %q", file, got, err, want)
	}
}

func (b *bench) read(file string) []byte {
	b.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// put puts another file in the place of one.
func (b *bench) put(file string, text []byte) {
	b.t.Helper()
	os.Remove(file)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func TestAPlaceIsNamedByItsMachineOrItsPath(t *testing.T) {
	const machine = "A1B2C3D4-0000-4000-8000-00000000000f"
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"plain", "swtpm/" + machine + "/tpm2", machine + "/in/" + strings.ToLower(machine[:35]) + "e", "x-" + machine} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "plain"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"plain/f":                      dir + "/plain/f",
		"link/f":                       dir + "/plain/f",
		"plain/../plain/f":             dir + "/plain/f",
		"swtpm/" + machine + "/tpm2/f": strings.ToLower(machine) + "/tpm2/f",
		machine + "/in/" + strings.ToLower(machine[:35]) + "e/f": strings.ToLower(machine[:35]) + "e/f",
		"x-" + machine + "/f":  dir + "/x-" + machine + "/f",
		machine + "/in/absent": strings.ToLower(machine) + "/in/absent",
	} {
		if got, err := Name(filepath.Join(dir, in)); got != want || err != nil {
			t.Errorf("Name(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	if got, err := Name(filepath.Join(dir, "nowhere/f")); err == nil {
		t.Errorf("a folder that is not there: %q", got)
	}
}

// What is put in the place of a state is named, by its own kind, with the command
// that accepts it, and stays as it is. Without a ledger it is seen as far as the state
// itself tells, and the log says that there is none.
func TestWhatIsPutInThePlaceOfAStateIsNamed(t *testing.T) {
	const machineA, machineB = "m/00000000-0000-4000-8000-00000000000a/tpm2", "m/00000000-0000-4000-8000-00000000000b/tpm2"
	for name, tc := range map[string]struct {
		do      func(b *bench)
		want    error
		without error // with --ledger none
	}{
		"nothing": {func(*bench) {}, nil, nil},
		"an older copy": {func(b *bench) {
			old := b.read(b.file)
			b.save(b.file, "newer")
			b.put(b.file, old)
		}, state.RolledBack, nil},
		"another TPM's file": {func(b *bench) {
			other := b.folder("b")
			b.create(other, "other")
			b.put(b.file, b.read(other))
		}, state.Foreign, ErrElsewhere},
		"another machine's file": {func(b *bench) {
			b.file = b.folder(machineA)
			other := b.folder(machineB)
			b.create(b.file, "a")
			b.create(other, "other")
			b.put(b.file, b.read(other))
		}, state.Foreign, ErrElsewhere},
		"the TPM that was here before": {func(b *bench) {
			before := b.read(b.file)
			os.Remove(b.file)
			b.create(b.file, "new")
			b.put(b.file, before)
		}, state.Foreign, nil},
		"a copy of the folder": {func(b *bench) {
			copied := b.folder("copy")
			b.put(copied, b.read(b.file))
			b.file = copied
		}, ErrElsewhere, ErrElsewhere},
		"a moved folder": {func(b *bench) {
			moved := filepath.Join(b.dir, "moved")
			if err := os.Rename(filepath.Dir(b.file), moved); err != nil {
				b.t.Fatal(err)
			}
			b.file = filepath.Join(moved, filepath.Base(b.file))
		}, ErrElsewhere, ErrElsewhere},
		"the folder of all machines was moved": {func(b *bench) {
			b.file = b.folder(machineA)
			b.create(b.file, "a")
			if err := os.Rename(filepath.Join(b.dir, "m"), filepath.Join(b.dir, "n")); err != nil {
				b.t.Fatal(err)
			}
			b.file = filepath.Join(b.dir, "n"+machineA[1:], filepath.Base(b.file))
		}, nil, nil},
		"the ledger is gone": {func(b *bench) {
			if err := os.RemoveAll(filepath.Join(b.dir, "ledger")); err != nil {
				b.t.Fatal(err)
			}
		}, state.Unanchored, nil},
		"the ledger is torn": {func(b *bench) {
			b.everyEntry(func(text []byte) []byte { return text[:len(text)/2-1] })
		}, state.ErrLedgerEntry, nil},
		"the ledger is garbage": {func(b *bench) {
			b.everyEntry(func(text []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(text)) })
		}, state.ErrLedgerEntry, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(b.file, "a")
			tc.do(b)
			b.reopen(false)
			before := b.read(b.file)
			_, err := b.says(b.file)
			if !errors.Is(err, tc.want) {
				t.Errorf("Open = %v, want %v", err, tc.want)
			}
			if err != nil && !strings.Contains(err.Error(), "assay vtpm ledger accept \""+b.file+"\"") {
				t.Errorf("Open = %v, and no way to go on", err)
			}
			if err != nil && !bytes.Equal(before, b.read(b.file)) {
				t.Error("the file was changed")
			}
			b.cfg.Ledger = OpenLedger(NoLedger, false)
			b.log.Reset()
			if _, err := b.says(b.file); !errors.Is(err, tc.without) {
				t.Errorf("without a ledger: %v, want %v", err, tc.without)
			} else if err == nil && !strings.Contains(b.log.String(), "level=WARN msg=\"the TPM is unproved") {
				t.Errorf("without a ledger the log says %q", &b.log)
			}
		})
	}
}

// reopen is another process's view of the ledger.
func (b *bench) reopen(required bool) {
	b.cfg.Ledger.Close()
	b.cfg.Ledger = OpenLedger(filepath.Join(b.dir, "ledger"), required)
}

// everyEntry alters all files of the ledger.
func (b *bench) everyEntry(alter func([]byte) []byte) {
	b.t.Helper()
	for _, pattern := range []string{"ledger/*-*", "ledger/places/*"} {
		names, err := filepath.Glob(filepath.Join(b.dir, pattern))
		if err != nil || len(names) == 0 {
			b.t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, n := range names {
			b.put(n, alter(b.read(n)))
		}
	}
}

// Where a ledger cannot be used, a TPM that was never under one goes on and is said to
// be unproved; one that was is not served; and nothing is where one is required.
func TestALedgerThatCannotBeUsedIsNeverPassedOver(t *testing.T) {
	unusable := map[string]func(b *bench) string{
		"a file in its place": func(b *bench) string {
			b.put(filepath.Join(b.dir, "x"), nil)
			return filepath.Join(b.dir, "x", "ledger")
		},
		"read-only": func(b *bench) string { return readOnly(b.t) },
		"declined":  func(*bench) string { return NoLedger },
	}
	for name, dir := range unusable {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			with, without := b.file, b.folder("b")
			b.create(with, "with")
			at := dir(b)
			b.cfg.Ledger = OpenLedger(at, false)
			b.create(without, "without")
			if !strings.Contains(b.log.String(), "level=WARN msg=\"the TPM is unproved") {
				t.Errorf("a new TPM: the log says %q", &b.log)
			}
			b.log.Reset()
			b.wantSays(without, "without")
			if !strings.Contains(b.log.String(), "level=WARN msg=\"the TPM is unproved") {
				t.Errorf("the log says %q", &b.log)
			}
			want := ErrLedger
			if at == NoLedger { // the operator has said so
				want = nil
			}
			if _, err := b.says(with); !errors.Is(err, want) {
				t.Errorf("one that had a ledger: %v, want %v", err, want)
			}
			b.cfg.Ledger = OpenLedger(at, true)
			for _, file := range []string{with, without} {
				if _, err := b.says(file); !errors.Is(err, ErrLedger) {
					t.Errorf("a ledger is required: %v, want %v", err, ErrLedger)
				}
				if o, err := b.home(file).OpenArriving(t.Context()); !errors.Is(err, ErrLedger) {
					t.Errorf("a ledger is required: %v, %v, want %v", o, err, ErrLedger)
				}
			}
			if _, err := b.home(b.folder("c")).Create(t.Context(), state.ID{1}, []byte("c"), Record{}); !errors.Is(err, ErrLedger) {
				t.Errorf("a ledger is required for a new TPM: %v, want %v", err, ErrLedger)
			}
		})
	}
}

// readOnly is a folder that this process cannot write to.
func readOnly(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	mountReadOnly(t, dir)
	return dir
}

// A TPM that was made without a ledger, or by an earlier program, is taken into it,
// which is said once.
func TestATPMIsTakenIntoTheLedger(t *testing.T) {
	b := newBench(t)
	ledger := b.cfg.Ledger
	b.cfg.Ledger = nil
	id := b.create(b.file, "a")
	b.cfg.Ledger = ledger
	if _, known, err := b.home(b.file).Known(); known || err != nil {
		t.Errorf("a place that the ledger was not told of: %v, %v", known, err)
	}
	for _, want := range []bool{true, false} {
		b.log.Reset()
		b.wantSays(b.file, "a")
		if got := strings.Contains(b.log.String(), "no ledger knew it"); got != want {
			t.Errorf("the log says %q", &b.log)
		}
		if got, known, err := b.home(b.file).Known(); got != id || !known || err != nil {
			t.Errorf("the ledger knows %s, %v, %v, want %s", got, known, err, id)
		}
	}
	old := b.read(b.file)
	b.save(b.file, "newer")
	b.put(b.file, old)
	if _, err := b.says(b.file); !errors.Is(err, state.RolledBack) {
		t.Errorf("%v, want %v", err, state.RolledBack)
	}
}

// Records of version 1, and states without one, are given their place at the next
// start.
func TestAStateWithoutAPlaceIsGivenOne(t *testing.T) {
	for name, meta := range map[string]string{"version 1": `{"version":1,"madeBy":"x","profile":"fips"}`, "no record": ""} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			h := b.home(b.file)
			f, err := state.Create(t.Context(), b.file, state.ID{1}, state.Content{Permanent: []byte("old"), Meta: []byte(meta)}, h.config())
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			b.wantSays(b.file, "old")
			moved := b.folder("moved")
			b.put(moved, b.read(b.file))
			if _, err := b.says(moved); !errors.Is(err, ErrElsewhere) {
				t.Errorf("%v, want %v", err, ErrElsewhere)
			}
			o, err := h.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]string{"version 1": "fips", "no record": ""}[name]; o.Record.Profile != want || o.Record.Place != h.Name() {
				t.Errorf("record %+v", o.Record)
			}
			if err := o.drop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARecordThatIsNotOursIsRefused(t *testing.T) {
	for _, text := range []string{"x", `{"version":3}`, `{"version":0}`, `{"version":2,"place":"/x","more":1}`, `{"version":2,"version":1}`, `[]`} {
		if r, err := parseRecord([]byte(text)); err == nil {
			t.Errorf("parseRecord(%s) = %+v", text, r)
		}
	}
}

// A place whose TPM the ledger knows, and whose file is gone, is not vacant unseen.
func TestAPlaceThatLostItsFileIsNotVacantUnseen(t *testing.T) {
	b := newBench(t)
	if err := b.home(b.file).Vacant(); err != nil || b.log.Len() > 0 {
		t.Errorf("a new place: %v, %s", err, &b.log)
	}
	id := b.create(b.file, "a")
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
	if err := b.home(b.file).Vacant(); err != nil || !strings.Contains(b.log.String(), id.String()) {
		t.Errorf("%v, the log says %q", err, &b.log)
	}
	b.reopen(true)
	if err := b.home(b.file).Vacant(); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
}

// State that comes by a migration takes the place over, whatever lies there.
func TestStateThatArrivesTakesThePlaceOver(t *testing.T) {
	for name, do := range map[string]func(b *bench){
		"as it was": func(*bench) {},
		"older": func(b *bench) {
			old := b.read(b.file)
			b.save(b.file, "newer")
			b.put(b.file, old)
		},
		"another's": func(b *bench) {
			other := b.folder("b")
			b.create(other, "other")
			b.put(b.file, b.read(other))
		},
		"on storage that another host wrote to": func(b *bench) {
			b.cfg.Ledger.Close()
			b.cfg.Ledger = OpenLedger(filepath.Join(b.dir, "ledger of another host"), false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(b.file, "a")
			do(b)
			h := b.home(b.file)
			o, err := h.OpenArriving(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			meta, err := h.Record(Record{MadeBy: "elsewhere"})
			if err == nil {
				err = o.File.Save(t.Context(), state.Content{Permanent: []byte("came"), Meta: meta})
			}
			if err == nil {
				err = h.Arrived(o.File.ID())
			}
			if err = o.drop(err); err != nil {
				t.Fatal(err)
			}
			b.wantSays(b.file, "came")
		})
	}
}
