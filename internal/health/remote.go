package health

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// A Remote is the [Issuer] by an attestation service over its HTTP API. Its token may
// register attestation keys (attesters.write, attesters.read) and have evidence appraised
// (attest).
type Remote struct {
	Server string // URL without a slash at its end
	// Credential reads the API token, each time: it may be exchanged.
	Credential func() (string, error)
	HTTP       *http.Client
	// Machine is what the service calls the machine, Baseline its reference value there;
	// empty for none.
	Machine, Baseline string
	// Policy is the name of the policy; empty for the service's default.
	Policy string
}

// maxAnswer bounds what is read of an answer of the service.
const maxAnswer = 1 << 20

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
	status, err := r.call(ctx, http.MethodGet, "/v1/attesters/"+url.PathEscape(hex.EncodeToString(name)), nil, &known)
	switch {
	case status == http.StatusNotFound:
		_, err := r.call(ctx, http.MethodPost, "/v1/attesters", map[string]any{"machine": r.Machine, "akPublic": ak, "baseline": r.Baseline}, nil)
		return err
	case err != nil:
		return err
	case known.Removed:
		return errors.New("an administrator of the attestation service removed this machine's key")
	case known.Machine != r.Machine:
		return fmt.Errorf("the attestation service knows this key as that of machine %q", known.Machine)
	}
	return nil
}

// Challenge takes one of the service's.
func (r *Remote) Challenge(ctx context.Context) (nonce []byte, challenge string, err error) {
	var c struct {
		Challenge string `json:"challenge"`
		Nonce     []byte `json:"nonce"`
	}
	_, err = r.call(ctx, http.MethodPost, "/v1/challenges", map[string]string{"type": "tpm", "policy": r.Policy}, &c)
	return c.Nonce, c.Challenge, err
}

// Token has the service appraise the bundle.
func (r *Remote) Token(ctx context.Context, challenge string, bundle []byte) (string, error) {
	var d struct {
		Verdict string            `json:"verdict"`
		Reasons []evidence.Reason `json:"reasons"`
		Token   string            `json:"token"`
	}
	if _, err := r.call(ctx, http.MethodPost, "/v1/attest", map[string]any{"challenge": challenge, "policy": r.Policy, "evidence": json.RawMessage(bundle)}, &d); err != nil {
		return "", err
	}
	if d.Token == "" || d.Verdict != evidence.Trusted.String() {
		return "", refusedByService(d.Reasons)
	}
	return d.Token, nil
}

// call makes one request; status is 0 when there was no answer.
func (r *Remote) call(ctx context.Context, method, path string, in, out any) (status int, err error) {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.Server+path, body)
	if err != nil {
		return 0, err
	}
	token, err := r.Credential()
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, fmt.Errorf("read answer of %s: %w", path, err)
	}
	if resp.StatusCode/100 != 2 {
		var p struct{ Detail, Code string }
		if json.Unmarshal(answer, &p) != nil || p.Code == "" {
			return resp.StatusCode, fmt.Errorf("the attestation service answered %s", resp.Status)
		}
		return resp.StatusCode, fmt.Errorf("the attestation service answered %s: %s: %s", resp.Status, p.Code, p.Detail)
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(answer, out)
}

func refusedByService(reasons []evidence.Reason) error {
	words := []string{"the attestation service refuses what this host trusts"}
	for _, reason := range reasons {
		words = append(words, fmt.Sprintf("%s: %s", reason.Code, reason.Message))
	}
	return errors.New(strings.Join(words, "; "))
}
