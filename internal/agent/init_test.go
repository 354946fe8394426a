package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/internal/channel"
)

// A lockedLog is what a machine did, in order.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) did(what string) { _, _ = io.WriteString(l, what+"\n") }

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// inOrder reports whether the parts stand in s one after the other.
func inOrder(s string, parts ...string) bool {
	for _, p := range parts {
		_, rest, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = rest
	}
	return true
}

func TestAnInitServesItsHostAndPowersOff(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args   []string
		mount  error
		serial error
		want   []string
		status int
	}{
		"until the host says so": {nil, nil, nil, []string{"mounted", "serving the host on /dev/ttyS1", "opened /dev/ttyS1", "powering off", "off"}, 0},
		"with words that are the kernel's": {
			[]string{"splash", "--", "quiet=1"}, nil, nil, []string{"mounted", "opened /dev/ttyS1", "off"}, 0,
		},
		"on another port":  {[]string{"--serial", "/dev/ttyS2"}, nil, nil, []string{"opened /dev/ttyS2", "off"}, 0},
		"without mounts":   {nil, errors.New("no proc"), nil, []string{"no proc", "off"}, 2},
		"without its port": {nil, nil, errors.New("no port"), []string{"mounted", "no port", "off"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := agenttest.NewGuest(t, "good-uki")
			log := new(lockedLog)
			guest, host := agenttest.Port()
			p := agent.Process{Root: g.Root, Open: os.Open, Stdout: log, Stderr: log, Machine: agent.Machine{
				Random: rand.Reader, TPM: func(string) (agent.Device, error) { return g.Device(), nil },
				Serial: func(name string) (io.ReadWriteCloser, error) {
					log.did("opened " + name)
					return guest, tc.serial
				},
				Mount:    func() error { log.did("mounted"); return tc.mount },
				PowerOff: func() error { log.did("off"); return nil },
			}}
			go func() {
				conn := channel.NewHost(host)
				if r, err := conn.Next(); err != nil || r.Message == nil {
					return
				}
				if err := conn.Write(&channel.Enrol{Head: id(1)}); err != nil {
					t.Error(err)
				}
				if r, err := conn.Next(); err != nil || r.Err != nil {
					t.Errorf("Next = %+v, %v", r, err)
				}
				_ = conn.Write(&channel.PowerOff{Head: id(2)})
			}()
			status := agent.Main(context.Background(), p, slices.Concat([]string{"init"}, tc.args))
			host.Close()
			if status != tc.status || !inOrder(log.String(), tc.want...) {
				t.Errorf("status %d, want %d; it did\n%s", status, tc.status, log)
			}
		})
	}
}
