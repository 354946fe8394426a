package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/httpapi"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
)

// startDemo runs the service on a free loopback port. With keep, its data stays
// in that folder, which must not exist; otherwise it goes when the demo ends.
func startDemo(ctx context.Context, env *Env, keep string) (_ *demo, err error) {
	d := &demo{env: env, where: keep, kept: keep != ""}
	if d.where, err = demoFolder(keep); err != nil {
		return nil, err
	}
	var open closers
	if !d.kept {
		open.add(func() error { return os.RemoveAll(d.where) })
	}
	d.close = open.close
	defer func() {
		if err != nil {
			err = errors.Join(err, open.close())
		}
	}()
	nonce, err := demoFiles.ReadFile(demoNonce)
	if err != nil {
		return nil, err
	}
	d.challenges = &recordedChallenges{nonce: nonce, rand: env.Rand, until: env.Now().Add(time.Hour)}
	if err := d.export(); err != nil {
		return nil, err
	}
	return d, d.serve(ctx, &open)
}

func demoFolder(keep string) (string, error) {
	if keep == "" {
		return os.MkdirTemp("", "assay-demo-")
	}
	if err := os.MkdirAll(filepath.Dir(keep), 0o755); err != nil {
		return "", err
	}
	return keep, os.Mkdir(keep, 0o700)
}

// closers end what was opened, last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for i := len(*c) - 1; i >= 0; i-- {
		errs = append(errs, (*c)[i]())
	}
	*c = nil
	return errors.Join(errs...)
}

// export writes the evidence as files for the other commands to read.
func (d *demo) export() error {
	dir := filepath.Join(d.where, "evidence")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return fs.WalkDir(demoFiles, ".", func(name string, e fs.DirEntry, err error) error {
		base, found := strings.CutSuffix(filepath.Base(name), ".json")
		if err != nil || !found {
			return err
		}
		b, err := demoBundle(base + ".json")
		if err != nil {
			return err
		}
		for ext, content := range map[string][]byte{".json": b.raw, ".log": b.EventLog, ".ak": b.AKPublic} {
			if err := os.WriteFile(filepath.Join(dir, base+ext), content, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *demo) serve(ctx context.Context, open *closers) error {
	db, err := sqlite.Open(ctx, d.where, store.Config{})
	if err != nil {
		return err
	}
	open.add(db.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String()
	handler, err := d.handler(ctx, db, url)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := httpapi.NewServer(handler, httpapi.Timeouts{}, nil, nil)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	transport := &http.Transport{}
	d.client.http = &http.Client{Transport: transport, Timeout: time.Minute}
	open.add(func() error {
		transport.CloseIdleConnections()
		err := server.Shutdown(context.WithoutCancel(ctx))
		if stopped := <-done; !errors.Is(stopped, http.ErrServerClosed) {
			err = errors.Join(err, stopped)
		}
		return err
	})
	return nil
}

func (d *demo) handler(ctx context.Context, db *store.Store, url string) (http.Handler, error) {
	keyFile := filepath.Join(d.where, "kek")
	if err := keyprovider.CreateFile(keyFile, d.env.Rand, seal.Secret{}); err != nil {
		return nil, err
	}
	provider, err := keyprovider.ReadFile(keyFile, d.env.Rand, seal.Secret{})
	if err != nil {
		return nil, err
	}
	keys, err := attest.NewKeys(attest.KeysConfig{Issuer: url, Provider: provider, Now: d.env.Now, Rand: d.env.Rand})
	if err != nil {
		return nil, err
	}
	service, err := attest.New(ctx, attest.Config{
		Store: db, Kinds: []attest.Kind{attest.TPM{}}, Keys: keys, Challenges: d.challenges, Now: d.env.Now, Rand: d.env.Rand,
	})
	if err != nil {
		return nil, err
	}
	if err := service.MaintainKeys(ctx); err != nil {
		return nil, err
	}
	apiToken, hash, tail, err := access.NewToken(d.env.Rand)
	if err != nil {
		return nil, err
	}
	operator := access.Principal{Name: "operator", Roles: []access.Role{access.Admin}, TokenHash: hash, TokenTail: tail, Added: d.env.Now(), AddedBy: "demo"}
	if err := db.AddPrincipal(ctx, operator, audit.Entry{Time: d.env.Now(), Actor: "demo", Action: "principal.add", Subject: operator.Name, Outcome: "done"}); err != nil {
		return nil, err
	}
	d.client = &apiClient{url: url, token: apiToken}
	return httpapi.New(httpapi.Config{Service: service, Principals: db, Audit: db, Now: d.env.Now, Rand: d.env.Rand})
}

// An apiClient calls the HTTP API of one service.
type apiClient struct {
	url   string
	token string
	http  *http.Client
}

// maxAPIAnswer bounds what is read of an answer.
const maxAPIAnswer = 16 << 20

// call sends in as JSON and reads the answer into out, unless it is nil.
func (c *apiClient) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAPIAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
