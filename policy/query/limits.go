package query

import "errors"

// ErrLimit is wrapped by errors about a query, a document or an evaluation that is
// larger or costlier than this package allows.
var ErrLimit = errors.New("limit exceeded")

// The limits of one query and of the queries of one evaluation. They are far above
// what the published policies need, and low enough that no query and no document
// can stall a service: what exceeds one is refused, never cut.
const (
	maxText      = 8 << 10  // bytes of one query
	maxDepth     = 512      // levels of its tree
	maxSteps     = 4 << 20  // nodes visited by all queries of one evaluation
	maxBytes     = 16 << 20 // JSON read and made by all queries of one evaluation
	maxResult    = 4 << 20  // bytes of one result
	maxJSONDepth = 64       // levels of a JSON value
)
