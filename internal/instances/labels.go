package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

// Labels are those of one machine, or with an empty name of all. Of a machine whose home
// cannot be read they are not known.
func (a *API) Labels(ctx context.Context, instance string) (map[string]map[string]string, error) {
	names := []string{instance}
	if instance == "" {
		var err error
		if names, err = a.cfg.Machines.Names(); err != nil {
			return nil, err
		}
	}
	out := map[string]map[string]string{}
	for _, name := range names {
		o, err := a.observe(ctx, name)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil && o.Unread == nil && len(o.Labels) > 0:
			out[name] = o.Labels
		}
	}
	return out, nil
}

// observe looks at a machine, whose home is opened again only when it has changed.
func (a *API) observe(ctx context.Context, name string) (*machine.Observation, error) {
	a.mu.Lock()
	known := a.seen[name]
	a.mu.Unlock()
	o, err := a.cfg.Machines.Observe(ctx, name, known)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil && a.seen == nil:
		a.seen = map[string]*machine.Observation{name: o}
	case err == nil:
		a.seen[name] = o
	case errors.Is(err, machine.ErrUnknown):
		delete(a.seen, name)
	}
	return o, err
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
