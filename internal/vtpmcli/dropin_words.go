package vtpmcli

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// A wordKind is what the value of one word of an option of swtpm may be.
type wordKind uint8

const (
	wordText   wordKind = iota
	wordNumber          // decimal, not negative
	wordFlag            // alone, or with true or false
	wordMode            // octal permissions
	wordUser            // a number or a name
	wordGroup
)

// words are the values of an option such as --ctrl type=unixio,path=P.
type words map[string]string

// parseWords reads name=value and name, separated by commas. A value that begins
// with { goes to its matching }. Every name must be known; a name that stands
// twice, which swtpm takes the first of, is refused.
func parseWords(flag, text string, known map[string]wordKind) (words, error) {
	w := words{}
	for text != "" {
		var word string
		var err error
		if word, text, err = cutWord(text); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		name, value, given := strings.Cut(word, "=")
		kind, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("%s: %q is not one of %v", flag, name, sortedNames(known))
		}
		if _, twice := w[name]; twice {
			return nil, fmt.Errorf("%s: %s stands twice", flag, name)
		}
		if w[name], err = kind.check(value, given); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", flag, name, err)
		}
	}
	return w, nil
}

// cutWord cuts the first word of a list off.
func cutWord(text string) (word, rest string, err error) {
	head, _, _ := strings.Cut(text, ",")
	name, _, ok := strings.Cut(head, "=")
	if !ok || !strings.HasPrefix(text[len(name)+1:], "{") {
		word, rest, _ = strings.Cut(text, ",")
		return word, rest, nil
	}
	depth := 0
	for i := len(name) + 1; i < len(text); i++ {
		switch text[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth > 0 {
			continue
		}
		if word, rest = text[:i+1], text[i+1:]; rest != "" && rest[0] != ',' {
			return "", "", fmt.Errorf("a comma must follow %q", word)
		}
		return word, strings.TrimPrefix(rest, ","), nil
	}
	return "", "", errors.New("a { has no matching }")
}

// check returns a value in the form in which it is kept.
func (k wordKind) check(value string, given bool) (string, error) {
	switch {
	case k == wordFlag && !given:
		return "true", nil
	case k == wordFlag:
		return checkFlag(value)
	case !given || value == "":
		return "", errors.New("a value must follow")
	}
	switch k {
	case wordNumber:
		_, err := strconv.ParseUint(value, 10, 31)
		return value, err
	case wordMode:
		if n, err := strconv.ParseUint(value, 8, 32); err != nil || n > 0o777 {
			return "", fmt.Errorf("%q are no permissions in octal", value)
		}
	case wordUser:
		return numberOf(value, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
	case wordGroup:
		return numberOf(value, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
	}
	return value, nil
}

func checkFlag(value string) (string, error) {
	switch strings.ToLower(value) {
	case "true", "1":
		return "true", nil
	case "false", "0":
		return "", nil
	}
	return "", fmt.Errorf("%q is neither true nor false", value)
}

// numberOf is a number as it is, or what look says of a name.
func numberOf(value string, look func(string) (string, error)) (string, error) {
	if _, err := strconv.ParseUint(value, 10, 32); err == nil {
		return value, nil
	}
	return look(value)
}

func sortedNames(known map[string]wordKind) []string {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w words) has(name string) bool { return w[name] != "" }

// given reports whether a word stands there at all, as lock=false.
func (w words) given(name string) bool {
	_, ok := w[name]
	return ok
}

// number is a word of wordNumber, wordUser or wordGroup; otherwise when it is not
// there.
func (w words) number(name string, otherwise int) int {
	n, err := strconv.Atoi(w[name])
	if err != nil {
		return otherwise // checked when it was read, so it is absent
	}
	return n
}

// mode is a word of wordMode.
func (w words) mode(name string, otherwise uint32) uint32 {
	n, err := strconv.ParseUint(w[name], 8, 32)
	if err != nil {
		return otherwise
	}
	return uint32(n) // at most 0777
}

func knownWords(flag string, given []string, known ...string) error {
	for _, w := range given {
		if !slices.Contains(known, w) {
			return fmt.Errorf("%s: %q is not one of %v", flag, w, known)
		}
	}
	return nil
}

// wholeNames gives options that are cut short their whole names, where only one
// begins so: getopt_long takes --log for --logfile.
func wholeNames(f *pflag.FlagSet, args []string) []string {
	out := make([]string, 0, len(args))
	for _, arg := range args {
		name, rest, glued := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "--") && len(name) > 2 && f.Lookup(name[2:]) == nil {
			var full []string
			f.VisitAll(func(o *pflag.Flag) {
				if strings.HasPrefix(o.Name, name[2:]) {
					full = append(full, o.Name)
				}
			})
			if len(full) == 1 {
				if arg = "--" + full[0]; glued {
					arg += "=" + rest
				}
			}
		}
		out = append(out, arg)
	}
	return out
}
