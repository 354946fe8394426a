package vtpmcli

import (
	"sync"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
)

// processors is how many processors a process uses that serves one TPM: one, and while
// a command looks for RSA primes all, so that the control channel is heard.
//
// A TPM does one thing at a time. Where a second processor idles, Go's monitor thread
// wakes every 20 us for some ms of each wait for a command, to see whether that processor
// could use the first: a third of what a TPM costs in a boot.
type processors struct {
	set func(n int) (before int)
	all int

	mu    sync.Mutex // guards what follows, and set
	heavy int        // commands that run
}

// useOneProcessor changes the process, unless GOMAXPROCS in its environment says how
// many it uses: then, and for a process that others share, nil.
func useOneProcessor(env *program.Env) *processors {
	if env.Processors == nil || env.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	return &processors{set: env.Processors, all: env.Processors(1)}
}

// before is told of each command (frontend.Config.Before).
func (p *processors) before(request []byte) (after func()) {
	if p == nil || !vtpm.IsHeavy(request) {
		return nil
	}
	p.change(1)
	return func() { p.change(-1) }
}

func (p *processors) change(by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.heavy
	p.heavy += by
	switch {
	case before == 0:
		p.set(p.all)
	case p.heavy == 0:
		p.set(1)
	}
}
