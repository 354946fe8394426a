// Package programtest has what the tests of commands need: a process, and a place for
// its output.
package programtest

import (
	"bytes"
	"crypto/rand"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// Env is a process with an empty input and environment, and this machine's clock.
func Env(out, errs io.Writer) *program.Env {
	return &program.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: errs, Getenv: func(string) string { return "" }, Now: time.Now, Rand: rand.Reader}
}

// A Buffer takes output of several goroutines.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
