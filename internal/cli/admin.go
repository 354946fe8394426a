package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
)

// An adminCmd is one request to the service as a command.
type adminCmd struct {
	use, short string
	args       cobra.PositionalArgs
	// flags declares flags; nil for none.
	flags func(*cobra.Command)
	// do makes the request and returns the answer.
	do func(ctx context.Context, r *remote, args []string) (any, error)
	// text prints the answer for people; nil prints nothing.
	text func(w *tabwriter.Writer, answer any)
	// status is nil for an answer that is yes; a nil function, for every one.
	status func(answer any) error
}

// newAdminGroup makes a command with subcommands that ask the service.
func newAdminGroup(env *program.Env, use, short string, list ...adminCmd) *cobra.Command {
	group := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	addAdminCmds(env, group, list...)
	return group
}

func addAdminCmds(env *program.Env, group *cobra.Command, list ...adminCmd) {
	for _, c := range list {
		cmd := &cobra.Command{Use: c.use, Short: c.short, Args: c.args}
		from := addRemoteFlags(cmd)
		format := program.AddOutputFlag(cmd, "text", "json")
		if c.flags != nil {
			c.flags(cmd)
		}
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			r, err := from.open(env)
			if err != nil {
				return err
			}
			defer r.api.HTTP.CloseIdleConnections()
			answer, err := c.do(cmd.Context(), r, args)
			if err != nil {
				return err
			}
			if err := c.print(env, *format, answer); err != nil || c.status == nil {
				return err
			}
			return c.status(answer)
		}
		group.AddCommand(cmd)
	}
}

func (c *adminCmd) print(env *program.Env, format program.OutputFormat, answer any) error {
	if format == "json" {
		return program.PrintJSON(env, answer)
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	if c.text != nil {
		c.text(w, answer)
	}
	return w.Flush()
}

// done is the answer to what has none: {}.
type done struct{}

func (r *remote) delete(ctx context.Context, path, name string) (any, error) {
	return done{}, r.call(ctx, "DELETE", path+url.PathEscape(name), nil, nil)
}

// all reads every page of a list; each returns the query of the next page, or "".
func (r *remote) all(ctx context.Context, path string, each func(raw json.RawMessage) (next string, err error)) error {
	for query := "?limit=1000"; query != ""; {
		var raw json.RawMessage
		if err := r.call(ctx, "GET", path+query, nil, &raw); err != nil {
			return err
		}
		next, err := each(raw)
		if err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		query = "?limit=1000&" + next
	}
	return nil
}

func newWhoamiCmd(env *program.Env) *cobra.Command {
	group := &cobra.Command{}
	addAdminCmds(env, group, adminCmd{
		use: "whoami", short: "Say as whom the service knows you, and what you may do", args: cobra.NoArgs,
		do: func(ctx context.Context, r *remote, _ []string) (any, error) {
			var out remoteIdentity
			return &out, r.call(ctx, "GET", "/v1/whoami", nil, &out)
		},
		text: func(w *tabwriter.Writer, answer any) {
			a := answer.(*remoteIdentity)
			fmt.Fprintf(w, "%s\t%s\n", a.Name, strings.Join(a.Permissions, " "))
		},
	})
	return group.Commands()[0]
}

type remoteIdentity struct {
	Name        string          `json:"name"`
	Roles       []string        `json:"roles"`
	Permissions []string        `json:"permissions"`
	Bindings    []remoteBinding `json:"bindings,omitempty"`
	Expires     *time.Time      `json:"expires,omitempty"`
}

type remotePrincipal struct {
	Name        string          `json:"name"`
	Roles       []string        `json:"roles"`
	Permissions []string        `json:"permissions,omitempty"`
	Bindings    []remoteBinding `json:"bindings,omitempty"`
	TokenTail   string          `json:"tokenTail,omitempty"`
	Certificate string          `json:"certificate,omitempty"`
	Added       time.Time       `json:"added"`
	AddedBy     string          `json:"addedBy"`
	Expires     *time.Time      `json:"expires,omitempty"`
}

// roles are a principal's, narrowed ones with their instances.
func (p *remotePrincipal) roles() []string {
	out := slices.Clone(p.Roles)
	for _, b := range p.Bindings {
		out = append(out, b.Role+"@"+b.Instances)
	}
	return out
}

type remotePrincipals struct {
	Principals []remotePrincipal `json:"principals"`
}

type addedPrincipal struct {
	Principal remotePrincipal `json:"principal"`
	Token     string          `json:"token,omitempty"`
}

func newPrincipalCmd(env *program.Env) *cobra.Command {
	return newAdminGroup(env, "principal", "Say who may use the service",
		adminCmd{
			use: "list", short: "List principals", args: cobra.NoArgs,
			do: func(ctx context.Context, r *remote, _ []string) (any, error) {
				var out remotePrincipals
				return &out, r.call(ctx, "GET", "/v1/principals", nil, &out)
			},
			text: func(w *tabwriter.Writer, answer any) {
				fmt.Fprintln(w, "NAME\tROLES\tPERMISSIONS\tTOKEN\tEXPIRES\tADDED BY")
				for _, p := range answer.(*remotePrincipals).Principals {
					tail, expires := "", "never"
					if p.TokenTail != "" {
						tail = "…" + p.TokenTail
					}
					if p.Expires != nil {
						expires = p.Expires.Format(time.RFC3339)
					}
					fmt.Fprintf(w, "%q\t%s\t%s\t%s\t%s\t%q\n", p.Name, strings.Join(p.roles(), " "), strings.Join(p.Permissions, " "), tail, expires, p.AddedBy)
				}
			},
		},
		addPrincipalCmd(env),
		adminCmd{
			use: "remove NAME", short: "Revoke a principal's credential at once", args: cobra.ExactArgs(1),
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				return r.delete(ctx, "/v1/principals/", args[0])
			},
		},
	)
}

