package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/assay-project/assay/policy"
)

func TestTextThatIsNoPolicyIsRefusedWhereItGoesWrong(t *testing.T) {
	const auth = "authorizationrules{=>permit();};"
	for name, tc := range map[string]struct{ src, want string }{
		"nothing":                   {"", "1:1: the end of the policy cannot stand here, expected version"},
		"no version":                {auth, `1:1: "authorizationrules" cannot stand here, expected version`},
		"a later version":           {"version=1.3;" + auth, `1:9: "1.3" cannot stand here, expected version 1.0, 1.1 or 1.2; for example: version=1.2;`},
		"a whole version":           {"version=1;" + auth, `1:9: "1" cannot stand here`},
		"no authorizationrules":     {"version=1.2;", "1:13: the end of the policy cannot stand here, expected authorizationrules"},
		"a section of 1.1":          {"version=1.0; configurationrules{};" + auth, "1:14: configurationrules needs version 1.1"},
		"a negation in 1.1":         {`version=1.1; authorizationrules{![type=="a"]=>permit();};`, `1:33: "!" before a condition needs version 1.2`},
		"a function in 1.1":         {`version=1.1; authorizationrules{[type=="a", value==NegateBool(true)]=>permit();};`, "1:52: the function NegateBool needs version 1.2"},
		"sections out of order":     {"version=1.1; " + auth + "configurationrules{};", "1:46: configurationrules comes after authorizationrules"},
		"a section twice":           {"version=1.1; " + auth + auth, "1:46: authorizationrules comes after authorizationrules"},
		"an unknown section":        {"version=1.1; rules{};", `1:14: "rules" cannot stand here, expected configurationrules`},
		"upper case":                {"version=1.1; AuthorizationRules{};", `1:14: "AuthorizationRules" cannot stand here`},
		"no semicolon at the end":   {"version=1.0; authorizationrules{=>permit();}", `1:45: the end of the policy cannot stand here, expected ";"`},
		"an open section":           {"version=1.0; authorizationrules{=>permit();", "1:44: the end of the policy cannot stand here, expected a rule, or } to end authorizationrules"},
		"an empty condition":        {"version=1.0; authorizationrules{[]=>permit();};", `1:34: "]" cannot stand here, expected type, value, valueType or issuer`},
		"one equals sign":           {"version=1.0;\nauthorizationrules{\n  [type=\"a\"]=>permit();};", `3:8: "=" cannot stand here, expected ==, !=, <, <=, > or >=; for example: [type=="secureBoot", value==true]`},
		"a condition without and":   {`version=1.0; authorizationrules{[type=="a"][type=="b"]=>permit();};`, `1:44: "[" cannot stand here, expected "&&" and another condition`},
		"and without a condition":   {`version=1.0; authorizationrules{[type=="a"]&& =>permit();};`, `1:47: "=>" cannot stand here, expected another condition`},
		"an or":                     {`version=1.0; authorizationrules{[type=="a"] || [type=="b"]=>permit();};`, `1:45: '|' has no meaning here, expected two rules instead of an or`},
		"a rule without arrow":      {`version=1.0; authorizationrules{permit();};`, `1:39: "(" cannot stand here, expected ":"`},
		"a type that is a number":   {`version=1.0; authorizationrules{[type==1]=>permit();};`, "1:40: type is compared with 1, expected a string"},
		"a fraction":                {`version=1.0; authorizationrules{[type=="a", value==1.5]=>permit();};`, `1:52: "1.5" cannot stand here, expected a whole number`},
		"a number of 65 bits":       {`version=1.0; authorizationrules{[type=="a", value==9223372036854775808]=>permit();};`, `1:52: "9223372036854775808" cannot stand here, expected an integer of 64 bits`},
		"a bare word":               {`version=1.0; authorizationrules{[type=="a", value==yes]=>permit();};`, `1:52: "yes" cannot stand here`},
		"typographic quotes":        {"version=1.0; authorizationrules{[type==“a”]=>permit();};", `1:40: '“' has no meaning here, expected straight double quotes`},
		"a string over two lines":   {"version=1.0; authorizationrules{[type==\"a\n\"]=>permit();};", "1:40: the string does not end on its line"},
		"a string that never ends":  {`version=1.0; authorizationrules{[type=="a`, "1:40: the string does not end, expected a closing"},
		"an unknown escape":         {`version=1.0; authorizationrules{[type=="C:\w"]=>permit();};`, `1:40: the string has the escape \w, expected \\ for one backslash`},
		"an issue in authorization": {`version=1.0; authorizationrules{=>issue(type="a", value=1);};`, `1:35: "issue" cannot stand here, expected an action of authorizationrules, one of [permit deny add]`},
		"a permit in issuance":      {"version=1.0; " + auth + "issuancerules{=>permit();};", `1:62: "permit" cannot stand here, expected an action of issuancerules`},
		"an add in configuration":   {`version=1.1; configurationrules{=>add(type="a", value=1);};` + auth, `1:35: "add" cannot stand here`},
		"a claim without value":     {`version=1.0; authorizationrules{=>add(type="a");};`, "1:35: add lacks a type or a value"},
		"a positional argument":     {`version=1.0; authorizationrules{=>add("a", value=1);};`, `1:39: the string "a" cannot stand here, expected type, value, valueType or issuer`},
		"a property twice":          {`version=1.0; authorizationrules{=>add(type="a", type="b", value=1);};`, "1:49: type is given twice"},
		"another's issuer":          {`version=1.0; authorizationrules{=>add(type="a", value=1, issuer="AttestationService");};`, "1:65: a rule cannot speak for another issuer"},
		"a wrong value type":        {`version=1.0; authorizationrules{=>add(type="a", value=1, valueType="String");};`, "1:55: the value 1 is no String"},
		"an unknown value type":     {`version=1.0; authorizationrules{=>add(type="a", value=1, valueType="Int");};`, "1:68: the value type is unknown"},
		"a reserved claim":          {"version=1.0; " + auth + `issuancerules{=>issue(type="exp", value=1);};`, `1:73: the claim "exp" is set by the service only`},
		"an unknown function":       {`version=1.2; authorizationrules{=>add(type="a", value=Length("a"));};`, `1:55: "Length" cannot stand here, expected JmesPath`},
		"an argument too few":       {`version=1.2; authorizationrules{=>add(type="a", value=AppendString("a"));};`, `1:71: ")" cannot stand here, expected ","; for example: AppendString("a", c.value)`},
		"an argument too many":      {`version=1.2; authorizationrules{=>add(type="a", value=NegateBool(true, true));};`, `1:70: "," cannot stand here, expected ")"`},
		"a wrong argument":          {`version=1.2; authorizationrules{=>add(type="a", value=NegateBool("x"));};`, `1:66: NegateBool is given "x", expected a Boolean`},
		"a query that is none":      {`version=1.2; authorizationrules{=>add(type="a", value=JmesPath("{}", "a["));};`, "1:70: query is not JMESPath"},
		"an unknown query function": {`version=1.2; authorizationrules{=>add(type="a", value=JmesPath("{}", "size(@)"));};`, "1:70: query calls the unknown function size"},
		"a query function's arity":  {`version=1.2; authorizationrules{=>add(type="a", value=JmesPath("{}", "length(@, @)"));};`, "1:70: query gives length 2 arguments, it takes 1"},
		"an extension of JMESPath":  {`version=1.2; authorizationrules{=>add(type="a", value=JmesPath("{}", "a + b"));};`, "1:70: query uses an extension"},
		"let":                       {`version=1.2; authorizationrules{=>add(type="a", value=JmesPath("{}", "let $a = @ in $a"));};`, "1:70: query uses an extension"},
		"a foreign sign":            {"version=1.0; § " + auth, "1:14: '§' has no meaning here"},
		"a byte order mark":         {"\uFEFFversion=1.0; " + auth, "1:1: the text begins with a byte order mark"},
		"columns count characters":  {"version=1.0; authorizationrules{[type==\"äöü\", value=1]=>permit();};", `1:52: "=" cannot stand here`},
		"something behind":          {"version=1.0; " + auth + " x", `1:47: "x" cannot stand here`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Parse(tc.src, policy.Strict)
			var syntax *policy.SyntaxError
			if !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("Parse(%s)\n= %v\nwant %s", tc.src, err, tc.want)
			}
		})
	}
}

