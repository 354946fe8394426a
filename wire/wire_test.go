package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/assay-project/assay/wire"
)

type pair struct {
	Kind uint16
	Data []byte
}

func (p *pair) Wire(c *wire.Codec) {
	wire.U16(c, &p.Kind)
	c.Check(p.Kind != 0xffff || c.Err() != nil, wire.ErrSelector)
	c.Sized16(&p.Data, 8)
}

type outer struct {
	Flag  bool
	Inner pair
	List  []pair
	Magic [3]byte
	Big   uint64
	Blob  []byte
	Tail  []byte
}

func (o *outer) Wire(c *wire.Codec) {
	c.Bool(&o.Flag)
	c.Inner16(&o.Inner, 64)
	wire.List32(c, &o.List, 3)
	c.Bytes(o.Magic[:])
	c.Zero(2)
	wire.U64(c, &o.Big)
	c.Sized32(&o.Blob, 16)
	wire.U8(c, &o.Magic[0])
	c.Rest(&o.Tail)
}

func sample() outer {
	return outer{
		Flag: true, Inner: pair{7, []byte("in")}, List: []pair{{1, []byte{}}, {2, []byte("xy")}},
		Magic: [3]byte{1, 2, 3}, Big: 1 << 40, Blob: []byte("blob"), Tail: []byte{},
	}
}

func TestRoundTripBothOrders(t *testing.T) {
	for name, dir := range map[string]struct {
		enc func(wire.Layout) ([]byte, error)
		dec func([]byte, wire.Layout) error
	}{
		"big":    {wire.Encode, wire.Decode},
		"little": {wire.EncodeLE, wire.DecodeLE},
	} {
		t.Run(name, func(t *testing.T) {
			in := sample()
			b, err := dir.enc(&in)
			if err != nil {
				t.Fatal(err)
			}
			var out outer
			if err := dir.dec(b, &out); err != nil {
				t.Fatal(err)
			}
			again, err := dir.enc(&out)
			if err != nil || !bytes.Equal(b, again) {
				t.Errorf("second encoding = %x, %v, want %x", again, err, b)
			}
		})
	}
}

func TestEveryProperPrefixIsRefused(t *testing.T) {
	in := sample()
	b, err := wire.Encode(&in)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if err := wire.Decode(b[:n], new(outer)); !errors.Is(err, wire.ErrShort) {
			t.Errorf("Decode of %d of %d bytes = %v, want ErrShort", n, len(b), err)
		}
	}
}

func TestDecodeNamesTheFaultAndItsPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		want error
		at   int
	}{
		"exact":           {[]byte{0, 1, 0, 1, 9}, nil, 0},
		"trailing":        {[]byte{0, 1, 0, 1, 9, 9}, wire.ErrTrailing, 5},
		"over the limit":  {append([]byte{0, 1, 0, 9}, make([]byte, 9)...), wire.ErrSize, 4},
		"unknown kind":    {[]byte{0xff, 0xff, 0, 0}, wire.ErrSelector, 2},
		"length past end": {[]byte{0, 1, 0, 8, 1}, wire.ErrShort, 4},
	} {
		t.Run(name, func(t *testing.T) {
			err := wire.Decode(tc.in, new(pair))
			if !errors.Is(err, tc.want) {
				t.Fatalf("Decode(%x) = %v, want %v", tc.in, err, tc.want)
			}
			var at *wire.Error
			if errors.As(err, &at) && at.Offset != tc.at {
				t.Errorf("Decode(%x) fails at byte %d, want %d", tc.in, at.Offset, tc.at)
			}
		})
	}
}

type wrapped struct{ P pair }

func (w *wrapped) Wire(c *wire.Codec) { c.Inner16(&w.P, 64) }

func TestInnerUsesItsWholeLength(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"exact":     {[]byte{0, 5, 0, 1, 0, 1, 9}, nil},
		"too long":  {[]byte{0, 6, 0, 1, 0, 1, 9, 9}, wire.ErrTrailing},
		"too short": {[]byte{0, 4, 0, 1, 0, 1, 9}, wire.ErrShort},
		"empty":     {[]byte{0, 0}, wire.ErrShort},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wire.Decode(tc.in, new(wrapped)); !errors.Is(err, tc.want) {
				t.Errorf("Decode(%x) = %v, want %v", tc.in, err, tc.want)
			}
		})
	}
}

