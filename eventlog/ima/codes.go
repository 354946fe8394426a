package ima

import "github.com/assay-project/assay/evidence"

// Reason codes of this package; package evidence explains them.
const (
	codeMismatch    evidence.Code = "ima.replay-mismatch"
	codeData        evidence.Code = "ima.data-mismatch"
	codeAggregate   evidence.Code = "ima.boot-aggregate-mismatch"
	codeNoAggregate evidence.Code = "ima.boot-aggregate-absent"
	codeUnchecked   evidence.Code = "ima.boot-aggregate-unchecked"
)