func TestLenientTakesFourThingsMoreAndWarnsOfEach(t *testing.T) {
	for name, tc := range map[string]struct{ src, want string }{
		"one equals sign":       {`version=1.0; authorizationrules{[type="a"]=>permit();};`, "1:38: one = in a condition was read as =="},
		"a byte order mark":     {"\uFEFFversion=1.0; authorizationrules{[type==\"a\"]=>permit();};", "1:1: the text begins with a byte order mark"},
		"issue for add":         {`version=1.0; authorizationrules{=>issue(type="a", value=1); [type=="a"]=>permit();};`, "1:35: issue inside authorizationrules was read as add"},
		"no authorizationrules": {`version=1.0;`, "1:13: the policy has no authorizationrules and therefore denies everything"},
	} {
		if _, err := policy.Parse(tc.src, policy.Strict); err == nil {
			t.Errorf("%s: Parse(strict) = nil, want an error", name)
		}
		p, err := policy.Parse(tc.src, policy.Lenient)
		if err != nil || len(p.Warnings()) != 1 || p.Warnings()[0].String() != tc.want {
			t.Errorf("%s: Parse(lenient) = %v, %v; want the warning %s", name, p, err, tc.want)
			continue
		}
		if r, err := p.Evaluate(facts("a", 1)); err != nil || r.Permitted() != (name != "no authorizationrules") || len(r.Issued()) > 0 {
			t.Errorf("%s: Evaluate = %v, %v", name, r.Permitted(), err)
		}
	}
}

