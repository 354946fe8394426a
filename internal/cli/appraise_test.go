package cli_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/cli"
	"github.com/assay-project/assay/internal/program"
)

// appraiseRun runs assay appraise and returns its exit status and output.
func appraiseRun(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &program.Env{
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" },
		Now: func() time.Time { return time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC) },
	}
	status = cli.Main(env, append([]string{"appraise"}, args...))
	return status, out.String(), errs.String()
}

// appraiseFile writes a file into the test's folder.
func appraiseFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAppraiseKeepsItsContract(t *testing.T) {
	good := evidencetest.Recorded(t, "good-shim-grub", "rsa")
	uki := evidencetest.Recorded(t, "good-uki", "rsa")
	cmdline := evidencetest.Recorded(t, "bad-cmdline", "rsa")
	noLog := evidencetest.Recorded(t, "bad-secureboot-off", "rsa")
	off := evidencetest.Recorded(t, "persist/boot4", "rsa")
	bundle := appraiseFile(t, "good.json", good.JSON(t))
	ak := appraiseFile(t, "ak", good.AKPublic)
	nonce := hex.EncodeToString(good.Nonce)
	issuer, _ := evidencetest.CA(t)
	ca := appraiseFile(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer}))
	roots := appraiseFile(t, "roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"Vendor": "swtpm", "Usage": "ek-ca"}, Bytes: issuer}))
	foreign := evidencetest.Derived(t)[slices.IndexFunc(evidencetest.Derived(t), func(c evidencetest.DerivedCase) bool { return c.Name == "ek-cert-foreign-ca" })].Bundle
	permit := appraiseFile(t, "permit.policy", []byte("version=1.0;\nauthorizationrules { c:[type==\"secureBoot\", value==true] => permit(); };\nissuancerules { };\n"))
	deny := appraiseFile(t, "deny.policy", []byte("version=1.0;\nauthorizationrules { c:[type==\"tpmVersion\", value==2] => deny(); };\nissuancerules { };\n"))
	for name, tc := range map[string]struct {
		stdin  string
		args   []string
		status int
		codes  []evidence.Code
	}{
		"trusted":                  {args: []string{bundle, "--trust-ak", ak, "--nonce", nonce}},
		"trusted from stdin":       {stdin: string(good.JSON(t)), args: []string{"-", "--trust-ak", ak}},
		"trusted with its CA":      {args: []string{bundle, "--trust-ak", ak, "--trust-ca", ca}},
		"trusted with collateral":  {args: []string{bundle, "--trust-ak", ak, "--collateral", roots}},
		"trusted by policy":        {args: []string{bundle, "--trust-ak", ak, "--policy", permit}},
		"denied by policy":         {args: []string{bundle, "--trust-ak", ak, "--policy", deny}, status: 1, codes: []evidence.Code{"policy.denied"}},
		"own baseline":             {args: []string{bundle, "--trust-ak", ak, "--baseline", bundle}},
		"nobody is trusted":        {args: []string{bundle}, status: 1, codes: []evidence.Code{"ak.untrusted"}},
		"a CA of TPMs is no proof": {args: []string{bundle, "--trust-ca", ca}, status: 1, codes: []evidence.Code{"ak.untrusted"}},
		"stale":                    {args: []string{bundle, "--trust-ak", ak, "--nonce", "00"}, status: 1, codes: []evidence.Code{"quote.nonce-mismatch"}},
		"command line changed": {
			args: []string{appraiseFile(t, "b.json", cmdline.JSON(t)), "--trust-ak", appraiseFile(t, "ak2", cmdline.AKPublic), "--baseline", bundle}, status: 1, codes: []evidence.Code{"baseline.mismatch"},
		},
		"command line changed under gce": {
			args: []string{appraiseFile(t, "b.json", cmdline.JSON(t)), "--trust-ak", appraiseFile(t, "ak2", cmdline.AKPublic), "--baseline", bundle, "--profile", "gce"},
		},
		"no log": {
			args: []string{appraiseFile(t, "b.json", noLog.JSON(t)), "--trust-ak", appraiseFile(t, "ak2", noLog.AKPublic)}, status: 1, codes: []evidence.Code{"eventlog.absent"},
		},
		"secure boot off": {
			args: []string{appraiseFile(t, "b.json", off.JSON(t)), "--trust-ak", appraiseFile(t, "ak2", off.AKPublic)}, status: 1, codes: []evidence.Code{"secureboot.off"},
		},
		"certificate of a foreign CA": {
			args: []string{appraiseFile(t, "b.json", foreign.JSON(t)), "--trust-ak", appraiseFile(t, "ak2", uki.AKPublic), "--trust-ca", ca}, status: 1, codes: []evidence.Code{"ek.certificate-foreign"},
		},
		"nothing inside":          {stdin: `{"type":"tpm"}`, args: []string{"-"}, status: 1, codes: []evidence.Code{"ak.absent", "quote.absent", "quote.pcr-absent"}},
		"not JSON":                {stdin: `tpm`, args: []string{"-"}, status: 2, codes: []evidence.Code{"bundle.malformed"}},
		"unknown type":            {stdin: `{"type":"abacus"}`, args: []string{"-"}, status: 2, codes: []evidence.Code{"bundle.malformed"}},
		"type of another release": {stdin: `{"type":"tdx","quote":"AAAA"}`, args: []string{"-"}, status: 2, codes: []evidence.Code{"bundle.unsupported"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := appraiseRun(t, tc.stdin, append(tc.args, "-o", "json")...)
			var got evidence.Result
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("output is not one JSON value: %v\n%s%s", err, stdout, stderr)
			}
			var codes []evidence.Code
			for _, r := range got.Reasons {
				codes = append(codes, r.Code)
			}
			slices.Sort(codes)
			codes = slices.Compact(codes)
			want := map[int]evidence.Verdict{0: evidence.Trusted, 1: evidence.Refused, 2: evidence.Unusable}[tc.status]
			if status != tc.status || got.Verdict != want || !slices.Equal(codes, tc.codes) || stderr != "" {
				t.Errorf("exit status %d, verdict %v, reasons %v, stderr %q; want %d, %v, %v", status, got.Verdict, codes, stderr, tc.status, want, tc.codes)
			}
			if got.Reasons == nil || got.Claims == nil || got.NotChecked == nil {
				t.Errorf("a member is null: %s", stdout)
			}
		})
	}
}

