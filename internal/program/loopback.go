package program

import (
	"fmt"
	"net"
	"net/url"
	"strings"
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

// ServiceURL reads the URL of a service, which needs TLS unless it is on this machine.
func ServiceURL(flag, text string) (string, error) {
	text = strings.TrimRight(text, "/")
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%s: %q is not a URL of a service", flag, text)
	}
	if u.Scheme == "https" {
		return text, nil
	}
	addr := u.Host
	if u.Port() == "" {
		addr += ":80"
	}
	return text, MustBeLoopback(flag+" over http", addr)
}
