package policy

import (
	"embed"
	"path"
	"strings"
)

//go:embed library/*.policy
var libraryFiles embed.FS

// DefaultTPM is the name of the [LibraryPolicy] that appraises TPM evidence when
// the operator has set none.
const DefaultTPM = "tpm-default"

// A LibraryPolicy is one that comes with this package; its comment says what it
// asks. Each has a table of cases beside it.
type LibraryPolicy struct {
	Name string
	Text string
}

// Library lists the policies that come with this package, sorted by name.
func Library() ([]LibraryPolicy, error) {
	files, err := libraryFiles.ReadDir("library")
	if err != nil {
		return nil, err
	}
	var out []LibraryPolicy
	for _, f := range files {
		text, err := libraryFiles.ReadFile(path.Join("library", f.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, LibraryPolicy{strings.TrimSuffix(f.Name(), ".policy"), string(text)})
	}
	return out, nil
}
