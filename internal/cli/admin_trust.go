package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
)

type remoteAnchors struct {
	Anchors []remoteAnchor `json:"anchors"`
}

type remoteAnchor struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	DER     []byte    `json:"der"`
	Added   time.Time `json:"added"`
	AddedBy string    `json:"addedBy"`
}

func printAnchors(w *tabwriter.Writer, answer any) {
	fmt.Fprintln(w, "ID\tISSUES\tNAME\tADDED BY")
	for _, a := range answer.(*remoteAnchors).Anchors {
		fmt.Fprintf(w, "%s\t%s\t%q\t%q\n", a.ID, a.Kind, a.Name, a.AddedBy)
	}
}

func newAnchorCmd(env *program.Env) *cobra.Command {
	var kind string
	return newAdminGroup(env, "anchor", "Say which certificate authorities are trusted",
		adminCmd{use: "list", short: "List trusted authorities", args: cobra.NoArgs, text: printAnchors, do: func(ctx context.Context, r *remote, _ []string) (any, error) {
			var out remoteAnchors
			return &out, r.call(ctx, "GET", "/v1/anchors", nil, &out)
		}},
		adminCmd{
			use: "add FILE", short: "Trust the authorities of a PEM file", args: cobra.ExactArgs(1), text: printAnchors,
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&kind, "kind", "ek-ca", "what they issue certificates for: ek-ca (endorsement keys) or ak-ca (attestation keys)")
			},
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				text, err := os.ReadFile(args[0])
				if err != nil {
					return nil, err
				}
				var out remoteAnchors
				return &out, r.call(ctx, "POST", "/v1/anchors", map[string]string{"kind": kind, "pem": string(text)}, &out)
			},
		},
		adminCmd{use: "remove ID", short: "Trust an authority no longer", args: cobra.ExactArgs(1), do: func(ctx context.Context, r *remote, args []string) (any, error) {
			return r.delete(ctx, "/v1/anchors/", args[0])
		}},
	)
}

// A revision is one version of a policy or reference value.
type revision struct {
	Name     string          `json:"name"`
	Version  int             `json:"version"`
	Text     string          `json:"text,omitempty"`
	Digest   string          `json:"digest,omitempty"`
	Baseline json.RawMessage `json:"baseline,omitempty"`
	Author   string          `json:"author"`
	Time     time.Time       `json:"time"`
	Comment  string          `json:"comment,omitempty"`
}

func printRevisions(w *tabwriter.Writer, list []revision) {
	fmt.Fprintln(w, "NAME\tVERSION\tAUTHOR\tTIME\tCOMMENT")
	for _, v := range list {
		fmt.Fprintf(w, "%s\t%d\t%q\t%s\t%q\n", v.Name, v.Version, v.Author, v.Time.Format(time.RFC3339), v.Comment)
	}
}

// newestVersion is the version in force, 0 for a name that is new.
func newestVersion(list []revision, name string) int {
	newest := 0
	for _, v := range list {
		if v.Name == name {
			newest = max(newest, v.Version)
		}
	}
	return newest
}

type remoteReferences struct {
	References []revision `json:"references"`
}

func newReferenceCmd(env *program.Env) *cobra.Command {
	replaces := -1
	get := func(ctx context.Context, r *remote) (*remoteReferences, error) {
		var out remoteReferences
		return &out, r.call(ctx, "GET", "/v1/references", nil, &out)
	}
	return newAdminGroup(env, "reference", "Keep reference values: what a good boot looks like",
		adminCmd{
			use: "list", short: "List reference values", args: cobra.NoArgs,
			do:   func(ctx context.Context, r *remote, _ []string) (any, error) { return get(ctx, r) },
			text: func(w *tabwriter.Writer, answer any) { printRevisions(w, answer.(*remoteReferences).References) },
		},
		adminCmd{
			use: "put NAME FILE", short: "Make a baseline file (assay eventlog --baseline) the reference value of that name", args: cobra.ExactArgs(2),
			flags: func(cmd *cobra.Command) { addReplacesFlag(cmd, &replaces) },
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				file, err := os.ReadFile(args[1])
				if err != nil {
					return nil, err
				}
				if !json.Valid(file) {
					return nil, fmt.Errorf("%s is not JSON", args[1])
				}
				seen := replaces
				if seen < 0 {
					have, err := get(ctx, r)
					if err != nil {
						return nil, err
					}
					seen = newestVersion(have.References, args[0])
				}
				var out revision
				return &out, r.call(ctx, "PUT", "/v1/references/"+url.PathEscape(args[0]), map[string]any{"baseline": json.RawMessage(file), "replaces": seen}, &out)
			},
			text: func(w *tabwriter.Writer, answer any) { printRevisions(w, []revision{*answer.(*revision)}) },
		},
	)
}

func addReplacesFlag(cmd *cobra.Command, to *int) {
	cmd.Flags().IntVar(to, "replaces", -1, "the version that you have seen; the newest when not given")
}

type remotePolicies struct {
	Policies []revision `json:"policies"`
}

type remoteHistory struct {
	Versions []revision `json:"versions"`
}

type storedPolicy struct {
	Policy   revision `json:"policy"`
	Warnings []string `json:"warnings"`
}

func printStoredPolicy(w *tabwriter.Writer, answer any) {
	p := answer.(*storedPolicy)
	printRevisions(w, []revision{p.Policy})
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
}

