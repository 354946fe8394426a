package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/policy"
)

func TestClaimsAreReadInBothForms(t *testing.T) {
	want := []policy.Claim{
		{Type: "a", Value: policy.BoolValue(true), Issuer: policy.FromService},
		{Type: "b", Value: policy.IntValue(-3), Issuer: policy.FromService},
		{Type: "b", Value: policy.StringValue("x"), Issuer: policy.FromAttester},
		{Type: "pcrs", Value: policy.StringValue("{}"), Issuer: policy.FromService, ReadOnly: true},
	}
	for name, text := range map[string]string{
		"object":    `{"a": true, "b": [-3, {"value": "x", "valueType": "String", "issuer": "CustomClaim"}], "none": null, "pcrs": "{}"}`,
		"list":      `[{"type":"a","value":true,"valueType":"Boolean"},{"type":"b","value":-3},{"type":"b","value":"x","issuer":"CustomClaim"},{"type":"none","value":null},{"type":"pcrs","value":"{}"}]`,
		"appraisal": `{"a":{"value":true,"reason":"","pcrs":[7]},"b":[-3,{"value":"x","issuer":"CustomClaim"}],"none":{"value":null,"reason":"log.x"},"pcrs":{"value":"{}","readOnly":true}}`,
	} {
		got, err := policy.ParseClaims(text)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(policy.Value{})); err != nil || diff != "" {
			t.Errorf("%s: ParseClaims = %v (-want +got)\n%s", name, err, diff)
		}
		for i := range text {
			if got, err := policy.ParseClaims(text[:i]); err == nil {
				t.Errorf("ParseClaims(%q) = %v, want an error", text[:i], got)
			}
		}
		if _, err := policy.ParseClaims(text + "x"); err == nil {
			t.Error("ParseClaims takes one byte more")
		}
	}
}

func TestClaimsThatAreNoneAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`1`: "want an object or an array", `{"a":1.5}`: "fraction", `{"a":[[1]]}`: "array is no claim value", `{"a":{}}`: "has no value",
		`{"a":{"value":1,"vaule":2}}`: `unknown member "vaule"`, `{"a":{"value":1,"valueType":"String"}}`: "value type String",
		`{"a":{"value":1,"issuer":"AttestationPolicy"}}`: "wrong issuer", `{"a":{"value":1,"issuer":""}}`: "wrong issuer", `{"a":{"value":1,"readOnly":1}}`: "wrong readOnly",
		`[1]`: "element 0", `[{"value":1}]`: "element 0", `{"":1}`: "empty type", `{"a":1,"a":2}`: "stands twice", `{"a":{"value":{}}}`: "object is no claim value",
		`{"a":18446744073709551616}`: "too large", `{"a":"\ud"}`: "not JSON", "{\"a\":\"\xff\"}": "not JSON", `{"a":01}`: "not JSON", `{"a":tru}`: "not JSON",
	} {
		if got, err := policy.ParseClaims(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseClaims(%s) = %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestMoreClaimsThanTheLimitAreRefused(t *testing.T) {
	for n, want := range map[int]error{4096: nil, 4097: policy.ErrLimit} {
		if _, err := policy.ParseClaims(`{"a":` + numbers(n) + `}`); !errors.Is(err, want) {
			t.Errorf("ParseClaims(%d claims) = %v, want %v", n, err, want)
		}
	}
}

func FuzzParseClaims(f *testing.F) {
	f.Add(`{"a": true, "b": [-3, {"value": "x", "valueType": "String", "issuer": "CustomClaim"}], "none": null}`)
	f.Add(`[{"type":"a","value":"\u00e4\\","valueType":"String"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := policy.ParseClaims(text)
		if err != nil {
			return
		}
		var out []string
		for _, c := range claims {
			b, err := c.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(b))
		}
		again, err := policy.ParseClaims("[" + strings.Join(out, ",") + "]")
		if diff := cmp.Diff(claims, again, cmp.AllowUnexported(policy.Value{})); len(claims) > 0 && (err != nil || diff != "") {
			t.Fatalf("ParseClaims(%q) = %v (-want +got)\n%s", text, err, diff)
		}
	})
}

func TestATableSaysWhatDiffers(t *testing.T) {
	p := parse(t, "version=1.0; authorizationrules {\n[type==\"a\", value==true] => permit();\n}; issuancerules { => issue(type=\"x\", value=1); };")
	for row, want := range map[string]string{
		`{"name":"n","claims":{"a":true},"permitted":true}`:                                            "",
		`{"name":"n","claims":{"a":true},"permitted":true,"line":2,"issued":[{"type":"x","value":1}]}`: "",
		`{"name":"n","claims":{"a":true},"permitted":false}`:                                           "got permitted true, want false",
		`{"name":"n","claims":{},"permitted":false,"line":2}`:                                          "got a decision of line 0, want 2",
		`{"name":"n","claims":{"a":true},"permitted":true,"issued":[]}`:                                "got issued [x=1], want []",
		`{"name":"n","claims":{"a":true},"permitted":true,"issued":[{"type":"x","value":"1"}]}`:        `want [x="1"]`,
		`{"name":"n","claims":{"a":true},"error":"x"}`:                                                 "got the error <nil>",
		`{"name":"n","claims":{"a":1.5},"permitted":false}`:                                            "fraction",
	} {
		table, err := policy.ParseTable([]byte(`{"policy":"p.policy","cases":[` + row + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Cases[0].Check(p); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Check(%s) = %v, want %q", row, err, want)
		}
	}
	for _, text := range []string{
		``, `{}`, `{"policy":"p"}`, `{"policy":"../p","cases":[{"name":"n","claims":{},"permitted":true}]}`, `{"policy":"p","cases":[{"name":"n","claims":{}}]}`,
		`{"policy":"p","cases":[{"name":"n","claims":{},"permitted":true}]}x`, `{"policy":"p","cases":[{"name":"n","claims":{},"permitted":true,"more":1}]}`,
		`{"policy":"p","cases":[{"name":"","claims":{},"permitted":true}]}`, `{"policy":"p","cases":[{"name":"n","permitted":true}]}`, `{"policy":"p","cases":[{"name":"n","claims":{},"permitted":true,"error":"e"}]}`,
	} {
		if _, err := policy.ParseTable([]byte(text)); err == nil {
			t.Errorf("ParseTable(%s) = nil, want an error", text)
		}
	}
}
