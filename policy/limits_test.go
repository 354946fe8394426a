package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/policy"
)

// patience is how long the worst evaluation may take on a busy machine with the
// race detector; it is there to tell a stall from work.
const patience = 20 * time.Second

func TestTextBeyondALimitIsRefused(t *testing.T) {
	rule := `[type=="a"] => permit();`
	in := func(rules string) string { return "version=1.2; authorizationrules{" + rules + "};" }
	for name, src := range map[string]string{
		"bytes":      in(strings.Repeat(" ", 256<<10)),
		"tokens":     in(strings.Repeat(";", 50_000)),
		"rules":      in(strings.Repeat(rule, 1001)),
		"conditions": in(strings.Repeat(`[type=="a"]&&`, 32) + rule),
		"tests":      in(`[` + strings.Repeat(`value==1,`, 16) + `value==1] => permit();`),
		"nesting":    in(`=> add(type="a", value=` + strings.Repeat("NegateBool(", 17) + "true" + strings.Repeat(")", 17) + `);`),
		"string":     in(`[type=="` + strings.Repeat("a", 65<<10) + `"] => permit();`),
		"query":      in(`=> add(type="a", value=JmesPath("{}", "` + strings.Repeat("a", 9<<10) + `"));`),
		"queries":    in(distinctQueries(10)),
		"brackets":   in(`=> add(type="a", value=JmesPath("{}", "` + strings.Repeat("(", 600) + "a" + strings.Repeat(")", 600) + `"));`),
		"signs":      in(`=> add(type="a", value=JmesPath("{}", "` + strings.Repeat("!", 600) + `a"));`),
		"dots":       in(`=> add(type="a", value=JmesPath("{}", "a` + strings.Repeat(".a", 600) + `"));`),
	} {
		if _, err := policy.Parse(src, policy.Strict); !errors.Is(err, policy.ErrLimit) {
			t.Errorf("%s: Parse = %v, want ErrLimit", name, err)
		}
	}
}

// distinctQueries makes n rules with a long query each.
func distinctQueries(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `=> add(type="a", value=JmesPath("{}", "a%d%s"));`, i, strings.Repeat("a", 8000))
	}
	return b.String()
}

// many makes n claims of one type with distinct values.
func many(n int, claimType string) []policy.Claim {
	var out []policy.Claim
	for i := range n {
		out = append(out, facts(claimType, i)...)
	}
	return out
}