func TestAppraiseSaysWhatIsWrongWithTheCommandLine(t *testing.T) {
	bundle := appraiseFile(t, "good.json", evidencetest.Recorded(t, "good-uki", "rsa").JSON(t))
	text := appraiseFile(t, "text", []byte("text"))
	for name, args := range map[string][]string{
		"no bundle":          {},
		"two bundles":        {bundle, bundle},
		"nonce is not hex":   {bundle, "--nonce", "xyz"},
		"nonce is empty":     {bundle, "--nonce", ""},
		"time in other form": {bundle, "--at", "noon"},
		"no such key":        {bundle, "--trust-ak", bundle + "x"},
		"key is text":        {bundle, "--trust-ak", text},
		"CA is text":         {bundle, "--trust-ca", text},
		"collateral is text": {bundle, "--collateral", text},
		"baseline is text":   {bundle, "--baseline", text},
		"policy is text":     {bundle, "--policy", text},
		"unknown profile":    {bundle, "--profile", "none"},
		"unknown format":     {bundle, "-o", "yaml"},
		"unknown flag":       {bundle, "--insecure"},
	} {
		status, stdout, stderr := appraiseRun(t, "", args...)
		if status != 2 || stdout != "" || !strings.HasPrefix(stderr, "assay: ") {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", name, status, stdout, stderr)
		}
	}
}

func TestAppraisalReadsWellForPeople(t *testing.T) {
	good := evidencetest.Recorded(t, "good-shim-grub", "rsa")
	bundle, ak := appraiseFile(t, "good.json", good.JSON(t)), appraiseFile(t, "ak", good.AKPublic)
	_, stdout, _ := appraiseRun(t, "", bundle, "--trust-ak", ak)
	for _, want := range []string{"TRUSTED\n", "secureBoot: true [PCR 7]", "Not checked:\n", "freshness: no --nonce", "trusted because  registered"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the text lacks %q:\n%s", want, stdout)
		}
	}
	_, stdout, _ = appraiseRun(t, "", bundle)
	for _, want := range []string{"REFUSED\n", "ak.untrusted (akPublic)\n", "  To do: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the text lacks %q:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "secureBoot") {
		t.Errorf("claims are shown of evidence that was not verified:\n%s", stdout)
	}
}
