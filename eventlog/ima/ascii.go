package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"github.com/assay-project/assay/tpm2"
)

var (
	errLine  = errors.New("line is not \"PCR digest template fields\"")
	errField = errors.New("field cannot be read from text")
)

// ParseASCII reads the text form (ascii_runtime_measurements) into the same
// list: the kernel replaces blanks in names, so that one line gives the fields
// back. Templates with fields that have no text form are refused.
func ParseASCII(text []byte) (*List, error) {
	if len(text) > maxList {
		return nil, &ParseError{Err: ErrSize}
	}
	w := writer{out: make([]byte, 0, len(text)/2)} // hex takes twice the bytes
	at := 0
	for i := 0; at < len(text); i++ {
		line, _, _ := bytes.Cut(text[at:], []byte("\n"))
		if err := w.line(string(line)); err != nil {
			return nil, &ParseError{at, i, err}
		}
		at += len(line) + 1
	}
	return Parse(w.out)
}

// A writer turns lines into binary entries.
type writer struct {
	out      []byte
	size     int // of the digests, which is one for a list
	template string
	fields   []string // of that template
	words    [3 + maxFields + 1]string
}

func (w *writer) line(line string) error {
	words := w.split(line)
	if len(words) < 5 {
		return errLine
	}
	pcr, err := strconv.ParseUint(words[0], 10, 8)
	if err != nil || !w.digestSize(len(words[1])) {
		return errLine
	}
	if words[2] != w.template {
		fields, known := fieldsOf(words[2])
		if !known || len(words[2]) > maxTemplate {
			return errTemplate
		}
		w.template, w.fields = strings.Clone(words[2]), fields
	}
	w.out = binary.LittleEndian.AppendUint32(w.out, uint32(pcr))
	if w.out, err = hex.AppendDecode(w.out, []byte(words[1])); err != nil {
		return errLine
	}
	w.out = appendSized(w.out, words[2])
	return w.data(words[3:])
}

// split cuts at blanks; what is left over for the last word is no field.
func (w *writer) split(line string) []string {
	n := 0
	for n < len(w.words)-1 {
		word, rest, found := strings.Cut(line, " ")
		w.words[n], line = word, rest
		n++
		if !found {
			return w.words[:n]
		}
	}
	w.words[n] = line
	return w.words[:n+1]
}

// digestSize accepts the length of a digest in hex, the same for all lines.
func (w *writer) digestSize(hexLen int) bool {
	if w.size == 0 {
		for _, alg := range imaAlgs {
			if hexLen == 2*alg.DigestSize() {
				w.size = hexLen
			}
		}
	}
	return w.size != 0 && hexLen == w.size
}

// data rebuilds the fields of an entry from their words. Words of empty fields
// may be missing at the end.
func (w *writer) data(words []string) error {
	if len(words) > len(w.fields) && strings.Join(words[len(w.fields):], "") != "" {
		return errLine
	}
	start := len(w.out)
	legacy := w.template == legacyTemplate
	if !legacy {
		w.out = append(w.out, 0, 0, 0, 0) // the length, once it is known
	}
	for i, f := range w.fields {
		word := ""
		if i < len(words) {
			word = words[i]
		}
		if err := w.field(f, word, legacy); err != nil {
			return err
		}
	}
	if !legacy {
		binary.LittleEndian.PutUint32(w.out[start:], uint32(len(w.out)-start-4)) // bounded by the line
	}
	return nil
}

func (w *writer) field(f, word string, legacy bool) error {
	if legacy && f == "n" {
		w.out = appendSized(w.out, word)
		return nil
	}
	at := len(w.out)
	if !legacy {
		w.out = append(w.out, 0, 0, 0, 0)
	}
	var err error
	if w.out, err = appendField(w.out, f, word); err != nil {
		return err
	}
	n := len(w.out) - at
	if legacy {
		if n != tpm2.AlgSHA1.DigestSize() {
			return errField
		}
		return nil
	}
	binary.LittleEndian.PutUint32(w.out[at:], uint32(n-4)) // bounded by the line
	return nil
}

func appendSized(out []byte, s string) []byte {
	out = binary.LittleEndian.AppendUint32(out, uint32(len(s))) // bounded by the line
	return append(out, s...)
}

func appendField(out []byte, field, word string) ([]byte, error) {
	switch field {
	case "n", "n-ng":
		return append(append(out, word...), 0), nil
	case "d", "sig", "buf", "modsig", "evmsig":
	case "d-ng", "d-ngv2", "d-modsig":
		if word == "" {
			return out, nil
		}
		at := strings.LastIndexByte(word, ':')
		if at < 0 {
			return nil, errField
		}
		out = append(append(out, word[:at+1]...), 0)
		word = word[at+1:]
	default:
		return nil, errField
	}
	out, err := hex.AppendDecode(out, []byte(word))
	if err != nil {
		return nil, errField
	}
	return out, nil
}
