package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Migration is how a migration went (QMP, MigrationInfo).
type Migration struct {
	Status    string `json:"status"`
	TotalTime int    `json:"total-time"` // in milliseconds
	Downtime  int    `json:"downtime"`   // in milliseconds
}

// Migrate moves the guest of m to a machine that waits for it (Config.Incoming), and
// returns when that is done or has failed, which is no error. The destination is
// asked whether it has the guest before the source gives it up (return-path): without
// that, QEMU's source counts what it has sent as arrived.
func (m *Machine) Migrate(to *Machine) (*Migration, error) {
	capability := map[string]any{"capabilities": []any{map[string]any{"capability": "return-path", "state": true}}}
	for _, machine := range []*Machine{m, to} {
		if _, err := machine.Do("migrate-set-capabilities", capability); err != nil {
			return nil, err
		}
	}
	uri := map[string]string{"uri": "unix:" + filepath.Join(to.cfg.Dir, "m")}
	if _, err := to.Do("migrate-incoming", uri); err != nil {
		return nil, err
	}
	if _, err := m.Do("migrate", uri); err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Patience); time.Now().Before(end); <-tick.C {
		out, err := m.Do("query-migrate", nil)
		if err != nil {
			return nil, err
		}
		var s Migration
		if err := json.Unmarshal(out, &s); err != nil {
			return nil, err
		}
		switch s.Status {
		case "completed", "failed", "cancelled":
			return &s, nil
		}
	}
	return nil, errors.New("the migration does not end")
}

// Reach waits for a machine to be in a state, such as "running".
func (m *Machine) Reach(status string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	now := ""
	for end := time.Now().Add(Patience); time.Now().Before(end); <-tick.C {
		var err error
		if now, err = m.Status(); err != nil {
			return err
		}
		if now == status {
			return nil
		}
	}
	return fmt.Errorf("the machine is %s, not %s", now, status)
}
