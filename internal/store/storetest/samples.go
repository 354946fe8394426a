package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// Noon is the time of most samples: to the microsecond, as stores keep it.
func Noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC) }

// ID makes the n-th appraisal id; ids sort as their numbers do.
func ID(n int) string { return fmt.Sprintf("01JDTEST%018d", n) }

// Challenge makes the n-th challenge id.
func Challenge(n int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "challenge %d", n))
	return sum[:16]
}

// Bundle makes evidence of about 30 KB: log numbers the event log in it, which
// many bundles of a machine share, and quote the rest.
func Bundle(log, quote int) []byte {
	random := func(seed, n int) string {
		b := make([]byte, n)
		rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "bytes %d", seed))).Read(b) //nolint:errcheck // never fails
		return base64.StdEncoding.EncodeToString(b)
	}
	// A real log is text and digests: about half of it compresses.
	var events bytes.Buffer
	for i := range 150 {
		fmt.Fprintf(&events, "%s\\EFI\\BOOT\\event %d\x00\x00\x00\x00\x00\x00%s", random(log*1000+i, 48), i, "the same words in each event of this log")
	}
	return fmt.Appendf(nil, `{"type":"tpm","quotes":[{"attest":%q,"signature":%q}],"akPublic":%q,"eventLog":%q}`,
		random(-quote*2-1, 130), random(-quote*2-2, 256), random(log, 280), base64.StdEncoding.EncodeToString(events.Bytes()))
}

// Digest is the hex SHA-256 of a bundle.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Decision makes the n-th decision over a bundle, complete but for an attester.
func Decision(n int, bundle []byte) attest.Decision {
	now := Noon().Add(time.Duration(n) * time.Second)
	claims := evidence.Claims{}
	claims.Set("secureBoot", evidence.Bool(n%2 == 0), 7)
	claims.Set("kernelCommandLine", evidence.Text("root=/dev/vda1 ro quiet"), 8, 9)
	claims.Unknown("hvci", "sipa.absent", 12)
	if n%3 == 1 { // what is long may be kept elsewhere
		claims.Set("secureBootKeys.dbx.hashes", evidence.Text(strings.Repeat("ab12\n", 300)), 7)
	}
	a := attest.Appraisal{
		ID: ID(n), Time: now, Type: "tpm", Machine: fmt.Sprintf("machine-%d", n%5), Attester: fmt.Sprintf("000b%060d", n%7),
		Verdict: evidence.Verdict(n % 3), Claims: claims, NotChecked: []string{"firmware: no reference value"},
		Reasons: []evidence.Reason{{Code: "quote.nonce-mismatch", Message: "it is <another> nonce", Component: "quote"}},
		Policy:  "default", PolicyRev: n%4 + 1, TokenID: fmt.Sprint("token-", n),
	}
	if bundle != nil {
		a.Evidence = Digest(bundle)
	}
	return attest.Decision{
		Appraisal: a, Bundle: bundle, Challenge: Challenge(n), Expires: now.Add(5 * time.Minute), Generation: 1,
		Audit: Entry("attest", a.ID),
	}
}

// Entry makes an audit entry as a caller hands it to a store.
func Entry(action, subject string) audit.Entry {
	return audit.Entry{
		Time: Noon(), Actor: "test", Action: action, Subject: subject, Outcome: "done",
		Detail: json.RawMessage(`{"words": "<a & b>"}`),
	}
}

// Attester makes the n-th attestation key.
func Attester(n int) attest.Attester {
	return attest.Attester{
		AKName: fmt.Sprintf("000b%060d", n), Machine: fmt.Sprintf("web-%d", n), AKPublic: fmt.Appendf(nil, "key %d", n),
		EKPublic: []byte{2, 3}, Proof: "registered", Baseline: "web", Added: Noon(), AddedBy: "operator",
	}
}
