package peers

import (
	"crypto/rand"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/token"
)

// twentyRules is a policy of 20 rules: what an operator of Linux machines refuses
// and requires, and what the token is to state.
const twentyRules = `version=1.2;
authorizationrules {
    [type=="setupMode", value==true] => deny();
    [type=="auditMode", value==true] => deny();
    [type=="firmwareError", value==true] => deny();
    [type=="firmwareDebug", value==true] => deny();
    [type=="bootDebugging", value==true] => deny();
    [type=="kernelDebug", value==true] => deny();
    [type=="hypervisorDebug", value==true] => deny();
    [type=="testSigning", value==true] => deny();
    [type=="winPE", value==true] => deny();
    [type=="dmaProtection", value==false] => deny();
    [type=="kernelDebugFlags", value=="lockdown=none"] => deny();
    [type=="tpmVersion", value==1] => deny();
    [type=="aikValidated", value==true, issuer=="AttestationService"] &&
        [type=="secureBoot", value==true, issuer=="AttestationService"] => permit();
};
issuancerules {
    c:[type=="secureBoot", issuer=="AttestationService"] => issue(claim=c);
    c:[type=="bootLoader", issuer=="AttestationService"] => issue(claim=c);
    c:[type=="kernelCommandLine", issuer=="AttestationService"] => issue(claim=c);
    c:[type=="secureBootKeys.pk.digest", issuer=="AttestationService"] => issue(type="platformKey", value=c.value);
    c:[type=="secureBootKeys.dbx.digest", issuer=="AttestationService"] => issue(type="revocations", value=c.value);
    c:[type=="partitionTable", issuer=="AttestationService"] => issue(claim=c);
    [type=="secureBoot", value==true] => issue(type="bootState", value="secure");
};
`

func newIssuer(b *testing.B, now time.Time) *token.Issuer {
	b.Helper()
	signer, err := token.Generate(rand.Reader, token.ES256)
	if err != nil {
		b.Fatal(err)
	}
	key, err := token.NewKey(signer, token.KeyConfig{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), Rand: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	keys, err := token.NewKeySet(token.DefaultLifetime, key)
	if err != nil {
		b.Fatal(err)
	}
	issuer, err := token.NewIssuer(token.IssuerConfig{URL: "https://attest.example", Rand: rand.Reader}, keys)
	if err != nil {
		b.Fatal(err)
	}
	return issuer
}

// cpu is the time that this process has used, its garbage collection included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppraiseIssue is the floor "appraised by a 20-rule policy, ES256
// token": evidence in memory, no store. It reports CPU time, which other load on
// the machine falsifies less than the clock. "fleet" has seen the log before, to the
// byte, and confirmed it; "alone" keeps nothing from one appraisal to the next.
func BenchmarkAppraiseIssue(b *testing.B) {
	b.Run("fleet", func(b *testing.B) { benchAppraiseIssue(b, new(eventlog.Cache)) })
	b.Run("alone", func(b *testing.B) { benchAppraiseIssue(b, nil) })
}

func benchAppraiseIssue(b *testing.B, cache *eventlog.Cache) {
	_, att, quote := recorded(b)
	bundle := bundleOf(b, att, quote)
	o := expectation(b, bundle)
	o.Cache = cache
	var err error
	if o.Policy, err = policy.Parse(twentyRules, policy.Lenient); err != nil {
		b.Fatal(err)
	}
	if n := strings.Count(twentyRules, "=> "); n != 20 {
		b.Fatalf("policy has %d rules", n)
	}
	parsed, err := evidence.ParseBundle(bundle)
	if err != nil {
		b.Fatal(err)
	}
	e, err := tpm.Parse(parsed)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	issuer := newIssuer(b, now)
	stated := token.Policy{Name: "twenty", Version: 1, Digest: token.PolicyDigest(twentyRules)}
	b.ReportAllocs()
	start, n := cpu(b), 0
	for b.Loop() {
		a := tpm.Appraise(e, o)
		if a.Verdict != evidence.Trusted {
			b.Fatalf("%v", a.Reasons)
		}
		if _, err := issuer.Issue(now, token.ProfileAssay, resultOf(a, stated)); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64((cpu(b)-start).Microseconds())/float64(n), "cpu-µs/op")
}

// resultOf is what the service tells the issuer.
func resultOf(a *tpm.Appraisal, p token.Policy) token.Result {
	r := token.Result{
		Verdict: a.Verdict, Type: a.Evidence.Type, Claims: a.Claims, Writing: a.Writing, Policy: p, NotChecked: a.NotChecked,
		Attester: a.Evidence.Attester, Machine: "web-1", Appraisal: "01JD00000000000000000000",
	}
	for _, c := range a.Issued {
		issued := token.Issued{Type: c.Type}
		if text, ok := c.Value.Text(); ok {
			issued.Value = text
		} else {
			issued.Value, _ = c.Value.Bool()
		}
		r.Issued = append(r.Issued, issued)
	}
	return r
}
