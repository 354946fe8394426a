package policy

import "strings"

// Format lays out the text of a policy: one rule a line, or one condition a line
// where there are several; comments and single empty lines stay. The words and
// signs are those of src, so the meaning is too. Formatting twice changes nothing.
func Format(src string, mode Mode) (string, error) {
	if _, err := Parse(src, mode); err != nil {
		return "", err
	}
	bom := strings.TrimPrefix(src, "\uFEFF")
	tokens, comments, err := lex(bom)
	if err != nil {
		return "", err
	}
	f := &formatter{tokens: tokens, comments: comments, fresh: true}
	for i := range tokens {
		f.commentsBefore(i)
		if tokens[i].kind == tokEOF {
			break
		}
		f.token(i)
	}
	if !f.fresh {
		f.out.WriteByte('\n')
	}
	return f.out.String(), nil
}

// A formatter writes tokens with the space and line breaks that their place asks for.
type formatter struct {
	tokens   []token
	comments []comment
	out      strings.Builder
	fresh    bool // at the beginning of a line
	ended    bool // the last token ends its line, once a comment had its chance
	blocks   int  // { that are open
	inRule   bool // the rule has begun, so a new line goes on with it
}

// commentsBefore writes the comments that stand before token i: on a line of
// their own if they had one, else behind the token before them.
func (f *formatter) commentsBefore(i int) {
	for len(f.comments) > 0 && f.comments[0].before == i {
		c := f.comments[0]
		f.comments = f.comments[1:]
		if c.alone || f.out.Len() == 0 {
			f.newline()
			if c.spaced && f.out.Len() > 0 {
				f.blank()
			}
			f.indent()
		} else {
			f.out.WriteByte(' ')
		}
		f.out.WriteString(c.text)
		f.fresh, f.ended = false, true
	}
}

// newline ends the line, unless nothing stands on it.
func (f *formatter) newline() {
	if !f.fresh {
		f.out.WriteByte('\n')
	}
	f.fresh, f.ended = true, false
}

// blank writes an empty line, but not behind an opening brace or another one.
func (f *formatter) blank() {
	if s := f.out.String(); !strings.HasSuffix(s, "\n\n") && !strings.HasSuffix(s, "{\n") {
		f.out.WriteByte('\n')
	}
}

func (f *formatter) indent() {
	f.out.WriteString(strings.Repeat("    ", f.blocks))
	if f.inRule {
		f.out.WriteString("    ")
	}
	f.fresh = false
}

func (f *formatter) token(i int) {
	t := f.tokens[i]
	closes := t.is("}")
	if closes {
		f.blocks--
		f.newline()
	}
	if f.ended {
		f.newline()
	}
	begins := f.fresh
	if begins {
		// A section is set off by an empty line; rules keep those they had.
		if section := f.blocks == 0 && t.kind == tokIdent && f.out.Len() > 0; section && !f.afterComment() || t.spaced && !closes && !f.inRule {
			f.blank()
		}
		f.indent()
	} else if i > 0 && f.spaceBetween(f.tokens[i-1], t) {
		f.out.WriteByte(' ')
	}
	f.out.WriteString(t.text)
	f.after(i)
}

// afterComment reports whether the last line is a comment.
func (f *formatter) afterComment() bool {
	lines := strings.TrimSuffix(f.out.String(), "\n")
	return strings.HasPrefix(strings.TrimSpace(lines[strings.LastIndexByte(lines, '\n')+1:]), "//")
}

// after sets the state behind token i.
func (f *formatter) after(i int) {
	t := f.tokens[i]
	f.inRule = f.blocks > 0
	switch {
	case t.is("{"):
		f.blocks++
		f.inRule, f.ended = false, true
	case t.is("}"):
		f.inRule = false
	case t.is(";"):
		f.inRule, f.ended = false, true
	case t.is("&&"):
		f.ended = true
	}
}

// spaceBetween tells where one line has spaces.
func (f *formatter) spaceBetween(a, b token) bool {
	switch {
	case a.is("=>") || b.is("=>") || a.is("&&") || b.is("&&") || a.is(",") || b.is("{"):
		return true
	case a.kind == tokPunct || b.kind == tokPunct:
		return false
	default:
		return true // two words
	}
}

// oneLine lays out a rule or a condition on one line, without comments.
func oneLine(src string) string {
	tokens, _, err := lex(src)
	if err != nil {
		return src // not text that was parsed
	}
	f := &formatter{}
	var b strings.Builder
	for i, t := range tokens[:len(tokens)-1] {
		if i > 0 && f.spaceBetween(tokens[i-1], t) {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
	}
	return b.String()
}
