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
	var out []byte
	size := 0 // of the digests, which is one for a list
	at := 0
	for i := 0; at < len(text); i++ {
		line, _, _ := bytes.Cut(text[at:], []byte("\n"))
		var err error
		if out, size, err = appendLine(out, string(line), size); err != nil {
			return nil, &ParseError{at, i, err}
		}
		at += len(line) + 1
	}
	return Parse(out)
}

func appendLine(out []byte, line string, size int) ([]byte, int, error) {
	words := strings.Split(line, " ")
	if len(words) < 5 {
		return nil, 0, errLine
	}
	pcr, err := strconv.ParseUint(words[0], 10, 8)
	digest, bad := hex.DecodeString(words[1])
	if err != nil || bad != nil || len(digest) == 0 || size != 0 && size != len(digest) {
		return nil, 0, errLine
	}
	fields, known := fieldsOf(words[2])
	if !known || len(words[2]) > maxTemplate {
		return nil, 0, errTemplate
	}
	data, err := dataOf(words[2], fields, words[3:])
	if err != nil {
		return nil, 0, err
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(pcr))
	out = append(out, digest...)
	out = appendSized(out, []byte(words[2]))
	if words[2] == legacyTemplate {
		return append(out, data...), len(digest), nil
	}
	return appendSized(out, data), len(digest), nil
}

func appendSized(out, b []byte) []byte {
	out = binary.LittleEndian.AppendUint32(out, uint32(len(b))) // bounded by the line
	return append(out, b...)
}

// dataOf rebuilds the fields of an entry from their words. Words of empty fields
// may be missing at the end.
func dataOf(template string, fields, words []string) ([]byte, error) {
	if len(words) > len(fields) && strings.Join(words[len(fields):], "") != "" {
		return nil, errLine
	}
	var data []byte
	for i, f := range fields {
		word := ""
		if i < len(words) {
			word = words[i]
		}
		v, err := valueOf(f, word)
		if err != nil {
			return nil, err
		}
		if template == legacyTemplate {
			if f == "d" && len(v) != tpm2.AlgSHA1.DigestSize() {
				return nil, errField
			}
			if f == "n" {
				v = appendSized(nil, []byte(word))
			}
			data = append(data, v...)
			continue
		}
		data = appendSized(data, v)
	}
	return data, nil
}

func valueOf(field, word string) ([]byte, error) {
	switch field {
	case "n", "n-ng":
		return append([]byte(word), 0), nil
	case "d", "sig", "buf", "modsig", "evmsig":
		return hexOf("", word)
	case "d-ng", "d-ngv2", "d-modsig":
		if word == "" {
			return nil, nil
		}
		at := strings.LastIndexByte(word, ':')
		if at < 0 {
			return nil, errField
		}
		return hexOf(word[:at+1]+"\x00", word[at+1:])
	default:
		return nil, errField
	}
}

func hexOf(prefix, word string) ([]byte, error) {
	b, err := hex.DecodeString(word)
	if err != nil {
		return nil, errField
	}
	return append([]byte(prefix), b...), nil
}