func TestAHostileEvaluationIsStopped(t *testing.T) {
	var join, doubling strings.Builder
	for i := range 30 {
		fmt.Fprintf(&join, `c%d:[type=="n"] && `, i)
	}
	for i := range 29 {
		fmt.Fprintf(&join, `[type=="n", value!=c%d.value, value==-1] && `, i)
	}
	doubling.WriteString(`=> add(type="x0", value="0123456789abcdef");`)
	for i := range 40 {
		fmt.Fprintf(&doubling, `c:[type=="x%d"] => add(type="x%d", value=AppendString(c.value, c.value));`, i, i+1)
	}
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for name, tc := range map[string]struct {
		rules  string
		claims []policy.Claim
	}{
		"an exponential join":    {strings.Join(strings.SplitAfterN(join.String(), "&& ", 31)[:30], "") + `[type=="n", value==-1, issuer!=c0.issuer, issuer!=c1.issuer, issuer!=c2.issuer] => permit();`, many(200, "n")},
		"a product of three":     {`a:[type=="n"] && b:[type=="n"] && c:[type=="n"] => add(type="x", value=IsSubsetOf(a.value, b.value)); a:[type=="n"] && b:[type=="n"] && [type=="n", value>a.value, value<b.value, value==-1] => permit();`, many(1000, "n")},
		"doubled strings":        {doubling.String(), nil},
		"a doubling query":       {`=> add(type="x", value=JmesPath("[1]", "` + strings.TrimSuffix(strings.Repeat("[@,@] | ", 200), " | ") + `"));`, nil},
		"a product in a query":   {`c:[type=="j"] => add(type="x", value=JmesPath(c.value, "` + strings.Repeat("[].[@, @]", 40) + `"));`, facts("j", "["+strings.Repeat("1,", 5000)+"1]")},
		"an equal comparison":    {`c:[type=="j"] => add(type="x", value=JmesPath(c.value, "` + strings.TrimSuffix(strings.Repeat("[@,@] | ", 60), " | ") + ` | @[0] == @[1]"));`, facts("j", "[1]")},
		"sorting again":          {`c:[type=="j"] => add(type="x", value=JmesPath(c.value, "` + strings.Repeat("sort(", 200) + "@" + strings.Repeat(")", 200) + `"));`, facts("j", "["+strings.Repeat("1,", 50_000)+"1]")},
		"deep JSON":              {`c:[type=="j"] => add(type="x", value=JmesPath(c.value, "a"));`, facts("j", deep)},
		"too many claims made":   {`c:[type=="j"] => add(type="x", value=JsonToClaimValue(c.value)); [type=="x", value==1] => permit();`, facts("j", numbers(5000))},
		"long strings compared":  {`a:[type=="s"] && [type=="s", value!=a.value, value==a.value] => permit();`, strs(100, 40_000)},
		"JSON read again":        {`c:[type=="j"] => add(type="x", value=JmesPath(AppendString(c.value, " "), "a")); c:[type=="j"] && [type=="n"] && d:[type=="n"] => add(type="x", value=JmesPath(AppendString(c.value, JmesPath("\" \"", "@")), AppendString("a", JmesPath("{}", "@"))));`, append(facts("j", `{"a":"`+strings.Repeat("x", 200_000)+`"}`), many(100, "n")...)},
		"a computed long query":  {`c:[type=="q"] => add(type="x", value=JmesPath("{}", c.value));`, facts("q", strings.Repeat("a", 10_000))},
		"a computed deep query":  {`c:[type=="q"] => add(type="x", value=JmesPath("{}", c.value));`, facts("q", strings.Repeat("[", 4000))},
		"much JSON":              {`c:[type=="j"] => add(type="x", value=JmesPath(c.value, "b"));`, texts(6, "j", func(i int) string { return `{"a":"` + strings.Repeat("x", 3_500_000+i) + `"}` })},
		"many large values":      {`[value==false] => deny(); a:[type=="s"] && b:[type=="n"] => add(type=b.value, value=a.value);`, append(facts("s", strings.Repeat("x", 4_000_000)), texts(5, "n", func(i int) string { return fmt.Sprint("t", i) })...)},
		"a huge claim":           {`[type=="s"] => permit();`, facts("s", strings.Repeat("x", 5<<20))},
		"more claims than taken": {`[type=="n"] => permit();`, many(5000, "n")},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, "version=1.2; authorizationrules {"+tc.rules+"};")
			begin := time.Now()
			r, err := p.Evaluate(tc.claims)
			if spent := time.Since(begin); spent > patience {
				t.Errorf("Evaluate took %v", spent)
			}
			var failure *policy.EvaluationError
			if !errors.As(err, &failure) || r.Permitted() {
				t.Errorf("Evaluate = %v, %.200v; want an EvaluationError", r.Permitted(), err)
			}
			if name != "JSON read again" && !errors.Is(err, policy.ErrLimit) {
				t.Errorf("Evaluate = %.200v; want ErrLimit", err)
			}
		})
	}
}

// numbers is the JSON of the first n integers.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",%d", i)
	}
	return "[" + b.String()[1:] + "]"
}

// texts makes n claims of one type.
func texts(n int, claimType string, value func(i int) string) []policy.Claim {
	var out []policy.Claim
	for i := range n {
		out = append(out, facts(claimType, value(i))...)
	}
	return out
}

// strs makes n claims with equal long values.
func strs(n, length int) []policy.Claim {
	var out []policy.Claim
	for range n {
		out = append(out, facts("s", strings.Repeat("x", length))...)
	}
	return out
}

func TestAJoinThatNobodyReadsIsCheap(t *testing.T) {
	rules := strings.Repeat(`[type=="n"] && `, 31) + `[type=="n", value==-1] => permit();`
	if r, err := parse(t, "version=1.2; authorizationrules {"+rules+"};").Evaluate(many(1000, "n")); err != nil || r.Permitted() {
		t.Errorf("Evaluate = %v, %v; want a denial at once", r.Permitted(), err)
	}
}

func TestALargeHonestLogIsEvaluated(t *testing.T) {
	var events strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&events, `,{"EventSeq":%d,"PcrIndex":%d,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_CODEINTEGRITY":true,"EVENT_LOADEDMODULE_AGGREGATION":[{"EVENT_FILEPATH":"\\windows\\file%d.sys","EVENT_IMAGEVALIDATED":true}]}}}`, i, i%24, i)
	}
	p := parse(t, azure(t)["doc.tpm-attestation-sample-policies.02.policy"])
	r, err := p.Evaluate(facts("aikValidated", true, "events", `{"Events":[`+events.String()[1:]+`]}`))
	if err != nil || !strings.Contains(words(r), "CodeIntegrityEnabled=true") {
		t.Errorf("Evaluate = %.300s, %v", words(r), err)
	}
}
