package vm_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/test/vm"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

// moduleGuest is a signed image whose first program has the kernel load a module without
// a signature, and the key set that it boots under.
func (b *bench) moduleGuest() ([]byte, *keyset.Set) {
	b.Helper()
	dir := b.TempDir()
	first, err := vm.BuildGuest(dir, "test/vm/guest")
	b.must(err)
	agent, err := vm.BuildGuest(dir, "cmd/assay-agent")
	b.must(err)
	parts := *b.Parts
	parts.Init, parts.Files = first, []guestimage.File{
		{Name: "assay-agent", Mode: 0o755, Data: agent},
		// The signature is looked at first, and what has none needs no other content.
		{Name: "modules/test_unsigned.ko", Mode: 0o644, Data: []byte("\x7fELF, and no signature behind it")},
	}
	image, err := parts.UKI("1", demovm.CommandLine)
	b.must(err)
	set, keys, err := keyset.New("module", keyset.Options{Kind: keyset.Own, Random: rand.Reader, Now: time.Now()})
	b.must(err)
	signing, err := set.Signing(sigdb.DB, keys, rand.Reader)
	b.must(err)
	image, err = authenticode.Sign(image, signing)
	b.must(err)
	return image, set
}

// A kernel that secure boot locks down refuses a module that nobody signed while the
// machine boots well; the finding names it (SPEC T10).
func TestARefusedModuleIsAFindingThatNamesIt(t *testing.T) {
	needAll(t)
	b := newBench(t, chain("uki"))
	image, set := b.moduleGuest()
	b.host.AddKeys(set)
	b.rekey(set.Name, false)
	b.must(demovm.WriteDisk(b.host.Disk(name), image))
	running := b.start()
	told := func(n []integrity.Notice) bool {
		return len(b.host.Reports()) > 0 && slices.ContainsFunc(n, func(n integrity.Notice) bool { return n.Type == integrity.EventLateReport })
	}
	notices, err := running.Await(told)
	b.must(err)
	report := b.host.Reports()[0]
	if k := report.Kernel; k == nil || k.SigEnforce != "Y" || k.Lockdown != "integrity" {
		t.Errorf("the kernel says of itself %+v", k)
	}
	for _, n := range notices {
		if n.Report != nil && !n.Passed() {
			t.Errorf("the boot is not as it should be: %+v", n)
		}
	}
	var got []string
	for _, s := range finding.FromModules(name, b.boots, report.Reasons) {
		if !s.Ends {
			got = append(got, string(s.Kind)+" "+s.Component)
		}
	}
	if d := cmp.Diff([]string{string(finding.ModuleRefused) + " test_unsigned"}, got); d != "" {
		t.Errorf("findings (-want +got):\n%s\nof %+v", d, report)
	}
	console, err := b.host.Root.ConsoleText(t.Context(), name)
	if err != nil || !strings.Contains(console, "test_unsigned.ko ended with key was rejected by service") { // EKEYREJECTED
		t.Errorf("the guest says %s, %v", console, err)
	}
}
