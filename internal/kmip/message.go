package kmip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Version is a protocol version.
type Version struct{ Major, Minor int32 }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

func (v Version) less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// Versions are those that this package speaks, newest first.
func Versions() []Version { return []Version{{2, 1}, {2, 0}, {1, 4}, {1, 3}, {1, 2}} }

// The failures that a caller acts on; a refusal by the server is an [*Error].
var (
	// ErrResponse is an answer that KMIP does not allow.
	ErrResponse = errors.New("the server's answer is not KMIP's")
	// ErrVersion is a server with which there is no version in common.
	ErrVersion = errors.New("no version of KMIP in common")
)

// An Error is an operation that the server did not do.
type Error struct {
	Operation Operation
	Reason    Reason
	Message   string // of the server, shortened; may be empty
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: the server says %#x %q", e.Operation, uint32(e.Reason), e.Message)
}

func (v Version) item() Item {
	return Structure(TagProtocolVersion, Integer(TagProtocolVersionMajor, v.Major), Integer(TagProtocolVersionMinor, v.Minor))
}

func versionOf(i Item) (Version, bool) {
	major, ok1 := i.Get(TagProtocolVersionMajor, TypeInteger)
	minor, ok2 := i.Get(TagProtocolVersionMinor, TypeInteger)
	return Version{int32(major.Int), int32(minor.Int)}, ok1 && ok2 //nolint:gosec // parsed from 32 bits
}

// request encodes a message with one operation (7.1).
func request(v Version, op Operation, payload ...Item) []byte {
	return Structure(
		TagRequestMessage,
		Structure(TagRequestHeader, v.item(), Integer(TagMaximumResponseSize, MaxMessage), Integer(TagBatchCount, 1)),
		Structure(TagBatchItem, Enumeration(TagOperation, uint32(op)), Structure(TagRequestPayload, payload...)),
	).Append(nil)
}

// response reads the payload of the answer to an operation.
func response(b []byte, op Operation) (Item, error) {
	m, err := Parse(b)
	if err != nil {
		return Item{}, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	header, ok1 := m.Get(TagResponseHeader, TypeStructure)
	count, ok2 := header.Get(TagBatchCount, TypeInteger)
	batch, ok3 := m.Get(TagBatchItem, TypeStructure)
	status, ok4 := batch.Get(TagResultStatus, TypeEnumeration)
	if m.Tag != TagResponseMessage || !ok1 || !ok2 || !ok3 || !ok4 || count.Int != 1 {
		return Item{}, fmt.Errorf("%s: %w: no response message of one operation", op, ErrResponse)
	}
	if status.Int != statusSuccess {
		reason, _ := batch.Get(TagResultReason, TypeEnumeration)
		message, _ := batch.Get(TagResultMessage, TypeTextString)
		return Item{}, &Error{op, Reason(reason.Int), clip(message.Bytes)} //nolint:gosec // parsed from 32 bits
	}
	// 7.2: the operation is named in every answer to one that the server understood.
	done, ok := batch.Get(TagOperation, TypeEnumeration)
	if !ok || done.Int != int64(op) {
		return Item{}, fmt.Errorf("%s: %w: it answers operation %#x", op, ErrResponse, done.Int)
	}
	payload, ok := batch.Get(TagResponsePayload, TypeStructure)
	if !ok {
		return Item{}, fmt.Errorf("%s: %w: no payload", op, ErrResponse)
	}
	return payload, nil
}

// clip shortens a text of the server.
func clip(b []byte) string {
	const most = 200
	return strings.ToValidUTF8(string(b[:min(len(b), most)]), "")
}

// read reads one message.
func read(r io.Reader) ([]byte, error) {
	b := make([]byte, 8)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if Tag(binary.BigEndian.Uint32(b)>>8) != TagResponseMessage || Type(b[3]) != TypeStructure {
		return nil, fmt.Errorf("%w: it begins with %x", ErrResponse, b[:4])
	}
	n := binary.BigEndian.Uint32(b[4:])
	if n > MaxMessage-8 || n%8 != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrResponse, n)
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r, b[8:]); err != nil {
		return nil, err
	}
	return b, nil
}
