package cli

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/token"
	"github.com/assay-project/assay/tpm2"
)

//go:embed demodata
var demoFiles embed.FS

// demoNonce is the qualifying data of the recorded quotes.
const demoNonce = "demodata/nonce.bin"

// A demoStep is one boot and what must come of it.
type demoStep struct {
	Title   string `json:"title"`
	file    string
	machine string // registered under this name first; "" leaves the key unknown
	fresh   bool   // the challenge is a new one, which the recorded quote cannot answer
	want    evidence.Code
	Why     string `json:"why"`
}

var demoSteps = []demoStep{
	{Title: "A good boot: shim, GRUB, Linux, Secure Boot on", file: "good.json", machine: "web-1", Why: "this boot is also the baseline of the machines called web"},
	{Title: "The same machine image with another kernel command line", file: "command-line.json", machine: "web-2", want: "baseline.mismatch", Why: "grub.cfg was edited; Secure Boot does not cover it"},
	{Title: "The quote of the good boot, sent again for a new challenge", file: "good.json", fresh: true, want: "quote.nonce-mismatch", Why: "a recorded quote cannot answer a challenge that did not exist when it was made"},
	{Title: "The tampered boot with its log edited to show the good command line", file: "edited-log.json", want: "eventlog.data-mismatch", Why: "the digests still replay to the quoted registers, the text is not what they are digests of"},
	{Title: "A sound quote by the key of a TPM that nobody enrolled", file: "foreign-key.json", want: "ak.untrusted", Why: "whoever owns a TPM can make such a quote"},
	{Title: "Secure Boot turned off", file: "secure-boot-off.json", machine: "db-1", want: "policy.denied", Why: "the record is genuine, and what it says is not good enough"},
}

// A demoOutcome is a step with what the service answered.
type demoOutcome struct {
	demoStep
	Result   attest.Result `json:"result"`
	Verified string        `json:"verified,omitempty"` // what the relying party found
	AsItMust bool          `json:"asItMust"`
}