// A maybe is nothing, or a pair.
type maybe struct{ there bool }

func (m *maybe) Wire(c *wire.Codec) {
	if c.Remaining() > 0 {
		m.there = true
		new(pair).Wire(c)
	}
}

type wrappedMaybe struct{ M maybe }

func (w *wrappedMaybe) Wire(c *wire.Codec) { c.Inner16(&w.M, 64) }

// A structure that may be empty is so by its length, not because the input ends.
func TestWhatMayBeEmptyIsLackingWhereTheInputEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"empty":          {[]byte{0, 0}, nil},
		"there":          {[]byte{0, 5, 0, 1, 0, 1, 9}, nil},
		"not there":      {[]byte{0, 5}, wire.ErrShort},
		"half there":     {[]byte{0, 5, 0, 1}, wire.ErrShort},
		"a longer claim": {[]byte{0, 6, 0, 1, 0, 1, 9}, wire.ErrOverlong},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wire.Decode(tc.in, new(wrappedMaybe)); !errors.Is(err, tc.want) {
				t.Errorf("Decode(%x) = %v, want %v", tc.in, err, tc.want)
			}
		})
	}
}

type list struct{ L []pair }

func (l *list) Wire(c *wire.Codec) { wire.List32(c, &l.L, 1<<30) }

func TestACountAllocatesNothing(t *testing.T) {
	in := []byte{0x3f, 0xff, 0xff, 0xff, 0, 1}
	if n := testing.AllocsPerRun(100, func() {
		if err := wire.Decode(in, new(list)); !errors.Is(err, wire.ErrShort) {
			t.Fatalf("Decode = %v, want ErrShort", err)
		}
	}); n > 5 {
		t.Errorf("a list of 2^30 claimed elements made %v allocations, want at most 5", n)
	}
}

func TestEncodeRefusesWhatDecodeWouldRefuse(t *testing.T) {
	for name, v := range map[string]wire.Layout{
		"buffer over its limit": &pair{1, make([]byte, 9)},
		"list over its limit":   &outer{List: make([]pair, 4)},
		"inner fault":           &wrapped{pair{1, make([]byte, 9)}},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := wire.Encode(v); !errors.Is(err, wire.ErrSize) {
				t.Errorf("Encode = %x, %v, want ErrSize", b, err)
			}
		})
	}
}

func TestReservedAndBoolAreExact(t *testing.T) {
	in := sample()
	b, err := wire.Encode(&in)
	if err != nil {
		t.Fatal(err)
	}
	reserved := bytes.Index(b, []byte{1, 2, 3, 0, 0}) + 3
	for at, want := range map[int]error{0: wire.ErrRange, reserved: wire.ErrReserved} {
		bad := bytes.Clone(b)
		bad[at] = 2
		if err := wire.Decode(bad, new(outer)); !errors.Is(err, want) {
			t.Errorf("Decode with byte %d = 2: %v, want %v", at, err, want)
		}
	}
}

// A codec or buffer that served before, also one whose structure failed, gives
// what a new one gives.
func TestCodecAndBufferServeAgain(t *testing.T) {
	in := sample()
	want, err := wire.Encode(&in)
	if err != nil {
		t.Fatal(err)
	}
	var c wire.Codec
	var b wire.Buffer
	tooLong := &pair{1, make([]byte, 9)}
	for range 3 {
		got, err := c.Append([]byte("before"), &in)
		if err != nil || string(got) != "before"+string(want) {
			t.Errorf("Append = %x, %v, want before and %x", got, err, want)
		}
		if got, err = b.Encode(&in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Buffer = %x, %v, want %x", got, err, want)
		}
		var out outer
		rest, err := c.DecodePrefixIn("context", append(bytes.Clone(want), 7), &out)
		if err != nil || len(rest) != 0 || !bytes.Equal(out.Tail, []byte{7}) {
			t.Errorf("DecodePrefixIn = %x, %v, tail %x", rest, err, out.Tail)
		}
		if _, err := c.Append(nil, tooLong); !errors.Is(err, wire.ErrSize) {
			t.Errorf("Append = %v, want ErrSize", err)
		}
		if _, err := b.Encode(tooLong); !errors.Is(err, wire.ErrSize) {
			t.Errorf("Buffer = %v, want ErrSize", err)
		}
		if _, err := c.DecodePrefixIn(nil, want[:5], &out); !errors.Is(err, wire.ErrShort) {
			t.Errorf("DecodePrefixIn = %v, want ErrShort", err)
		}
	}
}