func addPrincipalCmd(env *program.Env) adminCmd {
	var roles, permissions []string
	var certificate string
	var lifetime time.Duration
	return adminCmd{
		use: "add NAME", short: "Let somebody in; prints the new API token, which is shown this once", args: cobra.ExactArgs(1),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringSliceVar(&roles, "role", nil, "predefined or custom role, as assay iam roles lists them (repeatable)")
			cmd.Flags().StringSliceVar(&permissions, "permission", nil, "one permission beside the roles, as assay whoami lists them (repeatable)")
			cmd.Flags().StringVar(&certificate, "certificate", "", "client certificate in place of a token, PEM `FILE`")
			cmd.Flags().DurationVar(&lifetime, "lifetime", 0, "how long the credential holds, as 720h; without end when 0")
			cmd.MarkFlagsOneRequired("role", "permission")
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			in := map[string]any{"name": args[0], "roles": orNone(roles), "permissions": orNone(permissions)}
			if certificate != "" {
				text, err := os.ReadFile(certificate)
				if err != nil {
					return nil, err
				}
				in["certificate"] = string(text)
			}
			if lifetime != 0 {
				in["expires"] = env.Now().Add(lifetime).UTC().Truncate(time.Second)
			}
			var out addedPrincipal
			return &out, r.call(ctx, "POST", "/v1/principals", in, &out)
		},
		text: func(w *tabwriter.Writer, answer any) {
			if token := answer.(*addedPrincipal).Token; token != "" {
				fmt.Fprintln(w, token)
			}
		},
	}
}

func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

type remoteAttester struct {
	AKName   string          `json:"akName"`
	Machine  string          `json:"machine"`
	AKPublic []byte          `json:"akPublic"`
	Proof    string          `json:"proof"`
	Baseline string          `json:"baseline,omitempty"`
	Added    time.Time       `json:"added"`
	AddedBy  string          `json:"addedBy"`
	Removed  bool            `json:"removed"`
	Last     json.RawMessage `json:"last,omitempty"`
}

