package vtpmcli

import (
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// systemdTeller tells the service manager what may be lost: a failure is logged.
func systemdTeller(env *program.Env) func(state string) {
	log := vtpmLog(env)
	return func(state string) {
		if err := program.NotifySystemd(env, state); err != nil {
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
