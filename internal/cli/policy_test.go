package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program"
)

// policyFiles are the inputs of the tests below, by file name.
var policyFiles = map[string]string{
	"good.policy":    "version=1.2;\nauthorizationrules {\n[type==\"secureBoot\", value==true] => permit();\n[type==\"kernelDebug\", value==true] => deny();\n};\nissuancerules { c:[type==\"secureBoot\"] => issue(claim=c); => issue(type=\"level\", value=3); => issue(type=\"who\", value=\"a<b\"); };",
	"vacuous.policy": "version=1.0;\nauthorizationrules {\n  => permit();\n};",
	"syntax.policy":  "version=1.0;\nauthorizationrules {\n  [type=\"a\"] => permit();\n};",
	"warn.policy":    "version=1.0;\nauthorizationrules {\n  [type==\"securBoot\", value==true] => permit();\n};",
	"failing.policy": "version=1.2;\nauthorizationrules {\n  [type==\"secureBoot\", value==true] => permit();\n  => add(type=\"x\", value=JmesPath(\"\", \"a\"));\n};",
	"messy.policy":   "version = 1.0 ;authorizationrules{// c\n=>deny( );};",
	"on.json":        `{"secureBoot": true, "vbs": false, "elam": null}`,
	"off.json":       `[{"type": "secureBoot", "value": false}]`,
	"debug.json":     `{"secureBoot": true, "kernelDebug": true}`,
	"bad.json":       `{"secureBoot": {"value": true, "vaule": 1}}`,
	"t/good.policy":  "version=1.0;\nauthorizationrules { [type==\"a\", value==1] => permit(); };",
	"t/a_test.json":  `{"policy":"good.policy","cases":[{"name":"one","claims":{"a":1},"permitted":true},{"name":"two","claims":{"a":2},"permitted":false}]}`,
	"f/good.policy":  "version=1.0;\nauthorizationrules { [type==\"a\", value==1] => permit(); };",
	"f/a_test.json":  `{"policy":"good.policy","cases":[{"name":"one","claims":{"a":1},"permitted":false}]}`,
	"u/a_test.json":  `{"policy":"none.policy","cases":[{"name":"one","claims":{"a":1},"permitted":false}]}`,
	"e/none":         "",
}

