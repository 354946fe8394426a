package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/policy"
)

// facts makes claims of the service from name, value pairs.
func facts(pairs ...any) []policy.Claim {
	var out []policy.Claim
	for i := 0; i < len(pairs); i += 2 {
		c := policy.Claim{Type: pairs[i].(string), Issuer: policy.FromService}
		switch v := pairs[i+1].(type) {
		case bool:
			c.Value = policy.BoolValue(v)
		case int:
			c.Value = policy.IntValue(int64(v))
		case string:
			c.Value = policy.StringValue(v)
		}
		c.ReadOnly = c.Type == "pcrs"
		out = append(out, c)
	}
	return out
}

func parse(tb testing.TB, src string) *policy.Policy {
	tb.Helper()
	p, err := policy.Parse(src, policy.Strict)
	if err != nil {
		tb.Fatalf("Parse(%s) = %v", src, err)
	}
	return p
}

// words shows issued claims as "type=value".
func words(r *policy.Result) string {
	var out []string
	for _, c := range r.Issued() {
		out = append(out, c.Type+"="+c.Value.String())
	}
	return strings.Join(out, " ")
}

func TestAuthorizationFollowsTheConditions(t *testing.T) {
	for name, tc := range map[string]struct {
		rules  string
		claims []policy.Claim
		want   bool
	}{
		"a true claim":                         {`[type=="a", value==true] => permit();`, facts("a", true), true},
		"a false claim":                        {`[type=="a", value==true] => permit();`, facts("a", false), false},
		"an absent claim":                      {`[type=="a", value==true] => permit();`, nil, false},
		"presence alone":                       {`[type=="a"] => permit();`, facts("a", false), true},
		"no permit is a denial":                {`[type=="a"] => add(type="b", value=1);`, facts("a", true), false},
		"the string true is not the boolean":   {`[type=="a", value==true] => permit();`, facts("a", "true"), false},
		"the integer 1 is not the boolean":     {`[type=="a", value==true] => permit();`, facts("a", 1), false},
		"the string 1 is not the integer":      {`[type=="a", value==1] => permit();`, facts("a", "1"), false},
		"another type is unequal":              {`[type=="a", value!=1] => permit();`, facts("a", "1"), true},
		"nothing is not unequal":               {`[type=="a", value!=1] => permit();`, nil, false},
		"strings have no order":                {`[type=="a", value>="0"] => permit();`, facts("a", "1"), false},
		"booleans have no order":               {`[type=="a", value>=false] => permit();`, facts("a", true), false},
		"above":                                {`[type=="a", value>3] => permit();`, facts("a", 3), false},
		"at least":                             {`[type=="a", value>=3] => permit();`, facts("a", 3), true},
		"below":                                {`[type=="a", value<3] => permit();`, facts("a", 2), true},
		"at most":                              {`[type=="a", value<=3] => permit();`, facts("a", 4), false},
		"hexadecimal and negative":             {`[type=="a", value==0x10] && [type=="b", value==-0x10] => permit();`, facts("a", 16, "b", -16), true},
		"all conditions hold":                  {`[type=="a"] && [type=="b"] => permit();`, facts("a", 1), false},
		"deny wins when it comes first":        {`[type=="a"] => deny(); => permit();`, facts("a", 1), false},
		"deny wins when it comes last":         {`=> permit(); [type=="a"] => deny();`, facts("a", 1), false},
		"a deny that does not fire":            {`=> permit(); [type=="a"] => deny();`, nil, true},
		"none":                                 {`![type=="a"] => permit();`, nil, true},
		"none is not so":                       {`![type=="a", value==true] => permit();`, facts("a", false, "a", true), false},
		"one of several":                       {`[type=="a", value=="y"] => permit();`, facts("a", "x", "a", "y"), true},
		"the issuer counts":                    {`[type=="a", issuer=="AttestationService"] => permit();`, []policy.Claim{{Type: "a", Value: policy.BoolValue(true), Issuer: policy.FromAttester}}, false},
		"the value's type counts":              {`[type=="a", valueType=="Integer"] => permit();`, facts("a", 1), true},
		"the value's type differs":             {`[type=="a", valueType=="Boolean"] => permit();`, facts("a", 1), false},
		"a join":                               {`c:[type=="a"] && [type=="b", value==c.value] => permit();`, facts("a", 1, "a", 2, "b", 2), true},
		"no join":                              {`c:[type=="a"] && [type=="b", value==c.value] => permit();`, facts("a", 1, "b", 2), false},
		"one pair passes all tests of a join":  {`c:[type=="a"] && [type=="b", value!=c.value, value>=c.value] => permit();`, facts("a", 1, "a", 5, "b", 5), true},
		"no one pair passes all":               {`c:[type=="a"] && [type=="b", value==c.value, value>c.value] => permit();`, facts("a", 1, "a", 5, "b", 5), false},
		"a join under none":                    {`c:[type=="a"] && ![type=="b", value==c.value] => permit();`, facts("a", 1, "a", 2, "b", 1), true},
		"a claim that was added":               {`=> add(type="x", value=true); [type=="x", issuer=="AttestationPolicy"] => permit();`, nil, true},
		"no rule reads what it adds":           {`c:[type=="a"] => add(type="a", value=AppendString(c.value, "x")); [type=="a", value=="axx"] => permit();`, facts("a", "a"), false},
		"rules run in order":                   {`[type=="x"] => permit(); => add(type="x", value=true);`, nil, false},
		"a set of only one value":              {`c:[type=="a"] && [type=="want", value==ContainsOnlyValue(c.value, true)] => permit();`, facts("a", true, "a", true, "want", true), true},
		"a set of two values":                  {`c:[type=="a"] => add(type="x", value=ContainsOnlyValue(c.value, true)); [type=="x", value==true] => permit();`, facts("a", true, "a", false), false},
		"an empty set contains nothing only":   {`[type=="t"] => add(type="x", value=ContainsOnlyValue(JsonToClaimValue("[]"), true)); [type=="x", value==true] => permit();`, facts("t", 1), false},
		"a subset":                             {`c:[type=="a"] && d:[type=="b"] => add(type="x", value=IsSubsetOf(c.value, d.value)); [type=="x", value==true] => permit();`, facts("a", 1, "a", 1, "b", 1, "b", "2"), true},
		"no subset, for types differ":          {`c:[type=="a"] && d:[type=="b"] => add(type="x", value=IsSubsetOf(c.value, d.value)); [type=="x", value==true] => permit();`, facts("a", 2, "b", 1, "b", "2"), false},
		"negation":                             {`c:[type=="a"] => add(type="x", value=NegateBool(c.value)); [type=="x", value==true] => permit();`, facts("a", false), true},
		"a test with a set passes for one":     {`[type=="a", value==JsonToClaimValue("[1,2]")] => permit();`, facts("a", 2), true},
		"null gives no claim":                  {`[type=="t"] => add(type="x", value=JsonToClaimValue("null")); [type=="x"] => permit();`, facts("t", 1), false},
		"escapes":                              {`[type=="a", value=="x\\\"y"] => permit();`, facts("a", `x\"y`), true},
		"a condition that names no type":       {`[value==true] => permit();`, facts("a", 1, "b", true), true},
		"a type given by another claim":        {`c:[type=="a"] && [type==c.value, value==7] => permit();`, facts("a", "b", "b", 7), true},
		"the later of two with one identifier": {`c:[type=="a"] && c:[type=="b"] && [type=="want", value==c.value] => permit();`, facts("a", 1, "b", 2, "want", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, "version=1.2; authorizationrules {"+tc.rules+"};")
			r, err := p.Evaluate(tc.claims)
			if err != nil || r.Permitted() != tc.want {
				t.Errorf("Evaluate(%v) = %v, %v; want %v", tc.claims, r.Permitted(), err, tc.want)
			}
			if x := p.Explain(tc.claims); x.Err != nil || x.Result.Permitted() != tc.want {
				t.Errorf("Explain(%v) = %v, %v; want %v", tc.claims, x.Result.Permitted(), x.Err, tc.want)
			}
		})
	}
}

