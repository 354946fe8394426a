package attest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/assay-project/assay/evidence"
)

// A Challenge is what the attester answers: it must have its TPM quote over Nonce.
type Challenge struct {
	Challenge string    `json:"challenge"` // opaque; sent back with the evidence
	Nonce     []byte    `json:"nonce"`     // qualifying data of the quote, 32 bytes
	Expires   time.Time `json:"expires"`
}

// A Purpose is what a challenge may be used for; it serves nothing else.
type Purpose struct {
	Type   string // of evidence
	Policy string // name of the policy
}

// An Opened challenge is one of ours, in time and for its purpose. Only the
// store can tell whether it has been used.
type Opened struct {
	ID      []byte // 16 bytes
	Nonce   []byte // 32 bytes
	Expires time.Time
}

// Challenges issues challenges and recognises them again. A caller's own nonce
// is never one: only what Issue made comes through Open.
type Challenges interface {
	Issue(context.Context, Purpose) (Challenge, error)
	// Open fails with a [*evidence.Refusal] whose code begins with "challenge.".
	Open(ctx context.Context, challenge string, p Purpose) (Opened, error)
}

// The layout of a challenge: version, expiry, id, purpose, MAC over all before.
const (
	challengeVersion = 1
	idSize           = 16
	purposeSize      = 16
	challengeBody    = 1 + 8 + idSize + purposeSize
	challengeSize    = challengeBody + sha256.Size
	challengeKeySize = 32
)

// macChallenges needs no store: a challenge carries its own expiry and purpose
// under a MAC, so that garbage costs one hash and no read.
type macChallenges struct {
	keys     func() [][]byte // newest first; each challengeKeySize bytes
	lifetime time.Duration
	now      func() time.Time
	rand     io.Reader
}

// Issue makes a challenge; nothing is stored.
func (m *macChallenges) Issue(_ context.Context, p Purpose) (Challenge, error) {
	keys := m.keys()
	if len(keys) == 0 {
		return Challenge{}, fmt.Errorf("issue challenge: no challenge key")
	}
	expires := m.now().Add(m.lifetime).Truncate(time.Second).UTC()
	b := make([]byte, 0, challengeSize)
	b = append(b, challengeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(expires.Unix()))
	b = b[:len(b)+idSize]
	if _, err := io.ReadFull(m.rand, b[9:]); err != nil {
		return Challenge{}, fmt.Errorf("issue challenge: %w", err)
	}
	b = append(b, p.digest()...)
	b = append(b, challengeMAC(keys[0], b)...)
	return Challenge{base64.RawURLEncoding.EncodeToString(b), nonceOf(b), expires}, nil
}

// Open checks the MAC first: nothing else of a forged challenge is read.
func (m *macChallenges) Open(_ context.Context, challenge string, p Purpose) (Opened, error) {
	if len(challenge) != base64.RawURLEncoding.EncodedLen(challengeSize) {
		return Opened{}, evidence.Refuse("challenge.malformed", "the challenge has %d characters, want %d", len(challenge), base64.RawURLEncoding.EncodedLen(challengeSize))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(challenge)
	if err != nil || b[0] != challengeVersion || !m.genuine(b) {
		return Opened{}, evidence.Refuse("challenge.malformed", "the challenge was not issued by this service")
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(b[1:])), 0).UTC()
	if now := m.now(); !now.Before(expires) {
		return Opened{}, evidence.Refuse("challenge.expired", "the challenge expired at %s, %s ago", expires.Format(time.RFC3339), now.Sub(expires).Round(time.Second))
	}
	if subtle.ConstantTimeCompare(b[9+idSize:challengeBody], p.digest()) != 1 {
		return Opened{}, evidence.Refuse("challenge.other-purpose", "the challenge was not issued for %s evidence under policy %q", p.Type, p.Policy)
	}
	return Opened{ID: b[9 : 9+idSize], Nonce: nonceOf(b), Expires: expires}, nil
}

func (m *macChallenges) genuine(b []byte) bool {
	for _, k := range m.keys() {
		if hmac.Equal(challengeMAC(k, b[:challengeBody]), b[challengeBody:]) {
			return true
		}
	}
	return false
}

func challengeMAC(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("assay challenge\x00"))
	h.Write(body)
	return h.Sum(nil)
}

// nonceOf binds the quote to the whole challenge. 32 bytes fit the qualifying
// data of every TPM (Part 2, 10.4.3: at least the size of a SHA-256 TPMT_HA).
func nonceOf(challenge []byte) []byte {
	h := sha256.New()
	h.Write([]byte("assay nonce\x00"))
	h.Write(challenge)
	return h.Sum(nil)
}

func (p Purpose) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "assay purpose\x00%d:%s%d:%s", len(p.Type), p.Type, len(p.Policy), p.Policy)
	return h.Sum(nil)[:purposeSize]
}
