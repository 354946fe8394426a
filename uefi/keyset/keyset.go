// Package keyset makes the keys that a virtual machine's Secure Boot decides by:
// PK, KEK, db and dbx as one object, and writes them into variable stores.
//
// A [Set] holds certificates, digests and revocations, and no private key. It does
// not prove that a machine uses it: firmware measures these variables into PCR 7,
// and a quote says what they were. Start with [New] and [Set.Enrol].
//
// UEFI Specification 2.10, 32.3; the variables that turn Secure Boot on are edk2's.
package keyset

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"time"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// A Kind says whose keys a set has.
type Kind string

// The kinds. In every kind but the last the platform key is the set's own: who
// holds it may change the others.
const (
	Microsoft       Kind = "microsoft"     // Microsoft's KEK, db and dbx
	MicrosoftAndOwn Kind = "microsoft+own" // and keys of one's own beside them
	Own             Kind = "own"           // one's own only
	SetupMode       Kind = "setup-mode"    // no keys: the guest enrols some, Secure Boot is off until then
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Microsoft, MicrosoftAndOwn, Own, SetupMode} }

// Errors that a caller can act on.
var (
	ErrKind  = errors.New("no such kind of key set")
	ErrName  = errors.New("name of a key set is 1 to 63 lower-case letters, digits, - and ., and begins with a letter or digit")
	ErrRole  = errors.New("key set has no key of its own in this role")
	ErrNoKey = errors.New("private key is not at hand")
	ErrEntry = errors.New("firmware does not take this entry")
)

// nameForm leaves the length to ValidName: a bound of repetitions is compiled as so many
// copies, each time that a program starts.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*$`)

// ValidName reports whether a set may have this name.
func ValidName(name string) bool { return len(name) <= 63 && nameForm.MatchString(name) }

// A Set is the content of the four variables.
type Set struct {
	Name    string
	Kind    Kind
	Owner   uefi.GUID // of the entries that are the set's own
	Created time.Time
	Updated time.Time // the time that its variables are written with
	lists   map[sigdb.Role][]sigdb.Signature
}

// Keys are the private keys of a set's own entries.
type Keys map[sigdb.Role]*rsa.PrivateKey

// Options are what [New] is told. Random and Now are needed.
type Options struct {
	Kind   Kind
	Random io.Reader
	Now    time.Time
	// Given are entries in place of keys that would be made: a given PK, KEK or db
	// has its private key elsewhere. Those of dbx are added.
	Given map[sigdb.Role][]sigdb.Signature
	// WithoutRevocations leaves Microsoft's list out, which builds of 2 MB have no
	// room for.
	WithoutRevocations bool
}

// New makes a set, and private keys for the entries that were not given.
func New(name string, o Options) (*Set, Keys, error) {
	if !ValidName(name) {
		return nil, nil, fmt.Errorf("%q: %w", name, ErrName)
	}
	if !slices.Contains(Kinds(), o.Kind) {
		return nil, nil, fmt.Errorf("%q: %w: want one of %v", o.Kind, ErrKind, Kinds())
	}
	now := o.Now.UTC().Truncate(time.Second)
	s := &Set{Name: name, Kind: o.Kind, Created: now, Updated: now, lists: map[sigdb.Role][]sigdb.Signature{}}
	if _, err := io.ReadFull(o.Random, s.Owner[:]); err != nil {
		return nil, nil, err
	}
	s.Owner[7], s.Owner[8] = s.Owner[7]&0x0F|0x40, s.Owner[8]&0x3F|0x80 // RFC 9562, 5.4: random
	keys := Keys{}
	if o.Kind == SetupMode {
		if len(o.Given) > 0 {
			return nil, nil, fmt.Errorf("a set of kind %s has no keys: %w", SetupMode, ErrEntry)
		}
		return s, keys, nil
	}
	s.addMicrosoft(o)
	for _, r := range sigdb.Roles() {
		given, err := s.given(r, o.Given[r])
		if err != nil {
			return nil, nil, err
		}
		if given == nil && s.makes(r) {
			key, entry, err := s.newKey(o.Random, r, now)
			if err != nil {
				return nil, nil, err
			}
			keys[r], given = key, []sigdb.Signature{entry}
		}
		s.lists[r] = append(s.lists[r], given...)
	}
	if len(s.lists[sigdb.PK]) != 1 {
		return nil, nil, fmt.Errorf("PK has one key: %w", ErrEntry)
	}
	return s, keys, nil
}

