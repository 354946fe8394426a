package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// startDemo runs the service on a free loopback port. With keep, its data stays
// in that folder, which must not exist; otherwise it goes when the demo ends.
func startDemo(ctx context.Context, env *program.Env, keep string) (_ *demo, err error) {
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

// serve runs the same service as assay serve, but for its challenges.
func (d *demo) serve(ctx context.Context, open *closers) error {
	url, err := runService(ctx, d.env, wiring{Data: d.where, Challenges: d.challenges}, open)
	if err != nil {
		return err
	}
	return d.connect(url, open)
}

// runService runs a service on a free port of loopback until open closes.
func runService(ctx context.Context, env *program.Env, w wiring, open *closers) (url string, err error) {
	ctx, stop := context.WithCancel(ctx)
	quiet := *env
	quiet.Stdout, quiet.Stderr = io.Discard, io.Discard
	ready, done := make(chan string, 1), make(chan error, 1)
	o := &serveOptions{
		wiring: w, listen: "127.0.0.1:0", tlsMode: tlsOff,
		logFormat: "text", logLevel: "error", ready: func(url string) { ready <- url },
	}
	go func() { done <- serve(ctx, &quiet, o) }()
	open.add(func() error { stop(); return <-done })
	select {
	case url := <-ready:
		return url, nil
	case err := <-done:
		done <- nil // for the closer
		return "", err
	}
}

func (d *demo) connect(url string, open *closers) error {
	text, err := os.ReadFile(filepath.Join(d.where, tokenFile))
	if err != nil {
		return err
	}
	transport := &http.Transport{}
	open.add(func() error { transport.CloseIdleConnections(); return nil })
	d.client = newRemote(url, strings.TrimSpace(string(text)), &http.Client{Transport: transport, Timeout: remoteTimeout})
	return nil
}