type remoteAttesters struct {
	Attesters []remoteAttester `json:"attesters"`
	Next      string           `json:"next,omitempty"`
}

func newAttesterCmd(env *program.Env) *cobra.Command {
	return newAdminGroup(env, "attester", "Say which machines' attestation keys are trusted",
		adminCmd{use: "list", short: "List attestation keys", args: cobra.NoArgs, do: listAttesters, text: func(w *tabwriter.Writer, answer any) {
			fmt.Fprintln(w, "MACHINE\tKEY NAME\tPROOF\tBASELINE\tADDED\tREMOVED")
			for _, a := range answer.(*remoteAttesters).Attesters {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%v\n", a.Machine, a.AKName, a.Proof, a.Baseline, a.Added.Format(time.RFC3339), a.Removed)
			}
		}},
		registerAttesterCmd(),
		adminCmd{
			use: "baseline KEY-NAME REFERENCE", short: `Compare a machine's boots with a reference value; "" for none`, args: cobra.ExactArgs(2),
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				return done{}, r.call(ctx, "PUT", "/v1/attesters/"+url.PathEscape(args[0])+"/baseline", map[string]string{"baseline": args[1]}, nil)
			},
		},
		adminCmd{
			use: "remove KEY-NAME", short: "Trust an attestation key no longer", args: cobra.ExactArgs(1),
			do: func(ctx context.Context, r *remote, args []string) (any, error) {
				return r.delete(ctx, "/v1/attesters/", args[0])
			},
		},
	)
}

func listAttesters(ctx context.Context, r *remote, _ []string) (any, error) {
	out := &remoteAttesters{Attesters: []remoteAttester{}}
	return out, r.all(ctx, "/v1/attesters", func(raw json.RawMessage) (string, error) {
		var page remoteAttesters
		if err := json.Unmarshal(raw, &page); err != nil || page.Next == "" {
			out.Attesters = append(out.Attesters, page.Attesters...)
			return "", err
		}
		out.Attesters = append(out.Attesters, page.Attesters...)
		return "after=" + url.QueryEscape(page.Next), nil
	})
}

func registerAttesterCmd() adminCmd {
	var machine, ak, baseline string
	return adminCmd{
		use: "register", short: "Trust an attestation key on your word", args: cobra.NoArgs,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&machine, "machine", "", "what you call the machine")
			cmd.Flags().StringVar(&ak, "ak", "", "`FILE` with the TPMT_PUBLIC of the key, or an evidence bundle of the machine")
			cmd.Flags().StringVar(&baseline, "baseline", "", "reference value that its boots are compared with")
			errs := errors.Join(cmd.MarkFlagRequired("machine"), cmd.MarkFlagRequired("ak"))
			if errs != nil {
				panic("unreachable: " + errs.Error())
			}
		},
		do: func(ctx context.Context, r *remote, _ []string) (any, error) {
			public, err := readAKPublic(ak)
			if err != nil {
				return nil, err
			}
			in := map[string]any{"machine": machine, "akPublic": public, "baseline": baseline}
			var out remoteAttester
			return &out, r.call(ctx, "POST", "/v1/attesters", in, &out)
		},
		text: func(w *tabwriter.Writer, answer any) { fmt.Fprintln(w, answer.(*remoteAttester).AKName) },
	}
}

// readAKPublic reads a TPMT_PUBLIC: the file itself, or a member of a bundle.
func readAKPublic(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, fmt.Errorf("%s is empty: it has no public area of a key", name)
	case text[0] != '{':
		return text, nil
	}
	var bundle struct {
		AKPublic []byte `json:"akPublic"`
	}
	if err := json.Unmarshal(text, &bundle); err != nil || len(bundle.AKPublic) == 0 {
		return nil, fmt.Errorf("%s is no bundle with an akPublic", name)
	}
	return bundle.AKPublic, nil
}
