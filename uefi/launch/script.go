package launch

import "strings"

// Limits of a script of GRUB's. Those that are generated have some 300 lines.
const (
	maxScript   = 256 << 10
	maxNesting  = 16
	maxCommands = 4096 // and files
	maxWords    = 512 << 10
)

// A part of a word is text, or the name of a variable.
type part struct {
	text             string
	variable, quoted bool
}

// A word is one argument of a command.
type word []part

// plain is the text of a word that has neither quotes nor variables.
func (w word) plain() string {
	if len(w) == 1 && !w[0].quoted && !w[0].variable {
		return w[0].text
	}
	return ""
}

// A statement is a command, or arms of if and elif of which the first that holds is
// run; the last arm has no condition for else.
type statement struct {
	words []word
	arms  []arm
	line  int
}

type arm struct{ condition, body []statement }

// A parser reads the part of GRUB's shell language that this package follows: commands,
// quotes, variables, if (GRUB manual, "Shell-like scripting").
type parser struct {
	text  string
	at    int
	line  int
	depth int
}

func parseScript(text string) ([]statement, error) {
	p := &parser{text: text, line: 1}
	if len(text) > maxScript {
		return nil, p.cannot("it has more than %d bytes", maxScript)
	}
	out, end, err := p.list()
	if err == nil && end != "" {
		err = p.cannot("%q stands alone", end)
	}
	return out, err
}

// cannot is what is not followed, with its line.
func (p *parser) cannot(format string, args ...any) error {
	return unknown(codeScript, "line %d: "+format, append([]any{p.line}, args...)...)
}

// list reads statements up to a keyword that ends one, or the end of the text.
func (p *parser) list() (out []statement, end string, err error) {
	if p.depth++; p.depth > maxNesting {
		return nil, "", p.cannot("it is nested too deep")
	}
	defer func() { p.depth-- }()
	for {
		p.skip(" \t\r\n;")
		if p.at == len(p.text) {
			return out, "", nil
		}
		s := statement{line: p.line}
		first, err := p.word()
		if err != nil {
			return nil, "", err
		}
		switch k := first.plain(); k {
		case "then", "elif", "else", "fi":
			return out, k, nil
		case "if":
			if s.arms, err = p.choice(); err != nil {
				return nil, "", err
			}
		case "menuentry", "submenu", "hiddenentry", "function", "for", "while", "until", "case", "select", "time", "do", "done", "esac", "[[":
			return nil, "", p.cannot("%s", k)
		default:
			if s.words, err = p.command(first); err != nil {
				return nil, "", err
			}
		}
		out = append(out, s)
	}
}

// choice reads what follows if.
func (p *parser) choice() ([]arm, error) {
	var out []arm
	for {
		condition, end, err := p.list()
		if err != nil {
			return nil, err
		}
		if end != "then" || len(condition) == 0 {
			return nil, p.cannot("if without then")
		}
		body, end, err := p.list()
		if err != nil {
			return nil, err
		}
		out = append(out, arm{condition, body})
		if end == "else" {
			body, end, err = p.list()
			if err != nil {
				return nil, err
			}
			out = append(out, arm{nil, body})
		}
		switch {
		case end == "fi":
			return out, nil
		case end != "elif" || out[len(out)-1].condition == nil:
			return nil, p.cannot("if without fi")
		}
	}
}

// command reads the words up to the end of the line.
func (p *parser) command(first word) ([]word, error) {
	out := []word{first}
	for {
		p.skip(" \t\r")
		if p.at == len(p.text) || p.text[p.at] == '\n' || p.text[p.at] == ';' {
			return out, nil
		}
		w, err := p.word()
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
}

// skip passes over characters, comments and lines that are continued.
func (p *parser) skip(set string) {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case strings.IndexByte(set, c) >= 0:
			if c == '\n' {
				p.line++
			}
			p.at++
		case c == '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
		case strings.HasPrefix(p.text[p.at:], "\\\n"):
			p.line++
			p.at += 2
		default:
			return
		}
	}
}

// word reads one word, which has a character at least.
func (p *parser) word() (word, error) {
	var out word
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case strings.IndexByte(" \t\r\n;", c) >= 0:
			return out, nil
		case strings.IndexByte("{}|&<>*?", c) >= 0 || c < 0x20 || c > 0x7E:
			return nil, p.cannot("the character %q outside of quotes", c)
		case c == '\\' && p.at+1 < len(p.text) && p.text[p.at+1] > 0x20:
			out = append(out, part{text: p.text[p.at+1 : p.at+2], quoted: true})
			p.at += 2
		case c == '\\':
			return nil, p.cannot("a line that is continued within a word")
		case c == '\'':
			end := strings.IndexByte(p.text[p.at+1:], '\'')
			if end < 0 {
				return nil, p.cannot("a quote without an end")
			}
			text := p.text[p.at+1 : p.at+1+end]
			out = append(out, part{text: text, quoted: true})
			p.line += strings.Count(text, "\n")
			p.at += end + 2
		case c == '"':
			parts, err := p.quoted()
			if err != nil {
				return nil, err
			}
			out = append(out, parts...)
		case c == '$':
			v, err := p.variable()
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		default:
			start := p.at
			for p.at < len(p.text) && strings.IndexByte(" \t\r\n;{}|&<>*?\\'\"$", p.text[p.at]) < 0 && p.text[p.at] > 0x20 && p.text[p.at] < 0x7F {
				p.at++
			}
			out = append(out, part{text: p.text[start:p.at]})
		}
	}
	return out, nil
}

// quoted reads what stands in double quotes.
func (p *parser) quoted() (word, error) {
	out := word{{quoted: true}} // also when nothing stands in them
	for p.at++; p.at < len(p.text); {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return out, nil
		case c == '$':
			v, err := p.variable()
			if err != nil {
				return nil, err
			}
			v.quoted = true
			out = append(out, v)
		case c == '\\' && p.at+1 < len(p.text) && strings.IndexByte(`"$\`, p.text[p.at+1]) >= 0:
			out = append(out, part{text: p.text[p.at+1 : p.at+2], quoted: true})
			p.at += 2
		case c == '\n':
			p.line++
			fallthrough
		default:
			out = append(out, part{text: p.text[p.at : p.at+1], quoted: true})
			p.at++
		}
	}
	return nil, p.cannot("a quote without an end")
}

// variable reads $name or ${name}.
func (p *parser) variable() (part, error) {
	rest := p.text[p.at+1:]
	braces := strings.HasPrefix(rest, "{")
	if braces {
		rest = rest[1:]
	}
	n := 0
	for n < len(rest) && (rest[n] == '_' || rest[n] >= '0' && rest[n] <= '9' || rest[n]|0x20 >= 'a' && rest[n]|0x20 <= 'z') {
		n++
	}
	if n == 0 || rest[0] <= '9' || braces && !strings.HasPrefix(rest[n:], "}") {
		return part{}, p.cannot("a variable of an unusual form")
	}
	p.at += 1 + n
	if braces {
		p.at += 2
	}
	return part{text: rest[:n], variable: true}, nil
}
