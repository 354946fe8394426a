package gallery

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testGallery(t *testing.T) (*Gallery, string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.raw")
	text := append(make([]byte, 3*piece), "the boot loader"...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	return Open(filepath.Join(dir, "images"), func() time.Time {
		now = now.Add(time.Second)
		return now
	}), file
}

func mustAdd(t *testing.T, g *Gallery, file string, i Image) *Image {
	t.Helper()
	i.Format = "raw"
	out, err := g.Add(t.Context(), i, file)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVersionsCountAndTheLastIsTheDefault(t *testing.T) {
	t.Parallel()
	g, file := testGallery(t)
	for _, want := range []string{"1", "2"} {
		if i := mustAdd(t, g, file, Image{Name: "debian"}); i.Version != want {
			t.Errorf("version %q, want %q", i.Version, want)
		}
	}
	mustAdd(t, g, file, Image{Name: "debian", Version: "rc"})
	mustAdd(t, g, file, Image{Name: "other"})
	if _, err := g.Add(t.Context(), Image{Name: "debian", Version: "2", Format: "raw"}, file); !errors.Is(err, ErrExists) {
		t.Errorf("Add of one that is there = %v", err)
	}
	for ref, want := range map[string]string{"debian": "debian@rc", "debian@1": "debian@1", "other": "other@1"} {
		if i, err := g.Get(ref); err != nil || i.Ref() != want {
			t.Errorf("Get(%q) = %+v, %v", ref, i, err)
		}
	}
	for ref, want := range map[string]error{"none": ErrUnknown, "debian@9": ErrUnknown, "../x": ErrName, "a@../b": ErrName, "": ErrName} {
		if _, err := g.Get(ref); !errors.Is(err, want) {
			t.Errorf("Get(%q) = %v, want %v", ref, err, want)
		}
	}
}

func TestACopyIsComparedWithTheDigest(t *testing.T) {
	t.Parallel()
	g, file := testGallery(t)
	i := mustAdd(t, g, file, Image{Name: "debian"})
	to := filepath.Join(t.TempDir(), "copy")
	if err := g.Copy(t.Context(), i, to); err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(to); err != nil || string(is) != string(was) {
		t.Errorf("the copy has %d bytes, %v", len(is), err)
	}
	if err := g.Copy(t.Context(), i, to); err == nil {
		t.Error("a copy over a file: no error")
	}
	stored := filepath.Join(g.versionDir("debian", "1"), diskFile)
	if err := os.WriteFile(stored, append(was[:len(was)-1:len(was)-1], 'X'), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := g.Copy(t.Context(), i, bad); !errors.Is(err, ErrDigest) {
		t.Errorf("Copy of an altered image = %v", err)
	}
	if _, err := os.Lstat(bad); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left a file: %v", err)
	}
}

func TestWhatCannotBeAnImageIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	g, file := testGallery(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		i    Image
		file string
	}{
		"no qcow2":   {t.Context(), Image{Name: "a", Format: "qcow2"}, file},
		"no format":  {t.Context(), Image{Name: "a"}, file},
		"no file":    {t.Context(), Image{Name: "a", Format: "raw"}, file + ".gone"},
		"a folder":   {t.Context(), Image{Name: "a", Format: "raw"}, filepath.Dir(file)},
		"a bad name": {t.Context(), Image{Name: "../a", Format: "raw"}, file},
		"given up":   {gone, Image{Name: "a", Format: "raw"}, file},
	} {
		if _, err := g.Add(tc.ctx, tc.i, tc.file); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if images, err := g.List(); err != nil || len(images) != 0 {
		t.Errorf("List = %v, %v", images, err)
	}
}

func TestADeletedImageIsGoneAndItsRecordIsReadStrictly(t *testing.T) {
	t.Parallel()
	g, file := testGallery(t)
	i := mustAdd(t, g, file, Image{Name: "debian", Labels: map[string]string{"os": "linux"}})
	text, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseImage(text); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "{}", strings.Replace(string(text), `"raw"`, `"vmdk"`, 1), strings.Replace(string(text), i.SHA256, "00", 1),
		strings.Replace(string(text), `"by"`, `"for"`, 1), string(text[:len(text)-1]), string(text) + "{}",
	} {
		if got, err := parseImage([]byte(bad)); err == nil {
			t.Errorf("parseImage(%q) = %+v", bad, got)
		}
	}
	if err := g.Delete(i); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get("debian"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Get = %v", err)
	}
	if again := mustAdd(t, g, file, Image{Name: "debian"}); again.Version != "1" {
		t.Errorf("version %q", again.Version)
	}
}
