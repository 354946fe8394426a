package command_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

func byName(t testing.TB, name string) *command.Info {
	t.Helper()
	for _, i := range command.All() {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("there is no command %q", name)
	return nil
}

// TestLayoutsAreThoseOfAnotherTPM reads parameters that swtpm accepted, and what it answered.
func TestLayoutsAreThoseOfAnotherTPM(t *testing.T) {
	b, err := os.ReadFile("testdata/swtpm-0.7.1-exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		part := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		info := byName(t, part[0])
		seen[info.Name] = true
		in, out := info.New()
		for side, v := range map[string]wire.Layout{part[1]: in, part[2]: out} {
			raw := unhex(t, side)
			if err := wire.Decode(raw, v); err != nil {
				t.Errorf("%s: Decode(%s) = %v", info.Name, side, err)
				continue
			}
			if again, err := wire.Encode(v); err != nil || !bytes.Equal(raw, again) {
				t.Errorf("%s: %s encodes to %x, %v", info.Name, side, again, err)
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("the file has %d different commands, want at least 60", len(seen))
	}
}

func TestRecordedAnswersMeanWhatTheyMeant(t *testing.T) {
	b, err := os.ReadFile("testdata/swtpm-0.7.1-exchanges.txt")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(b)) {
		part := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		_, out := byName(t, part[0]).New()
		if err := wire.Decode(unhex(t, part[2]), out); err != nil {
			t.Fatal(err)
		}
		switch out := out.(type) {
		case *command.CreatePrimaryOut:
			checked++
			// Part 2, 10.5: the Name is of the public area that comes with it.
			if name, err := out.OutPublic.Name(); err != nil || !bytes.Equal(name, out.Name) {
				t.Errorf("Name of the primary key = %x, %v, want %x", name, err, out.Name)
			}
			if out.CreationData.Locality != tpm2.LocalitySet(0) || string(out.CreationData.OutsideInfo) != "outside" || out.CreationData.ParentNameAlg != tpm2.AlgNull {
				t.Errorf("creation data = %+v", out.CreationData)
			}
		case *command.NVReadPublicOut:
			checked++
			if p := out.NVPublic; p.NVIndex != 0x01800001 || p.DataSize != 8 || p.Attributes.Type() != tpm2.NVOrdinary || !p.Attributes.Has(tpm2.NVOwnerRead|tpm2.NVAuthWrite) {
				t.Errorf("public area of the index = %+v", p)
			}
		case *command.PCRReadOut:
			checked++
			if len(out.PCRValues) != 3 || !out.PCRSelectionOut[0].Select.Has(16) {
				t.Errorf("PCR_Read = %+v", out)
			}
		case *command.NVReadOut:
			checked++
			if string(out.Data) != "12345678" {
				t.Errorf("NV_Read = %q", out.Data)
			}
		}
	}
	if checked != 4 {
		t.Errorf("%d answers were checked, want 4", checked)
	}
}
