// Package peers measures other verifiers and this one on the same evidence, in
// one run, so that a ratio means something.
//
// It is a module of its own: what it imports never reaches the product. The
// evidence is the recorded GCE COS-85 attestation that go-tpm-tools ships in
// its module; it is read from the module cache and not kept here.
package peers
