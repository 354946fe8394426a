// Command assay is trusted launch and attestation for machines you run yourself.
package main

import (
	"crypto/rand"
	"os"
	"runtime"
	"time"

	"github.com/assay-project/assay/internal/cli"
	"github.com/assay-project/assay/internal/program"
)

func main() {
	os.Exit(cli.Main(&program.Env{
		Program: os.Args[0], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Now: time.Now, Since: time.Since, Rand: rand.Reader, Processors: runtime.GOMAXPROCS,
	}, os.Args[1:]))
}
