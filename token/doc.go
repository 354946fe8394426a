// Package token turns appraisals into signed tokens and checks them again: the
// [Issuer] of an attestation service, and the [Verifier] of a relying party.
//
// A valid token proves that the issuer stated its claims, within the token's
// time. It proves nothing about the machine beyond what the claims say, and
// nothing about a moment after it was issued. Parsing shapes never makes a
// [Verified]; only [Verifier.Verify] does.
//
// RFC 7515 (JWS), RFC 7517 (JWK), RFC 7519 (JWT), with the advice of RFC 8725.
// The profiles are those of docs/tokens.md.
package token
