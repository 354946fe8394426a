package attest

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// Rewrap seals the stored keys that are not under the key-encryption key newest
// anew, one by one, and returns how many it did. It may be stopped and run again at
// any point: what is done is done, and the provider still opens the rest. Services
// that run meanwhile go on with the keys that they have opened.
func Rewrap(ctx context.Context, s Store, p keyprovider.Provider, newest string, now func() time.Time, random io.Reader) (done int, err error) {
	conf, err := s.Configuration(ctx)
	if err != nil {
		return 0, err
	}
	for _, k := range conf.SigningKeys {
		id, err := keyprovider.WrappedUnder(k.Sealed)
		if err != nil {
			return done, fmt.Errorf("stored key %q: %w", k.ID, err)
		}
		if id == newest {
			continue
		}
		if k.Sealed, err = Reseal(ctx, p, random, sealContext(k), k.Sealed); err != nil {
			return done, fmt.Errorf("stored key %q: %w", k.ID, err)
		}
		e := audit.Entry{Time: now(), Actor: "service", Action: "key.rewrap", Subject: k.ID, Outcome: "done"}
		if err := s.PutSigningKey(ctx, k, e); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

// sealContext is what a stored key is sealed for.
func sealContext(k SigningKey) seal.Context {
	if k.Alg == algChallenge {
		return seal.Context{Purpose: sealedChallenge, Name: k.ID}
	}
	return seal.Context{Purpose: sealedToken, Name: k.ID}
}

// Reseal opens an envelope and seals its text again, and sees that the new one
// opens to the same.
func Reseal(ctx context.Context, p keyprovider.Provider, random io.Reader, c seal.Context, sealed []byte) ([]byte, error) {
	text, err := keyprovider.Open(ctx, p, c, sealed)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	again, err := keyprovider.Seal(ctx, p, random, c, text.Expose())
	if err != nil {
		return nil, err
	}
	proof, err := keyprovider.Open(ctx, p, c, again)
	if err != nil {
		return nil, err
	}
	defer proof.Destroy()
	if subtle.ConstantTimeCompare(proof.Expose(), text.Expose()) != 1 {
		return nil, errors.New("sealed anew it opens to another text")
	}
	return again, nil
}

// SealedUnder counts the stored keys by the key-encryption key that they need.
func SealedUnder(ctx context.Context, s Store) (map[string]int, error) {
	conf, err := s.Configuration(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, k := range conf.SigningKeys {
		id, err := keyprovider.WrappedUnder(k.Sealed)
		if err != nil {
			return nil, fmt.Errorf("stored key %q: %w", k.ID, err)
		}
		out[id]++
	}
	return out, nil
}
