package policy_test

import (
	"strings"
	"testing"

	"github.com/assay-project/assay/policy"
)

// BenchmarkHostileText parses text of the largest size that is looked at.
func BenchmarkHostileText(b *testing.B) {
	fill := func(head, part, tail string) string {
		return head + strings.Repeat(part, ((256<<10)-len(head)-len(tail))/len(part)) + tail
	}
	const begin = "version=1.2; authorizationrules{"
	for name, src := range map[string]string{
		"signs":    fill(begin, ";", "};"),
		"spaces":   fill(begin, " ", "};"),
		"lines":    fill(begin, "\n", "};"),
		"comments": fill(begin, "//\n", "};"),
		"string":   fill(begin+`[type=="`, `\\`, `"]=>permit();};`),
		"letters":  fill(begin, "a", "};"),
		"rules":    fill(begin, `[type=="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",value==1]=>permit();`, "};"),
		"queries":  fill(begin, "=>add(type=\"a\",value=JmesPath(\"\",\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\"));", "};"),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				p, err := policy.Parse(src, policy.Strict)
				if err == nil {
					p.Lint(nil)
				}
			}
		})
	}
}
