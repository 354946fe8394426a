package sipa

// What the tests of package sipa_test, which may import eventlog, use of these.
var (
	WindowsSamples = windowsSamples
	Tagged         = tagged
)
