package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokIdent
	tokString
	tokInt
	tokVersion // 1.2
	tokPunct   // a sign
)

// A token is a piece of the text; text aliases the source.
type token struct {
	kind   tokenKind
	text   string // as written
	off    int    // of text in the source
	pos    Pos
	spaced bool // an empty line stands before it
}

func (t token) is(sign string) bool { return t.kind == tokPunct && t.text == sign }

func (t token) isWord(word string) bool { return t.kind == tokIdent && t.text == word }

// String names the token as error messages do.
func (t token) String() string {
	if t.kind == tokEOF {
		return "the end of the policy"
	}
	text := t.text
	if len(text) > 40 {
		text = strings.ToValidUTF8(text[:40], "") + "…"
	}
	if t.kind == tokString {
		return "the string " + text
	}
	return fmt.Sprintf("%q", text)
}

// A comment runs from // to the end of its line.
type comment struct {
	text   string // with the slashes, without trailing space
	pos    Pos
	before int  // index of the token that follows it
	alone  bool // nothing but space before it on its line
	spaced bool // an empty line stands before it
}

// A lexer cuts text into tokens.
type lexer struct {
	src      string
	off      int
	line     int
	lineOff  int // offset of the line's first byte
	colOff   int // offset up to which col counts
	col      int // characters between lineOff and colOff
	tokens   []token
	comments []comment
	newlines int // since the last token or comment
}

// lex returns the tokens of src, ended by one tokEOF, and its comments.
func lex(src string) ([]token, []comment, error) {
	l := &lexer{src: src, line: 1, newlines: 1, tokens: make([]token, 0, min(len(src)/8+8, maxTokens+1))}
	for {
		l.skipSpace()
		start := l.off
		if len(l.tokens)+len(l.comments) > maxTokens {
			return nil, nil, &SyntaxError{Pos: l.pos(), Message: fmt.Sprintf("the policy has more than %d words, signs and comments", maxTokens), err: ErrLimit}
		}
		tok := token{off: start, pos: l.pos(), spaced: l.newlines > 1 && len(l.tokens)+len(l.comments) > 0}
		switch {
		case l.off == len(src):
			l.tokens = append(l.tokens, tok)
			return l.tokens, l.comments, nil
		case strings.HasPrefix(src[l.off:], "//"):
			l.comment(tok)
			continue
		case isLetter(src[l.off]):
			tok.kind = tokIdent
			l.skip(func(c byte) bool { return isLetter(c) || isDigit(c) })
		case isDigit(src[l.off]) || src[l.off] == '-':
			tok.kind = l.number()
		case src[l.off] == '"':
			tok.kind = tokString
			if err := l.str(tok.pos); err != nil {
				return nil, nil, err
			}
		default:
			tok.kind = tokPunct
			if !l.sign() {
				return nil, nil, l.foreign(tok.pos)
			}
		}
		tok.text = src[start:l.off]
		l.tokens = append(l.tokens, tok)
		l.newlines = 0
	}
}

// pos is the place of the next byte; it counts on from where it last counted.
func (l *lexer) pos() Pos {
	if l.colOff < l.lineOff {
		l.colOff, l.col = l.lineOff, 0
	}
	l.col += utf8.RuneCountInString(l.src[l.colOff:l.off])
	l.colOff = l.off
	return Pos{l.line, l.col + 1}
}

func (l *lexer) skipSpace() {
	for ; l.off < len(l.src); l.off++ {
		switch l.src[l.off] {
		case ' ', '\t', '\r':
		case '\n':
			l.line, l.lineOff = l.line+1, l.off+1
			l.newlines++
		default:
			return
		}
	}
}

func (l *lexer) skip(while func(byte) bool) {
	for l.off < len(l.src) && while(l.src[l.off]) {
		l.off++
	}
}

