package token

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/assay-project/assay/evidence"
)

// earProfile names the draft whose member names and rules ear.go follows.
const earProfile = "tag:ietf.org,2026:rats/ear#04"

// A tier is a range of trustworthiness (AR4SI, 2.3.2): what a value of the vector
// or a whole appraisal amounts to.
type tier int8

const (
	tierNone            tier = 0
	tierAffirming       tier = 2
	tierWarning         tier = 32
	tierContraindicated tier = 96
)

// word is the tier's name in an EAR (draft-ietf-rats-ear-04, ear_status).
func (t tier) word() string {
	switch t {
	case tierAffirming:
		return "affirming"
	case tierWarning:
		return "warning"
	case tierContraindicated:
		return "contraindicated"
	default:
		return "none"
	}
}

// Values of the trustworthiness vector that appraisals here support (AR4SI,
// 2.3.4). What nothing was proven about is 0 and left out.
const (
	identityRecognized  = 2  // instance-identity: recognized, not known to be compromised
	configurationGood   = 2  // configuration: recognized and approved
	configurationUnsafe = 32 // configuration: recognized, exposes known vulnerabilities
	executablesBoot     = 3  // executables: recognized and approved at boot; nothing said of run time
	hardwareGenuine     = 2  // hardware: genuine
)

// vector derives the trustworthiness vector of a trusted result. A trusted
// verdict means that the key is one the operator trusts and that it signed; the
// executables are judged only where a baseline was matched.
func vector(r *Result) map[string]int {
	if r.Verdict != evidence.Trusted {
		return nil
	}
	v := map[string]int{"instance-identity": identityRecognized, "hardware": hardwareGenuine}
	switch secureBoot := r.Claims["secureBoot"].Value; {
	case secureBoot.IsTrue():
		v["configuration"] = configurationGood
	case secureBoot.IsFalse():
		v["configuration"] = configurationUnsafe
	}
	if r.Baseline != "" {
		v["executables"] = executablesBoot
	}
	return v
}

// status is the tier of an appraisal: never better than the worst of its vector.
func status(verdict evidence.Verdict, v map[string]int) tier {
	if verdict != evidence.Trusted {
		return tierContraindicated
	}
	out := tierAffirming
	for _, value := range v {
		switch {
		case value >= int(tierContraindicated):
			return tierContraindicated
		case value >= int(tierWarning):
			out = tierWarning
		}
	}
	return out
}

// earClaims shapes a result for [ProfileEAR]: one appraisal, in a submodule of
// the evidence's type. Names in JSON are those of draft-ietf-rats-ear-04.
func earClaims(c *claimSet, r *Result, build string) error {
	if r.Type == "" || r.Policy.Digest == "" {
		return errors.New("result without a type of evidence or the digest of its policy")
	}
	v := vector(r)
	appraisal := &claimSet{}
	appraisal.text("ear_status", status(r.Verdict, v).word())
	appraisal.any("ear_trustworthiness_vector", v)
	// The draft wants URIs here.
	policy := fmt.Sprintf("policy:%s/%d?sha256=%s", url.PathEscape(r.Policy.Name), r.Policy.Version, r.Policy.Digest)
	appraisal.texts("ear_appraisal_policy_ids", []string{policy})
	appraisal.raw("ear_verifier_claims", r.values(nil))
	submods := &claimSet{}
	submods.object(r.Type, appraisal)
	c.text("eat_profile", earProfile)
	c.any("ear_verifier_id", map[string]string{"developer": "Assay", "build": build})
	c.optional("eat_nonce", r.Nonce)
	c.object("submods", submods)
	return nil
}
