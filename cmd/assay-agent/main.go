// Command assay-agent collects evidence in a guest or on a host and answers a
// service's challenge with it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/assay-project/assay/internal/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := agent.Main(ctx, agent.Process{
		Root: os.DirFS("/"), Open: os.Open, Stdout: os.Stdout, Stderr: os.Stderr, WriteFile: os.WriteFile,
	}, os.Args[1:])
	stop()
	os.Exit(status)
}