// runPolicy runs assay policy in a folder with policyFiles.
func runPolicy(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range policyFiles {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errOut bytes.Buffer
	env := &program.Env{Stdin: strings.NewReader(policyFiles["good.policy"]), Stdout: &out, Stderr: &errOut, Getenv: func(string) string { return "" }}
	status = Main(env, append([]string{"policy"}, args...))
	return status, out.String(), errOut.String()
}

func TestPolicyCommandsKeepTheirContract(t *testing.T) {
	for args, tc := range map[string]struct {
		status         int
		stdout, stderr string // parts; empty means that nothing is printed
	}{
		"check good.policy":                             {0, "good.policy: good, version 1.2, hash ", ""},
		"check -":                                       {0, "-: good", ""},
		"check vacuous.policy":                          {1, "vacuous.policy:3:3: the policy permits every attester and checks nothing (vacuous)", ""},
		"check vacuous.policy --allow-vacuous":          {0, "good", "warning: vacuous.policy:3:3: "},
		"check syntax.policy":                           {1, `syntax.policy:3:8: "=" cannot stand here, expected ==`, ""},
		"check syntax.policy --lenient":                 {0, "good", "warning: syntax.policy:3:8: one = in a condition"},
		"check warn.policy":                             {0, "good", `warning: warn.policy:3:3: no verifier produces the claim "securBoot"`},
		"check none.policy":                             {2, "", "none.policy"},
		"check":                                         {2, "", "accepts 1 arg"},
		"check good.policy -o yaml":                     {2, "", "want one of [text json]"},
		"eval good.policy --claims on.json":             {0, "permitted by line 3: [type==\"secureBoot\", value==true] => permit();\nissued secureBoot = true\nissued level = 3\nissued who = \"a<b\"\nnot checked: vbs\n", ""},
		"eval good.policy --claims off.json":            {1, "denied: no permit rule fired\n", ""},
		"eval good.policy --claims debug.json":          {1, "denied by line 4: ", ""},
		"eval good.policy --claims bad.json":            {2, "", `bad.json: parse claims: claim "secureBoot": unknown member "vaule"`},
		"eval good.policy":                              {2, "", "--claims"},
		"eval syntax.policy --claims on.json":           {2, "", "syntax.policy:3:8: "},
		"eval syntax.policy --claims on.json --lenient": {1, "denied", ""},
		"eval failing.policy --claims on.json":          {2, "", "failing.policy: evaluate rule at line 4: JmesPath: "},
		"explain good.policy --claims off.json":         {1, "line 3 did not fire: [type==\"secureBoot\", value==true] => permit();\n    read secureBoot = false from AttestationService\n    no claim for [type==\"secureBoot\", value==true]\n", ""},
		"explain failing.policy --claims on.json":       {2, "line 3 fired: ", "line 4"},
		"fmt messy.policy":                              {0, "version=1.0;\n\nauthorizationrules { // c\n    => deny();\n};\n", ""},
		"fmt syntax.policy":                             {2, "", "syntax.policy:3:8: "},
		"test t":                                        {0, "pass  a_test.json: one\npass  a_test.json: two\n2 passed, 0 failed\n", ""},
		"test f":                                        {1, "FAIL  a_test.json: one: got permitted true, want false\n0 passed, 1 failed\n", ""},
		"test u":                                        {2, "", "none.policy"},
		"test e":                                        {2, "", "no table"},
		"library":                                       {0, "tpm-default\n", ""},
		"library tpm-default":                           {0, "version=1.2;", ""},
		"library none":                                  {2, "", `no policy "none"`},
	} {
		t.Run(args, func(t *testing.T) {
			status, stdout, stderr := runPolicy(t, strings.Fields(args)...)
			if status != tc.status || !shows(stdout, tc.stdout) || !shows(stderr, tc.stderr) {
				t.Errorf("assay policy %s = %d, %q, %q; want %d, %q, %q", args, status, stdout, stderr, tc.status, tc.stdout, tc.stderr)
			}
		})
	}
}

// shows reports whether an output has the part, or nothing when there is no part.
func shows(out, part string) bool {
	return part == "" && out == "" || part != "" && strings.Contains(out, part)
}

func TestPolicyJSONHasItsShape(t *testing.T) {
	for args, want := range map[string]string{
		"eval good.policy --claims on.json -o json":    `{"permitted":true,"claims":[{"type":"secureBoot","value":true},{"type":"level","value":3},{"type":"who","value":"a<b"}],"decidedBy":{"line":3,"rule":"[type==\"secureBoot\", value==true] => permit();"},"notChecked":["vbs"]}`,
		"eval good.policy --claims off.json -o json":   `{"permitted":false,"claims":[],"decidedBy":{"line":0,"rule":""},"notChecked":[]}`,
		"eval good.policy --claims debug.json -o json": `{"permitted":false,"claims":[],"decidedBy":{"line":4,"rule":"[type==\"kernelDebug\", value==true] => deny();"},"notChecked":[]}`,
		"check syntax.policy -o json":                  `{"file":"syntax.policy","good":false,"errors":[{"line":3,"col":8,"name":"syntax","message":"\"=\" cannot stand here, expected ==, !=, <, <=, > or >=; for example: [type==\"secureBoot\", value==true]"}],"warnings":[]}`,
		"test f -o json":                               `{"passed":0,"failed":1,"cases":[{"table":"a_test.json","name":"one","passed":false,"message":"got permitted true, want false"}]}`,
		"explain good.policy --claims off.json -o json": `{"permitted":false,"claims":[],"decidedBy":{"line":0,"rule":""},"notChecked":[],"rules":[` +
			`{"section":"authorizationrules","line":3,"rule":"[type==\"secureBoot\", value==true] => permit();","fired":0,"unmet":"[type==\"secureBoot\", value==true]","read":[{"type":"secureBoot","value":false,"valueType":"Boolean","issuer":"AttestationService"}]},` +
			`{"section":"authorizationrules","line":4,"rule":"[type==\"kernelDebug\", value==true] => deny();","fired":0,"unmet":"[type==\"kernelDebug\", value==true]","read":[]}]}`,
	} {
		t.Run(args, func(t *testing.T) {
			_, stdout, _ := runPolicy(t, strings.Fields(args)...)
			var got, wanted any
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("assay policy %s prints %q: %v", args, stdout, err)
			}
			if err := json.Unmarshal([]byte(want), &wanted); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted, got); diff != "" {
				t.Errorf("assay policy %s (-want +got)\n%s", args, diff)
			}
		})
	}
}

func TestPolicyFmtWritesTheFileAndKeepsItsMode(t *testing.T) {
	if status, stdout, stderr := runPolicy(t, "fmt", "-w", "messy.policy"); status != 0 || stdout+stderr != "" {
		t.Fatalf("assay policy fmt -w = %d, %q, %q", status, stdout, stderr)
	}
	text, err := os.ReadFile("messy.policy")
	if err != nil || string(text) != "version=1.0;\n\nauthorizationrules { // c\n    => deny();\n};\n" {
		t.Errorf("messy.policy = %q, %v", text, err)
	}
	info, err := os.Stat("messy.policy")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(".policy-*"); len(left) > 0 {
		t.Errorf("fmt left %v", left)
	}
}
