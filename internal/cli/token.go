package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/token"
)

// maxTokenInput bounds what is read from standard input, maxTokenFile a file of
// keys or certificates, in bytes.
const (
	maxTokenInput = 1 << 20
	maxTokenFile  = 4 << 20
)

func newTokenCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Work with attestation tokens"}
	cmd.AddCommand(newTokenVerifyCmd(env))
	return cmd
}

// tokenOptions are the flags of assay token verify.
type tokenOptions struct {
	issuer, audience, nonce string
	maxAge                  time.Duration
	algorithms              []string
	caFile, jwksFile        string
}

// tokenResult is the JSON of assay token verify -o json (docs/tokens.md).
type tokenResult struct {
	Verdict    evidence.Verdict           `json:"verdict"`
	Reasons    []evidence.Reason          `json:"reasons"`
	Issuer     string                     `json:"issuer"`
	Profile    string                     `json:"profile,omitempty"`
	Audience   []string                   `json:"audience,omitempty"`
	ID         string                     `json:"id,omitempty"`
	KeyID      string                     `json:"keyId,omitempty"`
	Algorithm  token.Alg                  `json:"algorithm,omitempty"`
	IssuedAt   *time.Time                 `json:"issuedAt,omitempty"`
	Expires    *time.Time                 `json:"expires,omitempty"`
	Claims     map[string]json.RawMessage `json:"claims"`
	NotChecked []string                   `json:"notChecked"`
	program.Outcome
}

func newTokenVerifyCmd(env *program.Env) *cobra.Command {
	var opts tokenOptions
	cmd := &cobra.Command{
		Use:   "verify TOKEN|-",
		Short: "Check a token as a relying party does, and say what it states",
		Long: "Check a token as a relying party does: signature by a key that the issuer publishes, issuer, audience,\n" +
			"nonce, times. Exit status: 0 the token is valid and states that the machine is trusted, 1 it is refused\n" +
			"(the reason is printed), 2 it could not be judged. \"-\" reads the token from standard input.",
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.issuer, "issuer", "", "URL of the service that issued the token (required)")
	flags.StringVar(&opts.audience, "audience", "", "how the token calls this relying party")
	flags.StringVar(&opts.nonce, "nonce", "", "nonce that the token must hold")
	flags.DurationVar(&opts.maxAge, "max-age", 0, "how old the token may be, such as 10m (0: until it expires)")
	flags.StringSliceVar(&opts.algorithms, "algorithm", []string{string(token.ES256), string(token.RS256)}, "signature algorithms to accept")
	flags.StringVar(&opts.caFile, "ca", "", "PEM `file` with the only authorities to trust for https")
	flags.StringVar(&opts.jwksFile, "jwks", "", "`file` with the issuer's keys, instead of asking the issuer")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, err := readToken(env, args[0])
		var result *tokenResult
		if err == nil {
			result, err = verifyToken(cmd.Context(), env, &opts, raw)
		}
		if err != nil {
			empty := newTokenResult(opts.issuer)
			empty.Verdict = evidence.Unusable
			return program.Unusable(empty, err)
		}
		return printToken(env, *format, result)
	}
	return cmd
}

func newTokenResult(issuer string) *tokenResult {
	return &tokenResult{Issuer: issuer, Reasons: []evidence.Reason{}, Claims: map[string]json.RawMessage{}, NotChecked: []string{}}
}

