package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
)

type remoteRole struct {
	Name        string     `json:"name"`
	Predefined  bool       `json:"predefined"`
	Meaning     string     `json:"meaning,omitempty"`
	Permissions []string   `json:"permissions"`
	Changed     *time.Time `json:"changed,omitempty"`
	ChangedBy   string     `json:"changedBy,omitempty"`
}

type remoteRoles struct {
	Roles []remoteRole `json:"roles"`
}

type remoteBinding struct {
	Role      string `json:"role"`
	Instances string `json:"instances,omitempty"`
	Label     string `json:"label,omitempty"`
}

type remoteGrant struct {
	Role      string `json:"role,omitempty"`
	Custom    bool   `json:"custom,omitempty"`
	Instances string `json:"instances,omitempty"`
	Label     string `json:"label,omitempty"`
}

// words says by which way somebody has a permission.
func (g remoteGrant) words() string {
	switch {
	case g.Role == "":
		return "granted by itself"
	case g.Instances != "":
		return fmt.Sprintf("role %s on %s", g.Role, g.Instances)
	case g.Label != "":
		return fmt.Sprintf("role %s on machines with label %s", g.Role, program.Printable(g.Label))
	}
	return "role " + g.Role
}

type remoteAccess struct {
	Principal string        `json:"principal"`
	Allowed   bool          `json:"allowed"`
	Expired   bool          `json:"expired,omitempty"`
	By        []remoteGrant `json:"by"`
	Roles     []string      `json:"roles"`
}

func (a *remoteAccess) ways() string {
	ways := make([]string, len(a.By))
	for i, g := range a.By {
		ways[i] = g.words()
	}
	return strings.Join(ways, ", ")
}

type remoteWhoCan struct {
	Permission string         `json:"permission"`
	Instance   string         `json:"instance,omitempty"`
	Principals []remoteAccess `json:"principals"`
}

func newIAMCmd(env *program.Env) *cobra.Command {
	group := newAdminGroup(env, "iam", "Roles and permissions: who may do what, and why",
		grantCmd("grant", "Give a principal a role, everywhere or on some instances"),
		grantCmd("revoke", "Take from a principal what grant gave"),
		whoCanCmd(), whyCmd(),
		adminCmd{
			use: "roles", short: "List roles and what they give", args: cobra.NoArgs,
			do: func(ctx context.Context, r *remote, _ []string) (any, error) {
				var out remoteRoles
				return &out, r.call(ctx, "GET", "/v1/roles", nil, &out)
			},
			text: func(w *tabwriter.Writer, answer any) {
				fmt.Fprintln(w, "ROLE\tMADE BY\tPERMISSIONS")
				for _, role := range answer.(*remoteRoles).Roles {
					by := "predefined"
					if !role.Predefined {
						by = program.Printable(role.ChangedBy)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", role.Name, by, strings.Join(role.Permissions, " "))
				}
			},
		},
	)
	group.Long = `Roles and permissions of the service. A role is given everywhere, or with --instance on
one machine or on those of a prefix (web-*), or with --label on those that have the label:
who has a role so neither sets labels nor makes machines by it. roles lists what each gives; role set makes
one of your own. A call that is denied names the permission that is missing; why says by
which role a principal has one, or which roles would give it.`
	group.AddCommand(newAdminGroup(env, "role", "Make and remove custom roles", setRoleCmd(), adminCmd{
		use: "delete NAME", short: "Remove a custom role that nobody has", args: cobra.ExactArgs(1),
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			return r.delete(ctx, "/v1/roles/", args[0])
		},
	}))
	return group
}

// grantCmd is grant or revoke: the same words, given or taken.
func grantCmd(verb, short string) adminCmd {
	var role, permission, instances, label string
	return adminCmd{
		use: verb + " PRINCIPAL", short: short, args: cobra.ExactArgs(1),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&role, "role", "", "`ROLE`, predefined or custom, as assay iam roles lists them")
			cmd.Flags().StringVar(&permission, "permission", "", "one `PERMISSION`, in place of a role")
			cmd.Flags().StringVar(&instances, "instance", "", "on this `MACHINE` alone, or on those of a prefix: web-*")
			cmd.Flags().StringVar(&label, "label", "", "on the machines with this label alone, `NAME=VALUE`")
			cmd.MarkFlagsOneRequired("role", "permission")
			cmd.MarkFlagsMutuallyExclusive("role", "permission")
			cmd.MarkFlagsMutuallyExclusive("instance", "label", "permission")
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			in := map[string]any{}
			for name, value := range map[string]string{"role": role, "permission": permission, "instances": instances, "label": label} {
				if value != "" {
					in[name] = value
				}
			}
			var out addedPrincipal
			return &out, r.call(ctx, "POST", "/v1/principals/"+url.PathEscape(args[0])+"/"+verb, in, &out)
		},
		text: func(w *tabwriter.Writer, answer any) {
			p := answer.(*addedPrincipal).Principal
			fmt.Fprintf(w, "%q\t%s\n", p.Name, strings.Join(p.grants(), ", "))
		},
	}
}

