package policy

// The limits of one policy and of one evaluation. They are far above what the
// published policies need, and low enough that no policy and no evidence can
// stall a service: what exceeds one is refused, never cut.
const (
	maxSource     = 256 << 10 // bytes of policy text
	maxTokens     = 30_000    // words, signs and comments
	maxRules      = 1000      // in all sections together
	maxConditions = 32        // in one rule
	maxTests      = 16        // in one condition
	maxNesting    = 16        // of function calls
	maxLiteral    = 64 << 10  // bytes of one string literal

	maxClaims     = 4096      // incoming claims; and as many added ones
	maxClaimBytes = 4 << 20   // of one incoming value
	maxString     = 256 << 10 // bytes of a string made by AppendString
	maxAdded      = 16 << 20  // bytes of all values that one evaluation adds
	maxSteps      = 1 << 18   // claims compared and functions called in one evaluation

	maxQueryText = 64 << 10 // bytes of all different queries in a policy
)
