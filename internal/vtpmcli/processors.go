package vtpmcli

import (
	"strings"
	"sync"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
)

// settled is the command from which on a TPM has few processors. To give up the others
// costs a hundred pages of memory, which a TPM that only begins, as one that a guest
// migrates to, is spared.
const settled = 16

// few is how many processors a process uses that serves one TPM, whatever the machine has:
// one that a quick client may hold (frontend.Config.Alone), and one for all else.
const few = 2

// processors changes how many a process uses: few, and while a command looks for RSA
// primes all. A TPM does one thing at a time; the others would only help to collect
// garbage, of which there is little.
type processors struct {
	set func(n int) (before int)
	all int // at least few

	mu       sync.Mutex // guards what follows, and set
	used     int
	commands int // that came, until there are settled
	heavy    int // commands that run and look for primes
}

// fewProcessors changes the process as commands come. It sets at once how many it uses,
// also where that is so: Go changes the number with the machine's until somebody does, and
// a client may hold one. Where GOMAXPROCS in the environment says how many, or GODEBUG
// that nobody who holds one is interrupted, and for a process that others share, nil.
func fewProcessors(env *program.Env) *processors {
	if env.Processors == nil || env.Getenv("GOMAXPROCS") != "" || strings.Contains(env.Getenv("GODEBUG"), "asyncpreemptoff") {
		return nil
	}
	all := max(env.Processors(0), few)
	env.Processors(all)
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
		use = few
	}
	if use != p.used {
		p.set(use)
		p.used = use
	}
}