func TestDecodePrefixReturnsTheRest(t *testing.T) {
	rest, err := wire.DecodePrefix([]byte{0, 1, 0, 1, 9, 8, 7}, new(pair))
	if err != nil || !bytes.Equal(rest, []byte{8, 7}) {
		t.Errorf("DecodePrefix = %x, %v, want 0807", rest, err)
	}
	if _, err := wire.DecodePrefixLE([]byte{1}, new(pair)); !errors.Is(err, wire.ErrShort) {
		t.Errorf("DecodePrefixLE of one byte = %v, want ErrShort", err)
	}
}

func FuzzOuter(f *testing.F) {
	in := sample()
	b, err := wire.Encode(&in)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		var v outer
		if wire.Decode(in, &v) != nil {
			return
		}
		if v.Magic[0] != in[len(in)-len(v.Tail)-1] {
			t.Fatalf("the last field decoded is not the last byte before the rest")
		}
	})
}

// A parted structure numbers its parts, as a command numbers its parameters.
type parted struct {
	A uint16
	B pair
	C uint8
}

func (p *parted) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U16(c, &p.A)
	c.Part(2)
	c.Inner16(&p.B, 64)
	c.Part(3)
	wire.U8(c, &p.C)
}

func TestAFailureNamesItsPart(t *testing.T) {
	good := []byte{0, 1, 0, 5, 0, 1, 0, 1, 9, 7}
	for name, tc := range map[string]struct {
		in   []byte
		want error
		part int
	}{
		"first":             {good[:1], wire.ErrShort, 1},
		"second":            {good[:5], wire.ErrShort, 2},
		"inside the second": {[]byte{0, 1, 0, 4, 0xff, 0xff, 0, 0, 7}, wire.ErrSelector, 2},
		"overrun of second": {[]byte{0, 1, 0, 4, 0, 1, 0, 1, 9, 7}, wire.ErrOverrun, 2},
		"rest of second":    {[]byte{0, 1, 0, 5, 0, 1, 0, 0, 9, 7}, wire.ErrTrailing, 2},
		"third":             {good[:9], wire.ErrShort, 3},
		"after the last":    {append(bytes.Clone(good), 0), wire.ErrTrailing, 0},
	} {
		t.Run(name, func(t *testing.T) {
			err := wire.Decode(tc.in, new(parted))
			var at *wire.Error
			if !errors.Is(err, tc.want) || !errors.As(err, &at) || at.Part != tc.part {
				t.Errorf("Decode(%x) = %v, want %v of part %d", tc.in, err, tc.want, tc.part)
			}
		})
	}
	if err := wire.Decode(good[:9], new(parted)); errors.Is(err, wire.ErrOverrun) {
		t.Errorf("the end of the input is called an overrun: %v", err)
	}
	if err := wire.Decode(good, new(parted)); err != nil {
		t.Error(err)
	}
}

// A choosy structure takes what its context offers.
type choosy struct{ V uint8 }

func (v *choosy) Wire(c *wire.Codec) {
	wire.U8(c, &v.V)
	limit, ok := c.Context().(uint8)
	c.Check(!ok || v.V <= limit, wire.ErrRange)
}

type choosyInside struct{ V choosy }

func (v *choosyInside) Wire(c *wire.Codec) { c.Inner16(&v.V, 1) }

func TestTheContextReachesInnerStructures(t *testing.T) {
	in := []byte{0, 1, 9}
	if err := wire.DecodeIn(uint8(8), in, new(choosyInside)); !errors.Is(err, wire.ErrRange) {
		t.Errorf("DecodeIn(8) = %v, want ErrRange", err)
	}
	for name, err := range map[string]error{
		"DecodeIn(9)": wire.DecodeIn(uint8(9), in, new(choosyInside)),
		"Decode":      wire.Decode(in, new(choosyInside)),
	} {
		if err != nil {
			t.Errorf("%s = %v", name, err)
		}
	}
}
