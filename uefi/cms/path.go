package cms

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"slices"
)

// maxDepth bounds the certificates between a signer and its anchor.
const maxDepth = 8

// links finds every certificate that came along and that a path from the signer
// leads through. Each is looked at once for each of the others, so that the cost
// is bounded by the number of certificates.
func (s *SignedData) links(signer *Certificate) []link {
	out := []link{{cert: signer, below: -1}}
	if signer.unsupported {
		return nil
	}
	for at := 0; at < len(out); at++ {
		child := out[at]
		if child.depth == maxDepth {
			continue
		}
		for _, c := range s.Certificates {
			known := slices.ContainsFunc(out, func(l link) bool { return bytes.Equal(l.cert.Raw, c.Raw) })
			if known || c.unsupported || !c.isCA(false) || !c.allows(child.depth) || !c.issued(child.cert) {
				continue
			}
			out = append(out, link{c, at, child.depth + 1})
		}
	}
	return out
}

// allows reports whether c may stand above a certificate that n authorities
// separate from the signer (RFC 5280, 4.2.1.9).
func (c *Certificate) allows(n int) bool { return c.pathLen < 0 || n <= c.pathLen }

// Signer is the certificate whose key signed.
func (s *Signed) Signer() *Certificate { return s.signer }

// Path returns the certificates from the signer to anchor, both included, or nil
// when the signer is not under anchor. The anchor may be the signer itself, an
// authority in between, or one that did not come along: firmware takes any
// (X509_V_FLAG_PARTIAL_CHAIN), and asks no anchor for its own signature.
func (s *Signed) Path(anchor *Certificate) []*Certificate {
	if s == nil || anchor == nil || anchor.unsupported {
		return nil
	}
	for i, l := range s.links {
		if bytes.Equal(l.cert.Raw, anchor.Raw) {
			return s.down(i)
		}
	}
	if !anchor.isCA(true) {
		return nil
	}
	for i, l := range s.links {
		if anchor.allows(l.depth) && anchor.issued(l.cert) {
			return append(s.down(i), anchor)
		}
	}
	return nil
}

// down returns the certificates from the signer to link i.
func (s *Signed) down(i int) []*Certificate {
	var out []*Certificate
	for ; i >= 0; i = s.links[i].below {
		out = append(out, s.links[i].cert)
	}
	slices.Reverse(out)
	return out
}

// Under returns the first of revoked that the signer may be under, or nil. It is the
// counterpart of [Signed.Path]: where that takes no path that firmware would not, this
// misses none that firmware may see. It goes up by signatures of keys alone, and looks
// at no names and at nothing that a certificate says of itself; the signature need not
// verify. What cannot be checked here counts as signed.
func (s *SignedData) Under(revoked []*Certificate) *Certificate {
	if len(revoked) == 0 {
		return nil
	}
	above := s.above()
	for _, r := range revoked {
		for _, c := range above {
			if bytes.Equal(c.TBS, r.TBS) || r.maySign(c) {
				return r
			}
		}
	}
	return nil
}

// above finds every certificate that came along and that may be the signer's or
// above it, each once. Signers are found by the serial number alone: firmware compares
// names in another form.
func (s *SignedData) above() []*Certificate {
	var out, rest []*Certificate
	for _, c := range s.Certificates {
		if bytes.Equal(c.Serial, s.serial) {
			out = append(out, c)
		} else {
			rest = append(rest, c)
		}
	}
	for at := 0; at < len(out); at++ {
		rest = slices.DeleteFunc(rest, func(c *Certificate) bool {
			found := c.maySign(out[at])
			if found {
				out = append(out, c)
			}
			return found
		})
	}
	return out
}

// maySign reports whether c's key signed child, or that this cannot be known.
func (c *Certificate) maySign(child *Certificate) bool {
	switch {
	case child.hash == 0:
		return !child.selfish
	case c.key == nil:
		return c.oddKey
	}
	h := child.hash.New()
	h.Write(child.TBS)
	err := rsa.VerifyPKCS1v15(c.key, child.hash, h.Sum(nil), child.signature)
	return err == nil || !errors.Is(err, rsa.ErrVerification)
}
