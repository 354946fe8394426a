package program

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newHelpCmd is "help COMMAND". The library's own ends with 0 for a command that
// there is not, which means "yes".
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Say what a command does and which flags it has",
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next := subcommand(at, name)
				if next == nil {
					return unknownCommand(at, name)
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

func subcommand(of *cobra.Command, name string) *cobra.Command {
	for _, c := range of.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// unknownCommand says what was typed, and what may have been meant.
func unknownCommand(group *cobra.Command, name string) error {
	hint := fmt.Sprintf("%q lists the commands", group.CommandPath()+" --help")
	group.SuggestionsMinimumDistance = 2 // letters apart; the library sets it for the root alone
	if near := group.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q?", strings.Join(near, `" or "`))
	}
	return fmt.Errorf("unknown command %q for %q; %s", name, group.CommandPath(), hint)
}