func TestIssuedClaimsAreThoseOfTheRules(t *testing.T) {
	const events = `{"Events":[{"PcrIndex":7,"Name":"a"},{"PcrIndex":4,"Name":"b"}]}`
	for name, tc := range map[string]struct{ rules, want string }{
		"a literal":                       {`=> issue(type="x", value=1);`, `x=1`},
		"add is not issued":               {`=> add(type="x", value=1);`, ``},
		"a copy":                          {`c:[type=="n"] => issue(claim=c);`, `n=1 n=2`},
		"each value of a bag":             {`c:[type=="n"] => issue(type="m", value=c.value);`, `m=1 m=2`},
		"a set function once":             {`c:[type=="n"] => issue(type="m", value=ContainsOnlyValue(c.value, 1));`, `m=false`},
		"twice the same is once":          {`=> issue(type="x", value=1); => issue(type="x", value=1);`, `x=1`},
		"issue after add":                 {`=> add(type="x", value=1); [type=="x"] => issue(type="x", value=1);`, `x=1`},
		"an array gives several":          {`c:[type=="events"] => issue(type="p", value=JsonToClaimValue(JmesPath(c.value, "Events[].PcrIndex")));`, `p=7 p=4`},
		"JmesPath gives JSON text":        {`c:[type=="events"] => issue(type="p", value=JmesPath(c.value, "Events[0].Name"));`, `p="\"a\""`},
		"JmesPath of nothing is null":     {`c:[type=="events"] => issue(type="p", value=JmesPath(c.value, "Nothing"));`, `p="null"`},
		"a query that is computed":        {`c:[type=="events"] && n:[type=="q"] => issue(type="p", value=JmesPath(c.value, AppendString("Events[0].", n.value)));`, `p="\"a\""`},
		"read-only claims are kept back":  {`c:[type=="pcrs"] => issue(claim=c); => issue(type="x", value=1);`, `x=1`},
		"and what is computed from them":  {`c:[type=="pcrs"] => issue(type="x", value=AppendString(JmesPath(c.value, "a"), "x"));`, ``},
		"but not its type":                {`c:[type=="pcrs"] => issue(type="x", value=c.type);`, `x="pcrs"`},
		"even by way of an added claim":   {`c:[type=="pcrs"] => add(type="y", value=JsonToClaimValue(JmesPath(c.value, "a"))); c:[type=="y"] => issue(claim=c);`, ``},
		"but a comparison may be told":    {`c:[type=="pcrs"] => add(type="y", value=JsonToClaimValue(JmesPath(c.value, "a"))); c:[type=="y"] => issue(type="ok", value=ContainsOnlyValue(c.value, 1));`, `ok=true`},
		"every pair of a join":            {`a:[type=="n"] && b:[type=="n", value!=a.value] => issue(type="x", value=b.value);`, `x=2 x=1`},
		"no rule feeds itself":            {`c:[type=="n", value<9] => issue(type="n", value=3);`, `n=3`},
		"hidden drivers by the published": {`c:[type=="events"] => issue(type="p", value=JsonToClaimValue(JmesPath(c.value, "Events[? equals_ignore_case(Name, 'A')] | length(@)")));`, `p=1`},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, "version=1.2; authorizationrules { => permit(); }; issuancerules {"+tc.rules+"};")
			r, err := p.Evaluate(facts("n", 1, "n", 2, "events", events, "q", "Name", "pcrs", `{"a":1}`))
			if err != nil || words(r) != tc.want {
				t.Errorf("Evaluate = %s, %v; want %s", words(r), err, tc.want)
			}
		})
	}
}

