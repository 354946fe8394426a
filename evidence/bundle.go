package evidence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/strictjson"
)

// MaxBundle is the size in bytes of the largest bundle that is read.
const MaxBundle = 4 << 20

// JSON is one JSON value of a bundle: checked, not decoded. It aliases the bundle.
type JSON = strictjson.Value

// bundleRules bound a bundle's JSON. A TPM bundle with all banks has 9 objects of
// at most 24 members. No member that a bundle may have is written with escapes.
func bundleRules() strictjson.Rules {
	return strictjson.Rules{Bytes: MaxBundle, Depth: 8, Members: 64, Values: 4096, PlainNames: true}
}

// Types of evidence, the type member of a bundle (docs/formats/evidence-bundle.md).
const (
	TypeTPM         = "tpm"
	TypeSGX         = "sgx"
	TypeTDX         = "tdx"
	TypeOpenEnclave = "openenclave"
	TypeSNP         = "snp"
	TypeHCL         = "hcl"
	TypeNitro       = "nitro"
	TypeVBS         = "vbs"
)

// bundleMembers lists, by type, the members that a bundle may have besides type and time.
var bundleMembers = map[string][]string{
	TypeTPM:         {"quotes", "pcrs", "akPublic", "akCert", "ekPublic", "ekCert", "caCerts", "eventLog", "imaLog", "nonce"},
	TypeSGX:         {"quote", "collateral", "runtimeData", "nonce"},
	TypeTDX:         {"quote", "collateral", "runtimeData", "nonce"},
	TypeOpenEnclave: {"report", "collateral", "heldData"},
	TypeSNP:         {"report", "certificates", "runtimeData"},
	TypeHCL:         {"hclReport", "certificates", "quote", "akPublic"},
	TypeNitro:       {"document"},
	TypeVBS:         {"report", "eventLog", "quotes", "akPublic"},
}

// ErrBundle is wrapped by every error about a bundle that is no bundle at all,
// as opposed to one whose evidence is bad: that is a [Refusal].
var ErrBundle = errors.New("not an evidence bundle")

// A Bundle is one evidence bundle: its members by name, not decoded. It is what
// the attester sent, nothing more. It aliases the text that it was parsed from.
type Bundle struct {
	Type string
	Time time.Time // when the attester says that it was made; zero when it does not
	// members are parallel lists: a bundle has at most eleven.
	names  []string
	values []JSON
}

// ParseBundle reads the outer shape of a bundle: one JSON object of a known
// type with members of that type only, none of them twice. Errors wrap [ErrBundle].
func ParseBundle(text []byte) (*Bundle, error) {
	b := &Bundle{names: make([]string, 0, 12), values: make([]JSON, 0, 12)}
	if err := strictjson.Object(text, bundleRules(), b.add); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	allowed, known := bundleMembers[b.Type]
	if !known {
		return nil, fmt.Errorf("%w: type %.40q is none of %s", ErrBundle, b.Type, strings.Join(BundleTypes(), ", "))
	}
	for _, name := range b.names {
		if !slices.Contains(allowed, name) {
			return nil, fmt.Errorf("%w: type %s has no member %.40q", ErrBundle, b.Type, name)
		}
	}
	return b, nil
}

func (b *Bundle) add(name string, v JSON) error {
	var err error
	switch name {
	case "type":
		if b.Type, err = v.Text(); err != nil {
			return fmt.Errorf("type is %w", err)
		}
	case "time":
		text, err := v.Text()
		if err != nil {
			return fmt.Errorf("time is %w", err)
		}
		if b.Time, err = time.Parse(time.RFC3339, text); err != nil {
			return fmt.Errorf("time %.40q is not in RFC 3339 form", text)
		}
	default:
		b.names, b.values = append(b.names, name), append(b.values, v)
	}
	return nil
}

// Member returns the named member; ok is false when the bundle has none, or null.
func (b *Bundle) Member(name string) (v JSON, ok bool) {
	i := slices.Index(b.names, name)
	if i < 0 || b.values[i][0] == 'n' {
		return nil, false
	}
	return b.values[i], true
}

// BundleTypes lists the types of evidence that a bundle may have, sorted.
func BundleTypes() []string {
	types := make([]string, 0, len(bundleMembers))
	for t := range bundleMembers {
		types = append(types, t)
	}
	slices.Sort(types)
	return types
}
