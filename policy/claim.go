package policy

import (
	"encoding/json"
	"strconv"
)

// A Type is the kind of a claim's value.
type Type uint8

// The types of a value. The language never converts one into another.
const (
	None Type = iota // the zero Value, which equals nothing
	Boolean
	Integer
	String
)

// String returns the name that valueType has in a policy.
func (t Type) String() string {
	return [...]string{"None", "Boolean", "Integer", "String"}[t]
}

// A Value is a boolean, a 64-bit integer or a string. The zero Value is none of
// them and satisfies no test.
type Value struct {
	kind Type
	num  int64
	text string
}

// BoolValue is the Value of b.
func BoolValue(b bool) Value {
	v := Value{kind: Boolean}
	if b {
		v.num = 1
	}
	return v
}

// IntValue is the Value of n.
func IntValue(n int64) Value { return Value{kind: Integer, num: n} }

// StringValue is the Value of s.
func StringValue(s string) Value { return Value{kind: String, text: s} }

// Type tells which of the three v is.
func (v Value) Type() Type { return v.kind }

// Bool returns the boolean in v; ok is false when v is none.
func (v Value) Bool() (b, ok bool) { return v.num == 1, v.kind == Boolean }

// Int returns the integer in v; ok is false when v is none.
func (v Value) Int() (n int64, ok bool) { return v.num, v.kind == Integer }

// Text returns the string in v; ok is false when v is none.
func (v Value) Text() (s string, ok bool) { return v.text, v.kind == String }

// String returns v as a policy writes it.
func (v Value) String() string {
	switch v.kind {
	case Boolean:
		return strconv.FormatBool(v.num == 1)
	case Integer:
		return strconv.FormatInt(v.num, 10)
	case String:
		return quote(v.text)
	default:
		return "none"
	}
}

// MarshalJSON writes a boolean, a number or a string.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.kind {
	case Boolean:
		return strconv.AppendBool(nil, v.num == 1), nil
	case Integer:
		return strconv.AppendInt(nil, v.num, 10), nil
	case String:
		return json.Marshal(v.text)
	default:
		return []byte("null"), nil
	}
}

// The issuers of claims.
const (
	// FromService issues what was read from verified evidence.
	FromService = "AttestationService"
	// FromPolicy issues what a rule added.
	FromPolicy = "AttestationPolicy"
	// FromAttester issues what the attester sent without proof.
	FromAttester = "CustomClaim"
)

// A Claim is one statement that rules read. Claims of one type form a bag: an
// array is several claims.
type Claim struct {
	Type   string
	Value  Value
	Issuer string
	// ReadOnly claims may be tested but not issued, nor may what is computed from them.
	ReadOnly bool
}

// MarshalJSON writes an object with type, value, valueType and issuer.
func (c Claim) MarshalJSON() ([]byte, error) {
	return json.Marshal(claimJSON{c.Type, c.Value, c.Value.kind.String(), c.Issuer, c.ReadOnly})
}

type claimJSON struct {
	Type      string `json:"type"`
	Value     Value  `json:"value"`
	ValueType string `json:"valueType"`
	Issuer    string `json:"issuer"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// A Property is what issueproperty set for the service or the token.
type Property struct {
	Name  string `json:"name"`
	Value Value  `json:"value"`
}

// Reserved reports whether a token's claim of this name belongs to the service,
// so that no policy may issue it.
func Reserved(claimType string) bool {
	switch claimType {
	case "iss", "exp", "iat", "nbf", "jti", "x-ms-ver", "x-ms-policy-hash", "x-ms-attestation-type":
		return true
	}
	return false
}
