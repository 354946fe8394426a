package store

import (
	"fmt"
	"strings"
)

// A Dialect is how one kind of database differs from the SQL of this package.
type Dialect struct {
	Name     string // "sqlite" or "postgres", for messages
	Numbered bool   // placeholders are $1, $2, … instead of ?
	// Bigint, Bytes and Text are the column types of 64-bit numbers, octets, and
	// UTF-8 that sorts by its bytes.
	Bigint, Bytes, Text string
	// Rowless and Table end the definition of a table: one that is its own
	// primary index, and any other.
	Rowless, Table string
	// LockSchema makes a migration wait for another process's; "" when the
	// transaction itself does.
	LockSchema string
}

// query returns a statement of this package in the words of the database.
func (d Dialect) query(sql string) string {
	if !d.Numbered {
		return sql
	}
	var b strings.Builder
	n := 0
	for _, r := range sql {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		fmt.Fprintf(&b, "$%d", n)
	}
	return b.String()
}

// schema returns the statements of a migration in the words of the database.
func (d Dialect) schema(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "--")
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	types := strings.NewReplacer("BIGINT", d.Bigint, "BYTES", d.Bytes, "TEXT", d.Text)
	var out []string
	for s := range strings.SplitSeq(strings.Join(lines, "\n"), ";") {
		s = strings.TrimSpace(types.Replace(s))
		if s == "" {
			continue
		}
		rest, rowless := strings.CutSuffix(s, "ROWLESS")
		switch {
		case rowless:
			s = rest + d.Rowless
		case strings.HasPrefix(s, "CREATE TABLE"):
			s += " " + d.Table
		}
		out = append(out, strings.TrimSpace(s))
	}
	return out
}
