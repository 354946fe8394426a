package httpapi

import (
	"errors"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/strictjson"
)

// attestRules bound a request to attest with its evidence, whose own limits, those
// of a bundle, are narrower.
func attestRules(data []byte) strictjson.Rules {
	return strictjson.Rules{Bytes: len(data), Depth: 16, Members: 64, Values: 1 << 13, PlainNames: true}
}

// members checks the whole text of one JSON object and hands out its members.
func members(data []byte, each func(name string, value strictjson.Value) error) error {
	err := strictjson.Object(data, attestRules(data), each)
	var fault *strictjson.Error
	if errors.As(err, &fault) {
		return apiserver.Malformed("%v", apiserver.Unread(err))
	}
	return err
}
