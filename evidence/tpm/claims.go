package tpm

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/maa"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/tpm2"
)

// Names of the claims of docs/claims.md that this package itself reads.
const (
	claimSecureBoot    = "secureBoot"
	claimBootDebugging = "bootDebugging"
)

// PolicyClaims are what a policy may read of verified evidence: every proven
// claim under its own name (docs/claims.md), and the inputs that Azure
// Attestation documents for TPM evidence. A claim that could not be proven is
// left out: it is neither true nor false.
//
// Claims that are expensive to make are left out when p does not read them; a
// nil p reads everything.
func (v *Verified) PolicyClaims(p *policy.Policy) []policy.Claim {
	if v == nil || v.boot == nil {
		return nil
	}
	proven := v.claims()
	out := make([]policy.Claim, 0, len(proven)+8)
	add := func(name string, value policy.Value) {
		out = append(out, policy.Claim{Type: name, Value: value, Issuer: policy.FromService})
	}
	// The order decides that of what a policy issues.
	for _, name := range eventlog.SortedNames(proven) {
		if value, ok := policyValue(proven[name].Value); ok {
			add(name, value)
		}
	}
	add("aikValidated", policy.BoolValue(true)) // Verify has refused every other key
	add("tpmVersion", policy.IntValue(2))
	if on := proven[claimSecureBoot].Value; on.Known() {
		add("secureBootEnabled", policy.BoolValue(on.IsTrue()))
	}
	if debugging := proven[claimBootDebugging].Value; debugging.Known() {
		add("bootDebuggingDisabled", policy.BoolValue(debugging.IsFalse()))
	}
	if p == nil || p.Reads("aikPubHash") {
		if hash, err := v.akHash(); err == nil {
			add("aikPubHash", policy.StringValue(hash))
		}
	}
	if p == nil || p.Reads("events") {
		if text, ok := maa.Events(v.boot); ok {
			add("events", policy.StringValue(text))
		}
	}
	if p == nil || p.Reads("pcrs") {
		out = append(out, policy.Claim{Type: "pcrs", Value: policy.StringValue(v.pcrJSON()), Issuer: policy.FromService, ReadOnly: true})
	}
	return out
}

func policyValue(v evidence.Value) (policy.Value, bool) {
	if text, ok := v.Text(); ok {
		return policy.StringValue(text), true
	}
	return policy.BoolValue(v.IsTrue()), v.Known()
}

// akHash is the SHA-256 digest of the attestation key as a SubjectPublicKeyInfo, in base64.
func (v *Verified) akHash() (string, error) {
	key, err := v.evidence.ak.Key()
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// pcrJSON is the pcrs input of Azure Attestation: every signed register, by
// index, with its digest in each quoted bank, in lower-case hex.
func (v *Verified) pcrJSON() string {
	type register struct {
		Index   int
		Digests map[string]string
	}
	var doc struct{ PCRs []register }
	for pcr := range tpm2.NumPCR {
		r := register{pcr, map[string]string{}}
		for _, q := range v.all {
			if q.pcrs.Has(pcr) {
				r.Digests[strings.ToUpper(q.alg.BankName())] = hex.EncodeToString(v.evidence.value(q.alg, pcr))
			}
		}
		if len(r.Digests) > 0 {
			doc.PCRs = append(doc.PCRs, r)
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("unreachable: strings and numbers marshal: %v", err))
	}
	return string(b)
}
