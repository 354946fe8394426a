package vtpmcli

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// systemdPatience is how long a service manager may take to read.
const systemdPatience = 5 * time.Second

// notifySystemd tells the service manager, if there is one (sd_notify(3)).
func notifySystemd(env *program.Env, state string) error {
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

// systemdTeller tells the service manager what may be lost: a failure is logged.
func systemdTeller(env *program.Env) func(state string) {
	log := vtpmLog(env)
	return func(state string) {
		if err := notifySystemd(env, state); err != nil {
			log.Warn("service manager", slog.Any("error", err))
		}
	}
}

// watchdogShare is how often in its time the watchdog is answered (sd_watchdog_enabled(3)
// says twice): one answer may be lost.
const watchdogShare = 3

// watchdog ticks when the service manager wants to be told that this process works;
// nil if it does not want to.
func watchdog(env *program.Env) (beats <-chan time.Time, stop func()) {
	nothing := func() {}
	if pid := env.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nothing // it means another process
	}
	us, err := strconv.ParseInt(env.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us < watchdogShare || us > int64(24*time.Hour/time.Microsecond) {
		return nil, nothing
	}
	t := time.NewTicker(time.Duration(us) * time.Microsecond / watchdogShare)
	return t.C, t.Stop
}
