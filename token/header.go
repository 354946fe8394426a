package token

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// maxToken bounds a token in bytes. Real ones with runtime data reach 20 KiB.
const maxToken = 64 << 10

// parts are those of a compact JWS (RFC 7515, 7.1), decoded; nothing is proven.
type parts struct {
	raw       string
	input     string // what is signed: header and payload as they stand
	header    object
	payload   []byte
	signature []byte
	alg       Alg
	kid       string
}

// encoding is that of RFC 7515, 2. Strict refuses a second spelling of the same bytes.
var encoding = base64.RawURLEncoding.Strict()

// split takes a token apart and checks its header against the accepted algorithms.
func split(raw string, accepted []Alg) (*parts, error) {
	if len(raw) > maxToken {
		return nil, evidence.Refuse("token.too-large", "token of %d bytes, more than %d", len(raw), maxToken)
	}
	// RFC 7516, 7.1: a JWE has five parts. It may hide a token, but it is none.
	switch strings.Count(raw, ".") {
	case 2:
	case 4:
		return nil, evidence.Refuse("token.encrypted", "token is encrypted (JWE)")
	default:
		return nil, evidence.Refuse("token.malformed", "token has %d parts, want 3", strings.Count(raw, ".")+1)
	}
	end := strings.LastIndexByte(raw, '.')
	p := &parts{raw: raw, input: raw[:end]}
	head, body, _ := strings.Cut(p.input, ".")
	text, err := decode("header", head)
	if err != nil {
		return nil, err
	}
	if p.header, err = parseObject(text); err != nil {
		return nil, malformed("header", err)
	}
	if err := p.readHeader(accepted); err != nil {
		return nil, err
	}
	if p.payload, err = decode("payload", body); err != nil {
		return nil, err
	}
	p.signature, err = decode("signature", raw[end+1:])
	return p, err
}

// decode is base64url, without padding, line ends or spare bits. DecodeString
// skips line ends, so they are looked for first.
func decode(part, s string) ([]byte, error) {
	if strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, '\n') >= 0 {
		return nil, evidence.Refuse("token.malformed", "%s: line end in base64url", part)
	}
	b, err := encoding.DecodeString(s)
	if err != nil {
		return nil, evidence.Refuse("token.malformed", "%s: %v", part, err)
	}
	return b, nil
}

// malformed tells a duplicate member from other faults of JSON.
func malformed(part string, err error) error {
	if errors.Is(err, strictjson.ErrDuplicate) {
		return evidence.Refuse("token.duplicate-member", "%s: %v", part, err)
	}
	return evidence.Refuse("token.malformed", "%s: %v", part, err)
}

// readHeader checks the JOSE header (RFC 7515, 4; RFC 8725, 3). "jku", "x5c" and
// "x5t", which Azure Attestation sends, are passed over: keys come from the
// relying party's own source and from nowhere else.
func (p *parts) readHeader(accepted []Alg) error {
	// RFC 7515, 4.1.11: an extension that must be understood and is not.
	if _, ok := p.header.Get("crit"); ok {
		return evidence.Refuse("token.critical-header", "header names critical extensions; this verifier knows none")
	}
	for _, name := range []string{"b64", "zip", "enc"} {
		if _, ok := p.header.Get(name); ok {
			return evidence.Refuse("token.critical-header", "header has %q, which changes how the token is read", name)
		}
	}
	for _, name := range []string{"jwk", "x5u"} {
		if _, ok := p.header.Get(name); ok {
			return evidence.Refuse("token.key-in-header", "header brings its own key (%q)", name)
		}
	}
	if err := p.readType(); err != nil {
		return err
	}
	if err := p.readAlg(accepted); err != nil {
		return err
	}
	kid, ok, err := p.header.Text("kid")
	if err != nil {
		return evidence.Refuse("token.malformed", "header: %v", err)
	}
	if !ok || kid == "" {
		return evidence.Refuse("token.kid-missing", "header does not name its key")
	}
	if len(kid) > maxName {
		return evidence.Refuse("token.malformed", "header: kid of %d bytes, more than %d", len(kid), maxName)
	}
	p.kid = kid
	return nil
}

// readType checks "typ" and "cty" (RFC 7519, 5; RFC 8725, 3.11): a token made for
// another purpose under the same key is not one of ours.
func (p *parts) readType() error {
	if _, ok := p.header.Get("cty"); ok {
		return evidence.Refuse("token.nested", "token carries another token (cty)")
	}
	typ, ok, err := p.header.Text("typ")
	if err != nil {
		return evidence.Refuse("token.malformed", "header: %v", err)
	}
	if ok && !slices.Contains([]string{"jwt", "eat+jwt"}, strings.TrimPrefix(strings.ToLower(typ), "application/")) {
		return evidence.Refuse("token.type-refused", "token is a %q, want a JWT", typ)
	}
	return nil
}

func (p *parts) readAlg(accepted []Alg) error {
	alg, ok, err := p.header.Text("alg")
	if err != nil || !ok {
		return evidence.Refuse("token.malformed", "header does not name its algorithm")
	}
	if strings.EqualFold(alg, "none") {
		return evidence.Refuse("token.unsigned", "token is not signed (alg %q)", alg)
	}
	if !slices.Contains(accepted, Alg(alg)) {
		return evidence.Refuse("token.alg-refused", "token is signed with %q, want one of %q", alg, accepted)
	}
	p.alg = Alg(alg)
	return nil
}
