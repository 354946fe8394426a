package varstore

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/wire"
)

// ErrJSON is a text, or a variable, that the JSON form of variables does not have.
var ErrJSON = errors.New("not the JSON of a variable store")

// Limits of a text.
const (
	MaxJSON       = 4 << 20
	maxVariables  = 1024
	jsonVersion   = 2
	maxAttributes = math.MaxUint32
)

// jsonStore and jsonVariable are UefiVarStore and UefiVariable of QEMU's interface
// (qapi/uefi.json), which are those of virt-firmware.
type (
	jsonStore struct {
		Version   int            `json:"version"`
		Variables []jsonVariable `json:"variables"`
	}
	jsonVariable struct {
		Name string `json:"name"`
		GUID string `json:"guid"`
		Attr uint32 `json:"attr"`
		Data string `json:"data"`
		Time string `json:"time,omitempty"` // an EFI_TIME, in hexadecimal as the data
	}
)

// JSON writes variables in the form that virt-fw-vars (--output-json, --set-json) and
// QEMU's device uefi-vars have. The error names a variable that the form cannot carry.
func JSON(variables iter.Seq[Variable]) ([]byte, error) {
	out := jsonStore{Version: jsonVersion, Variables: []jsonVariable{}}
	for v := range variables {
		// A replaced character would make another name of it.
		if !nameFits(v.Name) || v.Monotonic != 0 {
			return nil, fmt.Errorf("%w: variable %q has a name or a count that the form does not carry", ErrJSON, v.Name)
		}
		j := jsonVariable{Name: v.Name, GUID: v.Vendor.String(), Attr: v.Attributes, Data: hex.EncodeToString(v.Data)}
		if !v.Time.IsZero() {
			b, err := wire.EncodeLE(&v.Time)
			if err != nil {
				return nil, err
			}
			j.Time = hex.EncodeToString(b)
		}
		out.Variables = append(out.Variables, j)
	}
	text, err := json.MarshalIndent(out, "", "    ")
	return append(text, '\n'), err
}

// nameFits reports whether a name is a text that a store gives back as it is.
func nameFits(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}

// ParseJSON reads what [JSON], virt-fw-vars and QEMU write: variables that are kept
// over a restart, each once. It knows nothing of what they mean.
func ParseJSON(text []byte) ([]Variable, error) {
	var out []Variable
	version, listed := int64(0), false
	rules := strictjson.Rules{Bytes: MaxJSON, Depth: 3, Members: 16, Values: 8*maxVariables + 4}
	err := strictjson.Object(text, rules, func(name string, v strictjson.Value) (err error) {
		switch name {
		case "version":
			version, err = v.Int()
		case "variables":
			listed = true
			out, err = parseVariables(v)
		default:
			err = strictjson.Unknown()
		}
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrJSON, err)
	case version != jsonVersion || !listed:
		return nil, fmt.Errorf("%w: version %d, want %d with a list of variables", ErrJSON, version, jsonVersion)
	}
	return out, nil
}

func parseVariables(list strictjson.Value) (out []Variable, err error) {
	type id struct {
		vendor uefi.GUID
		name   string
	}
	seen := map[id]bool{}
	err = list.Array(func(n int, v strictjson.Value) error {
		if n == maxVariables {
			return fmt.Errorf("more than %d variables", maxVariables)
		}
		one, err := parseVariable(v)
		if err != nil {
			return err
		}
		at := id{one.Vendor, one.Name}
		if seen[at] {
			return fmt.Errorf("variable %q stands twice", one.Name)
		}
		seen[at] = true
		out = append(out, one)
		return nil
	})
	return out, err
}

func parseVariable(v strictjson.Value) (out Variable, err error) {
	err = v.Object(func(name string, v strictjson.Value) (err error) {
		switch name {
		case "name":
			out.Name, err = v.Text()
		case "guid":
			var text string
			if text, err = v.Text(); err == nil {
				out.Vendor, err = uefi.ParseGUID(text)
			}
		case "attr":
			out.Attributes, err = attributes(v)
		case "data":
			out.Data, err = v.Hex(nil, geometries[OVMF4M].size)
		case "time":
			out.Time, err = timeOf(v)
		case "digest":
			// UEFI 2.10, 8.2.2: of a private authenticated variable, whose signer edk2 keeps in
			// its own variable certdb.
			err = errors.New("a variable with its signer's digest: a store of flash keeps that elsewhere")
		default:
			err = strictjson.Unknown()
		}
		return err
	})
	switch {
	case err != nil:
		return out, err
	case !nameFits(out.Name) || len(out.Data) == 0 || out.Vendor == uefi.GUID{}:
		return out, fmt.Errorf("variable %q: its name, guid or data is missing or not to be written", out.Name)
	case out.Attributes&uefi.NonVolatile == 0:
		return out, fmt.Errorf("variable %q is not kept over a restart (attributes %#x)", out.Name, out.Attributes)
	}
	return out, nil
}

func attributes(v strictjson.Value) (uint32, error) {
	n, err := v.Int()
	if err == nil && (n < 0 || n > maxAttributes) {
		err = fmt.Errorf("%d are no attributes of a variable", n)
	}
	return uint32(n), err
}

// timeOf reads an EFI_TIME; the empty text is none.
func timeOf(v strictjson.Value) (t uefi.Time, err error) {
	b, err := v.Hex(nil, uefi.TimeSize)
	if err != nil || len(b) == 0 {
		return t, err
	}
	if err := wire.DecodeLE(b, &t); err != nil {
		return t, fmt.Errorf("no EFI_TIME: %w", err)
	}
	return t, nil
}
