package program

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// systemdPatience is how long a service manager may take to read.
const systemdPatience = 5 * time.Second

// NotifySystemd tells the service manager something, if there is one (sd_notify(3)).
func NotifySystemd(env *Env, state string) error {
	path := env.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(path, "@"); ok {
		path = "\x00" + rest // of the abstract name space
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(env.Now().Add(systemdPatience)); err != nil {
		return err
	}
	_, err = io.WriteString(c, state)
	return err
}
