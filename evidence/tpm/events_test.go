package tpm_test

import (
	"encoding/hex"
	"slices"
	"strconv"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/sampletest"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/tpm2"
)

// replayed is a TPM in the state that a recorded log leads to, and a bundle of it.
func replayed(t *testing.T, name string) (*evidencetest.TPM, []byte) {
	t.Helper()
	all, err := sampletest.Files("../../eventlog/testdata/logs.zip")()
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Parse(all["eventlogs/bios/"+name])
	if err != nil {
		t.Fatal(err)
	}
	regs, err := log.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for pcr := range 24 {
		values[strconv.Itoa(pcr)] = hex.EncodeToString(regs.Value(pcr))
	}
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Parts{Type: "tpm", EventLog: all["eventlogs/bios/"+name], PCRs: map[string]map[string]string{"sha256": values}})
	return m, m.Bundle(nonce, m.Sign(m.Attest(nonce, sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14)))).JSON(t)
}

func azureWindows(t *testing.T) *policy.Policy {
	t.Helper()
	all, err := policy.Library()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(l policy.LibraryPolicy) bool { return l.Name == "azure-windows-events" })
	p, err := policy.Parse(all[i].Text, policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPolicyOverEventsJudgesABootOfWindows(t *testing.T) {
	m, text := replayed(t, "win-x1carbon-vbs-hvci-resume.bin")
	o := trusting(t, m)
	o.Policy = azureWindows(t)
	a := trusts(t, text, o)
	if len(a.Issued) != 1 || a.Issued[0].Type != "elamDriverLoaded" {
		t.Errorf("issued %+v", a.Issued)
	}
	m, text = replayed(t, "win-latitude-sb-off-eset.bin")
	o = trusting(t, m)
	o.Policy = azureWindows(t)
	refuses(t, text, o, "policy.denied")
}

func TestAPolicyOverEventsJudgesABootOfLinux(t *testing.T) {
	const rules = "version=1.2; authorizationrules {\n" +
		"c:[type==\"events\", issuer==\"AttestationService\"] => add(type=\"on\", value=JmesPath(c.value, \"Events[?EventTypeString == 'EV_EFI_VARIABLE_DRIVER_CONFIG' && ProcessedData.UnicodeName == 'SecureBoot'] | length(@) == `1` && @[0].ProcessedData.VariableData == 'AQ'\"));\n" +
		"[type==\"on\", value==\"true\", issuer==\"AttestationPolicy\"] => permit(); };"
	p, err := policy.Parse(rules, policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	for _, scenario := range []string{"good-shim-grub", "good-uki"} {
		recorded := evidencetest.Recorded(t, scenario, "ecc")
		o := registered(t, recorded)
		o.Policy = p
		trusts(t, recorded.JSON(t), o)
		o.Policy = azureWindows(t)
		refuses(t, recorded.JSON(t), o, "policy.denied")
	}
	m, text := replayed(t, "gce-ubuntu-2104-no-secure-boot.bin")
	o := trusting(t, m)
	o.Policy = p
	refuses(t, text, o, "policy.denied")
}
