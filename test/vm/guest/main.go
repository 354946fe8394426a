// Command guest is the first program of a test's guest: it has the kernel load a module
// without a signature, and goes on as the agent, which is beside it. What the kernel said
// stays in its log. It is the test's own tool. Read main.
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The files of the guest.
const (
	module = "/modules/test_unsigned.ko"
	agent  = "/assay-agent"
)

func main() {
	fmt.Println("guest: load of", module, "ended with", load(module))
	// Its name is that of an init, which the agent then is.
	err := unix.Exec(agent, append([]string{"/init"}, os.Args[1:]...), os.Environ())
	fmt.Println("guest: run", agent, err)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest:", err)
	}
}

// load is what insmod does.
func load(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	return unix.FinitModule(int(f.Fd()), "", 0)
}
