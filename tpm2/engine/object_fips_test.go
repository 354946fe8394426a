package engine_test

import (
	"bytes"
	"crypto/fips140"
	"os"
	"os/exec"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// In FIPS 140-3 mode the validated module made RSA primary keys with randomness of
// its own, since the reader that watches for TPM2_Cancel hid the seeded stream:
// each TPM2_CreatePrimary gave another key.
func TestRSAPrimaryKeysStayTheSameInFIPSMode(t *testing.T) {
	if !fips140.Enabled() {
		if testing.Short() {
			t.Skip("starts itself again")
		}
		c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		c.Env = append(os.Environ(), "GODEBUG=fips140=on")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("in FIPS 140-3 mode: %v\n%s", err, out)
		}
		return
	}
	m := manufacture(t, "fips")
	m.startup(tpm2.StartupClear)
	m.tpm.SetSeed(tpm2.HandleOwner, bytes.Repeat([]byte("seed"), 16))
	got := m.fingerprint(m.primary(tpm2.HandleOwner, rsaTemplate(fixed|ordinary|storageUse), ""))
	if want := readGolden(t, "testdata/primaries.txt")["fips/1 owner rsa2048"]; got != want {
		t.Errorf("primary is %s, want %s", got, want)
	}
}
