package kmip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// The examples of the specification, 9.1.2.
var examples = map[string]struct {
	hex  string
	item Item
}{
	"an Integer":                   {"420020 02 00000004 0000000800000000", Item{Tag: 0x420020, Type: TypeInteger, Int: 8}},
	"a Long Integer":               {"420020 03 00000008 01B69B4BA5749200", Item{Tag: 0x420020, Type: TypeLongInteger, Int: 123456789000000000}},
	"a Big Integer":                {"420020 04 00000010 0000000003FD35EB6BC2DF4618080000", Item{Tag: 0x420020, Type: TypeBigInteger, Bytes: []byte("\x00\x00\x00\x00\x03\xfd\x35\xeb\x6b\xc2\xdf\x46\x18\x08\x00\x00")}},
	"an Enumeration":               {"420020 05 00000004 000000FF00000000", Item{Tag: 0x420020, Type: TypeEnumeration, Int: 255}},
	"a Boolean":                    {"420020 06 00000008 0000000000000001", Item{Tag: 0x420020, Type: TypeBoolean, Int: 1}},
	"a Text String":                {"420020 07 0000000B 48656C6C6F20576F726C640000000000", Item{Tag: 0x420020, Type: TypeTextString, Bytes: []byte("Hello World")}},
	"a Byte String":                {"420020 08 00000003 0102030000000000", Item{Tag: 0x420020, Type: TypeByteString, Bytes: []byte{1, 2, 3}}},
	"a Date-Time":                  {"420020 09 00000008 0000000047DA67F8", Item{Tag: 0x420020, Type: TypeDateTime, Int: 0x47da67f8}},
	"an Interval":                  {"420020 0A 00000004 000D2F0000000000", Item{Tag: 0x420020, Type: TypeInterval, Int: 864000}},
	"a Structure":                  {"420020 01 00000020 420004 05 00000004 000000FE00000000 420005 02 00000004 000000FF00000000", Structure(0x420020, Enumeration(0x420004, 254), Integer(0x420005, 255))},
	"a negative Integer (not 9.1)": {"420020 02 00000004 FFFFFFFF00000000", Item{Tag: 0x420020, Type: TypeInteger, Int: -1}},
}

func TestTheExamplesOfTheSpecification(t *testing.T) {
	for name, tc := range examples {
		t.Run(name, func(t *testing.T) {
			b := unhex(t, tc.hex)
			got, err := Parse(b)
			if diff := cmp.Diff(tc.item, got); err != nil || diff != "" {
				t.Errorf("Parse: %v, %s", err, diff)
			}
			if out := tc.item.Append(nil); !bytes.Equal(out, b) {
				t.Errorf("Append = %x, want %x", out, b)
			}
			for n := range b {
				if i, err := Parse(b[:n]); !errors.Is(err, ErrEncoding) {
					t.Errorf("the first %d bytes: %+v, %v", n, i, err)
				}
			}
			if i, err := Parse(append(b, 0)); !errors.Is(err, ErrEncoding) {
				t.Errorf("one byte more: %+v, %v", i, err)
			}
		})
	}
}

