package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/sqlite"
)

func newAuditCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Prove the chain of decisions whole, and read it",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newAuditVerifyCmd(env), newAuditListCmd(env))
	return cmd
}

// storeFlags say which store a command reads.
type storeFlags struct{ data, database string }

func addStoreFlags(cmd *cobra.Command) *storeFlags {
	var f storeFlags
	cmd.Flags().StringVar(&f.data, "data", "", "data folder of the service (SQLite)")
	cmd.Flags().StringVar(&f.database, "database", "", "URL of the service's PostgreSQL database")
	cmd.MarkFlagsOneRequired("data", "database")
	cmd.MarkFlagsMutuallyExclusive("data", "database")
	return &f
}

// reader opens the store beside a service that may be using it.
func (f *storeFlags) reader(ctx context.Context) (*store.Store, error) {
	if f.database != "" {
		return postgres.OpenReader(ctx, f.database)
	}
	return sqlite.OpenReader(ctx, f.data)
}

func newAuditVerifyCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify (--data DIR | --database URL)",
		Short: "Prove the audit chain whole, or name the first altered or missing entry",
		Long: `Walk the audit chain from its first entry. Exit status: 0 whole, 1 broken,
2 the store cannot be read. A chain whose end was cut together with the store's
own note of it shows only against a head that was noted elsewhere: keep the head
that this command prints, and give it with --head the next time.`,
		Args: cobra.NoArgs,
	}
	from := addStoreFlags(cmd)
	var noted []string
	cmd.Flags().StringArrayVar(&noted, "head", nil, "`SEQ:HASH` noted earlier, which the chain must still hold (repeatable)")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		heads, err := program.ReadHeads(noted)
		if err != nil {
			return program.Unusable(new(program.UnknownChain), err)
		}
		report, err := verifyAudit(cmd.Context(), env, from, heads)
		if err != nil {
			return program.Unusable(new(program.UnknownChain), err)
		}
		if *format == "json" {
			err = program.PrintJSON(env, report)
		} else {
			err = program.PrintChain(env.Stdout, report)
		}
		if err == nil && !report.Whole {
			err = program.Refused()
		}
		return err
	}
	return cmd
}

// progressEntries is how often a walk shows that it lives.
const progressEntries = 100_000

func verifyAudit(ctx context.Context, env *program.Env, from *storeFlags, noted []audit.Head) (program.ChainReport, error) {
	s, err := from.reader(ctx)
	if err != nil {
		return program.ChainReport{}, err
	}
	defer s.Close()
	head, err := audit.Check(ctx, s, noted, func(seq uint64) {
		if seq%progressEntries == 0 {
			fmt.Fprintf(env.Stderr, "%d entries hold\n", seq)
		}
	})
	var broken *audit.BreakError
	switch {
	case errors.As(err, &broken):
		return program.ChainReport{Head: head, Break: &program.ChainBreak{Seq: broken.Seq, Why: broken.Why}}, nil
	case err != nil:
		return program.ChainReport{}, err
	}
	return program.ChainReport{Whole: true, Head: head}, nil
}

func newAuditListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list (--data DIR | --database URL)",
		Short: "Print entries of the audit chain, oldest first, without checking them",
		Args:  cobra.NoArgs,
	}
	from := addStoreFlags(cmd)
	after := cmd.Flags().Uint64("after", 0, "start behind this entry")
	limit := cmd.Flags().Int("limit", 100, "print at most this many, up to 10000")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := from.reader(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		entries, err := s.AuditEntries(cmd.Context(), *after, *limit)
		if err != nil {
			return err
		}
		if *format == "json" {
			return program.PrintJSON(env, append([]audit.Entry{}, entries...))
		}
		return program.PrintEntries(env.Stdout, entries)
	}
	return cmd
}
