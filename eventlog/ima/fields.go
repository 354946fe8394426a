package ima

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-project/assay/tpm2"
)

// Fields is what an entry says, decoded. Slices alias the list.
type Fields struct {
	HashName  string   // "sha256", as written
	Alg       tpm2.Alg // AlgError for a hash unknown here
	Verity    bool     // Digest is of the file's fs-verity descriptor
	Digest    []byte
	Name      string // path of a file, or what was measured
	Signature []byte // sig, modsig or evmsig
	Buffer    []byte // what an ima-buf entry measured
}

var (
	errTemplate = errors.New("template is not known")
	errFields   = errors.New("fields do not fill the entry")
	errDigest   = errors.New("digest field is malformed")
)

// Fields decodes the entry. It is a claim until the entry is confirmed.
func (e Entry) Fields() (Fields, error) {
	names, known := fieldsOf(e.Template)
	if !known {
		return Fields{}, fmt.Errorf("template %q: %w", e.Template, errTemplate)
	}
	var f Fields
	c := cursor{rest: e.Data}
	if e.Template == legacyTemplate {
		f.HashName, f.Alg = "sha1", tpm2.AlgSHA1
		f.Digest = c.take(tpm2.AlgSHA1.DigestSize())
		f.Name = clean(c.sized(maxName))
		return f, c.err
	}
	for _, name := range names {
		v := c.sized(maxData)
		if c.err != nil {
			return Fields{}, c.err
		}
		if err := f.set(name, v); err != nil {
			return Fields{}, err
		}
	}
	if len(c.rest) != 0 {
		return Fields{}, errFields
	}
	return f, nil
}

func (f *Fields) set(field string, v []byte) error {
	switch field {
	case "d":
		f.HashName, f.Alg, f.Digest = "sha1", tpm2.AlgSHA1, v
		if len(v) != tpm2.AlgSHA1.DigestSize() {
			return errDigest
		}
	case "d-ng", "d-ngv2":
		return f.digest(v)
	case "n", "n-ng":
		f.Name = clean(bytes.TrimSuffix(v, []byte{0}))
	case "sig", "modsig", "evmsig":
		if len(v) > 0 {
			f.Signature = v
		}
	case "buf":
		f.Buffer = v
	}
	return nil
}

// digest reads "sha256:\0" and the digest, or "verity:sha256:\0" and the digest.
func (f *Fields) digest(v []byte) error {
	prefix, digest, found := bytes.Cut(v, []byte(":\x00"))
	if !found || len(prefix) > 32 {
		return errDigest
	}
	kind, name, two := strings.Cut(string(prefix), ":")
	if !two {
		kind, name = "ima", kind
	}
	f.Verity = kind == "verity"
	f.HashName, f.Digest = name, digest
	f.Alg, _ = tpm2.AlgOfBank(name)
	if n := f.Alg.DigestSize(); n != 0 && n != len(digest) {
		return errDigest
	}
	return nil
}

// maxClean bounds the names that are given to people; PATH_MAX is 4096.
const maxClean = 4096

// clean makes text of guest bytes: control characters and what is no UTF-8
// become U+FFFD.
func clean(b []byte) string {
	b = b[:min(len(b), maxClean)]
	if utf8.Valid(b) && bytes.IndexFunc(b, unicode.IsControl) < 0 {
		return string(b)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(string(b), string(unicode.ReplacementChar)))
}
