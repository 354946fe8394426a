package kmiptest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/assay-project/assay/internal/kmip"
)

// A Server is ours: keys in memory, and every way to fail.
type Server struct {
	Address  string
	Versions []kmip.Version

	mu     sync.Mutex // guards what follows
	keys   map[string][]byte
	names  map[string]string
	answer func(op kmip.Operation, answer []byte) []byte
}

// SetAnswer has every answer changed before it is sent; where answer returns nil the
// connection ends. Nil changes nothing.
func (s *Server) SetAnswer(answer func(op kmip.Operation, answer []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// Start starts a server on loopback that ends with the test.
func Start(tb testing.TB, f Files) *Server {
	tb.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", f.Server(tb))
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Address: l.Addr().String(), Versions: kmip.Versions(), keys: map[string][]byte{}, names: map[string]string{}}
	var served sync.WaitGroup
	var mu sync.Mutex // guards conns
	var conns []net.Conn
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			served.Go(func() { s.serve(c) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		served.Wait()
	})
	return s
}

func (s *Server) serve(c net.Conn) {
	defer c.Close()
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head[4:])
		if n > kmip.MaxMessage-8 {
			return
		}
		b := append(head, make([]byte, n)...)
		if _, err := io.ReadFull(c, b[8:]); err != nil {
			return
		}
		op, answer := s.handle(b)
		s.mu.Lock()
		change := s.answer
		s.mu.Unlock()
		if change != nil {
			if answer = change(op, answer); answer == nil {
				return
			}
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// Refusal is an answer that refuses an operation.
func Refusal(op kmip.Operation, reason kmip.Reason) []byte {
	return message(op, kmip.Item{}, reason)
}

// Success is an answer with a payload.
func Success(op kmip.Operation, payload ...kmip.Item) []byte {
	return message(op, kmip.Structure(kmip.TagResponsePayload, payload...), 0)
}

// message lays out an answer; reason 0 is success.
func message(op kmip.Operation, payload kmip.Item, reason kmip.Reason) []byte {
	items := []kmip.Item{kmip.Enumeration(kmip.TagOperation, uint32(op))}
	if reason == 0 {
		items = append(items, kmip.Enumeration(kmip.TagResultStatus, 0), payload)
	} else {
		items = append(items, kmip.Enumeration(kmip.TagResultStatus, 1), kmip.Enumeration(kmip.TagResultReason, uint32(reason)), kmip.Text(kmip.TagResultMessage, "no"))
	}
	return kmip.Structure(
		kmip.TagResponseMessage,
		kmip.Structure(
			kmip.TagResponseHeader, kmip.Structure(kmip.TagProtocolVersion, kmip.Integer(kmip.TagProtocolVersionMajor, 1), kmip.Integer(kmip.TagProtocolVersionMinor, 2)),
			kmip.Integer(kmip.TagBatchCount, 1),
		),
		kmip.Structure(kmip.TagBatchItem, items...),
	).Append(nil)
}

// A request is what the operations below read.
type request struct {
	major   int64
	op      kmip.Operation
	payload kmip.Item
}

func (s *Server) handle(b []byte) (kmip.Operation, []byte) {
	m, err := kmip.Parse(b)
	header, _ := m.Get(kmip.TagRequestHeader, kmip.TypeStructure)
	version, _ := header.Get(kmip.TagProtocolVersion, kmip.TypeStructure)
	major, _ := version.Get(kmip.TagProtocolVersionMajor, kmip.TypeInteger)
	batch, _ := m.Get(kmip.TagBatchItem, kmip.TypeStructure)
	op, _ := batch.Get(kmip.TagOperation, kmip.TypeEnumeration)
	payload, ok := batch.Get(kmip.TagRequestPayload, kmip.TypeStructure)
	r := request{major.Int, kmip.Operation(op.Int), payload}
	if err != nil || !ok {
		return r.op, Refusal(r.op, kmip.ReasonInvalidMessage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items, reason := s.operation(r)
	return r.op, message(r.op, kmip.Structure(kmip.TagResponsePayload, items...), reason)
}

func (s *Server) operation(r request) ([]kmip.Item, kmip.Reason) {
	switch r.op {
	case kmip.OperationDiscoverVersions:
		var out []kmip.Item
		for _, v := range s.Versions {
			out = append(out, kmip.Structure(kmip.TagProtocolVersion, kmip.Integer(kmip.TagProtocolVersionMajor, v.Major), kmip.Integer(kmip.TagProtocolVersionMinor, v.Minor)))
		}
		return out, 0
	case kmip.OperationQuery:
		return []kmip.Item{kmip.Enumeration(kmip.TagOperation, uint32(kmip.OperationEncrypt)), kmip.Text(kmip.TagVendorIdentification, "kmiptest")}, 0
	case kmip.OperationCreate:
		return s.create(r)
	case kmip.OperationLocate:
		if id, ok := s.names[name(r)]; ok {
			return []kmip.Item{kmip.Text(kmip.TagUniqueIdentifier, id)}, 0
		}
		return nil, 0
	}
	id, _ := r.payload.Get(kmip.TagUniqueIdentifier, kmip.TypeTextString)
	key, ok := s.keys[string(id.Bytes)]
	if !ok {
		return nil, kmip.ReasonItemNotFound
	}
	out := []kmip.Item{kmip.Text(kmip.TagUniqueIdentifier, string(id.Bytes))}
	more, reason := use(r, key)
	return append(out, more...), reason
}

// Rekey gives every key another value.
func (s *Server) Rekey() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.keys {
		s.keys[id] = random()
	}
}

func random() []byte { b := make([]byte, 32); rand.Read(b); return b } //nolint:errcheck // it does not fail

func (s *Server) create(r request) ([]kmip.Item, kmip.Reason) {
	id := strconv.Itoa(len(s.keys) + 1)
	if n := name(r); n != "" {
		if _, taken := s.names[n]; taken {
			return nil, kmip.ReasonInvalidField
		}
		s.names[n] = id
	}
	s.keys[id] = random()
	return []kmip.Item{kmip.Enumeration(kmip.TagObjectType, 2), kmip.Text(kmip.TagUniqueIdentifier, id)}, 0
}

// name finds the attribute Name in a request.
func name(r request) string {
	attributes, ok := r.payload.Get(kmip.TagTemplateAttribute, kmip.TypeStructure)
	if !ok {
		attributes = r.payload
	}
	if r.major >= 2 {
		attributes, _ = r.payload.Get(kmip.TagAttributes, kmip.TypeStructure)
		n, _ := attributes.Get(kmip.TagName, kmip.TypeStructure)
		v, _ := n.Get(kmip.TagNameValue, kmip.TypeTextString)
		return string(v.Bytes)
	}
	for _, a := range attributes.All(kmip.TagAttribute, kmip.TypeStructure) {
		n, _ := a.Get(kmip.TagAttributeValue, kmip.TypeStructure)
		if v, ok := n.Get(kmip.TagNameValue, kmip.TypeTextString); ok {
			return string(v.Bytes)
		}
	}
	return ""
}

// use does what an operation wants of one key.
func use(r request, key []byte) ([]kmip.Item, kmip.Reason) {
	switch r.op {
	case kmip.OperationActivate:
		return nil, 0
	case kmip.OperationGet:
		material := kmip.Structure(kmip.TagKeyValue, kmip.Bytes(kmip.TagKeyMaterial, key))
		return []kmip.Item{kmip.Structure(kmip.TagSymmetricKey, kmip.Structure(kmip.TagKeyBlock, kmip.Enumeration(kmip.TagKeyFormatType, 1), material))}, 0
	case kmip.OperationGetAttributes:
		return attributes(r.major), 0
	case kmip.OperationEncrypt, kmip.OperationDecrypt:
		return crypt(r, key)
	}
	return nil, kmip.ReasonOperationNotSupported
}

func attributes(major int64) []kmip.Item {
	values := []kmip.Item{kmip.Enumeration(kmip.TagState, 2), kmip.Integer(kmip.TagCryptographicLength, 256), kmip.Integer(kmip.TagCryptographicUsageMask, 0xc)}
	if major >= 2 {
		return []kmip.Item{kmip.Structure(kmip.TagAttributes, values...)}
	}
	var out []kmip.Item
	for i, n := range []string{"State", "Cryptographic Length", "Cryptographic Usage Mask"} {
		values[i].Tag = kmip.TagAttributeValue
		out = append(out, kmip.Structure(kmip.TagAttribute, kmip.Text(kmip.TagAttributeName, n), values[i]))
	}
	return out
}

func crypt(r request, key []byte) ([]kmip.Item, kmip.Reason) {
	get := func(t kmip.Tag) []byte { i, _ := r.payload.Get(t, kmip.TypeByteString); return i.Bytes }
	parameters, _ := r.payload.Get(kmip.TagCryptographicParameters, kmip.TypeStructure)
	mode, _ := parameters.Get(kmip.TagBlockCipherMode, kmip.TypeEnumeration)
	data, iv := get(kmip.TagData), get(kmip.TagIVCounterNonce)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, kmip.ReasonGeneralFailure
	}
	if mode.Int == 1 && len(iv) == block.BlockSize() {
		return cbc(r.op, block, iv, data)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil || len(iv) != aead.NonceSize() {
		return nil, kmip.ReasonInvalidField
	}
	if r.op == kmip.OperationEncrypt {
		out := aead.Seal(nil, iv, data, get(kmip.TagAuthenticatedData))
		at := len(out) - aead.Overhead()
		return []kmip.Item{kmip.Bytes(kmip.TagData, out[:at]), kmip.Bytes(kmip.TagAuthenticatedTag, out[at:])}, 0
	}
	out, err := aead.Open(nil, iv, append(data[:len(data):len(data)], get(kmip.TagAuthenticatedTag)...), get(kmip.TagAuthenticatedData))
	if err != nil {
		return nil, kmip.ReasonCryptographicFailure
	}
	return []kmip.Item{kmip.Bytes(kmip.TagData, out)}, 0
}

// cbc is CBC with the padding of PKCS #5.
func cbc(op kmip.Operation, block cipher.Block, iv, data []byte) ([]kmip.Item, kmip.Reason) {
	size := block.BlockSize()
	if op == kmip.OperationEncrypt {
		n := size - len(data)%size
		out := append(bytes.Clone(data), bytes.Repeat([]byte{byte(n)}, n)...)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
		return []kmip.Item{kmip.Bytes(kmip.TagData, out)}, 0
	}
	if len(data) == 0 || len(data)%size != 0 {
		return nil, kmip.ReasonInvalidField
	}
	out := bytes.Clone(data)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, out)
	n := int(out[len(out)-1])
	if n == 0 || n > size || !bytes.Equal(out[len(out)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, kmip.ReasonCryptographicFailure
	}
	return []kmip.Item{kmip.Bytes(kmip.TagData, out[:len(out)-n])}, 0
}
