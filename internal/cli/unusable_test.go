package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program"
)

// oneValue decodes output that must be exactly one JSON value.
func oneValue(t *testing.T, out []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(out))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("output %q: %v", out, err)
	}
	if err := d.Decode(new(any)); err != io.EOF {
		t.Fatalf("output %q goes on after its first value", out)
	}
	return v
}

// demoLog is the boot event log of the demonstration's good boot.
func demoLog(t *testing.T) []byte {
	t.Helper()
	text, err := demoFiles.ReadFile("demodata/good.json")
	if err != nil {
		t.Fatal(err)
	}
	var bundle struct {
		EventLog []byte `json:"eventLog"`
	}
	if err := json.Unmarshal(text, &bundle); err != nil {
		t.Fatal(err)
	}
	return bundle.EventLog
}

// Whatever goes wrong, -o json leaves one value, it says yes to nothing, and what
// went wrong is on standard error too.
func TestJSONOfEveryFailureIsOneValueThatSaysNo(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	empty, junk := file("empty", ""), file("junk", "junk")
	cut := file("cut", string(demoLog(t)[:1000]))
	good := file("good.policy", `version=1.2; authorizationrules { [type=="a"] => permit(); };`)
	bad := file("bad.policy", "version=1.2;\nauthorizationrules { oops };")
	broken := file("broken.policy", `version=1.2; authorizationrules { c:[type=="a"] => add(type="x", value=JsonToClaimValue(c.value)); };`)
	claims := file("claims.json", `{"a": "text"}`)
	missing := filepath.Join(dir, "missing")

	for name, tc := range map[string]struct {
		args string
		want map[string]any // members that must be there with this value
		at   []string       // members of error that must be there
	}{
		"eventlog, no file":          {"eventlog " + missing, map[string]any{"format": nil, "events": []any{}, "claims": map[string]any{}}, nil},
		"eventlog, empty":            {"eventlog " + empty, map[string]any{"format": nil}, []string{"offset", "event"}},
		"eventlog, junk":             {"eventlog " + junk, map[string]any{"format": nil}, []string{"offset", "event"}},
		"eventlog, cut":              {"eventlog " + cut, map[string]any{"format": nil, "banks": []any{}, "pcrs": map[string]any{}, "findings": []any{}}, []string{"offset", "event"}},
		"eventlog, unknown bank":     {"eventlog " + cut + " --bank md5", map[string]any{"format": nil}, nil},
		"eventlog, baseline of junk": {"eventlog --baseline " + junk, nil, []string{"offset"}},
		"eventlog, two files":        {"eventlog a b", nil, nil},
		"eventlog, unknown flag":     {"eventlog --frobnicate x", nil, nil},
		"diff":                       {"eventlog diff " + cut + " " + junk, map[string]any{"earlyPassed": false, "latePassed": false, "differences": []any{}}, []string{"offset"}},
		"appraise, no nonce":         {"appraise x.json --nonce zz", map[string]any{"verdict": "unusable", "reasons": []any{}, "claims": map[string]any{}}, nil},
		"appraise, bad policy":       {"appraise x.json --policy " + bad, map[string]any{"verdict": "unusable"}, []string{"line", "col"}},
		"policy check":               {"policy check " + missing, map[string]any{"good": false, "errors": []any{}}, nil},
		"policy eval":                {"policy eval " + missing + " --claims x", map[string]any{"permitted": false, "claims": []any{}, "notChecked": []any{}}, nil},
		"policy eval, no policy":     {"policy eval " + bad + " --claims " + claims, map[string]any{"permitted": false}, []string{"line", "col"}},
		"policy eval, no claims":     {"policy eval " + good, map[string]any{"permitted": false}, nil},
		"policy eval, bad claims":    {"policy eval " + good + " --claims " + junk, map[string]any{"permitted": false}, nil},
		"policy eval, bad rule":      {"policy eval " + broken + " --claims " + claims, map[string]any{"permitted": false}, nil},
		"policy explain, bad rule":   {"policy explain " + broken + " --claims " + claims, map[string]any{"permitted": false}, nil},
		"policy test":                {"policy test " + dir, map[string]any{"passed": 0.0, "failed": 0.0, "cases": []any{}}, nil},
		"token verify":               {"token verify x", map[string]any{"verdict": "unusable", "reasons": []any{}, "claims": map[string]any{}}, nil},
		"token verify, no keys":      {"token verify x --issuer https://x.example --jwks " + junk, map[string]any{"verdict": "unusable"}, nil},
		"audit verify":               {"audit verify --data " + missing, map[string]any{"whole": nil}, nil},
		"audit verify, bad head":     {"audit verify --data " + missing + " --head x", map[string]any{"whole": nil}, nil},
		"audit verify, no store":     {"audit verify", nil, nil},
		"audit list":                 {"audit list --data " + missing, nil, nil},
		"doctor, argument":           {"doctor x", nil, nil},
		"version, argument":          {"version x", nil, nil},
		"remote":                     {"attester list --server nowhere", nil, nil},
		"no such command":            {"nonsense", nil, nil},
		"no such subcommand":         {"policy chekc", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, form := range []string{"-o json", "-ojson", "--output=json"} {
				var out, errs bytes.Buffer
				env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
				status := Main(env, strings.Fields(tc.args+" "+form))
				got, _ := oneValue(t, out.Bytes()).(map[string]any)
				if status != program.StatusUnusable || errs.Len() == 0 {
					t.Errorf("assay %s: status %d, standard error %q; want %d and a message", tc.args, status, &errs, program.StatusUnusable)
				}
				fault, _ := got["error"].(map[string]any)
				m, _ := fault["message"].(string)
				if m == "" || !strings.Contains(errs.String(), m) {
					t.Errorf("assay %s: error.message is %q, standard error %q", tc.args, m, &errs)
				}
				if strings.HasPrefix(name, "no such") && !strings.HasPrefix(m, "unknown command") {
					t.Errorf("assay %s: error.message is %q, want it to name the command", tc.args, m)
				}
				for member, want := range tc.want {
					if value, there := got[member]; !there || !cmp.Equal(value, want) {
						t.Errorf("assay %s: %s is %v (there: %v), want %v", tc.args, member, value, there, want)
					}
				}
				for _, member := range tc.at {
					if _, there := fault[member]; !there {
						t.Errorf("assay %s: error %v has no %s", tc.args, fault, member)
					}
				}
			}
		})
	}
}

// Without -o json, and in other formats, standard output stays empty.
func TestFailuresPrintNothingOnStandardOutputWithoutJSON(t *testing.T) {
	for _, line := range []string{"eventlog nowhere", "eventlog nowhere -o table", "eventlog nowhere -o json -o table", "version -o yaml", "version -- -o json", "doctor -o"} {
		var out, errs bytes.Buffer
		env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
		if got := Main(env, strings.Fields(line)); got != program.StatusUnusable || out.Len() > 0 || errs.Len() == 0 {
			t.Errorf("assay %s: status %d, output %q, errors %q", line, got, &out, &errs)
		}
	}
}
