package vtpm

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// blobs is what a hypervisor takes from a TPM.
func blobs(t *testing.T, i *Instance) (permanent, volatile []byte) {
	t.Helper()
	permanent, _, err := i.Machine().StateBlob(frontend.BlobPermanent, 0)
	if err != nil {
		t.Fatal(err)
	}
	volatile, _, err = i.Machine().StateBlob(frontend.BlobVolatile, 0)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(permanent), bytes.Clone(volatile)
}

// arrive gives both to another.
func arrive(i *Instance, permanent, volatile []byte) error {
	m := i.Machine()
	return errors.Join(m.SetStateBlob(frontend.BlobPermanent, permanent), m.SetStateBlob(frontend.BlobVolatile, volatile), m.Init(true))
}

// other is a root on another host with the same key provider.
func (f *fixture) other() *fixture {
	g := newFixture(f.t)
	g.cfg.Provider = f.p.open
	g.reopen()
	return g
}

func TestATPMMigratesWithItsRecord(t *testing.T) {
	f := newFixture(t)
	g := f.other()
	ctx := context.Background()
	f.create("web")
	if err := f.Attach(ctx, tester, "web", *good()); err != nil {
		t.Fatal(err)
	}
	src, c := f.started("web")
	remember(t, c, "goes along")
	if _, err := c.Run(extend(16)); err != nil {
		t.Fatal(err)
	}
	want := pcr(t, c, 16)
	if _, err := g.Create(ctx, tester, CreateOptions{Name: "web-here", ID: src.id}); err != nil {
		t.Fatal(err)
	}
	dst, err := g.Prepare(ctx, "web-here", tester)
	if err != nil {
		t.Fatal(err)
	}
	permanent, volatile := blobs(t, src)
	if bytes.Contains(permanent, []byte("goes along")) || bytes.Contains(permanent, []byte("web-1")) {
		t.Error("a secret passes in the clear")
	}
	if err := arrive(dst, permanent, volatile); err != nil {
		t.Fatal(err)
	}
	c = newClient(dst)
	if got := pcr(t, c, 16); got != want {
		t.Errorf("PCR 16 is %s, want %s", got, want)
	}
	if got, err := recall(c, 10); got != "goes along" {
		t.Errorf("recall = %q, %v", got, err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	if e := findEvent(g, EventArrive); !strings.Contains(string(e.Detail), `"from":"web"`) {
		t.Errorf("event %+v", e)
	}
	g.reopen()
	d := mustDescribe(t, g.Root, "web-here")
	if d.Record.Secrets != src.record.Secrets || d.VM != "web-1" || d.Record.Name != "web-here" || len(d.Record.Lineage) != 1 || d.Record.Lineage[0].From != "web" {
		t.Errorf("record %+v", d.Record)
	}
}

func findEvent(f *fixture, what EventType) Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.Type == what {
			return e
		}
	}
	return Event{}
}

// A snapshot of a TPM that is restored on the same root changes no record.
func TestASnapshotIsRestoredInPlace(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, c := f.started("web")
	permanent, volatile := blobs(t, i)
	remember(t, c, "after the snapshot")
	i.Machine().Shutdown()
	if err := arrive(i, permanent, volatile); err != nil {
		t.Fatal(err)
	}
	if got, err := recall(newClient(i), 18); err == nil {
		t.Errorf("recall = %q", got)
	}
	i.Close()
	f.reopen()
	if d := mustDescribe(t, f.Root, "web"); len(d.Record.Lineage) != 0 {
		t.Errorf("lineage %+v", d.Record.Lineage)
	}
}

