package cms

import (
	"bytes"
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