func TestADeniedAttesterGetsNoClaims(t *testing.T) {
	p := parse(t, `version=1.0; authorizationrules { => permit(); => deny(); }; issuancerules { => issue(type="x", value=1); };`)
	r, err := p.Evaluate(nil)
	if err != nil || r.Permitted() || len(r.Issued()) > 0 {
		t.Errorf("Evaluate = %v, %s, %v; want a denial without claims", r.Permitted(), words(r), err)
	}
	p = parse(t, `version=1.0; authorizationrules { [type=="a"] => permit(); }; issuancerules { => issue(type="x", value=1); };`)
	if r, err := p.Evaluate(nil); err != nil || r.Permitted() || len(r.Issued()) > 0 {
		t.Errorf("Evaluate = %v, %s, %v; want a denial without claims", r.Permitted(), words(r), err)
	}
}

func TestPropertiesAreSetOnce(t *testing.T) {
	p := parse(t, `version=1.1; configurationrules { => issueproperty(type="a", value=15); => issueproperty(type="a", value=15); }; authorizationrules { => deny(); };`)
	r, err := p.Evaluate(nil)
	want := []policy.Property{{Name: "a", Value: policy.IntValue(15)}}
	if diff := cmp.Diff(want, r.Properties(), cmp.AllowUnexported(policy.Value{})); err != nil || diff != "" {
		t.Errorf("Properties = %v, %v (-want +got)\n%s", r.Properties(), err, diff)
	}
	p = parse(t, `version=1.1; configurationrules { => issueproperty(type="a", value=15); => issueproperty(type="a", value=16); }; authorizationrules { => permit(); };`)
	if r, err := p.Evaluate(nil); err == nil || r.Permitted() {
		t.Errorf("Evaluate with two values of one property = %v, %v; want an error", r.Permitted(), err)
	}
}

