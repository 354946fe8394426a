module github.com/assay-project/assay/test/interop

go 1.26.0

require (
	github.com/canonical/go-tpm2 v1.16.2
	github.com/google/go-tpm v0.9.8
)

require (
	filippo.io/bigmod v0.1.0 // indirect
	filippo.io/mldsa v1.0.0 // indirect
	filippo.io/nistec v0.0.4 // indirect
	github.com/assay-project/assay v0.0.0 // indirect
	github.com/canonical/go-kbkdf v0.0.0-20250104172618-3b1308f9acf9 // indirect
	github.com/google/go-tpm-tools v0.4.7 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/assay-project/assay => ../..
	// The version that docs/tpm-conformance.md counts.
	github.com/google/go-tpm => github.com/google/go-tpm v0.9.7
	github.com/google/go-tpm-tools => ./go-tpm-tools
)