func TestHostileEncodingsAreRefused(t *testing.T) {
	deep := unhex(t, "4200200100000000")
	for range maxDepth + 1 {
		deep = Item{Tag: 0x420020, Type: TypeStructure, Items: []Item{mustParse(deep)}}.Append(nil)
	}
	for name, b := range map[string][]byte{
		"an unknown type":         unhex(t, "420020 0C 00000004 0000000800000000"),
		"type 0":                  unhex(t, "420020 00 00000000"),
		"a long Integer":          unhex(t, "420020 02 00000008 0000000800000000"),
		"padding that is not 0":   unhex(t, "420020 02 00000004 0000000800000001"),
		"Boolean 2":               unhex(t, "420020 06 00000008 0000000000000002"),
		"text that is not UTF-8":  unhex(t, "420020 07 00000001 FF00000000000000"),
		"Big Integer of 4 bytes":  unhex(t, "420020 04 00000004 0102030400000000"),
		"a length that lies":      unhex(t, "420020 08 FFFFFFFF 0102030000000000"),
		"a length near the end":   unhex(t, "420020 08 FFFFFFF9 0102030000000000"),
		"inner longer than outer": unhex(t, "420020 01 00000010 420004 05 00000010 000000FE00000000"),
		"too deep":                deep,
		"too many":                Structure(0x420020, slices.Repeat([]Item{Integer(0x420004, 1)}, maxItems)...).Append(nil),
		"too long":                make([]byte, MaxMessage+1),
	} {
		if i, err := Parse(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
}

// mustParse parses without the limit of depth.
func mustParse(b []byte) Item {
	p := parser{items: -maxItems}
	i, _, err := p.item(b, -maxDepth)
	if err != nil {
		panic(err)
	}
	return i
}

func TestAnswersAreReadStrictly(t *testing.T) {
	version := Structure(TagProtocolVersion, Integer(TagProtocolVersionMajor, 1), Integer(TagProtocolVersionMinor, 4))
	header := Structure(TagResponseHeader, version, Integer(TagBatchCount, 1))
	two := Structure(TagResponseHeader, version, Integer(TagBatchCount, 2))
	op, ok, payload := Enumeration(TagOperation, uint32(OperationQuery)), Enumeration(TagResultStatus, 0), Structure(TagResponsePayload)
	for name, tc := range map[string]struct {
		in   Item
		want error
	}{
		"good":              {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, ok, payload)), nil},
		"a request":         {Structure(TagRequestMessage, header, Structure(TagBatchItem, op, ok, payload)), ErrResponse},
		"no header":         {Structure(TagResponseMessage, Structure(TagBatchItem, op, ok, payload)), ErrResponse},
		"two batch items":   {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, ok, payload), Structure(TagBatchItem, op, ok, payload)), ErrResponse},
		"a count of two":    {Structure(TagResponseMessage, two, Structure(TagBatchItem, op, ok, payload)), ErrResponse},
		"no status":         {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, payload)), ErrResponse},
		"status twice":      {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, ok, ok, payload)), ErrResponse},
		"another operation": {Structure(TagResponseMessage, header, Structure(TagBatchItem, Enumeration(TagOperation, 1), ok, payload)), ErrResponse},
		"no operation":      {Structure(TagResponseMessage, header, Structure(TagBatchItem, ok, payload)), ErrResponse},
		"no payload":        {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, ok)), ErrResponse},
		"pending":           {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, Enumeration(TagResultStatus, 2), payload)), new(Error)},
		"a refusal":         {Structure(TagResponseMessage, header, Structure(TagBatchItem, op, Enumeration(TagResultStatus, 1), Enumeration(TagResultReason, 12))), new(Error)},
	} {
		_, err := response(tc.in.Append(nil), OperationQuery)
		if _, refusal := tc.want.(*Error); refusal {
			if e := new(Error); !errors.As(err, &e) {
				t.Errorf("%s: %v, want a refusal", name, err)
			}
			continue
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for name, b := range map[string]string{
		"another tag": "4200780100000000", "another type": "42007b0200000004", "too long": "42007b0100010000", "not in eights": "42007b0100000004",
	} {
		if _, err := read(bytes.NewReader(append(unhex(t, b), make([]byte, 99)...))); !errors.Is(err, ErrResponse) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tc := range examples {
		f.Add(unhex(f, tc.hex))
	}
	f.Add(request(Version{1, 4}, OperationCreate, Text(TagUniqueIdentifier, "1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrEncoding) {
				t.Errorf("Parse(%x) = %v", b, err)
			}
			return
		}
		if out := i.Append(nil); !bytes.Equal(out, b) {
			t.Errorf("Parse(%x) encodes to %x", b, out)
		}
		_, _ = response(b, OperationGet)
	})
}