func (l *lexer) comment(at token) {
	start := l.off
	l.skip(func(c byte) bool { return c != '\n' })
	l.comments = append(l.comments, comment{
		text: strings.TrimRight(l.src[start:l.off], " \t\r"), pos: at.pos, before: len(l.tokens),
		alone: l.newlines > 0, spaced: at.spaced,
	})
	l.newlines = 0
}

// number reads an integer, in which a minus sign and 0x are part, or a version.
func (l *lexer) number() tokenKind {
	l.off++
	l.skip(func(c byte) bool { return isDigit(c) || isLetter(c) })
	if l.off+1 < len(l.src) && l.src[l.off] == '.' && isDigit(l.src[l.off+1]) {
		l.off++
		l.skip(func(c byte) bool { return isDigit(c) || isLetter(c) })
		return tokVersion
	}
	return tokInt
}

func (l *lexer) str(at Pos) error {
	for l.off++; l.off < len(l.src); l.off++ {
		switch l.src[l.off] {
		case '\\':
			l.off++
			if l.off < len(l.src) && l.src[l.off] == '\n' {
				l.off-- // the newline below refuses it
			}
		case '"':
			l.off++
			return nil
		case '\n':
			return &SyntaxError{Pos: at, Message: "the string does not end on its line", Expected: `a closing "`, Example: `value=="text"`}
		}
	}
	l.off = len(l.src)
	return &SyntaxError{Pos: at, Message: "the string does not end", Expected: `a closing "`, Example: `value=="text"`}
}

// sign reads one of => == != <= >= && = < > ! { } [ ] ( ) , ; : and the dot.
func (l *lexer) sign() bool {
	second := byte(0)
	if l.off+1 < len(l.src) {
		second = l.src[l.off+1]
	}
	switch c := l.src[l.off]; c {
	case '=', '!', '<', '>':
		if second == '=' || c == '=' && second == '>' {
			l.off++
		}
	case '&':
		if second != '&' {
			return false
		}
		l.off++
	case '{', '}', '[', ']', '(', ')', ',', ';', ':', '.':
	default:
		return false
	}
	l.off++
	return true
}

func (l *lexer) foreign(at Pos) error {
	r, _ := utf8.DecodeRuneInString(l.src[l.off:])
	e := &SyntaxError{Pos: at, Message: fmt.Sprintf("%q has no meaning here", r)}
	switch r {
	case '“', '”', '„', '‘', '’', '\'':
		e.Expected, e.Example = `straight double quotes`, `value=="text"`
	case '\uFEFF':
		e.Message = "the text begins with a byte order mark"
	case '|':
		e.Expected, e.Example = "two rules instead of an or", `[type=="a"] => permit(); [type=="b"] => permit();`
	}
	return e
}

func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// unquote returns the text of a string token. A backslash stands before a quote
// or a backslash, and before n, r and t for their control characters.
func unquote(t token) (string, error) {
	body := t.text[1 : len(t.text)-1]
	if len(body) > maxLiteral {
		return "", &SyntaxError{Pos: t.pos, Message: fmt.Sprintf("the string has %d bytes, more than %d", len(body), maxLiteral), err: ErrLimit}
	}
	if !utf8.ValidString(body) {
		return "", &SyntaxError{Pos: t.pos, Message: "the string is not UTF-8"}
	}
	if strings.IndexByte(body, '\\') < 0 {
		return body, nil
	}
	out := make([]byte, 0, len(body))
	for i := 0; i < len(body); i++ {
		c := body[i]
		if c == '\\' {
			i++
			switch body[i] {
			case '"', '\\', '\'':
				c = body[i]
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			default:
				// Any reading would be a guess, and a wrong one changes what is compared.
				return "", &SyntaxError{Pos: t.pos, Message: fmt.Sprintf(`the string has the escape \%c`, body[i]), Expected: `\\ for one backslash`, Example: `"\\windows\\system32"`}
			}
		}
		out = append(out, c)
	}
	return string(out), nil
}

// quote writes s as a string token.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s) + `"`
}