func TestEveryProperPrefixIsRefused(t *testing.T) {
	const src = `version=1.2;configurationrules{=>issueproperty(type="p",value=1);};authorizationrules{c:[type=="a",value==true]&&![type=="b"]=>permit();};issuancerules{c:[type=="a"]=>issue(type="x",value=AppendString("a",c.value));};`
	if _, err := policy.Parse(src, policy.Strict); err != nil {
		t.Fatal(err)
	}
	// Issuance rules are optional, so the text may end before them.
	end := strings.Index(src, "issuancerules")
	for i := range src {
		if _, err := policy.Parse(src[:i], policy.Strict); (err == nil) != (i == end) {
			t.Errorf("Parse(%q) = %v", src[:i], err)
		}
	}
}

func TestFormatKeepsMeaningAndCommentsAndIsStable(t *testing.T) {
	for name, src := range azure(t) {
		p, err := policy.Parse(src, policy.Lenient)
		if err != nil {
			continue
		}
		out, err := policy.Format(src, policy.Lenient)
		if err != nil {
			t.Errorf("Format(%s) = %v", name, err)
			continue
		}
		q, err := policy.Parse(out, policy.Lenient)
		if err != nil || !p.Equal(q) {
			t.Errorf("Format(%s) changes the policy, %v:\n%s", name, err, out)
		}
		if again, err := policy.Format(out, policy.Lenient); err != nil || again != out {
			t.Errorf("Format(Format(%s)) differs, %v:\n%s\n---\n%s", name, err, out, again)
		}
		if got, want := strings.Count(out, "//"), strings.Count(src, "//"); got != want {
			t.Errorf("Format(%s) has %d comments, want %d", name, got, want)
		}
	}
}

func TestFormatLaysOutRules(t *testing.T) {
	const src = `// top
version = 1.2 ; authorizationrules{ // why
c :[ type=="a",value == true ]&&// first
![type=="b"]
 // alone
&& [type=="c"]=>permit( );


// next
=>add(type="x",value=AppendString("a","b"));};issuancerules{};
// end`
	const want = `// top
version=1.2;

authorizationrules { // why
    c:[type=="a", value==true] && // first
        ![type=="b"]
        // alone
        &&
        [type=="c"] => permit();

    // next
    => add(type="x", value=AppendString("a", "b"));
};

issuancerules {
};
// end
`
	got, err := policy.Format(src, policy.Strict)
	if err != nil || got != want {
		t.Errorf("Format = %v\n%s\nwant\n%s", err, got, want)
	}
}

func TestEqualTellsPoliciesApart(t *testing.T) {
	const src = `version=1.2; authorizationrules{c:[type=="a", value==true] && [type=="b", value==c.value]=>permit();};`
	for _, other := range []string{
		strings.Replace(src, "1.2", "1.1", 1), strings.Replace(src, "true", "false", 1), strings.Replace(src, "c.value", "c.type", 1),
		strings.Replace(src, `"b"`, `"d"`, 1), strings.Replace(src, "permit", "deny", 1), strings.Replace(src, "value==c", "value!=c", 1),
		strings.Replace(src, "true", "1", 1), strings.Replace(src, "true", `"true"`, 1),
	} {
		if parse(t, src).Equal(parse(t, other)) {
			t.Errorf("%s\nequals\n%s", src, other)
		}
	}
	if !parse(t, src).Equal(parse(t, "\n"+src)) {
		t.Error("a line break changes the policy")
	}
}
