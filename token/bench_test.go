package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"
)

// BenchmarkFloor is the signature alone: what Issue cannot fall below.
func BenchmarkFloor(b *testing.B) {
	key := newP256(b)
	digest := sha256.Sum256([]byte("message"))
	for b.Loop() {
		if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkIssue(b *testing.B, p Profile, signer crypto.Signer, check bool) {
	b.Helper()
	key := mustKey(b, signer, "bench")
	i := mustIssuer(b, key)
	r := goodResult()
	b.ReportAllocs()
	for b.Loop() {
		if check {
			if _, err := i.Issue(noon, p, r); err != nil {
				b.Fatal(err)
			}
			continue
		}
		s, err := i.stamp(noon)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := i.compose(key, p, s, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	for _, bench := range []struct {
		name   string
		p      Profile
		signer func() crypto.Signer
		check  bool
	}{
		{"ES256", ProfileAssay, func() crypto.Signer { return newP256(b) }, true},
		{"ES256-unchecked", ProfileAssay, func() crypto.Signer { return newP256(b) }, false},
		{"ES256-device", ProfileAssay, func() crypto.Signer { return ordinarySigner{newP256(b)} }, true},
		{"ES256-EAR", ProfileEAR, func() crypto.Signer { return newP256(b) }, true},
		{"RS256", ProfileAzure, func() crypto.Signer { return rsaKey() }, true},
		{"RS256-unchecked", ProfileAzure, func() crypto.Signer { return rsaKey() }, false},
	} {
		b.Run(bench.name, func(b *testing.B) { benchmarkIssue(b, bench.p, bench.signer(), bench.check) })
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, bench := range []struct {
		alg    Alg
		p      Profile
		signer crypto.Signer
	}{
		{ES256, ProfileAssay, newP256(b)},
		{RS256, ProfileAzure, rsaKey()},
	} {
		b.Run(string(bench.alg), func(b *testing.B) {
			i := mustIssuer(b, mustKey(b, bench.signer, "bench"))
			token := mustIssue(b, i, bench.p, goodResult())
			cfg := goodConfig()
			cfg.Algorithms = []Alg{bench.alg}
			v := mustVerifier(b, cfg, published(b, i))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(context.Background(), token.Raw, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