func TestOnlyStateOfThisTPMArrives(t *testing.T) {
	f := newFixture(t)
	f.create("web", "db")
	web, _ := f.started("web")
	db, _ := f.started("db")
	permanent, volatile := blobs(t, web)
	other, _ := blobs(t, db)
	web.Machine().Shutdown()
	flip := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	for name, tc := range map[string]struct {
		kind frontend.BlobKind
		blob []byte
		want string
	}{
		"another TPM's":      {frontend.BlobPermanent, other, "it is of TPM " + db.id.String()},
		"of the other kind":  {frontend.BlobPermanent, volatile, "it is volatile state, want permanent"},
		"in the clear":       {frontend.BlobPermanent, []byte("ASYTPMP\x00"), "not a state"},
		"altered":            {frontend.BlobPermanent, flip(permanent, len(permanent)-1), "not a state"},
		"altered id":         {frontend.BlobPermanent, flip(permanent, 15), "it is of TPM"},
		"other, named ours":  {frontend.BlobPermanent, append(bytes.Clone(permanent[:28]), other[28:]...), "not a state"},
		"cut":                {frontend.BlobPermanent, permanent[:len(permanent)-1], "not a state"},
		"one more byte":      {frontend.BlobPermanent, append(bytes.Clone(permanent), 0), "not a state"},
		"of a newer program": {frontend.BlobPermanent, append([]byte("ASYTPMX\x00\x00\x09\x00\x09"), permanent[12:]...), "not a state"},
	} {
		err := web.Machine().SetStateBlob(tc.kind, tc.blob)
		if !errors.Is(err, ErrTransit) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	// What was refused has changed nothing.
	web.Machine().PowerOn()
	if err := client.New(inProcess{web}, zeroReader{}).Startup(tpm2.StartupClear); err != nil {
		t.Error(err)
	}
	web.Close()
	db.Close()
}

// State that came and did not become the TPM's leaves no trace in its record.
func TestStateThatDoesNotArriveHasNoRecord(t *testing.T) {
	f := newFixture(t)
	g := f.other()
	f.create("web")
	src, _ := f.started("web")
	defer src.Close()
	permanent, _ := blobs(t, src)
	if _, err := g.Create(context.Background(), tester, CreateOptions{Name: "web-here", ID: src.id}); err != nil {
		t.Fatal(err)
	}
	for name, comes := range map[string]func(*testing.T, *frontend.Machine){
		"taken back": func(t *testing.T, m *frontend.Machine) {
			if err := m.SetStateBlob(frontend.BlobPermanent, nil); err != nil {
				t.Fatal(err)
			}
		},
		"forgotten when the power went": func(_ *testing.T, m *frontend.Machine) { m.Shutdown() },
	} {
		t.Run(name, func(t *testing.T) {
			i, err := g.Prepare(context.Background(), "web-here", tester)
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			if err := i.Machine().SetStateBlob(frontend.BlobPermanent, permanent); err != nil {
				t.Fatal(err)
			}
			comes(t, i.Machine())
			if err := i.Machine().Init(false); err != nil {
				t.Fatal(err)
			}
			c := newClient(i)
			if err := c.Startup(tpm2.StartupClear); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Run(extend(16)); err != nil {
				t.Fatal(err)
			}
			i.Machine().Shutdown() // which writes
			if rec, _ := i.Record(); len(rec.Lineage) != 0 || rec.Secrets == src.record.Secrets {
				t.Errorf("record %+v", rec)
			}
			if e := findEvent(g, EventArrive); e.Type != "" {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestStateInTransitNeedsTheProvider(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, _ := f.started("web")
	defer i.Close()
	permanent, _ := blobs(t, i)
	f.p.fail("main", keyprovider.ErrUnavailable)
	if _, _, err := i.Machine().StateBlob(frontend.BlobPermanent, 0); !errors.Is(err, keyprovider.ErrUnavailable) {
		t.Errorf("StateBlob = %v", err)
	}
	i.Machine().Shutdown()
	if err := i.Machine().SetStateBlob(frontend.BlobPermanent, permanent); !errors.Is(err, keyprovider.ErrUnavailable) {
		t.Errorf("SetStateBlob = %v", err)
	}
}

// Two processes over one storage, as at a migration: the destination opens the
// state once the source has let it go, and the source does not write any more.
func TestSharedStorageGoesToTheDestination(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	src, _ := f.started("web")
	other, err := OpenRoot(context.Background(), f.cfg) // another process with the same folder
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	dst, err := other.Prepare(context.Background(), "web", tester)
	if err != nil {
		t.Fatal(err)
	}
	permanent, volatile := blobs(t, src)
	if err := arrive(dst, permanent, volatile); err == nil {
		t.Fatal("the destination took a state that the source holds")
	}
	if _, _, err := src.Machine().StateBlob(frontend.BlobSaveState, 0); err != nil {
		t.Fatal(err)
	}
	if err := arrive(dst, permanent, volatile); err != nil {
		t.Fatal(err)
	}
	remember(t, newClient(dst), "new")
	answer := src.Machine().Execute(nil, 0, []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08"))
	if len(answer) >= 10 && bytes.Equal(answer[6:10], make([]byte, 4)) {
		t.Error("the source goes on beside the destination")
	}
	src.Close()
	if err := dst.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzParcel(f *testing.F) {
	f.Add([]byte("ASYTPMX\x00\x00\x01\x00\x01aaaaaaaaaaaaaaaa\x00\x00\x00\x01\x00\x00\x00\x01x"))
	fx := newFixture(f)
	fx.create("web")
	i, err := fx.Open(context.Background(), "web", tester)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { i.Close() })
	f.Fuzz(func(t *testing.T, blob []byte) {
		if _, err := i.importBlob(frontend.BlobPermanent, blob); err == nil {
			t.Errorf("%x is taken", blob)
		}
	})
}

// The state of a TPM that arrives is a newer one than its source ever told of, also of what
// that wrote after the destination was made ready; what the ledger of the destination is not
// to know yet it is told of in the end, and else knows nothing of.
func TestATPMThatArrivesIsNewerThanItsSourceEverWas(t *testing.T) {
	for name, stays := range map[string]bool{"it is told of": true, "it goes again": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			g := f.other()
			f.create("web")
			src, c := f.started("web")
			defer src.Close()
			end := g.Withhold("web-here")
			defer end()
			if _, err := g.Create(t.Context(), tester, CreateOptions{Name: "web-here", ID: src.id}); err != nil {
				t.Fatal(err)
			}
			remember(t, c, "0") // while the disks are copied
			for n := range 5 {
				_, err := c.Run(&client.Command{
					Code: tpm2.CCNVWrite, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: anIndex}},
					In: &command.NVWriteIn{Data: []byte{byte(n)}},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			dst, err := g.Prepare(t.Context(), "web-here", tester)
			if err != nil {
				t.Fatal(err)
			}
			permanent, volatile := blobs(t, src)
			if err := arrive(dst, permanent, volatile); err != nil {
				t.Fatal(err)
			}
			if dst.Generation() <= src.Generation() {
				t.Errorf("generation %d came to be %d", src.Generation(), dst.Generation())
			}
			want := uint64(0)
			if stays {
				if err := g.Tell("web-here"); err != nil {
					t.Fatal(err)
				}
				want = dst.Generation()
			}
			if m, _, err := g.anchor.Last(src.id); err != nil || m.Generation != want {
				t.Errorf("the ledger knows generation %d, %v, want %d", m.Generation, err, want)
			}
			if err := dst.Close(); err != nil {
				t.Fatal(err)
			}
			if stays {
				return
			}
			if err := g.Delete(t.Context(), tester, "web-here"); err != nil {
				t.Fatal(err)
			}
			if m, _, err := g.anchor.Last(src.id); err != nil || m.Generation != 0 {
				t.Errorf("the ledger knows generation %d of what went again, %v", m.Generation, err)
			}
		})
	}
}
