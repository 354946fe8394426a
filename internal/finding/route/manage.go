package route

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/finding"
)

// Add puts a route among those of a store. What is queued goes to it, and all from now.
func Add(ctx context.Context, s *finding.Store, r Route) error {
	if err := r.Check(); err != nil {
		return err
	}
	return change(ctx, s, func(routes []Route) ([]Route, error) {
		i, found := place(routes, r.Name)
		if found {
			return nil, fmt.Errorf("%q: %w", r.Name, ErrExists)
		}
		if len(routes) >= maxRoutes {
			return nil, fmt.Errorf("%d routes are the most: %w", maxRoutes, ErrRoute)
		}
		return slices.Insert(routes, i, r), nil
	})
}

// Remove takes a route away. What was not delivered by it yet is not delivered, and that
// it does not work is no finding any more.
func Remove(ctx context.Context, s *finding.Store, name string, at time.Time) error {
	err := change(ctx, s, func(routes []Route) ([]Route, error) {
		i, found := place(routes, name)
		if !found {
			return nil, fmt.Errorf("%q: %w", name, ErrNone)
		}
		if err := os.Remove(cursorFile(s, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return slices.Delete(routes, i, i+1), nil
	})
	if err != nil {
		return err
	}
	return s.Update(ctx, at, func(b *finding.Book) error {
		over := finding.Signal{Kind: finding.DeliveryFailed, Component: component(&Route{Name: name}), Ends: true}
		return b.Apply(at, over)
	})
}

func place(routes []Route, name string) (int, bool) {
	return slices.BinarySearchFunc(routes, name, func(r Route, name string) int { return strings.Compare(r.Name, name) })
}

// change writes the routes. The queue is there while there is a route.
func change(ctx context.Context, s *finding.Store, do func([]Route) ([]Route, error)) error {
	return s.Locked(ctx, func() error {
		routes, err := Load(s.Dir)
		if err != nil {
			return err
		}
		if routes, err = do(routes); err != nil {
			return err
		}
		for _, dir := range []string{deliveryDir(s), s.QueueDir()} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		if err := save(s.Dir, routes); err != nil || len(routes) > 0 {
			return err
		}
		return os.RemoveAll(s.QueueDir())
	})
}