func TestARuleThatFailsDenies(t *testing.T) {
	for name, tc := range map[string]struct{ rule, want string }{
		"unbound identifier":         {`=> add(type="x", value=c.value);`, `binds the identifier "c"`},
		"unbound claim":              {`=> add(claim=c);`, `binds the identifier "c"`},
		"unbound set":                {`=> add(type="x", value=ContainsOnlyValue(c.value, 1));`, `binds the identifier "c"`},
		"identifier of a negation":   {`!c:[type=="none"] => add(claim=c);`, `binds the identifier "c"`},
		"JSON that is none":          {`c:[type=="text"] => add(type="x", value=JmesPath(c.value, "a"));`, `not JSON`},
		"a query that is none":       {`c:[type=="text"] => add(type="x", value=JmesPath("{}", c.value));`, `not JMESPath`},
		"a query of the wrong type":  {`c:[type=="n"] => add(type="x", value=JmesPath("{}", c.value));`, `Integer, not String`},
		"a function of a wrong type": {`c:[type=="n"] => add(type="x", value=JmesPath("{\"a\":1}", "length(a)"));`, `gives length a number`},
		"an object as value":         {`=> add(type="x", value=JsonToClaimValue("{}"));`, `object is no claim value`},
		"a nested array as value":    {`=> add(type="x", value=JsonToClaimValue("[[1]]"));`, `array is no claim value`},
		"a fraction as value":        {`=> add(type="x", value=JsonToClaimValue("1.5"));`, `fraction`},
		"a huge number as value":     {`=> add(type="x", value=JsonToClaimValue("18446744073709551615"));`, `too large`},
		"appending an integer":       {`c:[type=="n"] => add(type="x", value=AppendString("a", c.value));`, `Integer, not String`},
		"negating an integer":        {`c:[type=="n"] => add(type="x", value=NegateBool(c.value));`, `Integer, not Boolean`},
		"a set where one is needed":  {`=> add(type="x", value=AppendString("a", JsonToClaimValue("[\"b\",\"c\"]")));`, `2 values`},
		"nothing where one is":       {`=> add(type="x", value=NegateBool(JsonToClaimValue("null")));`, `0 values`},
		"a value of another type":    {`c:[type=="n"] => add(type="x", value=c.value, valueType="String");`, `Integer is no String`},
		"a type that is no string":   {`c:[type=="n"] => add(type=c.value, value=1);`, `Integer, not String`},
		"an empty type":              {`=> add(type="", value=1);`, `empty`},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, "version=1.2; authorizationrules { => permit(); "+tc.rule+"};")
			r, err := p.Evaluate(facts("n", 1, "text", "no json ["))
			var failure *policy.EvaluationError
			if !errors.As(err, &failure) || !strings.Contains(err.Error(), tc.want) || r.Permitted() {
				t.Errorf("Evaluate = %v, %v; want an EvaluationError with %q", r.Permitted(), err, tc.want)
			}
		})
	}
}

