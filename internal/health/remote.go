package health

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/apiclient"
	"github.com/assay-project/assay/tpm2"
)

// A Remote is the [Issuer] by an attestation service over its HTTP API. Its token may
// register attestation keys (attesters.write, attesters.read) and have evidence appraised
// (attest).
type Remote struct {
	API *apiclient.Client
	// Machine is what the service calls the machine, Baseline its reference value there;
	// empty for none.
	Machine, Baseline string
	// Policy is the name of the policy; empty for the service's default.
	Policy string
}

// Enrolled registers the key, on this host's word for its proof.
func (r *Remote) Enrolled(ctx context.Context, ak, _ []byte) error {
	public, err := tpm2.ParsePublic(ak)
	if err != nil {
		return err
	}
	name, err := public.Name()
	if err != nil {
		return err
	}
	var known struct {
		Machine string `json:"machine"`
		Removed bool   `json:"removed"`
	}
	err = r.API.Do(ctx, http.MethodGet, "/v1/attesters/"+url.PathEscape(hex.EncodeToString(name)), nil, &known)
	var p *apiclient.Problem
	switch {
	case errors.As(err, &p) && p.Status == http.StatusNotFound:
		return refusal(r.API.Do(ctx, http.MethodPost, "/v1/attesters", map[string]any{"machine": r.Machine, "akPublic": ak, "baseline": r.Baseline}, nil))
	case err != nil:
		return refusal(err)
	case known.Removed:
		return Refusal("an administrator of the attestation service removed this machine's key")
	case known.Machine != r.Machine:
		return Refusal(fmt.Sprintf("the attestation service knows this key as that of machine %.80q", known.Machine))
	}
	return nil
}

// Challenge takes one of the service's.
func (r *Remote) Challenge(ctx context.Context) (nonce []byte, challenge string, err error) {
	var c struct {
		Challenge string `json:"challenge"`
		Nonce     []byte `json:"nonce"`
	}
	err = r.API.Do(ctx, http.MethodPost, "/v1/challenges", map[string]string{"type": "tpm", "policy": r.Policy}, &c)
	return c.Nonce, c.Challenge, refusal(err)
}

// Token has the service appraise the bundle.
func (r *Remote) Token(ctx context.Context, challenge string, bundle []byte) (string, error) {
	var d struct {
		Verdict string            `json:"verdict"`
		Reasons []evidence.Reason `json:"reasons"`
		Token   string            `json:"token"`
	}
	if err := r.API.Do(ctx, http.MethodPost, "/v1/attest", map[string]any{"challenge": challenge, "policy": r.Policy, "evidence": json.RawMessage(bundle)}, &d); err != nil {
		return "", refusal(err)
	}
	if d.Token == "" || d.Verdict != evidence.Trusted.String() {
		return "", refusedByService(d.Reasons)
	}
	return d.Token, nil
}

func refusedByService(reasons []evidence.Reason) error {
	words := []string{"the attestation service refuses what this host trusts"}
	for _, reason := range reasons {
		words = append(words, fmt.Sprintf("%s: %s", reason.Code, reason.Message))
	}
	return Refusal(strings.Join(words, "; "))
}

// refusal has the service's own words for an answer be known as such.
func refusal(err error) error {
	if p := new(apiclient.Problem); errors.As(err, &p) {
		return Refusal(p.Error())
	}
	return err
}
