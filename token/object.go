package token

import "github.com/assay-project/assay/internal/strictjson"

// An object has the members of a JSON object in their order. Names match exactly,
// unlike those of encoding/json, which takes "ISS" for "iss".
type object = strictjson.Members

// parseObject checks that data is one JSON object without duplicate members at any
// depth (RFC 7519, 4), and returns its members, which alias data. Real tokens nest
// seven deep and have under a hundred members in one object.
func parseObject(data []byte) (object, error) {
	return strictjson.ParseObject(data, strictjson.Rules{Bytes: maxJWKS, Depth: 32, Members: 1024, Values: 1 << 14})
}
