// Package attest is the attestation service without its transports: a
// challenge goes out, evidence comes back, is verified, appraised under a
// policy, answered with a token, and kept.
//
// It holds no socket, file, clock or random source of its own: [Config] names
// what it needs, and [Store] is what it needs kept. The roles are those of RFC
// 9334: this is the verifier. Start with [Service].
package attest

import (
	"context"
	"errors"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/audit"
)

// The answers of a [Store] that the service acts on.
var (
	// ErrNotFound is a name or id that the store does not hold.
	ErrNotFound = errors.New("not found")
	// ErrExists is a name that is taken.
	ErrExists = errors.New("already exists")
	// ErrChallengeUsed is a challenge that has answered an attestation before.
	ErrChallengeUsed = errors.New("challenge has been used")
	// ErrStale is a write whose premises (the configuration's generation, or the
	// attester's revision) changed since they were read; read again and retry.
	ErrStale = errors.New("configuration changed meanwhile")
)

// An Appraisal is one decision, as kept.
type Appraisal struct {
	ID       string            `json:"id"` // 26 characters, sortable by time
	Time     time.Time         `json:"time"`
	Type     string            `json:"type"`               // kind of evidence: "tpm"
	Attester string            `json:"attester,omitempty"` // Name of the attestation key, hex; empty when unknown
	Machine  string            `json:"machine,omitempty"`  // what the operator calls the attester
	Verdict  evidence.Verdict  `json:"verdict"`
	Reasons  []evidence.Reason `json:"reasons"`
	Claims   evidence.Claims   `json:"claims"`
	// NotChecked lists what the verdict says nothing about.
	NotChecked []string `json:"notChecked"`
	Policy     string   `json:"policy"`
	PolicyRev  int      `json:"policyVersion"`
	// Evidence is the SHA-256 digest, in hex, of the bundle as received.
	Evidence string `json:"evidence"`
	// TokenID is the jti of the token that was issued; the token itself is not kept.
	TokenID string `json:"tokenId,omitempty"`
}

// A Decision is an appraisal together with all that must become durable with it.
type Decision struct {
	Appraisal  Appraisal
	Bundle     []byte // the evidence as received; stored once per digest
	Digest     Digest // of Bundle, when the caller has computed it; else zero
	Challenge  []byte // id of the challenge that it consumes, 16 bytes; nil for none
	Expires    time.Time
	Generation uint64 // of the configuration that the appraisal used
	// Attester, when not nil, is the attestation key whose counters move; its
	// Revision must still be the stored one.
	Attester *Attester
	// Unrecorded, when not nil, is the [KeyDigest] of a key that the decision rests on
	// having no record, under any Name; with one it is ErrStale.
	Unrecorded []byte
	Audit      audit.Entry
	// Findings, when not nil, is what [Appraisal.Findings] returns, made already.
	Findings []byte
}

// An Attester is an attestation key that was enrolled or registered.
type Attester struct {
	AKName   string    `json:"akName"`  // hex of the key's TPM Name
	Machine  string    `json:"machine"` // unique among the live ones
	AKPublic []byte    `json:"akPublic"`
	EKPublic []byte    `json:"ekPublic,omitempty"`
	Proof    string    `json:"proof"`              // "registered", "ak-certificate" or "credential-activation"
	Baseline string    `json:"baseline,omitempty"` // reference value that its boots are compared with
	Added    time.Time `json:"added"`
	AddedBy  string    `json:"addedBy"`
	Removed  bool      `json:"removed"`
	Revision uint64    `json:"revision"`
	Last     *Counters `json:"last,omitempty"` // of the newest genuine quote
}

// Counters are a TPM's clock as last seen (TPMS_CLOCK_INFO; Part 2, 10.11.1).
type Counters struct {
	Clock   uint64 `json:"clock"` // milliseconds
	Reset   uint32 `json:"resetCount"`
	Restart uint32 `json:"restartCount"`
	Safe    bool   `json:"safe"`
}

// A PolicyVersion is one revision of a named policy. Revisions are never changed.
type PolicyVersion struct {
	Name    string    `json:"name"`
	Version int       `json:"version"` // from 1
	Text    string    `json:"text"`
	Digest  string    `json:"digest"` // SHA-256 of Text, hex
	Author  string    `json:"author"`
	Time    time.Time `json:"time"`
	Comment string    `json:"comment,omitempty"`
}

// An Anchor is something that the operator trusts.
type Anchor struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"` // "ek-ca" or "ak-ca"
	Name    string    `json:"name"`
	DER     []byte    `json:"der"` // the certificate
	Added   time.Time `json:"added"`
	AddedBy string    `json:"addedBy"`
}