// readToken returns the token without the line end that pipes and editors add.
func readToken(env *program.Env, arg string) (string, error) {
	if arg != "-" {
		return strings.TrimSpace(arg), nil
	}
	b, err := io.ReadAll(io.LimitReader(env.Stdin, maxTokenInput+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if len(b) > maxTokenInput {
		return "", fmt.Errorf("read token: more than %d bytes", maxTokenInput)
	}
	return strings.TrimSpace(string(b)), nil
}

// verifyToken returns what the token states or why it is refused; an error means
// that it could not be judged.
func verifyToken(ctx context.Context, env *program.Env, opts *tokenOptions, raw string) (*tokenResult, error) {
	if opts.issuer == "" {
		return nil, errors.New("no --issuer: say whose token it should be")
	}
	keys, err := tokenKeys(opts)
	if err != nil {
		return nil, err
	}
	cfg := token.VerifierConfig{Issuer: opts.issuer, Audience: opts.audience, Nonce: opts.nonce, MaxAge: opts.maxAge}
	for _, a := range opts.algorithms {
		cfg.Algorithms = append(cfg.Algorithms, token.Alg(a))
	}
	v, err := token.NewVerifier(cfg, keys)
	if err != nil {
		return nil, err
	}
	result := newTokenResult(opts.issuer)
	got, err := v.Verify(ctx, raw, env.Now())
	if reasons := evidence.Reasons(err); reasons != nil {
		result.Reasons = reasons
		return result, nil
	}
	if err != nil {
		return nil, err
	}
	result.fill(got)
	return result, nil
}

// tokenKeys are those of --jwks, or what the issuer publishes.
func tokenKeys(opts *tokenOptions) (token.KeySource, error) {
	if opts.jwksFile != "" {
		text, err := readLimited(opts.jwksFile)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		keys, err := token.ParseKeys(opts.issuer, text)
		if err != nil {
			return nil, fmt.Errorf("keys in %q: %w", opts.jwksFile, err)
		}
		return keys, nil
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if opts.caFile != "" {
		text, err := readLimited(opts.caFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("no certificate in %q", opts.caFile)
		}
	}
	return token.NewFetcher(opts.issuer, &http.Client{Transport: transport})
}

func readLimited(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err == nil && len(b) > maxTokenFile {
		err = fmt.Errorf("%q has more than %d bytes", name, maxTokenFile)
	}
	return b, err
}

// fill takes over what a verified token states. A genuine token that does not say
// "trusted" is refused too: scripts look at the exit status alone.
func (r *tokenResult) fill(t *token.Verified) {
	issued, expires := t.IssuedAt(), t.Expires()
	r.Profile, r.Audience, r.ID, r.KeyID = t.Profile().String(), t.Audience(), t.ID(), t.KeyID()
	r.Algorithm, r.IssuedAt, r.Expires = t.Algorithm(), &issued, &expires
	r.NotChecked = append(r.NotChecked, t.NotChecked()...)
	for _, name := range t.Names() {
		r.Claims[name], _ = t.Claim(name)
	}
	verdict, err := t.Verdict()
	r.Verdict = verdict
	if verdict == evidence.Trusted && err == nil {
		return
	}
	why := evidence.Refuse("token.not-trusted", "the issuer's verdict is %q", verdict)
	if err != nil {
		why = evidence.Refuse("token.not-trusted", "no verdict of trust: %v", err)
	}
	r.Verdict, r.Reasons = evidence.Refused, append(r.Reasons, why.Reason)
}

func printToken(env *program.Env, format program.OutputFormat, r *tokenResult) error {
	var err error
	if format == "json" {
		err = program.PrintJSON(env, r)
	} else {
		_, err = io.WriteString(env.Stdout, r.text(env.Now()))
	}
	if err != nil {
		return err
	}
	if r.Verdict != evidence.Trusted {
		return program.Refused()
	}
	return nil
}

// text is the result for people.
func (r *tokenResult) text(now time.Time) string {
	var b strings.Builder
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, "refused: %s: %s\n", reason.Code, printable(reason.Message))
		for _, info := range evidence.Codes() {
			if info.Code == reason.Code {
				fmt.Fprintf(&b, "  %s\n  What to do: %s\n", info.Meaning, info.Action)
			}
		}
	}
	if r.Verdict == evidence.Trusted {
		fmt.Fprintf(&b, "valid: %s states that %s is trusted\n", printable(r.Issuer), printable(r.machine()))
	}
	if r.IssuedAt == nil {
		return b.String()
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("issued", "%s (%s ago)", r.IssuedAt.Format(time.RFC3339), now.Sub(*r.IssuedAt).Truncate(time.Second))
	row("until", "%s", r.Expires.Format(time.RFC3339))
	if len(r.Audience) > 0 {
		row("for", "%s", printable(strings.Join(r.Audience, ", ")))
	}
	row("signed by", "%s key %s", r.Algorithm, printable(r.KeyID))
	row("profile", "%s", r.Profile)
	for _, c := range r.statements() {
		row(printable(c[0]), "%s", printable(c[1]))
	}
	for _, s := range r.NotChecked {
		row("not checked", "%s", printable(s))
	}
	w.Flush() //nolint:errcheck // into memory
	return b.String()
}

// machine is what the token calls the attester.
func (r *tokenResult) machine() string {
	for _, name := range []string{"machine", "x-ms-azurevm-vmid", "attester"} {
		var s string
		if raw, ok := r.Claims[name]; ok && json.Unmarshal(raw, &s) == nil && s != "" {
			return strconv.Quote(s)
		}
	}
	return "the machine that asked for it"
}

// shownAbove are claims that text prints in its own words.
var shownAbove = [...]string{"iss", "iat", "nbf", "exp", "jti", "aud", "profile", "eat_profile", "machine"}

// statements are the claims with their values, objects one level deep.
func (r *tokenResult) statements() [][2]string {
	var out [][2]string
	for name, raw := range r.Claims {
		if slices.Contains(shownAbove[:], name) {
			continue
		}
		var inner map[string]json.RawMessage
		if raw[0] != '{' || json.Unmarshal(raw, &inner) != nil {
			out = append(out, [2]string{name, statement(raw)})
			continue
		}
		for member, value := range inner {
			out = append(out, [2]string{name + "." + member, statement(value)})
		}
	}
	slices.SortFunc(out, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return out
}

// statement is one value in words: null is what could not be proven.
func statement(raw json.RawMessage) string {
	var s string
	switch {
	case string(raw) == "null":
		return "unknown"
	case json.Unmarshal(raw, &s) == nil:
		return s
	default:
		return string(raw)
	}
}

// printable quotes a text that could do something to a terminal: claims hold what
// a guest wrote.
func printable(s string) string {
	for _, c := range s {
		if !strconv.IsPrint(c) {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}
