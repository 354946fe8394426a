//go:build unix

package state

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/durable"
)

// bench6K is the content whose saving tpm.md compares: 6 KB of permanent state.
func bench6K() Content {
	return Content{Permanent: bytes.Repeat([]byte{1}, 6000), Meta: bytes.Repeat([]byte{2}, 500)}
}

func benchFile(b *testing.B, cfg Config) (*File, string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "f")
	f, err := Create(context.Background(), path, mustID(b), bench6K(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	return f, path
}

func BenchmarkSave(b *testing.B) {
	for name, mk := range map[string]func(testing.TB) Config{"ledger": anchored, "plain": config} {
		b.Run(name, func(b *testing.B) {
			f, _ := benchFile(b, mk(b))
			defer f.Close()
			c := bench6K()
			b.ReportAllocs()
			for b.Loop() {
				if err := f.SavePermanent(c.Permanent); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("without sync", func(b *testing.B) {
		cfg := anchored(b)
		cfg.disk = unsynced{}
		f, _ := benchFile(b, cfg)
		defer f.Close()
		c := bench6K()
		b.ReportAllocs()
		for b.Loop() {
			if err := f.SavePermanent(c.Permanent); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// unsynced is the disk without its slowest part, as swtpm writes.
type unsynced struct{ system }

type unsyncedHandle struct{ handle }

type unsyncedPending struct{ pending }

func (u unsynced) open(path string) (handle, error) {
	h, err := u.system.open(path)
	return unsyncedHandle{h}, err
}

func (u unsynced) begin(path string) (pending, error) {
	p, err := u.system.begin(path)
	return unsyncedPending{p}, err
}

func (unsyncedHandle) sync() error { return nil }

func (unsyncedPending) sync() error { return nil }

// What others do: a whole new file, with a rename.
func BenchmarkWriteFile(b *testing.B) {
	name := filepath.Join(b.TempDir(), "f")
	data := bytes.Repeat([]byte{1}, 6500)
	b.Run("durable", func(b *testing.B) {
		for b.Loop() {
			if err := durable.WriteFile(name, data, 0o600); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("without sync", func(b *testing.B) {
		for b.Loop() {
			if err := os.WriteFile(name+".tmp", data, 0o600); err != nil {
				b.Fatal(err)
			}
			if err := os.Rename(name+".tmp", name); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	cfg := anchored(b)
	f, path := benchFile(b, cfg)
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, _, err := Open(context.Background(), path, cfg)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
