package attest

import (
	"crypto/sha256"
	"encoding/hex"
)

// builtinText is what [DefaultPolicy] says until an operator sets another: a
// boot is trusted that was proven to run under secure boot.
const builtinText = `version= 1.2;
authorizationrules {
    [type == "secureBoot", value == true] => permit();
};
issuancerules {
};
`

// builtinPolicy is the revision that stands before all others.
func builtinPolicy() PolicyVersion {
	digest := sha256.Sum256([]byte(builtinText))
	return PolicyVersion{Name: DefaultPolicy, Text: builtinText, Digest: hex.EncodeToString(digest[:]), Author: "assay", Comment: "built in"}
}