// grants are what a principal has, in words.
func (p *remotePrincipal) grants() []string {
	var out []string
	for _, r := range p.Roles {
		out = append(out, remoteGrant{Role: r}.words())
	}
	for _, b := range p.Bindings {
		out = append(out, remoteGrant{Role: b.Role, Instances: b.Instances, Label: b.Label}.words())
	}
	for _, permission := range p.Permissions {
		out = append(out, "permission "+permission)
	}
	if len(out) == 0 {
		out = []string{"nothing"}
	}
	return out
}

// question is the query of who-can and why.
func question(permission, instance string) string {
	q := url.Values{"permission": {permission}}
	if instance != "" {
		q.Set("instance", instance)
	}
	return "?" + q.Encode()
}

func whoCanCmd() adminCmd {
	var instance string
	return adminCmd{
		use: "who-can PERMISSION", short: "Say who has a permission, and by which role", args: cobra.ExactArgs(1),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&instance, "instance", "", "on this `MACHINE` (default everywhere)")
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			var out remoteWhoCan
			return &out, r.call(ctx, "GET", "/v1/access"+question(args[0], instance), nil, &out)
		},
		text: func(w *tabwriter.Writer, answer any) {
			for _, p := range answer.(*remoteWhoCan).Principals {
				fmt.Fprintf(w, "%q\t%s\n", p.Principal, p.ways())
			}
		},
	}
}

func whyCmd() adminCmd {
	var instance string
	return adminCmd{
		use: "why PRINCIPAL PERMISSION", short: "Say by which role and binding a principal may do something, or what would let it; status 1: it may not",
		args: cobra.ExactArgs(2),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&instance, "instance", "", "on this `MACHINE` (default everywhere)")
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			var out remoteAccess
			return &out, r.call(ctx, "GET", "/v1/access/"+url.PathEscape(args[0])+question(args[1], instance), nil, &out)
		},
		text: func(w *tabwriter.Writer, answer any) {
			switch a := answer.(*remoteAccess); {
			case a.Allowed:
				fmt.Fprintf(w, "%q may: %s\n", a.Principal, a.ways())
			case a.Expired && len(a.By) > 0:
				fmt.Fprintf(w, "%q may not: its credential has ended; it had %s\n", a.Principal, a.ways())
			default:
				fmt.Fprintf(w, "%q may not: nothing that it has gives the permission; roles that do: %s\n", a.Principal, strings.Join(a.Roles, ", "))
			}
		},
		status: func(answer any) error {
			if answer.(*remoteAccess).Allowed {
				return nil
			}
			return program.Refused()
		},
	}
}

func setRoleCmd() adminCmd {
	var permissions []string
	var meaning string
	return adminCmd{
		use: "set NAME", short: "Make a custom role, or give it other permissions", args: cobra.ExactArgs(1),
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringSliceVar(&permissions, "permission", nil, "one that it gives (repeatable); those that are not named it loses")
			cmd.Flags().StringVar(&meaning, "meaning", "", "`TEXT` that says what it is for")
			if err := cmd.MarkFlagRequired("permission"); err != nil {
				panic("unreachable: " + err.Error())
			}
		},
		do: func(ctx context.Context, r *remote, args []string) (any, error) {
			var out remoteRole
			in := map[string]any{"permissions": permissions, "meaning": meaning}
			return &out, r.call(ctx, "PUT", "/v1/roles/"+url.PathEscape(args[0]), in, &out)
		},
		text: func(w *tabwriter.Writer, answer any) {
			role := answer.(*remoteRole)
			fmt.Fprintf(w, "%s\t%s\n", role.Name, strings.Join(role.Permissions, " "))
		},
	}
}
