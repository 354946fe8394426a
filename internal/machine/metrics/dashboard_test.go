package metrics_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A dashboard is what is read of Grafana's JSON.
type dashboard struct {
	UID, Title string
	Panels     []panel
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
}

type panel struct {
	ID          int
	Title, Type string
	Description string
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
	Targets []struct{ Expr, RefID string }
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 || d.UID == "" {
		t.Fatal("the dashboard has no panels, or no uid")
	}
	return d
}

// expressions are those of the panels, and of the variables that ask for label values.
func (d *dashboard) expressions(t *testing.T) (out []string) {
	t.Helper()
	query := regexp.MustCompile(`^label_values\((.+), \w+\)$`)
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		m := query.FindStringSubmatch(v.Query)
		if m == nil {
			t.Errorf("variable %s: query %q asks for no values of a label", v.Name, v.Query)
			continue
		}
		out = append(out, m[1])
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	return out
}

// exported is what the collector says in all scenarios: values by label, by metric.
func exported(t *testing.T) map[string]map[string][]string {
	t.Helper()
	out := map[string]map[string][]string{}
	for _, s := range scenarios(t) {
		if s.then == nil {
			continue
		}
		for series := range s.then.series(t, start()) {
			metric, labels, _ := strings.Cut(series, "{")
			if out[metric] == nil {
				out[metric] = map[string][]string{}
			}
			for _, m := range label.FindAllStringSubmatch(labels, -1) {
				if !slices.Contains(out[metric][m[1]], m[2]) {
					out[metric][m[1]] = append(out[metric][m[1]], m[2])
				}
			}
		}
	}
	return out
}

var (
	label    = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	selector = regexp.MustCompile(`\b(assay_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
)

// uses holds that an expression asks only for metrics, labels and values that there are.
func uses(t *testing.T, expr string, all map[string]map[string][]string) {
	t.Helper()
	labels := []string{"instance", "job"} // Prometheus' own
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		of, there := all[m[1]]
		if !there {
			t.Errorf("%s: there is no metric %s", expr, m[1])
			continue
		}
		labels = append(labels, slices.Collect(maps.Keys(of))...)
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if strings.HasPrefix(l[3], "$") || l[1] == "instance" {
				continue // a variable
			}
			for value := range strings.SplitSeq(l[3], "|") {
				if !slices.Contains(of[l[1]], value) {
					t.Errorf("%s: %s has no label %s of value %q: %q", expr, m[1], l[1], value, of[l[1]])
				}
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			if !slices.Contains(labels, name) {
				t.Errorf("%s: there is no label %s", expr, name)
			}
		}
	}
}

// TestTheDashboardAsksForWhatThereIs has promtool parse each expression.
func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	t.Parallel()
	d, all := readDashboard(t), exported(t)
	var rules strings.Builder
	fmt.Fprint(&rules, "groups:\n- name: all\n  rules:\n")
	for n, expr := range d.expressions(t) {
		uses(t, expr, all)
		expr = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h").Replace(expr)
		fmt.Fprintf(&rules, "  - {record: 'e%d', expr: %q}\n", n, expr)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
}

// TestTheDashboardIsInOrder holds what Grafana takes and nobody can read.
func TestTheDashboardIsInOrder(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	ids, places := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if first, taken := ids[p.ID]; taken || p.ID == 0 {
			t.Errorf("panels %q and %q have id %d", first, p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		if p.Type == "row" {
			continue
		}
		if p.FieldConfig.Defaults.Unit == "" || p.Title == "" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q lacks a unit, a title, a description or a target", p.ID, p.Title)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.RefID == "" {
				t.Errorf("panel %q: two targets %q", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
		g := p.GridPos
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, taken := places[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("panel %q lies over %q, or beyond the edge", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
	}
}

// TestTheRulesAskForWhatThereIs reads the expressions of all alerts as text.
func TestTheRulesAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	all := exported(t)
	for _, m := range regexp.MustCompile(`(?ms)expr: \|-\n(.*?)^ +(?:for|labels):`).FindAllStringSubmatch(read(t, rulesFile), -1) {
		uses(t, m[1], all)
	}
}

// TestTheGuideHasEachMetricAndAlert holds docs/metrics.md to both, and runbooks to it.
func TestTheGuideHasEachMetricAndAlert(t *testing.T) {
	t.Parallel()
	guide := read(t, guideFile)
	for _, alert := range alertNames(t) {
		at := "https://github.com/assay-project/assay/blob/main/docs/metrics.md#" + strings.ToLower(alert)
		if !strings.Contains(guide, "\n### "+alert+"\n") || !strings.Contains(read(t, rulesFile), "runbook_url: "+at+"\n") {
			t.Errorf("alert %s has no section in the guide, or no link to it", alert)
		}
	}
	all := exported(t)
	for metric := range all {
		if !strings.Contains(guide, "`"+metric+"`") {
			t.Errorf("%s is not in the guide", metric)
		}
	}
	for _, metric := range selector.FindAllString(guide, -1) {
		name, _, _ := strings.Cut(metric, "{")
		if _, there := all[name]; !there {
			t.Errorf("the guide has %s, which there is not", name)
		}
	}
}
