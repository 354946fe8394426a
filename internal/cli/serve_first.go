package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
)

// What a first start makes in the data folder.
const (
	firstAdmin = "admin"
	tokenFile  = "admin-token"
	caFile     = "ca.pem"
	caKeyFile  = "ca.key.sealed"
)

// firstAdministrator makes the administrator of a service that has no principal,
// and returns the file with the API token, or "" when there was one already. The
// token goes into a file that the owner alone may read, never to a log or a
// terminal's memory. It is written first: a crash in between leaves a token that
// nobody honours, and the next start makes another.
func firstAdministrator(ctx context.Context, env *program.Env, w *wired, data string) (string, error) {
	have, err := w.Store.Principals(ctx)
	if err != nil {
		return "", err
	}
	name := filepath.Join(data, tokenFile)
	if len(have) > 0 {
		if _, err := os.Stat(name); err != nil {
			return "", nil //nolint:nilerr // the administrator has moved it, as is wise
		}
		return name, nil
	}
	token, hash, tail, err := access.NewToken(env.Rand)
	if err != nil {
		return "", err
	}
	if err := durable.WriteFile(name, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write API token: %w", err)
	}
	now := env.Now().UTC()
	p := access.Principal{Name: firstAdmin, Roles: []access.Role{access.Admin}, TokenHash: hash, TokenTail: tail, Added: now, AddedBy: "service"}
	err = w.Store.AddPrincipal(ctx, p, nil, audit.Entry{Time: now, Actor: "service", Action: "principal.add", Subject: p.Name, Outcome: "done"})
	if errors.Is(err, access.ErrExists) { // another service of this database was first
		return "", os.Remove(name)
	}
	return name, err
}

// firstPolicy makes a file the default policy of a service that has only the
// built-in one. Later starts leave what administrators set alone.
func (o *serveOptions) firstPolicy(ctx context.Context, s *attest.Service) error {
	if o.policyFile == "" {
		return nil
	}
	text, err := os.ReadFile(o.policyFile)
	if err != nil {
		return err
	}
	history, err := s.PolicyHistory(ctx, attest.DefaultPolicy)
	if err != nil || history[0].Version > 0 {
		return err
	}
	_, _, err = s.PutPolicy(ctx, "service", attest.PolicyChange{Name: attest.DefaultPolicy, Text: string(text), Comment: "from " + filepath.Base(o.policyFile)})
	if err != nil {
		return fmt.Errorf("%s: %w", o.policyFile, err)
	}
	return nil
}
