package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/sqlite"
)

func newAuditCmd(env *Env) *cobra.Command {
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

// auditReport is the JSON of assay audit verify -o json.
type auditReport struct {
	Whole bool `json:"whole"`
	// Head is the last entry up to which the chain holds.
	Head audit.Head `json:"head"`
	// Break is the first entry at fault; absent when Whole.
	Break *auditBreak `json:"break,omitempty"`
}

// unknownChain is what -o json prints of a chain that could not be read: whether
// it is whole is null.
type unknownChain struct {
	Whole *bool `json:"whole"`
	outcome
}

type auditBreak struct {
	Seq uint64 `json:"seq"`
	Why string `json:"why"`
}

func newAuditVerifyCmd(env *Env) *cobra.Command {
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
	format := addOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		heads, err := parseHeads(noted)
		if err != nil {
			return unusable(new(unknownChain), err)
		}
		report, err := verifyAudit(cmd.Context(), env, from, heads)
		if err != nil {
			return unusable(new(unknownChain), err)
		}
		if *format == "json" {
			err = printJSON(env, report)
		} else {
			err = printAuditReport(env.Stdout, report)
		}
		if err == nil && !report.Whole {
			err = refused()
		}
		return err
	}
	return cmd
}

// progressEntries is how often a walk shows that it lives.
const progressEntries = 100_000

func verifyAudit(ctx context.Context, env *Env, from *storeFlags, noted []audit.Head) (auditReport, error) {
	s, err := from.reader(ctx)
	if err != nil {
		return auditReport{}, err
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
		return auditReport{Head: head, Break: &auditBreak{broken.Seq, broken.Why}}, nil
	case err != nil:
		return auditReport{}, err
	}
	return auditReport{Whole: true, Head: head}, nil
}

func printAuditReport(w io.Writer, r auditReport) error {
	if r.Whole {
		_, err := fmt.Fprintf(w, `The audit chain is whole: %d entries.
head %d:%s
Note the head elsewhere; "--head" with it shows later whether the end was cut.
`, r.Head.Seq, r.Head.Seq, r.Head.Hash)
		return err
	}
	_, err := fmt.Fprintf(w, "The audit chain is broken: entry %d %s.\n", r.Break.Seq, r.Break.Why)
	if err == nil && r.Head.Seq > 0 {
		_, err = fmt.Fprintf(w, "Entries 1 to %d follow one another.\n", r.Head.Seq)
	}
	return err
}

// parseHeads reads what audit verify printed.
func parseHeads(texts []string) ([]audit.Head, error) {
	var out []audit.Head
	for _, text := range texts {
		number, hash, _ := strings.Cut(text, ":")
		seq, err := strconv.ParseUint(number, 10, 63)
		h := audit.Head{Seq: seq}
		if err == nil {
			err = h.Hash.UnmarshalText([]byte(hash))
		}
		if err != nil || seq == 0 && h != (audit.Head{}) {
			return nil, fmt.Errorf("--head %q: want SEQ:HASH as audit verify prints it", text)
		}
		out = append(out, h)
	}
	return out, nil
}

func newAuditListCmd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list (--data DIR | --database URL)",
		Short: "Print entries of the audit chain, oldest first, without checking them",
		Args:  cobra.NoArgs,
	}
	from := addStoreFlags(cmd)
	after := cmd.Flags().Uint64("after", 0, "start behind this entry")
	limit := cmd.Flags().Int("limit", 100, "print at most this many, up to 10000")
	format := addOutputFlag(cmd, "text", "json")
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
			return printJSON(env, append([]audit.Entry{}, entries...))
		}
		return printEntries(env.Stdout, entries)
	}
	return cmd
}

func printEntries(w io.Writer, entries []audit.Entry) error {
	for _, e := range entries {
		// Names may come from an attacker: quoted, they cannot forge a line.
		_, err := fmt.Fprintf(w, "%d  %s  %q %s %q: %s  %s\n",
			e.Seq, e.Time.Format(time.RFC3339), e.Actor, strconv.Quote(e.Action), e.Subject, strconv.Quote(e.Outcome), e.Detail)
		if err != nil {
			return err
		}
	}
	return nil
}
