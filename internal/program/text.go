package program

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable puts U+FFFD in the place of what a terminal would obey in text of somebody
// else's: control characters, also those of U+0080 to U+009F, line ends, what turns the
// direction of writing, and bytes that are no UTF-8. A person who reads the result reads
// what there is, in one line.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// PrintableLines is [Printable] for text whose line ends are its own.
func PrintableLines(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		text, ended := strings.CutSuffix(line, "\n")
		out.WriteString(Printable(text))
		if ended {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// PrintableJSON writes the same JSON without what a terminal would obey: each such
// character, which stands in a string, as its escape sequence (RFC 8259, 7).
func PrintableJSON(text []byte) []byte {
	if utf8.Valid(text) && !strings.ContainsFunc(string(text), obeyed) {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		switch {
		case !obeyed(r):
			out = utf8.AppendRune(out, r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// obeyed reports whether a terminal may act on a character. JSON has its line ends and
// its tabs outside of strings.
func obeyed(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