func newDemoCmd(env *program.Env) *cobra.Command {
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the service on recorded boots of real machines and show every decision",
		Long: `Starts the attestation service on an embedded database and a free loopback port,
registers the trust anchors of recorded machines over its API, and has six recorded
boots appraised: a good one, and five that must be refused, each for its own reason.

The evidence is recorded, so the demonstration replaces the service's challenges by
the recorded one. No API of the service can do that.

Exit status: 0 every decision was as it must be; 1 one was not.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newDemoMachinesCmd(env))
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&keep, "keep", "", "keep the service's data in this new folder, to look around in")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := startDemo(cmd.Context(), env, keep)
		if err != nil {
			return err
		}
		outcomes, err := d.run(cmd.Context(), *format == "text")
		if err = errors.Join(err, d.close()); err != nil {
			return err
		}
		if *format == "json" {
			if err := program.PrintJSON(env, outcomes); err != nil {
				return err
			}
		} else {
			d.lookAround(outcomes)
		}
		if slices.ContainsFunc(outcomes, func(o demoOutcome) bool { return !o.AsItMust }) {
			return program.Refused()
		}
		return nil
	}
	return cmd
}

// recordedChallenges hands out the recorded nonce, so that recorded evidence
// counts as fresh; after renew, challenges are the service's own kind again.
type recordedChallenges struct {
	nonce []byte
	rand  io.Reader
	fresh atomic.Bool
	until time.Time
}

func (r *recordedChallenges) nonceFor(id []byte) []byte {
	if !r.fresh.Load() {
		return r.nonce
	}
	sum := sha256.Sum256(id)
	return sum[:]
}

// Issue makes a single-use challenge whose nonce is the recorded one.
func (r *recordedChallenges) Issue(context.Context, attest.Purpose) (attest.Challenge, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(r.rand, id); err != nil {
		return attest.Challenge{}, err
	}
	return attest.Challenge{Challenge: hex.EncodeToString(id), Nonce: r.nonceFor(id), Expires: r.until}, nil
}

// Open takes any challenge: the demonstration has one client, itself.
func (r *recordedChallenges) Open(_ context.Context, challenge string, _ attest.Purpose) (attest.Opened, error) {
	id, err := hex.DecodeString(challenge)
	if err != nil || len(id) != 16 {
		return attest.Opened{}, evidence.Refuse("challenge.malformed", "the challenge was not issued by this service")
	}
	return attest.Opened{ID: id, Nonce: r.nonceFor(id), Expires: r.until}, nil
}

// A demo is the running service and a client of it.
type demo struct {
	env        *program.Env
	challenges *recordedChallenges
	client     *remote
	where      string
	kept       bool
	close      func() error
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.env.Stdout, format, args...) }

func (d *demo) run(ctx context.Context, aloud bool) ([]demoOutcome, error) {
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	if aloud {
		d.printf("Assay: recorded boots of real machines, appraised by the running service\n\n")
		d.printf("service    %s, data in %s\n", d.client.url, d.where)
		d.printf("trusted    the attestation keys of web-1, web-2 and db-1, on the operator's word\n")
		d.printf("baseline   \"web\", made of the good boot; the built-in policy asks for Secure Boot\n")
	}
	var out []demoOutcome
	for i, step := range demoSteps {
		o, err := d.attest(ctx, step)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step.Title, err)
		}
		out = append(out, o)
		if aloud {
			d.show(i+1, o)
		}
	}
	return out, nil
}

// prepare registers what the operator trusts, over the API.
func (d *demo) prepare(ctx context.Context) error {
	good, err := demoBundle("good.json")
	if err != nil {
		return err
	}
	file, err := baselineOf(good.EventLog)
	if err != nil {
		return err
	}
	if err := d.client.call(ctx, "PUT", "/v1/references/web", map[string]any{"baseline": json.RawMessage(file), "replaces": 0}, nil); err != nil {
		return err
	}
	for _, step := range demoSteps {
		if step.machine == "" {
			continue
		}
		b, err := demoBundle(step.file)
		if err != nil {
			return err
		}
		registration := map[string]any{"machine": step.machine, "akPublic": b.AKPublic}
		if strings.HasPrefix(step.machine, "web") {
			registration["baseline"] = "web"
		}
		if err := d.client.call(ctx, "POST", "/v1/attesters", registration, nil); err != nil {
			return err
		}
	}
	return nil
}

func baselineOf(log []byte) ([]byte, error) {
	parsed, err := eventlog.Parse(log)
	if err != nil {
		return nil, err
	}
	boot, err := parsed.Inspect(tpm2.AlgSHA256)
	if err != nil {
		return nil, err
	}
	return baseline.From(boot, baseline.Shape{Machine: "demo"}).MarshalJSON()
}

// demoEvidence is what the demonstration itself reads of a bundle.
type demoEvidence struct {
	raw      []byte
	AKPublic []byte `json:"akPublic"`
	EventLog []byte `json:"eventLog"`
}

func demoBundle(name string) (demoEvidence, error) {
	raw, err := demoFiles.ReadFile("demodata/" + name)
	if err != nil {
		return demoEvidence{}, err
	}
	out := demoEvidence{raw: raw}
	return out, json.Unmarshal(raw, &out)
}

func (d *demo) attest(ctx context.Context, step demoStep) (demoOutcome, error) {
	o := demoOutcome{demoStep: step}
	d.challenges.fresh.Store(step.fresh)
	b, err := demoBundle(step.file)
	if err != nil {
		return o, err
	}
	var ch attest.Challenge
	if err := d.client.call(ctx, "POST", "/v1/challenges", map[string]any{"type": "tpm"}, &ch); err != nil {
		return o, err
	}
	if err := d.client.call(ctx, "POST", "/v1/attest", map[string]any{"challenge": ch.Challenge, "evidence": json.RawMessage(b.raw)}, &o.Result); err != nil {
		return o, err
	}
	if step.want != "" {
		o.AsItMust = o.Result.Verdict == evidence.Refused && o.Result.Token == "" &&
			slices.ContainsFunc(o.Result.Reasons, func(r evidence.Reason) bool { return r.Code == step.want })
		return o, nil
	}
	o.Verified, err = d.relyingParty(ctx, o.Result.Token)
	o.AsItMust = o.Result.Verdict == evidence.Trusted && err == nil
	return o, nil
}

// relyingParty checks the token as a stranger would: with the issuer's URL alone.
func (d *demo) relyingParty(ctx context.Context, raw string) (string, error) {
	keys, err := token.NewFetcher(d.client.url, d.client.api.HTTP)
	if err != nil {
		return "", err
	}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: d.client.url, Algorithms: []token.Alg{token.ES256}, MaxAge: time.Hour}, keys)
	if err != nil {
		return "", err
	}
	t, err := v.Verify(ctx, raw, d.env.Now())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, signed by key %s of %s, until %s", t.Algorithm(), t.KeyID(), t.Issuer(), t.Expires().Format(time.TimeOnly)), nil
}

func (d *demo) show(n int, o demoOutcome) {
	d.printf("\n%d. %s\n   %s\n", n, o.Title, o.Why)
	d.printf("   %-10s policy %q, appraisal %s\n", strings.ToUpper(o.Result.Verdict.String()), o.Result.Policy, o.Result.ID)
	for _, r := range o.Result.Reasons {
		d.printf("   %-10s %s\n", "reason", r.Code)
		d.wrap("", r.Message)
		if info, ok := evidence.Describe(r.Code); ok {
			d.wrap("do", info.Action)
		}
	}
	if o.Result.Token == "" {
		if !o.AsItMust {
			d.printf("   NOT AS IT MUST BE: a refusal for %s\n", o.want)
		}
		return
	}
	for _, name := range []string{"secureBoot", "sbatLevel", "kernelCommandLine"} {
		if c, ok := o.Result.Claims[name]; ok && c.Value.Known() {
			d.printf("   %-10s %s = %s, proven by PCR %s\n", "claim", name, shorten(c.Value.String()), numbers(c.PCRs))
		}
	}
	d.printf("   %-10s %s… (%d characters)\n", "token", o.Result.Token[:48], len(o.Result.Token))
	d.printf("   %-10s %s\n", "verified", o.Verified)
}

// demoWidth is that of a terminal; deeper lines are wrapped into it.
const demoWidth = 100

// wrap prints a text under a heading, broken at spaces. What guests wrote is
// quoted by then; it is cut, because a log can hold any amount of it.
func (d *demo) wrap(heading, text string) {
	const most = 600
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+len(word) > demoWidth-15 {
			d.printf("   %-10s %s\n", heading, line)
			heading, line = "", ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	d.printf("   %-10s %s\n", heading, line)
}

func (d *demo) program() string {
	if d.env.Program == "" {
		return "assay"
	}
	return d.env.Program
}

func (d *demo) lookAround(outcomes []demoOutcome) {
	good := 0
	for _, o := range outcomes {
		if o.AsItMust {
			good++
		}
	}
	d.printf("\n%d of %d decisions were as they must be. ", good, len(outcomes))
	if !d.kept {
		d.printf("To look around in the data: %s demo --keep DIR\n", d.program())
		return
	}
	d.printf("Look around:\n")
	for _, line := range [][2]string{
		{"eventlog %[1]s/evidence/good.log", "the boot in words: what each register proves"},
		{"eventlog diff %[1]s/evidence/good.log %[1]s/evidence/command-line.log", "what was tampered with"},
		{"appraise %[1]s/evidence/good.json --trust-ak %[1]s/evidence/good.ak", "the appraisal without a service"},
		{"audit verify --data %[1]s", "the chain of decisions, proven whole"},
		{"serve --data %[1]s", "the service again, on this data"},
	} {
		d.printf("  %[3]s "+line[0]+"\n      %[2]s\n", d.where, line[1], d.program())
	}
	d.printf("  docs/reasons.md\n      every reason code, its causes and what to do\n")
}
