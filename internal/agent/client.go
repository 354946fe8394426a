package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/assay-project/assay/internal/apiclient"
)

// A Client speaks to one service.
type Client struct {
	Server string // URL without a slash at its end
	Token  string // API token; empty for a service that takes anonymous evidence
	HTTP   *http.Client
}

// A Challenge is what the TPM must quote over: Nonce is the qualifying data.
type Challenge struct {
	Challenge string    `json:"challenge"`
	Nonce     []byte    `json:"nonce"`
	Expires   time.Time `json:"expires"`
	Policy    string    `json:"policy,omitempty"`
}

// A Decision is what the service answered.
type Decision struct {
	ID      string `json:"id"`
	Verdict string `json:"verdict"`
	Reasons []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"reasons"`
	Token string `json:"token"`
}

// NewChallenge asks for a challenge under a policy; "" means the default one.
func (c *Client) NewChallenge(ctx context.Context, policy string) (Challenge, error) {
	var ch Challenge
	err := c.post(ctx, "/v1/challenges", map[string]string{"type": "tpm", "policy": policy}, &ch)
	ch.Policy = policy
	return ch, err
}

// Attest sends evidence that answers ch.
func (c *Client) Attest(ctx context.Context, ch Challenge, b *Bundle) (Decision, error) {
	var d Decision
	err := c.post(ctx, "/v1/attest", map[string]any{"challenge": ch.Challenge, "policy": ch.Policy, "evidence": b}, &d)
	return d, err
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	api := apiclient.Client{Server: c.Server, HTTP: c.HTTP}
	if c.Token != "" {
		api.Credential = func() (string, error) { return c.Token, nil }
	}
	return api.Do(ctx, http.MethodPost, path, in, out)
}

// An Enrolment asks the service to trust an attestation key for being in the TPM of an
// endorsement key.
type Enrolment struct {
	Machine  string   `json:"machine"`
	Baseline string   `json:"baseline,omitempty"`
	AKPublic []byte   `json:"akPublic"` // TPMT_PUBLIC
	EKPublic []byte   `json:"ekPublic"` // TPMT_PUBLIC
	EKCert   []byte   `json:"ekCert,omitempty"`
	Chain    [][]byte `json:"chain,omitempty"`
	TrustEK  bool     `json:"trustEK,omitempty"`
}

// A Credential is what only the TPM of the endorsement key opens.
type Credential struct {
	ID              string `json:"id"`
	CredentialBlob  []byte `json:"credentialBlob"`
	EncryptedSecret []byte `json:"encryptedSecret"`
}

// BeginEnrolment asks for a credential.
func (c *Client) BeginEnrolment(ctx context.Context, e Enrolment) (out Credential, err error) {
	err = c.post(ctx, "/v1/enrolments", e, &out)
	return out, err
}

// FinishEnrolment answers it with its secret, and returns the service's record.
func (c *Client) FinishEnrolment(ctx context.Context, id string, secret []byte) (record json.RawMessage, err error) {
	err = c.post(ctx, "/v1/enrolments/"+url.PathEscape(id)+"/finish", map[string][]byte{"secret": secret}, &record)
	return record, err
}
