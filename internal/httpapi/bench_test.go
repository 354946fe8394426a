package httpapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
)

// recordedChallenges lets recorded evidence answer: the nonce is that of the
// recording, the id new each time. Only a benchmark may do this.
type recordedChallenges struct {
	nonce []byte
	until time.Time
}

func (r recordedChallenges) Issue(context.Context, attest.Purpose) (attest.Challenge, error) {
	return attest.Challenge{Challenge: "recorded", Nonce: r.nonce, Expires: r.until}, nil
}

func (r recordedChallenges) Open(context.Context, string, attest.Purpose) (attest.Opened, error) {
	id := make([]byte, 16)
	_, err := rand.Read(id)
	return attest.Opened{ID: id, Nonce: r.nonce, Expires: r.until}, err
}

// A load is what the client process of the benchmark is told.
type load struct {
	URL, Token string
	CA         []byte
	// Body is sent as it is, or with a time in its evidence that is another each
	// time: then no bundle has been seen before.
	Body     []byte
	New      bool
	Requests int
	Clients  int
}

const loadEnv = "ASSAY_TEST_LOAD"

// childMain is the client process of BenchmarkAttestHTTPS; it reports whether
// this process is one. In a process of its own it does not count as the server's
// work.
func childMain() bool {
	if os.Getenv(loadEnv) == "" {
		return false
	}
	var l load
	if err := json.NewDecoder(os.Stdin).Decode(&l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := l.run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// run sends the requests over TLS connections that are kept.
func (l load) run() error {
	pool := x509.NewCertPool()
	cert, err := x509.ParseCertificate(l.CA)
	if err != nil {
		return err
	}
	pool.AddCert(cert)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: l.Clients,
	}}
	var left atomic.Int64
	left.Store(int64(l.Requests))
	errs := make(chan error, l.Clients)
	var wg sync.WaitGroup
	for range l.Clients {
		wg.Go(func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				if err := l.one(client, n); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// evidenceStart is where a bundle begins in a request.
var evidenceStart = []byte(`"evidence":{`)

// body is that of request n.
func (l load) body(n int64) []byte {
	if !l.New {
		return l.Body
	}
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC).Add(time.Duration(n))
	return bytes.Replace(l.Body, evidenceStart, fmt.Appendf(evidenceStart[:len(evidenceStart):len(evidenceStart)], `"time":%q,`, at.Format(time.RFC3339Nano)), 1)
}

func (l load) one(client *http.Client, n int64) error {
	req, err := http.NewRequest("POST", l.URL+"/v1/attest", bytes.NewReader(l.body(n)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+l.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != 200 || !bytes.Contains(text, []byte(`"verdict":"trusted"`)) {
		return fmt.Errorf("%s: %.300s", resp.Status, text)
	}
	return nil
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// clients of the benchmark: enough that groups form while the disk syncs.
const clients = 64

// BenchmarkAttestHTTPS is a whole appraisal as a client sees it: TLS, a quote with
// its event log, the policy, an ES256 token, and the decision durable in SQLite
// (synchronous=FULL, grouped commits) before the answer. appraisals/core-s counts
// the CPU time of the serving process alone.
//
// "cos-85" is the evidence and the policy of 20 rules that the floor names; each
// bundle is new by a time in it, and the log is one that was confirmed before. "cold"
// keeps no log from one appraisal to the next; "repeated" bundles are equal to the
// byte, so that they are stored once. The others are this project's recordings with
// all that belongs to them, under the built-in policy.
func BenchmarkAttestHTTPS(b *testing.B) {
	for _, bench := range []attestBench{
		{name: "cos-85", warm: true},
		{name: "cos-85-cold"},
		{name: "cos-85-repeated", warm: true, repeated: true},
		{name: "good-uki", warm: true},
		{name: "good-shim-grub", warm: true},
	} {
		b.Run(bench.name, bench.run)
	}
}

type attestBench struct {
	name           string
	warm, repeated bool
}

// evidence returns the bundle, the nonce that it answers, its key, and the name of
// the policy to judge it by.
func (bench attestBench) evidence(b *testing.B) (bundle, nonce, akPublic []byte, policy string) {
	b.Helper()
	if !strings.HasPrefix(bench.name, "cos-85") {
		parts := evidencetest.Recorded(b, bench.name, "rsa")
		nonce, parts.Nonce, parts.Time = parts.Nonce, nil, "" // hints, which a client need not send
		return parts.JSON(b), nonce, parts.AKPublic, attest.DefaultPolicy
	}
	bundle, err := os.ReadFile("testdata/gce-cos-85.json")
	must(b, err)
	var members struct {
		AKPublic []byte `json:"akPublic"`
	}
	must(b, json.Unmarshal(bundle, &members))
	return bundle, []byte{0x90, 0x09}, members.AKPublic, "twenty"
}

func (bench attestBench) run(b *testing.B) {
	bundle, nonce, akPublic, policy := bench.evidence(b)
	kind := attest.TPM{}
	if bench.warm {
		kind.Cache, kind.Keys = new(eventlog.Cache), new(tpm.KeyCache) // as assay serve does
	}
	f := newFixture(b, func(c *Config) {
		from, err := seed()
		must(b, err)
		keys, err := attest.NewKeys(attest.KeysConfig{Issuer: "https://assay.test", Provider: from.provider, Now: c.Now, Rand: rand.Reader})
		must(b, err)
		c.Service, err = attest.New(b.Context(), attest.Config{
			Store: c.Principals.(*countingStore), Kinds: []attest.Kind{kind}, Keys: keys, Now: c.Now, Rand: rand.Reader,
			Challenges: recordedChallenges{nonce, noon().Add(time.Hour)},
		})
		must(b, err)
		c.Limits = apiserver.Limits{Rate: 1e9, Burst: 1e9}
		c.Principals = CachePrincipals(c.Principals) // as assay serve does with SQLite
	})
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as assay serve does
	if got := f.as(access.Operator, "POST", "/v1/attesters", map[string]any{"machine": "m", "akPublic": akPublic}); got.status != 201 {
		b.Fatalf("%s", got.body)
	}
	rules, err := os.ReadFile("testdata/twenty.policy")
	must(b, err)
	if got := f.as(access.Admin, "PUT", "/v1/policies/twenty", map[string]any{"text": string(rules), "replaces": 0}); got.status >= 300 {
		b.Fatalf("%s", got.body)
	}
	l := load{URL: f.server.URL, Token: f.tokens[access.Attester], CA: f.server.Certificate().Raw, Clients: clients, New: !bench.repeated}
	l.Body = fmt.Appendf(nil, `{"challenge":%q,"policy":%q,"evidence":%s}`, base64.RawURLEncoding.EncodeToString(make([]byte, 73)), policy, bundle)
	l.Requests = 4 * clients
	runLoad(b, l) // connections, caches
	l.Requests = b.N
	cpu := cpuTime(b)
	b.ResetTimer()
	runLoad(b, l)
	b.StopTimer()
	used := cpuTime(b) - cpu
	decided, commits := f.groups(b)
	b.ReportMetric(decided/commits, "decisions/commit")
	b.ReportMetric(float64(b.N)/used.Seconds(), "appraisals/core-s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(len(l.Body)), "body-bytes")
	b.ReportMetric(yardstick(b), "rsa-verify-µs")
}

// groups returns how many decisions were made durable, and by how many commits.
func (f *fixture) groups(b *testing.B) (decisions, commits float64) {
	b.Helper()
	families, err := f.metrics.Registry().Gather()
	must(b, err)
	for _, family := range families {
		if family.GetName() == "assay_store_group_size" {
			h := family.GetMetric()[0].GetHistogram()
			return h.GetSampleSum(), float64(h.GetSampleCount())
		}
	}
	b.Fatal("no metric of groups")
	return 0, 0
}

// yardstick is the CPU time of one RSA-2048 verification now: on a machine that
// other work keeps busy all figures grow with it.
func yardstick(b *testing.B) float64 {
	b.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(b, err)
	digest := sha256.Sum256([]byte("yardstick"))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	must(b, err)
	const n = 2000
	began := cpuTime(b)
	for range n {
		must(b, rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], sig))
	}
	return float64((cpuTime(b) - began).Nanoseconds()) / n / 1000
}

func runLoad(b *testing.B, l load) {
	b.Helper()
	text, err := json.Marshal(l)
	must(b, err)
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), loadEnv+"="+strconv.Itoa(l.Requests))
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("client: %v\n%s", err, out)
	}
}
