package vtpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// recordVersion is that of a [Record] and of a [Card].
const recordVersion = 1

// A Record is what a root knows of a TPM beside its state. It is sealed with the
// state, so that who holds the file but not the key can alter neither.
type Record struct {
	Version   int       `json:"version"`
	Name      string    `json:"name"`
	ID        state.ID  `json:"id"`
	VM        *VM       `json:"vm,omitempty"` // nil while it belongs to none
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"createdBy"`
	Profile   string    `json:"profile"`
	// Secrets names the seeds of the TPM: two TPMs with the same share all keys that
	// either had when they parted. It is no secret itself.
	Secrets SecretsID `json:"secrets"`
	Lineage []Origin  `json:"lineage,omitempty"` // oldest first
	// DeviceIdentity and PlatformCertificate say what it was made with besides.
	DeviceIdentity      bool `json:"deviceIdentity,omitempty"`
	PlatformCertificate bool `json:"platformCertificate,omitempty"`
	// Identity are the keys that the TPM was made with.
	Identity []IdentityKey `json:"identity,omitempty"`
}

// An IdentityKey is a key that a TPM was made with, as its record names it; the
// certificate itself is in the TPM.
type IdentityKey struct {
	Kind   ekca.Kind `json:"kind"`
	Handle string    `json:"handle"`
	Name   string    `json:"name"` // of the key (Part 1, 16), in hex
	// Serial, Issuer and SHA256 are of its certificate; empty when there is none.
	Serial string `json:"serial,omitempty"`
	Issuer string `json:"issuer,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// identityOf is what a record keeps of what was issued.
func identityOf(issued *ekca.Issued) ([]IdentityKey, error) {
	var out []IdentityKey
	for n := range issued.Keys {
		k := &issued.Keys[n]
		name, err := k.Public.Name()
		if err != nil {
			return nil, err
		}
		key := IdentityKey{Kind: k.Kind, Handle: fmt.Sprintf("%08x", uint32(k.Handle)), Name: hex.EncodeToString(name)}
		if k.Certificate != nil {
			cert, err := x509.ParseCertificate(k.Certificate)
			if err != nil {
				return nil, err
			}
			sum := sha256.Sum256(k.Certificate)
			key.Serial, key.Issuer, key.SHA256 = cert.SerialNumber.Text(16), cert.Issuer.String(), hex.EncodeToString(sum[:])
		}
		out = append(out, key)
	}
	return out, nil
}

// An Origin is how a TPM came to be what it is.
type Origin struct {
	Event EventType `json:"event"`
	Time  time.Time `json:"time"`
	By    string    `json:"by"`
	// Mode is "copy" or "replace", of a clone or a restored backup.
	Mode string `json:"mode,omitempty"`
	// From is the TPM that it was made of, at a generation of its state.
	From       string   `json:"from,omitempty"`
	FromID     state.ID `json:"fromId,omitzero"`
	Generation uint64   `json:"generation,omitempty"`
}

// maxLineage bounds the history that a record carries; the oldest go first.
const maxLineage = 64

// descend appends o to the lineage.
func (r *Record) descend(o Origin) {
	r.Lineage = append(r.Lineage[:len(r.Lineage):len(r.Lineage)], o)
	if n := len(r.Lineage); n > maxLineage {
		r.Lineage = r.Lineage[n-maxLineage:]
	}
}

// vmName is the name of the machine that the TPM belongs to, empty for none.
func (r *Record) vmName() string {
	if r.VM == nil {
		return ""
	}
	return r.VM.Name
}

// A SecretsID names one set of seeds.
type SecretsID [16]byte

func (s SecretsID) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes s in hex.
func (s SecretsID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads 32 hex digits.
func (s *SecretsID) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(s) {
		return fmt.Errorf("%d digits, want %d", len(b), 2*len(s))
	}
	_, err := hex.Decode(s[:], b)
	return err
}

// newSecrets names a new set of seeds.
func newSecrets(random io.Reader) (s SecretsID, err error) {
	if _, err := io.ReadFull(random, s[:]); err != nil {
		return s, fmt.Errorf("name the secrets of a TPM: %w", err)
	}
	return s, nil
}

// recordRules bound what is sealed with a state: certificates are in it.
func recordRules() strictjson.Rules {
	return strictjson.Rules{Bytes: 1 << 20, Depth: 12, Members: 4096, Values: 8192}
}

func (r *Record) encode() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write the record of TPM %q: %w", r.Name, err)
	}
	return text, nil
}

// ErrRecord is a record or card that this program cannot use; it is wrapped.
var ErrRecord = errors.New("not a record of a TPM that can be read")

// parseRecord reads the record of a state. Unknown members are refused: a later
// version says so by its number.
func parseRecord(text []byte) (*Record, error) {
	r := new(Record)
	if err := decodeStrict(text, r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("version %d, this program has %d: %w", r.Version, recordVersion, ErrRecord)
	}
	return r, checkName(r.Name)
}

func decodeStrict(text []byte, to any) error {
	if _, err := strictjson.Parse(text, recordRules()); err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return nil
}
