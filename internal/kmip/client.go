package kmip

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"
)

// A Conn is a connection to a server, with a version agreed. It is not safe for
// concurrent use.
type Conn struct {
	conn    net.Conn
	version Version
}

// Dial connects to a server and agrees on the newest version that both speak. cfg
// names the authorities of the server and the client's certificate. ctx bounds this
// and nothing after.
func Dial(ctx context.Context, address string, cfg *tls.Config) (*Conn, error) {
	d := tls.Dialer{Config: cfg}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn}
	if c.version, err = c.discover(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// Version is the version that was agreed on.
func (c *Conn) Version() Version { return c.version }

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// do runs one operation. After an error that is no [*Error] the connection is of no
// use any more.
func (c *Conn) do(ctx context.Context, op Operation, payload ...Item) (Item, error) {
	return c.doAs(ctx, c.version, op, payload...)
}

func (c *Conn) doAs(ctx context.Context, v Version, op Operation, payload ...Item) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	deadline, _ := ctx.Deadline() // zero for none
	if err := c.conn.SetDeadline(deadline); err != nil {
		return Item{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.conn.Write(request(v, op, payload...)); err != nil {
		return Item{}, fmt.Errorf("%s: %w", op, err)
	}
	b, err := read(c.conn)
	if err != nil {
		return Item{}, fmt.Errorf("%s: %w", op, err)
	}
	return response(b, op)
}

// discover asks for the versions of the server (4.26), in the oldest that we speak.
func (c *Conn) discover(ctx context.Context) (Version, error) {
	ours := Versions()
	items := make([]Item, len(ours))
	for i, v := range ours {
		items[i] = v.item()
	}
	p, err := c.doAs(ctx, ours[len(ours)-1], OperationDiscoverVersions, items...)
	if err != nil {
		return Version{}, err
	}
	for _, v := range ours {
		for _, i := range p.All(TagProtocolVersion, TypeStructure) {
			if theirs, ok := versionOf(i); ok && theirs == v {
				return v, nil
			}
		}
	}
	return Version{}, fmt.Errorf("%w: ours are %v", ErrVersion, ours)
}

// Use makes the connection speak an older version than was agreed on.
func (c *Conn) Use(v Version) error {
	if !slices.Contains(Versions(), v) || c.version.less(v) {
		return fmt.Errorf("%w: %s", ErrVersion, v)
	}
	c.version = v
	return nil
}

// A Server is what a server says of itself.
type Server struct {
	Vendor     string
	Operations []Operation
}

// Query asks what the server can do (4.25).
func (c *Conn) Query(ctx context.Context) (Server, error) {
	p, err := c.do(ctx, OperationQuery, Enumeration(TagQueryFunction, queryOperations), Enumeration(TagQueryFunction, queryServer))
	if err != nil {
		return Server{}, err
	}
	vendor, _ := p.Get(TagVendorIdentification, TypeTextString)
	s := Server{Vendor: clip(vendor.Bytes)}
	for _, i := range p.All(TagOperation, TypeEnumeration) {
		s.Operations = append(s.Operations, Operation(i.Int)) //nolint:gosec // parsed from 32 bits
	}
	return s, nil
}

// attributes lays out attributes of a new or sought object: with their names before
// version 2.0, as themselves from it on (2.0, 2.1).
func (c *Conn) attributes(name string, more ...Item) []Item {
	named := []Item{Structure(TagName, Text(TagNameValue, name), Enumeration(TagNameType, nameText))}
	if name == "" {
		named = nil
	}
	all := append(named, more...)
	if c.version.Major >= 2 {
		return []Item{Structure(TagAttributes, all...)}
	}
	out := make([]Item, len(all))
	for i, a := range all {
		text := attributeName(a.Tag)
		a.Tag = TagAttributeValue
		out[i] = Structure(TagAttribute, Text(TagAttributeName, text), a)
	}
	return out
}

// attributeName is what an attribute is called before version 2.0 (chapter 3).
func attributeName(t Tag) string {
	switch t {
	case TagName:
		return "Name"
	case TagCryptographicAlgorithm:
		return "Cryptographic Algorithm"
	case TagCryptographicLength:
		return "Cryptographic Length"
	case TagCryptographicUsageMask:
		return "Cryptographic Usage Mask"
	case TagObjectType:
		return "Object Type"
	case TagState:
		return "State"
	}
	return ""
}

// Create makes an AES-256 key that encrypts and decrypts, activates it and returns
// its identifier. An empty name is none.
func (c *Conn) Create(ctx context.Context, name string) (id string, err error) {
	attributes := c.attributes(
		name, Enumeration(TagCryptographicAlgorithm, algorithmAES), Integer(TagCryptographicLength, aesKeyBits),
		Integer(TagCryptographicUsageMask, usageEncrypt|usageDecrypt),
	)
	if c.version.Major < 2 {
		attributes = []Item{Structure(TagTemplateAttribute, attributes...)}
	}
	p, err := c.do(ctx, OperationCreate, append([]Item{Enumeration(TagObjectType, objectSymmetricKey)}, attributes...)...)
	if err != nil {
		return "", err
	}
	if id, err = identifier(OperationCreate, p); err != nil {
		return "", err
	}
	_, err = c.do(ctx, OperationActivate, Text(TagUniqueIdentifier, id))
	return id, err
}

func identifier(op Operation, p Item) (string, error) {
	id, ok := p.Get(TagUniqueIdentifier, TypeTextString)
	if !ok || len(id.Bytes) == 0 || len(id.Bytes) > MaxIdentifier {
		return "", fmt.Errorf("%s: %w: no identifier", op, ErrResponse)
	}
	return string(id.Bytes), nil
}

// MaxIdentifier bounds the identifier of a key, in bytes.
const MaxIdentifier = 256

// Locate returns the identifiers of the symmetric keys with a name.
func (c *Conn) Locate(ctx context.Context, name string) ([]string, error) {
	attributes := c.attributes(name, Enumeration(TagObjectType, objectSymmetricKey))
	p, err := c.do(ctx, OperationLocate, append([]Item{Integer(TagMaximumItems, 16)}, attributes...)...)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, i := range p.All(TagUniqueIdentifier, TypeTextString) {
		out = append(out, string(i.Bytes))
	}
	return out, nil
}

// A Key is what a server says of a key.
type Key struct {
	State State
	// Bits is its length.
	Bits int32
	// Usage is the usage mask.
	Usage int32
}

// Describe asks for a key's state, length and use (4.12).
func (c *Conn) Describe(ctx context.Context, id string) (Key, error) {
	payload := []Item{Text(TagUniqueIdentifier, id)}
	asked := []Tag{TagState, TagCryptographicLength, TagCryptographicUsageMask}
	for _, t := range asked {
		if c.version.Major >= 2 {
			payload = append(payload, Enumeration(TagAttributeReference, uint32(t)))
		} else {
			payload = append(payload, Text(TagAttributeName, attributeName(t)))
		}
	}
	p, err := c.do(ctx, OperationGetAttributes, payload...)
	if err != nil {
		return Key{}, err
	}
	return Key{
		State: State(c.attribute(p, TagState, TypeEnumeration)),              //nolint:gosec // parsed from 32 bits
		Bits:  int32(c.attribute(p, TagCryptographicLength, TypeInteger)),    //nolint:gosec // parsed from 32 bits
		Usage: int32(c.attribute(p, TagCryptographicUsageMask, TypeInteger)), //nolint:gosec // parsed from 32 bits
	}, nil
}

// attribute returns the value of one attribute in an answer; 0 when it is not there.
func (c *Conn) attribute(p Item, t Tag, typ Type) int64 {
	if c.version.Major >= 2 {
		all, _ := p.Get(TagAttributes, TypeStructure)
		v, _ := all.Get(t, typ)
		return v.Int
	}
	for _, a := range p.All(TagAttribute, TypeStructure) {
		if name, _ := a.Get(TagAttributeName, TypeTextString); string(name.Bytes) == attributeName(t) {
			v, _ := a.Get(TagAttributeValue, typ)
			return v.Int
		}
	}
	return 0
}

// Get fetches the value of a symmetric key (4.11). The caller clears it.
func (c *Conn) Get(ctx context.Context, id string) ([]byte, error) {
	p, err := c.do(ctx, OperationGet, Text(TagUniqueIdentifier, id), Enumeration(TagKeyFormatType, keyFormatRaw))
	if err != nil {
		return nil, err
	}
	got, err := identifier(OperationGet, p)
	if err != nil {
		return nil, err
	}
	key, ok1 := p.Get(TagSymmetricKey, TypeStructure)
	block, ok2 := key.Get(TagKeyBlock, TypeStructure)
	format, ok3 := block.Get(TagKeyFormatType, TypeEnumeration)
	value, ok4 := block.Get(TagKeyValue, TypeStructure)
	material, ok5 := value.Get(TagKeyMaterial, TypeByteString)
	if got != id || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || format.Int != keyFormatRaw {
		return nil, fmt.Errorf("%s: %w: no symmetric key in the clear", OperationGet, ErrResponse)
	}
	return material.Bytes, nil
}
