package vtpmcli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/finding/route"
	"github.com/assay-project/assay/internal/program"
)

// newFindingRouteCmd is "finding route".
func newFindingRouteCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "route", Short: "Who is told of findings: webhooks, Alertmanager, syslog"}
	cmd.AddCommand(newRouteAddCmd(env), newRouteListCmd(env), newRouteRemoveCmd(env))
	return cmd
}

func newRouteAddCmd(env *program.Env) *cobra.Command {
	r := route.Route{}
	var minimum string
	cmd := &cobra.Command{
		Use:   "add NAME TYPE URL",
		Short: "Have findings told to a receiver",
		Long: `Have findings told to a receiver, from now on. TYPE and URL are one of

  webhook       https://HOST/PATH      JSON, signed as Standard Webhooks 1.0 has it
  alertmanager  https://HOST:9093      alerts, by its API v2
  syslog        tls://HOST:6514, tcp://HOST:PORT, udp://HOST:514, unix:///dev/log

The key that signs a webhook is in --secret-file, which is made when it is missing; the
receiver needs the same. "assay finding deliver" must run; "assay finding test-alert NAME"
tries the route. Exit status 1: there is a route of this name.`,
		Args: cobra.ExactArgs(3),
	}
	root := addRootFlag(cmd)
	cmd.Flags().StringVar(&r.SecretFile, "secret-file", "", "`FILE` with the key of a webhook: whsec_ and base64")
	cmd.Flags().StringVar(&r.TokenFile, "token-file", "", "`FILE` with a bearer token for the receiver")
	cmd.Flags().StringVar(&r.CAFile, "ca-file", "", "`FILE` with the authorities that vouch for the receiver (default the system's)")
	cmd.Flags().BoolVar(&r.AllowPlain, "plain", false, "accept a receiver on the network without TLS")
	cmd.Flags().StringVar(&minimum, "minimum", "low", "lowest `SEVERITY` that is told: low, medium, high")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := root.findings(env)
		if err != nil {
			return err
		}
		r.Name, r.Type, r.URL = args[0], args[1], args[2]
		if err := r.Minimum.UnmarshalText([]byte(minimum)); err != nil {
			return err
		}
		for _, f := range []*string{&r.SecretFile, &r.TokenFile, &r.CAFile} {
			if *f == "" {
				continue
			}
			if *f, err = filepath.Abs(*f); err != nil {
				return err
			}
		}
		if err := r.Check(); err != nil {
			return err
		}
		if err := makeSecret(env, r.SecretFile); err != nil {
			return err
		}
		if err := route.Add(cmd.Context(), s, r); errors.Is(err, route.ErrExists) {
			return program.RefusedBy(err)
		} else if err != nil {
			return err
		}
		return nil
	}
	return cmd
}

// makeSecret makes the key of a webhook, unless it is there.
func makeSecret(env *program.Env, file string) error {
	if file == "" {
		return nil
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := route.NewSecret(env.Rand)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := durable.CreateFile(file, text, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "made %s: give the receiver what is in it\n", file)
	return nil
}

// routeView is the JSON of a route: its address may hold a secret, and is shown in part.
type routeView struct {
	Name     string           `json:"name"`
	Type     string           `json:"type"`
	Receiver string           `json:"receiver"`
	Minimum  finding.Severity `json:"minimum"`
	Plain    bool             `json:"plain"`
}

func newRouteListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List who is told", Args: cobra.NoArgs}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		s, err := root.findings(env)
		if err != nil {
			return err
		}
		routes, err := route.Load(s.Dir)
		if err != nil {
			return err
		}
		views := []routeView{}
		for _, r := range routes {
			views = append(views, routeView{r.Name, r.Type, r.Shown(), r.Minimum, r.AllowPlain})
		}
		if *format == "json" {
			return program.PrintJSON(env, views)
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		for _, v := range views {
			fmt.Fprintf(t, "%s\t%s\t%s\tfrom %s\n", v.Name, v.Type, v.Receiver, v.Minimum)
		}
		return t.Flush()
	}
	return cmd
}

func newRouteRemoveCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Tell a receiver nothing more",
		Long:  "Tell a receiver nothing more; what it has not been told yet is not sent. Exit status 1: there is no such route.",
		Args:  cobra.ExactArgs(1),
	}
	root := addRootFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := root.findings(env)
		if err != nil {
			return err
		}
		if err := route.Remove(cmd.Context(), s, args[0], env.Now()); errors.Is(err, route.ErrNone) {
			return program.RefusedBy(err)
		} else if err != nil {
			return err
		}
		return nil
	}
	return cmd
}
