package attest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newMAC(key byte, now *time.Time) *macChallenges {
	return &macChallenges{
		keys:     func() [][]byte { return [][]byte{bytes.Repeat([]byte{key}, challengeKeySize)} },
		lifetime: 5 * time.Minute, now: func() time.Time { return *now }, rand: rand.Reader,
	}
}

func codeOf(err error) evidence.Code {
	var r *evidence.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestChallengeOpensOnceIssuedInTimeAndForItsPurpose(t *testing.T) {
	now := noon
	m := newMAC(1, &now)
	tpm := Purpose{"tpm", "default"}
	ch, err := m.Issue(context.Background(), tpm)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(ch.Challenge)
	altered := func(at int) string {
		b := bytes.Clone(raw)
		b[at] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for name, tc := range map[string]struct {
		challenge string
		purpose   Purpose
		at        time.Duration
		key       byte
		want      evidence.Code
	}{
		"as issued":            {ch.Challenge, tpm, 0, 1, ""},
		"last second":          {ch.Challenge, tpm, 5*time.Minute - time.Second, 1, ""},
		"expired":              {ch.Challenge, tpm, 5 * time.Minute, 1, "challenge.expired"},
		"other policy":         {ch.Challenge, Purpose{"tpm", "lax"}, 0, 1, "challenge.other-purpose"},
		"other evidence":       {ch.Challenge, Purpose{"tdx", "default"}, 0, 1, "challenge.other-purpose"},
		"words moved":          {ch.Challenge, Purpose{"tpmd", "efault"}, 0, 1, "challenge.other-purpose"},
		"of another service":   {ch.Challenge, tpm, 0, 2, "challenge.malformed"},
		"version altered":      {altered(0), tpm, 0, 1, "challenge.malformed"},
		"expiry altered":       {altered(8), tpm, 0, 1, "challenge.malformed"},
		"id altered":           {altered(9), tpm, 0, 1, "challenge.malformed"},
		"purpose altered":      {altered(challengeBody - 1), tpm, 0, 1, "challenge.malformed"},
		"MAC altered":          {altered(challengeSize - 1), tpm, 0, 1, "challenge.malformed"},
		"cut":                  {ch.Challenge[1:], tpm, 0, 1, "challenge.malformed"},
		"empty":                {"", tpm, 0, 1, "challenge.malformed"},
		"a nonce of their own": {base64.RawURLEncoding.EncodeToString(make([]byte, challengeSize)), tpm, 0, 1, "challenge.malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			at := noon.Add(tc.at)
			got, err := newMAC(tc.key, &at).Open(context.Background(), tc.challenge, tc.purpose)
			if codeOf(err) != tc.want || (err == nil) != (tc.want == "") {
				t.Fatalf("Open = %v, want code %q", err, tc.want)
			}
			if err == nil && (!bytes.Equal(got.Nonce, ch.Nonce) || !got.Expires.Equal(ch.Expires)) {
				t.Errorf("Open = %+v, want the nonce and expiry that were issued, %+v", got, ch)
			}
		})
	}
}

func TestChallengesAreDistinct(t *testing.T) {
	now := noon
	m := newMAC(1, &now)
	seen := map[string]bool{}
	for range 100 {
		ch, err := m.Issue(context.Background(), Purpose{"tpm", "default"})
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(ch.Nonce)] {
			t.Fatal("two challenges share a nonce")
		}
		seen[string(ch.Nonce)] = true
	}
}

func FuzzOpenChallenge(f *testing.F) {
	now := noon
	m := newMAC(1, &now)
	m.rand = bytes.NewReader(make([]byte, idSize)) // the same challenge in every process of the fuzzer
	ch, err := m.Issue(context.Background(), Purpose{"tpm", "default"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ch.Challenge)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := m.Open(context.Background(), s, Purpose{"tpm", "default"}); err == nil && s != ch.Challenge {
			t.Fatalf("Open accepts %q, which was never issued", s)
		}
	})
}
