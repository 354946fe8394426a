package cms

// Tags of the elements that are read here (X.690, 8.1.2).
const (
	tagBoolean         = 0x01
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagOID             = 0x06
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0xA0
)

// An element is one value of DER.
type element struct {
	tag  byte
	raw  []byte // with tag and length
	body []byte
}

// read splits the first element off b. Lengths are definite and take up to four
// bytes. A length that is not written in the shortest form is taken, as firmware
// takes it: what is signed is compared by its bytes, never by what they mean.
func read(b []byte) (e element, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1F == 0x1F { // X.690, 8.1.2.4: no long tags here
		return element{}, nil, false
	}
	n, at := uint64(b[1]), 2
	if n >= 0x80 {
		digits := int(n & 0x7F)
		if digits == 0 || digits > 4 || len(b) < 2+digits {
			return element{}, nil, false
		}
		n, at = 0, 2+digits
		for _, d := range b[2:at] {
			n = n<<8 | uint64(d)
		}
	}
	if n > uint64(len(b)-at) {
		return element{}, nil, false
	}
	end := at + int(n)
	return element{b[0], b[:end:end], b[at:end:end]}, b[end:], true
}

// A reader takes elements off a body in order. The first failure sticks, and every
// later result is empty.
type reader struct {
	b      []byte
	failed bool
}

// next takes an element of a tag.
func (r *reader) next(tag byte) element {
	e, rest, ok := read(r.b)
	if r.failed || !ok || e.tag != tag {
		r.failed = true
		return element{}
	}
	r.b = rest
	return e
}

// any takes an element of whatever tag.
func (r *reader) any() element {
	e, rest, ok := read(r.b)
	if r.failed || !ok {
		r.failed = true
		return element{}
	}
	r.b = rest
	return e
}

// optional takes an element if it has the tag.
func (r *reader) optional(tag byte) (element, bool) {
	if r.failed || len(r.b) == 0 || r.b[0] != tag {
		return element{}, false
	}
	return r.next(tag), !r.failed
}

// inside is a reader of the body of an element of a tag.
func (r *reader) inside(tag byte) *reader {
	e := r.next(tag)
	return &reader{e.body, r.failed}
}

// more reports whether something is left.
func (r *reader) more() bool { return !r.failed && len(r.b) > 0 }

// end reports whether all was read and nothing is left.
func (r *reader) end() bool { return !r.failed && len(r.b) == 0 }

// algorithm takes an AlgorithmIdentifier (RFC 5280, 4.1.1.2) and returns the body of
// its object identifier. Its parameters are one element or none, of whatever kind.
func (r *reader) algorithm() string {
	in := r.inside(tagSequence)
	id := in.next(tagOID)
	if in.more() {
		in.any()
	}
	if !in.end() {
		r.failed = true
		return ""
	}
	return string(id.body)
}
