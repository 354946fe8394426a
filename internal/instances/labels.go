package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

// Limits of who reads the definitions of all machines.
const (
	definedTime = 5 * time.Second
	definedOnce = 16
)

// Labels are those of one machine, or with an empty name of all. No supervisor is asked.
// Of a machine whose home cannot be read, or not soon, they are not known.
func (a *API) Labels(ctx context.Context, instance string) (map[string]map[string]string, error) {
	names := []string{instance}
	if instance == "" {
		var err error
		if names, err = a.cfg.Machines.Names(); err != nil {
			return nil, err
		}
		a.forgetBut(names)
	}
	out := map[string]map[string]string{}
	for i, d := range a.defined(ctx, names) {
		if d != nil && len(d.Labels) > 0 {
			out[names[i]] = d.Labels
		}
	}
	return out, ctx.Err()
}

// defined are the definitions of machines, nil for those that cannot be read. A home is
// opened again only when it has changed.
func (a *API) defined(ctx context.Context, names []string) []*machine.Defined {
	ctx, cancel := context.WithTimeout(ctx, definedTime)
	defer cancel()
	out := make([]*machine.Defined, len(names))
	slots := make(chan struct{}, definedOnce)
	var reading sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		reading.Go(func() {
			defer func() { <-slots }()
			out[i] = a.definition(ctx, name)
		})
	}
	reading.Wait()
	return out
}

// definition is that of one machine; nil where it cannot be read.
func (a *API) definition(ctx context.Context, name string) *machine.Defined {
	a.mu.Lock()
	known := a.known[name]
	a.mu.Unlock()
	d, err := a.cfg.Machines.Defined(ctx, name, known)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case errors.Is(err, machine.ErrUnknown):
		delete(a.known, name)
	case err == nil:
		a.known[name] = d
	}
	return d
}

// forgetBut forgets the machines that are there no more; names are sorted.
func (a *API) forgetBut(names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.known {
		if _, there := slices.BinarySearch(names, name); !there {
			delete(a.known, name)
		}
	}
}

// mayLabel refuses a change of labels by who may not set them, and one that gives its
// author anything: labels decide what may be done with a machine, by roles that are given
// on them.
func (a *API) mayLabel(ctx context.Context, name string, before, after map[string]string) error {
	if maps.Equal(before, after) {
		return nil
	}
	if err := a.server.Allow(ctx, access.SetLabels, name); err != nil {
		return err
	}
	if gained := apiserver.Caller(ctx).Gains(name, before, after); gained != "" {
		return apiserver.NewProblem(http.StatusForbidden, apiserver.CodeDenied, fmt.Sprintf("by these labels principal %q would get permission %q on instance %q: somebody else must set them", apiserver.Actor(ctx), gained, name))
	}
	return nil
}
