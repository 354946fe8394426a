package instances

import (
	"context"
	"net/http"
	"sync"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

// How many logs and histories are asked for and read at once. Each may have some 100 MiB.
const (
	mostHeavy     = 4 // are read; one for one caller
	mostOfCaller  = 4 // are asked for by one caller, or are not written to him yet
	mostOfMachine = 2 // are asked for of one machine; one by one caller
)

// turns let so many in at once as there is room for. The zero value has nobody in.
type turns struct {
	mu    sync.Mutex     // guards all below
	held  map[string]int // by what is bounded
	freed chan struct{}  // closed when a turn ends; nil when nobody waits
}

// A bound is how many turns of one kind there are.
type bound struct {
	kind string
	most int
}

// enter waits until all bounds have room for one more, and holds none before. Leave ends the
// turn.
func (t *turns) enter(ctx context.Context, bounds ...bound) (leave func(), err error) {
	for {
		freed := t.try(bounds)
		if freed == nil {
			return func() { t.leave(bounds) }, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try takes a turn and returns nil, or returns what is closed when another ends.
func (t *turns) try(bounds []bound) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range bounds {
		if t.held[b.kind] < b.most {
			continue
		}
		if t.freed == nil {
			t.freed = make(chan struct{})
		}
		return t.freed
	}
	if t.held == nil {
		t.held = map[string]int{}
	}
	for _, b := range bounds {
		t.held[b.kind]++
	}
	return nil
}

func (t *turns) leave(bounds []bound) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range bounds {
		if t.held[b.kind]--; t.held[b.kind] == 0 {
			delete(t.held, b.kind)
		}
	}
	if t.freed != nil {
		close(t.freed)
		t.freed = nil
	}
}

// heavily waits for the turn to ask for a log or history, which a guest can make long, for
// no longer than the request may. With the context that it returns the turn to read it is
// waited for when it comes: a supervisor that is silent keeps only those waiting who ask
// for the same machine, and the caller himself. What he has not taken of answers yet keeps
// nobody else waiting either.
func (a *API) heavily(ctx context.Context, instance string) (_ context.Context, leave func(), err error) {
	busy := apiserver.NewProblem(http.StatusTooManyRequests, apiserver.CodeOverloaded, "too many logs and histories of machines are being read")
	who := "caller " + apiserver.Actor(ctx)
	on := "machine " + instance // without a space, so that no two pairs are one
	answered, err := a.answering.enter(ctx, bound{who, mostOfCaller})
	if err != nil {
		return nil, nil, busy
	}
	apiserver.AtEnd(ctx, answered)
	asked, err := a.asking.enter(ctx, bound{on, mostOfMachine}, bound{on + " " + who, 1})
	if err != nil {
		return nil, nil, busy
	}
	var read func()
	enter := func() error {
		if read != nil {
			return nil // one request may ask more than one question
		}
		turn, err := a.heavy.enter(ctx, bound{"", mostHeavy}, bound{who, 1})
		if err != nil {
			return busy
		}
		read = turn
		return nil
	}
	return machine.WithTurn(ctx, enter), func() {
		if read != nil {
			read()
		}
		asked()
	}, nil
}
