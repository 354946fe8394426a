package engine

import (
	"hash"

	"github.com/assay-project/assay/tpm2"
)

// A sequence is a hash, HMAC or event sequence in progress.
type sequence struct {
	auth []byte // authValue, without trailing zeros
	sums []bankHash
}

// bankHash is a running hash by one algorithm.
type bankHash struct {
	alg tpm2.Alg
	sum hash.Hash
}
