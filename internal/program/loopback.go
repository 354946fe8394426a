package program

import (
	"fmt"
	"net"
)

// MustBeLoopback refuses an address that others on the network reach.
func MustBeLoopback(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: %q is not a loopback address: others on the network could read and change what is sent", flag, host)
	}
	return nil
}
