// Command assay-agent collects evidence in a guest or on a host and answers
// challenges with it: those of a service, or of the host over a serial port.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/tpm2/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	args := os.Args[1:]
	if os.Getpid() == 1 && filepath.Base(os.Args[0]) == "init" {
		args = append([]string{"init"}, args...) // the kernel started it
	}
	status := agent.Main(ctx, agent.Process{
		Root: os.DirFS("/"), Open: os.Open, Stdout: os.Stdout, Stderr: os.Stderr, WriteFile: durable.WriteFile,
		Machine: agent.Machine{
			Random: rand.Reader, TPM: func(name string) (agent.Device, error) { return client.Open(name) },
			Serial: agent.OpenSerial, KernelLog: agent.KernelLog, Mount: agent.MountKernel, PowerOff: agent.PowerOff,
		},
	}, args)
	stop()
	os.Exit(status)
}
