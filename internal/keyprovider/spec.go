package keyprovider

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// maxSpec bounds a spec in bytes.
const maxSpec = 2048

// The kinds of provider: what a spec begins with.
const (
	KindLocal   = "local"
	KindVault   = "vault"
	KindKMIP    = "kmip"
	KindPKCS11  = "pkcs11"
	KindTrusted = "trusted"
)

// A Spec says where key-encryption keys are and how to reach them
// (docs/key-providers.md). It holds no secret, only where one is.
type Spec struct {
	kind string
	// place is what stands between the kind and the query, as written.
	place string
	query url.Values
	text  string
}

// kinds is never changed.
var kinds = []string{KindLocal, KindVault, KindKMIP, KindPKCS11, KindTrusted}

// ParseSpec reads a spec: a kind, a colon, a place, and a query of options. Whether
// the kind knows the options is decided when it is opened. An error names options
// and never shows what they hold: somebody may have put a secret there.
func ParseSpec(text string) (Spec, error) {
	kind, rest, ok := strings.Cut(text, ":")
	if !ok || !slices.Contains(kinds, kind) {
		return Spec{}, fmt.Errorf("key provider is neither a configured name nor one of %s:…", strings.Join(kinds, ":…, "))
	}
	if len(text) > maxSpec || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return Spec{}, fmt.Errorf("%s: spec has white space or control characters, which are written %%20, or more than %d bytes", kind, maxSpec)
	}
	place, options, _ := strings.Cut(rest, "?")
	if strings.ContainsRune(rest, '#') {
		return Spec{}, fmt.Errorf("%s: # in a spec is written %%23", kind)
	}
	query, err := parseOptions(options)
	if err != nil {
		return Spec{}, fmt.Errorf("%s: %w", kind, err)
	}
	return Spec{kind: kind, place: place, query: query, text: text}, nil
}

// Kind is what the spec begins with.
func (s Spec) Kind() string { return s.kind }

// String is the spec as it was written.
func (s Spec) String() string { return s.text }

// TokenEnds reports whether the provider is asked with a token that ends at some time
// unless somebody renews it: one that was given, and does not come of a login.
func (s Spec) TokenEnds() bool { return s.kind == KindVault && !s.query.Has("role-id") }

// brief is the spec as messages show it: without the options and without what stands
// before an @, where somebody may have put a secret.
func (s Spec) brief() string {
	place := s.place
	if i := strings.LastIndexByte(place, '@'); i >= 0 {
		place = "…" + place[i:]
	}
	return s.kind + ":" + place
}

// optionName is what an option is called.
var optionName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
})

// parseOptions reads name=value&name=value; no name stands twice.
func parseOptions(text string) (url.Values, error) {
	out := url.Values{}
	if text == "" {
		return out, nil
	}
	for part := range strings.SplitSeq(text, "&") {
		name, value, ok := strings.Cut(part, "=")
		if !optionName().MatchString(name) || !ok {
			return nil, errors.New("an option is not of the form name=value")
		}
		value, err := url.PathUnescape(value) // + stands for itself
		if err != nil {
			return nil, fmt.Errorf("option %q: a %% that is not followed by two hexadecimal digits", name)
		}
		if out.Has(name) {
			return nil, fmt.Errorf("option %q stands twice", name)
		}
		out.Set(name, value)
	}
	return out, nil
}

// with returns the spec with another place and other options; an empty value
// removes an option.
func (s Spec) with(place string, options map[string]string) (Spec, error) {
	var text strings.Builder
	text.WriteString(s.kind + ":" + place)
	query := url.Values{}
	maps.Copy(query, s.query)
	for name, v := range options {
		query.Del(name)
		if v != "" {
			query.Set(name, v)
		}
	}
	sep := "?"
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text.WriteString(sep + name + "=" + escapeOption(query.Get(name)))
		sep = "&"
	}
	return ParseSpec(text.String())
}

// escapeOption spells a value so that [parseOptions] reads it back.
func escapeOption(v string) string {
	var b strings.Builder
	for i := range len(v) {
		switch c := v[i]; {
		case c <= ' ' || c >= 0x7f || strings.IndexByte(`%&#?"<>\^{|}`+"`", c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// options hands out the options of a spec one by one; done refuses what nobody took.
type options struct {
	left url.Values
	err  error
}

func (s Spec) options() *options {
	o := &options{left: url.Values{}}
	maps.Copy(o.left, s.query)
	return o
}

func (o *options) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format, args...)
	}
}

// text takes an option; "" when it is not there. An option that is there is not empty.
func (o *options) text(name string) string {
	v, ok := o.left.Get(name), o.left.Has(name)
	if ok && v == "" {
		o.fail("option %q is empty", name)
	}
	o.left.Del(name)
	return v
}

// choice takes an option that has one of some values; the first is the default.
func (o *options) choice(name string, values ...string) string {
	v := o.text(name)
	if v == "" {
		return values[0]
	}
	if !slices.Contains(values, v) {
		o.fail("option %q is none of %s", name, strings.Join(values, ", "))
	}
	return v
}

// done returns the first fault, or refuses options that the kind does not have.
func (o *options) done() error {
	if o.err != nil {
		return o.err
	}
	for name := range o.left {
		if looksSecret(name) {
			return fmt.Errorf("option %[1]q: a secret does not stand in a spec; name a file, a credential or a variable that holds it (%[1]s-file, %[1]s-credential, %[1]s-env)", name)
		}
		return fmt.Errorf("option %q is not known", name)
	}
	return nil
}

// looksSecret reports whether somebody may have meant an option to hold a secret.
func looksSecret(name string) bool {
	return slices.Contains([]string{"token", "passphrase", "password", "secret-id", "pin", "pin-value", "secret", "key-password"}, name)
}
