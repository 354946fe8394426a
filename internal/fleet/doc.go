// Package fleet defines the virtual machines of a host or of many: what a machine
// is, which of the three options of a trusted machine it has, what a change of them
// means, and which combinations are supported.
//
// It is pure so far: a [Definition] is checked against a [Matrix] before anything is
// made, and [Effects] says what a change would do before it is done. It starts no
// machine. Start with [Definition.Check] and [Matrix.Judge].
//
// The options are those of Google's Shielded VMs and of Azure's Trusted Launch;
// where both have a word, Compute Engine's is used.
package fleet
