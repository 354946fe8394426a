package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Limits of fetching an issuer's keys.
const (
	maxMetadata  = 256 << 10
	fetchTimeout = 15 * time.Second
	// refetchEvery bounds how often tokens with unknown keys can make us ask.
	refetchEvery = time.Minute
	// retryEvery is the same after a failure.
	retryEvery = 5 * time.Second
	// freshFor is how long fetched keys serve without asking again; a key that the
	// issuer withdrew is accepted no longer than that.
	freshFor = time.Hour
)

// A Fetcher is a [KeySource] that discovers an issuer's keys by its URL (OpenID
// Connect Discovery 1.0). It keeps them for an hour, and asks again earlier, once
// a minute at most, for a key that it does not know. It is safe for concurrent use.
type Fetcher struct {
	issuer string
	client http.Client

	asking chan struct{} // holds a value while one goroutine asks

	mu    sync.Mutex // guards what follows
	keys  *PublicKeys
	asked time.Time // zero before the first question
	got   time.Time // when keys were fetched
	err   error     // of the last question
}

// NewFetcher makes a Fetcher for the issuer at an https URL, or http on a loopback
// address. Of client it takes the transport, and with it the roots that are
// trusted; nil means a new one. Redirects are not followed.
func NewFetcher(issuer string, client *http.Client) (*Fetcher, error) {
	if err := checkURL(issuer); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", issuer, err)
	}
	f := &Fetcher{issuer: issuer, asking: make(chan struct{}, 1)}
	if client != nil {
		f.client.Transport = client.Transport
	}
	f.client.Timeout = fetchTimeout
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return f, nil
}

// Issuer is the URL whose keys are fetched.
func (f *Fetcher) Issuer() string { return f.issuer }

// Key returns the key called kid. It fetches when the keys are not there, are an
// hour old, or lack kid and nobody asked within a minute before now. Keys that
// cannot be refreshed are not used: the error says why.
func (f *Fetcher) Key(ctx context.Context, kid string, now time.Time) (PublicKey, error) {
	if keys, _ := f.cached(now); keys != nil {
		k, err := keys.Key(ctx, kid, now)
		if err == nil || !f.mayAsk(now) {
			return k, err
		}
	}
	select {
	case f.asking <- struct{}{}:
		defer func() { <-f.asking }()
	case <-ctx.Done():
		return PublicKey{}, ctx.Err()
	}
	if f.mayAsk(now) { // nobody did while we waited
		keys, err := f.fetch(ctx)
		if ctx.Err() != nil { // the caller gave up: that says nothing about the issuer
			return PublicKey{}, ctx.Err()
		}
		f.store(keys, err, now)
	}
	keys, err := f.cached(now)
	if keys == nil {
		return PublicKey{}, fmt.Errorf("keys of %q: %w", f.issuer, err)
	}
	return keys.Key(ctx, kid, now)
}

// cached returns the keys while they are fresh, else why there are none.
func (f *Fetcher) cached(now time.Time) (*PublicKeys, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys == nil || now.Sub(f.got) >= freshFor || now.Before(f.got) {
		if f.err != nil {
			return nil, f.err
		}
		return nil, errors.New("not fetched")
	}
	return f.keys, nil
}

// mayAsk keeps tokens of strangers from turning us against the issuer. A clock
// that went back asks again.
func (f *Fetcher) mayAsk(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := refetchEvery
	if f.err != nil {
		wait = retryEvery
	}
	return f.asked.IsZero() || now.Sub(f.asked) >= wait || now.Before(f.asked)
}

// store keeps what was fetched. A failure leaves older keys until they are stale.
func (f *Fetcher) store(keys *PublicKeys, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.err = now, err
	if err == nil {
		f.keys, f.got = keys, now
	}
}

func (f *Fetcher) fetch(ctx context.Context) (*PublicKeys, error) {
	data, err := f.get(ctx, f.issuer+metadataPath, maxMetadata)
	if err != nil {
		return nil, err
	}
	keysURL, err := parseMetadata(f.issuer, data)
	if err != nil {
		return nil, err
	}
	if err := f.checkKeysURL(keysURL); err != nil {
		return nil, fmt.Errorf("jwks_uri %q: %w", keysURL, err)
	}
	if data, err = f.get(ctx, keysURL, maxJWKS); err != nil {
		return nil, err
	}
	return ParseKeys(f.issuer, data)
}

// checkKeysURL lets an issuer keep its keys on another host, over https, but not
// point us at services of our own machine that are not its.
func (f *Fetcher) checkKeysURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("not a URL")
	}
	own, err := url.Parse(f.issuer)
	if err != nil {
		return err
	}
	switch {
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("want a host, and no user or fragment")
	case u.Scheme == own.Scheme && u.Host == own.Host:
		return nil
	case u.Scheme != "https":
		return errors.New("want https")
	case isLoopback(u.Hostname()) && !isLoopback(own.Hostname()):
		return errors.New("points at this machine")
	}
	return nil
}

// get reads one document of at most limit bytes.
func (f *Fetcher) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %q: status %d", address, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("get %q: %w", address, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("get %q: more than %d bytes", address, limit)
	}
	return data, nil
}
