package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range of freePorts: below the ports that Linux gives to outgoing connections, so
// that no client of a suite comes to have one while no server listens there.
const firstPort, endPort = 16384, 32768

// freePorts returns a port of which the next one is free, too.
func freePorts() (int, error) {
	for range 100 {
		port := firstPort + 2*rand.IntN((endPort-firstPort)/2)
		if free(port) && free(port+1) {
			return port, nil
		}
	}
	return 0, errors.New("no two ports in a row are free")
}

// free reports whether a port can be listened to, by this address and by all.
func free(port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