func TestThePolicyCannotIssueTheServicesClaims(t *testing.T) {
	if _, err := policy.Parse(`version=1.0; authorizationrules { => permit(); }; issuancerules { => issue(type="iss", value="x"); };`, policy.Lenient); err == nil {
		t.Error("Parse accepts a rule that issues iss")
	}
	p := parse(t, `version=1.0; authorizationrules { => permit(); }; issuancerules { c:[type=="a"] => issue(type=c.value, value="x"); };`)
	if r, err := p.Evaluate(facts("a", "exp")); err == nil || r.Permitted() {
		t.Errorf("Evaluate = %v, %v; want an error, for the rule issues exp", r.Permitted(), err)
	}
}

func TestIncomingClaimsThatCannotBeAreRefused(t *testing.T) {
	p := parse(t, `version=1.0; authorizationrules { => permit(); };`)
	for name, c := range map[string]policy.Claim{
		"no type":           {Value: policy.IntValue(1), Issuer: policy.FromService},
		"no value":          {Type: "a", Issuer: policy.FromService},
		"no issuer":         {Type: "a", Value: policy.IntValue(1)},
		"the policy's name": {Type: "a", Value: policy.IntValue(1), Issuer: policy.FromPolicy},
	} {
		if r, err := p.Evaluate([]policy.Claim{c}); err == nil || r.Permitted() {
			t.Errorf("%s: Evaluate = %v, %v; want an error", name, r.Permitted(), err)
		}
	}
}

// TestA14FailOpenPolicy holds attack A14: a policy that is empty, undefined,
// failing or accepts everything must not let anyone pass unnoticed.
func TestA14FailOpenPolicy(t *testing.T) {
	var none *policy.Policy
	for name, p := range map[string]*policy.Policy{"nil": none, "zero": new(policy.Policy)} {
		if r, err := p.Evaluate(facts("secureBoot", true)); err != nil || r.Permitted() {
			t.Errorf("%s policy: Evaluate = %v, %v; want a denial", name, r.Permitted(), err)
		}
	}
	if new(policy.Result).Permitted() || (*policy.Result)(nil).Permitted() {
		t.Error("the zero Result permits")
	}
	for _, src := range []string{"", "version=1.2;", "version=1.2; issuancerules { => issue(type=\"ok\", value=true); };", "version=1.3; authorizationrules { => permit(); };"} {
		if _, err := policy.Parse(src, policy.Strict); err == nil {
			t.Errorf("Parse(%q) = nil, want an error", src)
		}
	}
	for name, rules := range map[string]string{
		"no rule":          ``,
		"a missing claim":  `[type=="neverProduced", value==true] => permit();`,
		"a failing rule":   `=> permit(); [type=="secureBoot"] => add(type="x", value=JmesPath("", "a"));`,
		"a missing set":    `c:[type=="reference"] && [type=="secureBoot", value==ContainsOnlyValue(c.value, true)] => permit();`,
		"empty references": `=> add(type="ok", value=ContainsOnlyValue(JsonToClaimValue("[]"), "x")); [type=="ok", value==true] => permit();`,
	} {
		if r, err := parse(t, "version=1.2; authorizationrules {"+rules+"};").Evaluate(facts("secureBoot", true)); r.Permitted() {
			t.Errorf("%s: Evaluate = permitted, %v; want a denial", name, err)
		}
	}
	for name, rules := range map[string]string{
		"accept-all":        `=> permit();`,
		"by way of a claim": `=> add(type="ok", value=true); [type=="ok", value==true] => permit();`,
		"with or without":   `[type=="a"] => permit(); ![type=="a"] => permit();`,
		"by a default":      `![type=="ok"] => add(type="ok", value=true); [type=="ok"] => permit();`,
		"an absurd none":    `![type=="a", value==1, value==2] => permit();`,
		"a deny for nobody": `[type=="a", value==1, value==2] => deny(); => permit();`,
	} {
		if p := parse(t, "version=1.2; authorizationrules {"+rules+"};"); !p.Vacuous() {
			t.Errorf("%s: Vacuous() = false, want true", name)
		}
	}
	for name, rules := range map[string]string{
		"a check":                 `[type=="a", value==true] => permit();`,
		"a deny":                  `[type=="a", value==true] => deny(); => permit();`,
		"nobody":                  `=> deny();`,
		"a default that refuses":  `![type=="ok"] => add(type="ok", value=false); [type=="ok", value==true] => permit();`,
		"none of a thing":         `![type=="a", value==true] => permit();`,
		"with or without a value": `[type=="a", value==1] => permit(); ![type=="a", value==2] => permit();`,
	} {
		if p := parse(t, "version=1.2; authorizationrules {"+rules+"};"); p.Vacuous() {
			t.Errorf("%s: Vacuous() = true, want false", name)
		}
	}
}

