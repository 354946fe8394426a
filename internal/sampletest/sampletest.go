// Package sampletest reads the archives of recorded samples that tests keep in
// their testdata. Start with [Files].
package sampletest

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
)

// Files returns a function that reads the zip archive of that name, once, into a
// map from file names to contents. The contents must not be changed.
func Files(name string) func() (map[string][]byte, error) {
	return sync.OnceValues(func() (map[string][]byte, error) {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return Unpack(b)
	})
}

// Unpack returns the files of a zip archive by name.
func Unpack(archive []byte) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		out[f.Name], err = io.ReadAll(r)
		if closed := r.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return out, nil
}
