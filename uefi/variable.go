package uefi

import "github.com/assay-project/assay/wire"

// maxVariableName bounds the name of a variable, in UTF-16 units. The
// specification sets none; the longest measured ones have about 30.
const maxVariableName = 1024

// VariableData is a UEFI_VARIABLE_DATA (PFP 10.2.6): a variable as measured.
type VariableData struct {
	Vendor  GUID
	RawName []byte // UTF-16, little endian, without NUL
	Data    []byte
}

// Wire lays out a UEFI_VARIABLE_DATA. Both lengths come before both texts.
func (v *VariableData) Wire(c *wire.Codec) {
	c.Bytes(v.Vendor[:])
	units, size := uint64(len(v.RawName)/2), uint64(len(v.Data))
	wire.U64(c, &units)
	wire.U64(c, &size)
	c.Check(units <= maxVariableName, wire.ErrSize)
	c.Check(!c.Decoding() || size <= uint64(c.Remaining()), wire.ErrShort)
	if c.Err() != nil {
		return
	}
	c.Raw(&v.RawName, int(2*units))
	c.Raw(&v.Data, int(size))
}

// ParseVariableData reads a measured variable, which must fill b. It aliases b.
func ParseVariableData(b []byte) (VariableData, error) {
	var v VariableData
	err := wire.DecodeLE(b, &v)
	return v, err
}

// Name returns the name for display.
func (v *VariableData) Name() string { return Text(v.RawName) }

// Is reports whether v is the variable of that vendor and ASCII name.
func (v *VariableData) Is(vendor GUID, name string) bool {
	return v.Vendor == vendor && equalText(v.RawName, name)
}

// LoadOption is an EFI_LOAD_OPTION (UEFI 2.10, 3.1.3): the value of Boot####.
type LoadOption struct {
	Attributes   uint32
	Description  string
	DevicePath   []byte // the first of the list, see [DevicePathText]
	OptionalData []byte
}

// ParseLoadOption reads a boot option. It aliases b.
func ParseLoadOption(b []byte) (LoadOption, error) {
	var raw rawLoadOption
	if err := wire.DecodeLE(b, &raw); err != nil {
		return LoadOption{}, err
	}
	return LoadOption{raw.attributes, Text(raw.description), raw.path, raw.optional}, nil
}

type rawLoadOption struct {
	attributes                  uint32
	description, path, optional []byte
}

// Wire lays out an EFI_LOAD_OPTION.
func (o *rawLoadOption) Wire(c *wire.Codec) {
	wire.U32(c, &o.attributes)
	size := uint16(len(o.path))
	wire.U16(c, &size)
	o.wireDescription(c)
	c.Raw(&o.path, int(size))
	c.Rest(&o.optional)
}

// wireDescription lays out a UTF-16 text that ends with NUL.
func (o *rawLoadOption) wireDescription(c *wire.Codec) {
	for i := 0; c.Err() == nil; i += 2 {
		var unit uint16
		if !c.Decoding() && i+1 < len(o.description) {
			unit = uint16(o.description[i]) | uint16(o.description[i+1])<<8
		}
		wire.U16(c, &unit)
		if unit == 0 {
			return
		}
		if c.Decoding() {
			o.description = append(o.description, byte(unit), byte(unit>>8))
		}
		c.Check(i < 2*maxText, wire.ErrSize)
	}
}
