package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/policy"
)

// policyTests is the JSON of assay policy test.
type policyTests struct {
	Passed int              `json:"passed"`
	Failed int              `json:"failed"`
	Cases  []policyTestCase `json:"cases"`
	program.Outcome
}

type policyTestCase struct {
	Table   string `json:"table"`
	Name    string `json:"name"`
	Passed  bool   `json:"passed"`
	Message string `json:"message,omitempty"`
}

func newPolicyTestCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test DIR",
		Short: "Run the tables of claims and expected results in a folder",
		Long: "Run every *_test.json in a folder: a table of claims with what its policy has to say about them, as\n" +
			"docs/policy.md describes. Exit status: 0 all cases pass, 1 a case fails, 2 a table or policy cannot be used.",
		Args: cobra.ExactArgs(1),
	}
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		out, err := runPolicyTests(env, args[0])
		if err != nil {
			return program.Unusable(&policyTests{Cases: []policyTestCase{}}, err)
		}
		if *format == "json" {
			err = program.PrintJSON(env, out)
		} else {
			err = out.print(env)
		}
		if err == nil && out.Failed > 0 {
			return program.Refused()
		}
		return err
	}
	return cmd
}

func runPolicyTests(env *program.Env, dir string) (*policyTests, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := &policyTests{Cases: []policyTestCase{}}
	for _, e := range entries {
		if ok, _ := filepath.Match("*_test.json", e.Name()); !ok {
			continue
		}
		if err := out.table(env, dir, e.Name()); err != nil {
			return nil, err
		}
	}
	if len(out.Cases) == 0 {
		return nil, fmt.Errorf("%q has no table named *_test.json", dir)
	}
	return out, nil
}

// table runs one table; a policy that does not parse stops everything.
func (t *policyTests) table(env *program.Env, dir, name string) error {
	data, err := readInput(env, filepath.Join(dir, name))
	if err != nil {
		return err
	}
	table, err := policy.ParseTable(data)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	p, err := parsePolicyFile(env, filepath.Join(dir, table.Policy), table.Lenient)
	if err != nil {
		return err
	}
	for i := range table.Cases {
		c := policyTestCase{Table: name, Name: table.Cases[i].Name, Passed: true}
		if err := table.Cases[i].Check(p); err != nil {
			c.Passed, c.Message = false, err.Error()
			t.Failed++
		} else {
			t.Passed++
		}
		t.Cases = append(t.Cases, c)
	}
	return nil
}

func (t *policyTests) print(env *program.Env) error {
	for _, c := range t.Cases {
		word := "pass"
		if !c.Passed {
			word = "FAIL"
		}
		line := fmt.Sprintf("%s  %s: %s", word, c.Table, c.Name)
		if c.Message != "" {
			line += ": " + c.Message
		}
		if _, err := fmt.Fprintln(env.Stdout, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(env.Stdout, "%d passed, %d failed\n", t.Passed, t.Failed)
	return err
}
