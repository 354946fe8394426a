package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/assay-project/assay/evidence"
)

// metadataPath is where an issuer's metadata lies below its URL (OpenID Connect
// Discovery 1.0, 4).
const metadataPath = "/.well-known/openid-configuration"

// Metadata returns the OpenID metadata of an issuer whose keys lie at keysURL.
// Tokens are issued for evidence, not for users: there is no authorization
// endpoint.
func Metadata(issuer, keysURL string, algs []Alg) ([]byte, error) {
	if err := checkURL(issuer); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", issuer, err)
	}
	if !strings.HasPrefix(keysURL, issuer+"/") {
		return nil, fmt.Errorf("keys at %q do not lie below issuer %q", keysURL, issuer)
	}
	if len(algs) == 0 {
		return nil, errors.New("metadata without an algorithm")
	}
	return json.Marshal(map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              keysURL,
		"response_types_supported":              []string{"token", "none"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": algs,
		"claims_supported": []string{
			"iss", "iat", "nbf", "exp", "jti", "aud", "nonce", "eat_nonce", "eat_profile", "submods",
			"profile", "verdict", "evidenceType", "claims", "issued", "policy",
			"x-ms-ver", "x-ms-attestation-type", "x-ms-policy-hash", "x-ms-policy-signer", "x-ms-runtime", "x-ms-inittime",
		},
	})
}

// parseMetadata returns jwks_uri of the metadata that was asked for at issuer.
func parseMetadata(issuer string, data []byte) (string, error) {
	top, err := parseObject(data)
	if err != nil {
		return "", fmt.Errorf("metadata: %w", err)
	}
	// Discovery, 4.3: the issuer must be the one whose metadata was asked for.
	if said, _, err := top.Text("issuer"); err != nil || said != issuer {
		return "", evidence.Refuse("keyset.issuer-mismatch", "metadata at %q is that of issuer %q", issuer, said)
	}
	keysURL, ok, err := top.Text("jwks_uri")
	if err != nil || !ok {
		return "", errors.New("metadata has no jwks_uri")
	}
	return keysURL, nil
}

// isLoopback reports whether host, without a port, is this machine itself.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