// A Reference is a named baseline, versioned like a policy.
type Reference struct {
	Name     string    `json:"name"`
	Version  int       `json:"version"`
	Baseline []byte    `json:"baseline"` // docs/formats/baseline.md
	Author   string    `json:"author"`
	Time     time.Time `json:"time"`
}

// A SigningKey is a token key as stored: sealed, never in the clear.
type SigningKey struct {
	ID          string    `json:"id"` // kid
	Alg         string    `json:"alg"`
	Sealed      []byte    `json:"-"` // PKCS #8, sealed under the service's key
	Certificate []byte    `json:"certificate"`
	NotBefore   time.Time `json:"notBefore"` // signs from
	NotAfter    time.Time `json:"notAfter"`  // signs until; published until every token has expired
}

// An Enrolment is a credential challenge that waits for its answer.
type Enrolment struct {
	ID       string
	Machine  string
	AKPublic []byte
	EKPublic []byte
	Baseline string
	// SecretHash is the SHA-256 digest of the credential; the credential is not kept.
	SecretHash []byte
	By         string
	Expires    time.Time
}

// Configuration is all that decides an appraisal but the attester itself, as of
// one generation. It is immutable.
type Configuration struct {
	Generation  uint64
	Policies    map[string]PolicyVersion // newest of each name
	Anchors     []Anchor
	References  map[string]Reference // newest of each name
	SigningKeys []SigningKey
}

// AppraisalFilter selects appraisals; zero members do not restrict.
type AppraisalFilter struct {
	Attester string
	Machine  string
	Verdict  *evidence.Verdict
	Before   string // only ids below this one: where the last page ended
	Limit    int    // at most; 0 means 100
}

// Store keeps what the service must not lose. Every write is atomic, carries
// its audit entry, and is durable when the method returns. Reads of a name that
// does not exist give ErrNotFound. All implementations pass storetest.Run.
type Store interface {
	// Decide keeps a decision: challenge, appraisal, evidence, counters, audit.
	// It answers ErrChallengeUsed or ErrStale, and then has kept nothing.
	Decide(context.Context, Decision) error
	Appraisal(ctx context.Context, id string) (Appraisal, error)
	// Appraisals lists newest first.
	Appraisals(context.Context, AppraisalFilter) ([]Appraisal, error)
	// Evidence returns a bundle by the hex SHA-256 of its bytes.
	Evidence(ctx context.Context, digest string) ([]byte, error)
	// Configuration reads all of it at one generation.
	Configuration(context.Context) (Configuration, error)
	// Generation is the number that Configuration would carry now.
	Generation(context.Context) (uint64, error)

	Administration
}

// Administration is the part of a [Store] that administrators' requests change.
// Each write raises the generation, but for those of enrolments and of attesters
// that are not removed.
type Administration interface {
	// PutPolicy appends a revision: Version must be one above the newest, else ErrStale.
	PutPolicy(context.Context, PolicyVersion, audit.Entry) error
	// PolicyHistory lists all revisions of a name, newest first.
	PolicyHistory(ctx context.Context, name string) ([]PolicyVersion, error)
	// PutReference appends a revision, as PutPolicy does.
	PutReference(context.Context, Reference, audit.Entry) error
	PutAnchor(context.Context, Anchor, audit.Entry) error // ErrExists for a taken ID
	RemoveAnchor(ctx context.Context, id string, e audit.Entry) error
	PutSigningKey(context.Context, SigningKey, audit.Entry) error

	// AddAttester answers ErrExists when the key, under this or another Name, or a live
	// attester's machine name, is taken.
	AddAttester(context.Context, Attester, audit.Entry) error
	// SetAttester replaces the record when its Revision is still the stored one, else ErrStale.
	SetAttester(context.Context, Attester, audit.Entry) error
	Attester(ctx context.Context, akName string) (Attester, error)
	// Attesters lists by AKName, above after, at most limit (0 means 100).
	Attesters(ctx context.Context, after string, limit int) ([]Attester, error)
	// AttestersByKey returns the records of a key by its [KeyDigest], removed ones included.
	AttestersByKey(ctx context.Context, digest []byte) ([]Attester, error)

	PutEnrolment(context.Context, Enrolment) error
	// FinishEnrolment removes the enrolment and adds its attester, in one step.
	FinishEnrolment(ctx context.Context, id string, a Attester, e audit.Entry) error
	Enrolment(ctx context.Context, id string) (Enrolment, error)

	// AuditEntries reads the chain in order, above the sequence number after, at most limit.
	AuditEntries(ctx context.Context, after uint64, limit int) ([]audit.Entry, error)
	// Prune drops used challenges and enrolments that expired before t.
	Prune(ctx context.Context, t time.Time) error
}
