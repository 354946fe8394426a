package evidence

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
)

// What every answer and every stored decision has is written by hand, in the very
// bytes of encoding/json, which takes ten times as long over it.

// AppendText appends s as a JSON string, as encoding/json writes it.
func AppendText(out []byte, s string) []byte {
	start := len(out)
	out = append(append(out, '"'), s...)
	if n := unescaped(out[start+1:]); n < len(s) {
		return appendEscaped(out[:start], s, n)
	}
	return append(out, '"')
}

// appendEscaped is AppendText for a text whose byte n may need an escape. Lists have
// line ends; all else is rare in what is measured.
func appendEscaped(out []byte, s string, n int) []byte {
	start, text := len(out), []byte(s)
	out = append(append(out, '"'), text[:n]...)
	for n < len(text) {
		switch c := text[n]; c {
		case '\n':
			out = append(out, '\\', 'n')
		case '"', '\\':
			out = append(out, '\\', c)
		default:
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("unreachable: a string always marshals")
			}
			return append(out[:start], quoted...)
		}
		n++
		run := unescaped(text[n:])
		out = append(out, text[n:n+run]...)
		n += run
	}
	return append(out, '"')
}

// unescaped returns how many bytes of b come before the first that encoding/json may
// write otherwise: a control, a quotation mark, a backslash, '<', '>', '&', or one
// outside ASCII. It looks at eight at a time.
func unescaped(b []byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(b); n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		found := w | (w - 0x20*ones) // outside ASCII, or below a space
		for _, c := range [...]uint64{'"', '\\', '<', '>', '&'} {
			x := w ^ c*ones
			found |= (x - ones) &^ x
		}
		if found&high != 0 {
			break // at most a false alarm behind the true one: the loop below decides
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			break
		}
	}
	return n
}

// AppendTexts appends a JSON array of strings; nil is null.
func AppendTexts(out []byte, list []string) []byte {
	if list == nil {
		return append(out, "null"...)
	}
	out = append(out, '[')
	for i, s := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = AppendText(out, s)
	}
	return append(out, ']')
}

// AppendJSON appends what [Value.MarshalJSON] writes.
func (v Value) AppendJSON(out []byte) []byte {
	switch v.kind {
	case kindTrue:
		return append(out, "true"...)
	case kindFalse:
		return append(out, "false"...)
	case kindText:
		return AppendText(out, v.text)
	default:
		return append(out, "null"...)
	}
}

// AppendJSON appends c as encoding/json writes it.
func (c Claim) AppendJSON(out []byte) []byte {
	out = c.Value.AppendJSON(append(out, `{"value":`...))
	out = AppendText(append(out, `,"reason":`...), string(c.Reason))
	for i, pcr := range c.PCRs {
		if i == 0 {
			out = append(out, `,"pcrs":[`...)
		} else {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(pcr), 10)
	}
	if len(c.PCRs) > 0 {
		out = append(out, ']')
	}
	return append(out, '}')
}

// AppendJSON appends c as encoding/json writes it, by name.
func (c Claims) AppendJSON(out []byte) []byte {
	if c == nil {
		return append(out, "null"...)
	}
	names, size := make([]string, 0, len(c)), 2
	for name, claim := range c {
		names = append(names, name)
		size += len(name) + len(claim.Value.text) + len(claim.Value.text)/64 + len(claim.Reason) + 4*len(claim.PCRs) + 48
	}
	slices.Sort(names)
	out = append(slices.Grow(out, size), '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(AppendText(out, name), ':')
		out = c[name].AppendJSON(out)
	}
	return append(out, '}')
}

// AppendValues appends an object with the value of each claim, by name: true, false, a
// text, or null for what could not be proven.
func (c Claims) AppendValues(out []byte) []byte {
	names, size := make([]string, 0, len(c)), 2
	for name, claim := range c {
		names = append(names, name)
		size += len(name) + len(claim.Value.text) + len(claim.Value.text)/64 + 10
	}
	slices.Sort(names)
	out = append(slices.Grow(out, size), '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(AppendText(out, name), ':')
		out = c[name].Value.AppendJSON(out)
	}
	return append(out, '}')
}

// AppendReasons appends a JSON array of reasons as encoding/json writes it; nil is null.
func AppendReasons(out []byte, reasons []Reason) []byte {
	if reasons == nil {
		return append(out, "null"...)
	}
	out = append(out, '[')
	for i := range reasons {
		if i > 0 {
			out = append(out, ',')
		}
		r := &reasons[i]
		out = AppendText(append(out, `{"code":`...), string(r.Code))
		out = AppendText(append(out, `,"message":`...), r.Message)
		if r.Component != "" {
			out = AppendText(append(out, `,"component":`...), r.Component)
		}
		out = append(out, '}')
	}
	return append(out, ']')
}
