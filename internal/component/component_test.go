package component_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/component"
	"github.com/assay-project/assay/tpm2"
)

// What the recorded boots show of OVMF and Debian's programs has a name, and the logs say
// of the same events what they are.
func TestRecordedBootsShowKnownComponents(t *testing.T) {
	x := component.Builtin()
	for scenario, want := range map[string][]string{
		"bad-uki-unsigned": {"main volume of OVMF_CODE_4M.secboot.fd", "shell inside OVMF, which it starts when nothing else boots", "boot entry of OVMF's shell", "boot entry of OVMF's set-up menu"},
		"good-shim-grub":   {"shim 16.1 (shimx64.efi.signed)", "GRUB 2.06 (grubx64.efi.signed)", "Linux 6.1.192 (vmlinuz-6.1.0-56-cloud-amd64)", "Linux 6.1.192 (vmlinuz-6.1.0-56-cloud-amd64), the file"},
	} {
		l, err := eventlog.Parse(evidencetest.File(t, scenario+"/eventlog.bin"))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for e := range l.All() {
			if c, ok := x.Find(e.Digest(tpm2.AlgSHA256)); ok && e.Measured() {
				found[c.Name] = true
			}
		}
		for _, name := range want {
			if !found[name] {
				t.Errorf("%s: nothing is called %q", scenario, name)
			}
		}
		if !found["separator"] || !found["Calling EFI Application from Boot Option"] {
			t.Errorf("%s: no constants among %v", scenario, found)
		}
	}
}

func TestTheTableIsSound(t *testing.T) {
	seen := map[string]string{}
	for _, c := range component.Builtin().All() {
		if c.Kind != eventlog.KindSeparator && c.Kind != eventlog.KindAction {
			if err := c.Check(); err != nil {
				t.Error(err)
			}
		}
		if other := seen[c.Digest]; other != "" {
			t.Errorf("%s is %q and %q", c.Digest, c.Name, other)
		}
		seen[c.Digest] = c.Name
	}
	if _, ok := new(component.Index).Find(make([]byte, 32)); ok {
		t.Error("the zero Index knows something")
	}
}

func TestAnOperatorRenamesNothingThatIsKnown(t *testing.T) {
	known := component.Builtin().All()[0]
	mine := component.Component{Digest: strings.Repeat("ab", 32), Kind: eventlog.KindKernel, Name: "our kernel", Source: "alice"}
	taken := known
	taken.Name, taken.Source = "nothing to see here", "mallory"
	x := component.Builtin().With([]component.Component{mine, taken})
	for _, want := range []component.Component{known, mine} {
		d, err := hex.DecodeString(want.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := x.Find(d); !ok || got != want {
			t.Errorf("Find = %+v, %v, want %+v", got, ok, want)
		}
	}
}

const good = `{"version":1,"components":[{"sha256":"` +
	`abababababababababababababababababababababababababababababababab","kind":"kernel","name":"our kernel","source":"alice"}]}`

func TestFilesOfComponents(t *testing.T) {
	got, err := component.Parse([]byte(good))
	want := []component.Component{{Digest: strings.Repeat("ab", 32), Kind: eventlog.KindKernel, Name: "our kernel", Source: "alice"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Parse: %v (-want +got):\n%s", err, diff)
	}
	text, err := component.Format(got)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := component.Parse(text); err != nil || cmp.Diff(got, again) != "" {
		t.Errorf("Parse(Format) = %v, %v", again, err)
	}
	for n := range len(good) {
		if _, err := component.Parse([]byte(good[:n])); err == nil {
			t.Errorf("the first %d bytes are a file", n)
		}
	}
	for name, change := range map[string][2]string{
		"another version":      {`"version":1`, `"version":2`},
		"an unknown member":    {`"name"`, `"trusted":true,"name"`},
		"a member twice":       {`"name"`, `"source":"x","name"`},
		"a digest in capitals": {`"abab`, `"ABab`},
		"a short digest":       {`"abab`, `"ab`},
		"a separator":          {`"kernel"`, `"separator"`},
		"no name":              {`our kernel`, ``},
		"a long name":          {`our kernel`, strings.Repeat("k", 201)},
		"control characters":   {`our kernel`, `our\u001bkernel`},
		"no source":            {`alice`, ``},
		"one byte more":        {`]}`, `]}x`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if _, err := component.Parse([]byte(bad)); bad == good || !errors.Is(err, component.ErrFormat) {
			t.Errorf("%s: Parse = %v", name, err)
		}
	}
}

func TestDigestsOfAFile(t *testing.T) {
	if got, err := component.Digests(bytes.NewReader([]byte("abc")), 3); err != nil ||
		cmp.Diff([]string{"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, got) != "" {
		t.Errorf("Digests = %q, %v", got, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	shim, err := os.ReadFile(filepath.Join(cache, "assay-test", "shimx64.efi.signed"))
	if err != nil {
		if os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") != "" {
			t.Fatal("shimx64.efi.signed is not there: run make setup")
		}
		t.Skip("shimx64.efi.signed is not there")
	}
	got, err := component.Digests(bytes.NewReader(shim), int64(len(shim)))
	if err != nil || len(got) != 2 {
		t.Fatalf("Digests = %q, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"version":1,"components":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := component.Parse(text)
		if err != nil {
			return
		}
		out, err := component.Format(all)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := component.Parse(out); err != nil || len(again) != len(all) {
			t.Errorf("Parse(Format) = %d of %d, %v", len(again), len(all), err)
		}
	})
}
