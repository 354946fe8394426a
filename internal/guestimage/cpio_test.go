package guestimage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpack reads an archive as Linux does (init/initramfs.c).
func unpack(t *testing.T, b []byte) (out []string) {
	t.Helper()
	for at := 0; ; {
		h := b[at:]
		if string(h[:6]) != "070701" || at%4 != 0 {
			t.Fatalf("no header at byte %d", at)
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(h[6+8*i:][:8]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		name := string(h[110:][:field(11)-1])
		at = (at + 110 + field(11) + 3) &^ 3
		data := b[at:][:field(6)]
		at = (at + field(6) + 3) &^ 3
		if name == "TRAILER!!!" {
			if at != len(b) {
				t.Errorf("%d bytes follow the end", len(b)-at)
			}
			return out
		}
		out = append(out, fmt.Sprintf("%o %s %d:%d links %d %q", field(1), name, field(2), field(3), field(4), data))
	}
}

func TestAnArchiveHasItsFiles(t *testing.T) {
	in := []File{
		{Name: "dev", Mode: fs.ModeDir | 0o700},
		{Name: "etc/deep/er", Mode: 0o644, Data: []byte("text")},
		{Name: "etc/empty", Mode: 0o600},
		{Name: "init", Mode: 0o755, Data: []byte("a")},
	}
	b, err := Initrd(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`40700 dev 0:0 links 1 ""`, `40755 etc 0:0 links 1 ""`, `40755 etc/deep 0:0 links 1 ""`,
		`100644 etc/deep/er 0:0 links 1 "text"`, `100600 etc/empty 0:0 links 1 ""`, `100755 init 0:0 links 1 "a"`,
	}
	if d := cmp.Diff(want, unpack(t, b)); d != "" {
		t.Errorf("archive (-want +got):\n%s", d)
	}
	if again, err := Initrd(in); err != nil || !bytes.Equal(b, again) {
		t.Errorf("the same files give another archive (%v)", err)
	}
}

func TestAFileThatNoArchiveHasIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		files []File
		want  error
	}{
		"no name":             {[]File{{Name: ""}}, ErrName},
		"the root":            {[]File{{Name: "."}}, ErrName},
		"a path from /":       {[]File{{Name: "/init"}}, ErrName},
		"a folder above":      {[]File{{Name: "../init"}}, ErrName},
		"a name that is cut":  {[]File{{Name: "a\x00b"}}, ErrName},
		"a device":            {[]File{{Name: "a", Mode: fs.ModeDevice}}, ErrName},
		"two":                 {[]File{{Name: "a"}, {Name: "a"}}, ErrExists},
		"the end's name":      {[]File{{Name: "TRAILER!!!"}}, ErrName},
		"a file as folder":    {[]File{{Name: "a"}, {Name: "a/b"}}, ErrExists},
		"a folder after it":   {[]File{{Name: "a/b"}, {Name: "a", Mode: fs.ModeDir}}, ErrExists},
		"a folder with bytes": {[]File{{Name: "a", Mode: fs.ModeDir, Data: []byte{1}}}, ErrSize},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Initrd(tc.files); !errors.Is(err, tc.want) {
				t.Errorf("Initrd = %v, want %v", err, tc.want)
			}
		})
	}
}