func (s *Set) addMicrosoft(o Options) {
	if s.Kind == Own {
		return
	}
	s.lists[sigdb.KEK], s.lists[sigdb.DB] = microsoftKEK(), microsoftDB()
	if d, err := sigdb.Parse(revocations); err == nil && !o.WithoutRevocations {
		s.lists[sigdb.DBX] = slices.Collect(d.All())
	}
}

// makes reports whether a set of this kind has an entry of its own in a role.
func (s *Set) makes(r sigdb.Role) bool {
	switch r {
	case sigdb.PK:
		return s.Kind != SetupMode
	case sigdb.KEK, sigdb.DB:
		return s.Kind == Own || s.Kind == MicrosoftAndOwn
	default:
		return false
	}
}

// given checks entries and marks those without an owner as the set's own.
func (s *Set) given(r sigdb.Role, entries []sigdb.Signature) ([]sigdb.Signature, error) {
	var out []sigdb.Signature
	for _, e := range entries {
		if e.Owner == (uefi.GUID{}) {
			e.Owner = s.Owner
		}
		if err := sigdb.CheckList(r, sigdb.Encode([]sigdb.Signature{e})); err != nil {
			return nil, fmt.Errorf("%v: %w: %w", r, ErrEntry, err)
		}
		out = append(out, e)
	}
	return out, nil
}

// Sizes and times of the certificates that are made here.
const (
	rsaBits  = 2048 // UEFI 2.10, 32.4: what every firmware takes
	lifeTime = 20   // years; firmware does not look at it
)

// titles name a role in a certificate.
var titles = map[sigdb.Role]string{sigdb.PK: "platform key", sigdb.KEK: "key exchange key", sigdb.DB: "image signing key"}

// newKey makes a key and its certificate, signed by itself.
func (s *Set) newKey(random io.Reader, r sigdb.Role, now time.Time) (*rsa.PrivateKey, sigdb.Signature, error) {
	key, err := rsa.GenerateKey(random, rsaBits)
	if err != nil {
		return nil, sigdb.Signature{}, err
	}
	serial, err := rand.Int(random, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, sigdb.Signature{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: fmt.Sprintf("%s %s %s", s.Name, titles[r], now.Format(time.DateOnly))},
		NotBefore:    now, NotAfter: now.AddDate(lifeTime, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		SignatureAlgorithm: x509.SHA256WithRSA,
	}
	if r == sigdb.DB {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, sigdb.Signature{}, err
	}
	return key, sigdb.Signature{Type: sigdb.X509, Owner: s.Owner, Data: der}, nil
}

// Entries are what a role holds, in the order that is measured.
func (s *Set) Entries(r sigdb.Role) []sigdb.Signature { return slices.Clone(s.lists[r]) }

// Database is a role's variable, nil when the set has none.
func (s *Set) Database(r sigdb.Role) *sigdb.Database { return s.Variables().Database(r) }

// Variables are the variables of a machine that begins with this set.
func (s *Set) Variables() sigdb.Variables {
	out := sigdb.Variables{}
	for r, entries := range s.lists {
		if len(entries) > 0 {
			out[r] = sigdb.Value{Data: sigdb.Encode(entries), Time: uefi.NewTime(s.Updated)}
		}
	}
	return out
}

// own finds the newest entry of the set's own in a role that a key is of.
func (s *Set) own(r sigdb.Role, key *rsa.PrivateKey) (*cms.Certificate, error) {
	if key == nil {
		return nil, fmt.Errorf("%v: %w", r, ErrNoKey)
	}
	for _, e := range slices.Backward(s.lists[r]) {
		c, err := x509.ParseCertificate(e.Data)
		if e.Type != sigdb.X509 || err != nil || !key.PublicKey.Equal(c.PublicKey) {
			continue
		}
		return cms.ParseCertificate(e.Data)
	}
	return nil, fmt.Errorf("%v: %w", r, ErrRole)
}

// Signing is what signs by a set's own key in a role: an image by db, an update by
// PK or KEK.
func (s *Set) Signing(r sigdb.Role, keys Keys, random io.Reader) (cms.Signing, error) {
	cert, err := s.own(r, keys[r])
	if err != nil {
		return cms.Signing{}, err
	}
	return cms.Signing{Random: random, Key: crypto.Signer(keys[r]), Certificate: cert}, nil
}

// has reports whether a role holds an entry, owner included.
func (s *Set) has(r sigdb.Role, e sigdb.Signature) bool {
	return slices.ContainsFunc(s.lists[r], func(o sigdb.Signature) bool {
		return o.Type == e.Type && o.Owner == e.Owner && bytes.Equal(o.Data, e.Data)
	})
}
