package vtpmcli

import (
	"sync"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
)

// settled is the command from which on a TPM has one processor. To give up the others
// costs a hundred pages of memory, which a TPM that only begins, as one that a guest
// migrates to, is spared.
const settled = 16

// processors is how many processors a process uses that serves one TPM: one, and while
// a command looks for RSA primes all, so that the control channel is heard.
//
// A TPM does one thing at a time. Where a second processor idles, a thread of its own
// listens to the poller, and wakes with each command that another one serves
// (frontend.Config.Alone).
type processors struct {
	set func(n int) (before int)
	all int

	mu       sync.Mutex // guards what follows, and set
	used     int
	commands int // that came, until there are settled
	heavy    int // commands that run and look for primes
}

// fewProcessors changes the process as commands come, unless GOMAXPROCS in its
// environment says how many it uses: then, and for a process that others share, nil.
func fewProcessors(env *program.Env) *processors {
	if env.Processors == nil || env.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	all := env.Processors(0)
	return &processors{set: env.Processors, all: all, used: all}
}

// before is told of each command (frontend.Config.Before).
func (p *processors) before(request []byte) (after func()) {
	if p == nil {
		return nil
	}
	heavy := 0
	if vtpm.IsHeavy(request) {
		heavy = 1
		after = func() { p.note(0, -1) }
	}
	p.note(1, heavy)
	return after
}

func (p *processors) note(commands, heavy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands = min(p.commands+commands, settled)
	p.heavy += heavy
	use := p.all
	if p.commands == settled && p.heavy == 0 {
		use = 1
	}
	if use != p.used {
		p.set(use)
		p.used = use
	}
}