// policyAdminCmds are the commands of assay policy that ask a service.
func policyAdminCmds() []adminCmd {
	return []adminCmd{
		{
			use: "list", short: "List the policies of a service", args: cobra.NoArgs,
			do: func(ctx context.Context, r *remote, _ []string) (any, error) {
				var out remotePolicies
				return &out, r.call(ctx, "GET", "/v1/policies", nil, &out)
			},
			text: func(w *tabwriter.Writer, answer any) { printRevisions(w, answer.(*remotePolicies).Policies) },
		},
		{
			use: "history NAME", short: "List the versions of a service's policy", args: cobra.ExactArgs(1),
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				return r.history(ctx, args[0])
			},
			text: func(w *tabwriter.Writer, answer any) { printRevisions(w, answer.(*remoteHistory).Versions) },
		},
		putPolicyCmd(),
		rollbackPolicyCmd(),
	}
}

func (r *remote) history(ctx context.Context, name string) (*remoteHistory, error) {
	var out remoteHistory
	return &out, r.call(ctx, "GET", "/v1/policies/"+url.PathEscape(name), nil, &out)
}

func putPolicyCmd() adminCmd {
	replaces := -1
	var comment string
	var vacuous bool
	return adminCmd{
		use: "put NAME FILE", short: "Put a policy in force on a service", args: cobra.ExactArgs(2),
		flags: func(cmd *cobra.Command) {
			addReplacesFlag(cmd, &replaces)
			cmd.Flags().StringVar(&comment, "comment", "", "why, for the history")
			cmd.Flags().BoolVar(&vacuous, "allow-vacuous", false, "let a policy in that permits whatever it is given")
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			text, err := os.ReadFile(args[1])
			if err != nil {
				return nil, err
			}
			seen := replaces
			if seen < 0 {
				var have remotePolicies
				if err := r.call(ctx, "GET", "/v1/policies", nil, &have); err != nil {
					return nil, err
				}
				seen = newestVersion(have.Policies, args[0])
			}
			in := map[string]any{"text": string(text), "comment": comment, "replaces": seen, "allowVacuous": vacuous}
			var out storedPolicy
			return &out, r.call(ctx, "PUT", "/v1/policies/"+url.PathEscape(args[0]), in, &out)
		},
		text: printStoredPolicy,
	}
}

func rollbackPolicyCmd() adminCmd {
	var version int
	return adminCmd{
		use: "rollback NAME --version N", short: "Put the text of an older version in force again", args: cobra.ExactArgs(1),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().IntVar(&version, "version", 0, "the version whose text is wanted")
			if err := cmd.MarkFlagRequired("version"); err != nil {
				panic("unreachable: " + err.Error())
			}
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			var out storedPolicy
			return &out, r.call(ctx, "POST", "/v1/policies/"+url.PathEscape(args[0])+"/rollback", map[string]int{"version": version}, &out)
		},
		text: printStoredPolicy,
	}
}

type remoteAppraisal struct {
	ID         string            `json:"id"`
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`
	Attester   string            `json:"attester,omitempty"`
	Machine    string            `json:"machine,omitempty"`
	Verdict    string            `json:"verdict"`
	Reasons    []evidence.Reason `json:"reasons"`
	Claims     evidence.Claims   `json:"claims"`
	NotChecked []string          `json:"notChecked"`
	Policy     string            `json:"policy"`
	Version    int               `json:"policyVersion"`
	Evidence   string            `json:"evidence"`
	TokenID    string            `json:"tokenId,omitempty"`
}

type remoteAppraisals struct {
	Appraisals []remoteAppraisal `json:"appraisals"`
	Next       string            `json:"next,omitempty"`
}

func newAppraisalCmd(env *program.Env) *cobra.Command {
	var machine, verdict string
	var limit int
	return newAdminGroup(env, "appraisal", "Read the decisions of a service",
		adminCmd{
			use: "list", short: "List decisions, newest first", args: cobra.NoArgs,
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&machine, "machine", "", "only those about this machine")
				cmd.Flags().StringVar(&verdict, "verdict", "", "only trusted, refused or unusable ones")
				cmd.Flags().IntVar(&limit, "limit", 100, "how many, at most 1000")
			},
			do: func(ctx context.Context, r *remote, _ []string) (any, error) {
				q := url.Values{"limit": {fmt.Sprint(limit)}}
				for name, v := range map[string]string{"machine": machine, "verdict": verdict} {
					if v != "" {
						q.Set(name, v)
					}
				}
				var out remoteAppraisals
				return &out, r.call(ctx, "GET", "/v1/appraisals?"+q.Encode(), nil, &out)
			},
			text: func(w *tabwriter.Writer, answer any) {
				fmt.Fprintln(w, "ID\tTIME\tMACHINE\tVERDICT\tREASONS")
				for _, a := range answer.(*remoteAppraisals).Appraisals {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.ID, a.Time.Format(time.RFC3339), a.Machine, a.Verdict, codesOf(a.Reasons))
				}
			},
		},
		adminCmd{
			use: "show ID", short: "Show one decision whole", args: cobra.ExactArgs(1),
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				var out remoteAppraisal
				return &out, r.call(ctx, "GET", "/v1/appraisals/"+url.PathEscape(args[0]), nil, &out)
			},
			text: printDecision,
		},
	)
}

func codesOf(reasons []evidence.Reason) string {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = string(r.Code)
	}
	return strings.Join(codes, " ")
}

func printDecision(w *tabwriter.Writer, answer any) {
	a := answer.(*remoteAppraisal)
	fmt.Fprintf(w, "verdict\t%s\nid\t%s\ntime\t%s\nmachine\t%s\nkey\t%s\npolicy\t%s, version %d\nevidence\t%s\n",
		a.Verdict, a.ID, a.Time.Format(time.RFC3339), a.Machine, a.Attester, a.Policy, a.Version, a.Evidence)
	for _, r := range a.Reasons {
		fmt.Fprintf(w, "reason\t%s: %q\n", r.Code, r.Message)
	}
	for _, n := range a.NotChecked {
		fmt.Fprintf(w, "not checked\t%q\n", n)
	}
}
