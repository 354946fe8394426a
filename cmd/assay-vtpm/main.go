// Command assay-vtpm runs virtual TPMs: the commands of assay vtpm, and the programs
// in whose place it stands, without the rest of assay.
package main

import (
	"crypto/rand"
	"os"
	"runtime"
	"time"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpmcli"
)

func main() {
	os.Exit(vtpmcli.Main(&program.Env{
		Program: os.Args[0], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Now: time.Now, Since: time.Since, Rand: rand.Reader, Processors: runtime.GOMAXPROCS,
	}, os.Args[1:]))
}