func TestTheDecisionIsExplained(t *testing.T) {
	p := parse(t, "version=1.2;\nauthorizationrules {\n[type==\"debug\", value==true] => deny();\n[type==\"secureBoot\",value==true] &&\n  [type==\"aik\", value==true] => permit();\n};\nissuancerules { c:[type==\"tpm\"] => issue(claim=c); };")
	claims := facts("debug", false, "secureBoot", true, "aik", true, "tpm", "x", "elam", false)
	x := p.Explain(claims)
	if x.Err != nil {
		t.Fatal(x.Err)
	}
	wantRule := policy.Decision{Line: 4, Rule: `[type=="secureBoot", value==true] && [type=="aik", value==true] => permit();`}
	if diff := cmp.Diff(wantRule, x.Result.DecidedBy()); diff != "" {
		t.Errorf("DecidedBy (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"elam", "tpm"}, x.Result.NotChecked()); diff != "" {
		t.Errorf("NotChecked (-want +got)\n%s", diff)
	}
	if got := x.Rules[0]; got.Fired != 0 || got.Unmet != `[type=="debug", value==true]` || len(got.Read) != 1 || got.Read[0] != claims[0] {
		t.Errorf("trace of the deny rule = %+v", got)
	}
	if got := x.Rules[1]; got.Fired != 1 || len(got.Read) != 2 || got.Line != 4 {
		t.Errorf("trace of the permit rule = %+v", got)
	}
	if got := x.Rules[2]; got.Section != "issuancerules" || len(got.Made) != 1 || got.Made[0].Type != "tpm" {
		t.Errorf("trace of the issuance rule = %+v", got)
	}
	if r, _ := p.Evaluate(facts("debug", true, "secureBoot", true, "aik", true)); r.DecidedBy().Line != 3 {
		t.Errorf("DecidedBy = %v, want the deny rule", r.DecidedBy())
	}
	if r, _ := p.Evaluate(nil); r.DecidedBy() != (policy.Decision{}) {
		t.Errorf("DecidedBy = %v, want none", r.DecidedBy())
	}
}

func TestPresenceIsNotACheck(t *testing.T) {
	p := parse(t, `version=1.0; authorizationrules { c:[type=="debug"] => permit(); };`)
	r, err := p.Evaluate(facts("debug", true))
	if diff := cmp.Diff([]string{"debug"}, r.NotChecked()); err != nil || diff != "" {
		t.Errorf("NotChecked, %v (-want +got)\n%s", err, diff)
	}
}

func TestAConditionForAnyTypeChecksWhatItTakes(t *testing.T) {
	p := parse(t, `version=1.0; authorizationrules { [value==true] => permit(); };`)
	r, err := p.Evaluate(facts("a", false, "b", true))
	if diff := cmp.Diff([]string{"a"}, r.NotChecked()); err != nil || diff != "" {
		t.Errorf("NotChecked, %v (-want +got)\n%s", err, diff)
	}
}

func TestAReadOnlyClaimSetsNoProperty(t *testing.T) {
	p := parse(t, `version=1.2; configurationrules { c:[type=="pcrs"] => issueproperty(type="p", value=c.value); }; authorizationrules { [type=="pcrs"] => permit(); };`)
	r, err := p.Evaluate(facts("pcrs", "{}"))
	if err != nil || len(r.Properties()) > 0 || len(r.Notes()) != 1 {
		t.Errorf("Properties, Notes = %v, %q, %v; want none and one", r.Properties(), r.Notes(), err)
	}
}

func TestReadsNamesTheClaimsThatMatter(t *testing.T) {
	p := parse(t, `version=1.0; authorizationrules { [type=="a"] => permit(); };`)
	if !p.Reads("a") || p.Reads("events") {
		t.Errorf("Reads(a), Reads(events) = %v, %v; want true, false", p.Reads("a"), p.Reads("events"))
	}
	if p := parse(t, `version=1.0; authorizationrules { [value==true] => permit(); };`); !p.Reads("events") {
		t.Error("a condition without a type does not read events")
	}
}

func TestHashesAreThoseOfPublicTokens(t *testing.T) {
	src := azure(t)
	for name, want := range map[string]string{
		"doc.policy-examples.jwt1-decoded.policy": "egjnANIzEpS2WgpE4Nk-QEwM69XRCgTs42_G0qLlbnk",
		"recorded.sgx-default.2021-05.policy":     "bROrN897ZfWmWY2V0FLUlu3uwk5xatGnKYHn3zBbSlw",
		"recovered.sevsnpvm-default.policy":       "9NY0VnTQ-IiBriBplVUpFbczcDaEBUwsiFYAzHu_gco",
		"recovered.sevsnpvm-sandbox-2022.policy":  "LTPRQQju-FejAwdYihF8YV_c2XWebG9joKvrHKc3bxs",
		"recovered.tdxvm-sandbox-2023.policy":     "B56nbp5slhw66peoRYkpdq1WykMkEworvdol08hnMXE",
	} {
		if got := policy.Hash(src[name]); got != want {
			t.Errorf("Hash(%s) = %s, want %s", name, got, want)
		}
	}
}

// twentyRules is the policy of the speed floor, over sixty claims.
func twentyRules(tb testing.TB) (*policy.Policy, []policy.Claim) {
	var rules strings.Builder
	var claims []policy.Claim
	for i := range 60 {
		claims = append(claims, facts(fmt.Sprintf("claim%d", i), i%2 == 0)...)
	}
	for i := range 10 {
		fmt.Fprintf(&rules, "[type==\"claim%d\", value==true, issuer==\"AttestationService\"] => deny();\n", 2*i+1)
	}
	rules.WriteString("[type==\"claim0\", value==true] && [type==\"claim2\", value==true] && [type==\"claim4\", value==true] => permit(); };\nissuancerules {\n")
	for i := range 9 {
		fmt.Fprintf(&rules, "c:[type==\"claim%d\"] => issue(claim=c);\n", i)
	}
	return parse(tb, "version=1.2; authorizationrules {\n"+rules.String()+"};"), claims
}

func BenchmarkEvaluateTwentyRules(b *testing.B) {
	p, claims := twentyRules(b)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := p.Evaluate(claims); err != nil || !r.Permitted() {
			b.Fatal(r.Permitted(), err)
		}
	}
}

func TestTwentyRulesTakeFewAllocations(t *testing.T) {
	p, claims := twentyRules(t)
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Evaluate(claims) }); n > 16 {
		t.Errorf("Evaluate allocates %v times, want at most 16", n)
	}
}

func TestAPolicyMayBeUsedConcurrently(t *testing.T) {
	p := parse(t, azure(t)["doc.policy-version-1-2.rule.02.rules"])
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := p.Evaluate(facts("events", `{"Events":[]}`))
			if err != nil || words(r) != "codeIntegrityEnabled=false" {
				t.Errorf("Evaluate = %s, %v", words(r), err)
			}
			p.Lint(nil)
		})
	}
	wg.Wait()
}
