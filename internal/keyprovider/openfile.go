package keyprovider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"

	"github.com/assay-project/assay/internal/seal"
)

// A fileSpec is the spec of a key file: local:PATH, or local:?credential=NAME.
type fileSpec struct {
	path, credential string
	passphrase       secretRef
	tpm              tpmSpec
}

func parseFileSpec(s Spec) (fileSpec, error) {
	o := s.options()
	f := fileSpec{credential: o.text("credential"), passphrase: o.secret("passphrase")}
	f.tpm = o.tpm()
	if err := o.done(); err != nil {
		return f, err
	}
	var err error
	if f.path, err = url.PathUnescape(s.place); err != nil {
		return f, errors.New("path has a % that is not followed by two hexadecimal digits")
	}
	switch {
	case (f.path == "") == (f.credential == ""):
		return f, errors.New("want either a path or the option credential")
	case !f.tpm.isZero() && !f.passphrase.isZero():
		return f, errors.New("a key file is protected by a passphrase or by the TPM, not by both")
	case !f.tpm.isZero() && f.credential != "":
		return f, errors.New("a credential is protected by systemd (--with-key=tpm2), not by the option tpm")
	}
	return f, nil
}

// phrase reads the passphrase; the zero Secret when there is none.
func (f *fileSpec) phrase(env *Env) (seal.Secret, error) {
	if f.passphrase.isZero() {
		return seal.Secret{}, nil
	}
	return f.passphrase.read(env.getenv)
}

// lock returns what protects the key file. The caller destroys its secret.
func (f *fileSpec) lock(ctx context.Context, env *Env) (lock, error) {
	if f.tpm.isZero() {
		phrase, err := f.phrase(env)
		return lock{passphrase: phrase}, err
	}
	return lock{tpm: onHost(ctx, f.tpm, env)}, nil
}

// read opens the file.
func (f *fileSpec) read(ctx context.Context, env *Env) (*Local, error) {
	l, err := f.lock(ctx, env)
	if err != nil {
		return nil, err
	}
	defer l.passphrase.Destroy()
	path, err := f.where(env)
	if err != nil {
		return nil, err
	}
	forbidden := fs.FileMode(0o077)
	if f.credential != "" {
		forbidden = 0o037
	}
	return readLocked(path, forbidden, env.Random, l)
}

// where is the file's name.
func (f *fileSpec) where(env *Env) (string, error) {
	if f.credential == "" {
		return f.path, nil
	}
	return credentialFile(env.getenv("CREDENTIALS_DIRECTORY"), f.credential)
}

// A fileHolder is a key file, read once and after each change.
type fileHolder struct {
	spec Spec
	file fileSpec
	env  *Env

	mu     sync.RWMutex // guards what follows
	local  *Local       // nil once closed, and while the file is gone
	seen   fs.FileInfo  // of the file when it was read; nil when it could not be told
	closed bool
}

func openFile(ctx context.Context, s Spec, env *Env) (holder, error) {
	f, err := parseFileSpec(s)
	if err != nil {
		return nil, err
	}
	seen := f.stat(env)
	l, err := f.read(ctx, env)
	if err != nil {
		return nil, unavailableIfMissing(err)
	}
	return &fileHolder{spec: s, file: f, env: env, local: l, seen: seen}, nil
}

// stat looks at the file; nil when it cannot.
func (f *fileSpec) stat(env *Env) fs.FileInfo {
	info, err := f.look(env)
	if err != nil {
		return nil
	}
	return info
}

func (f *fileSpec) look(env *Env) (fs.FileInfo, error) {
	path, err := f.where(env)
	if err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// unavailableIfMissing tells a key file that is not there, as on a disk that is not
// mounted yet, from one that does not open.
func unavailableIfMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if errors.Is(err, ErrPassphrase) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

func createFile(ctx context.Context, s Spec, env *Env) error {
	f, err := parseFileSpec(s)
	if err != nil {
		return err
	}
	if f.credential != "" {
		return errors.New("a credential is made by systemd-creds, from a key file that is made without it")
	}
	l, err := f.lock(ctx, env)
	if err != nil {
		return err
	}
	defer l.passphrase.Destroy()
	return createLocked(f.path, env.Random, l)
}

var errClosed = errors.New("key provider is closed")

// use runs do with the keys, which are not destroyed meanwhile.
func (h *fileHolder) use(do func(*Local) error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.local == nil {
		return h.gone()
	}
	return do(h.local)
}

// gone says why there are no keys.
func (h *fileHolder) gone() error {
	if h.closed {
		return errClosed
	}
	return fmt.Errorf("%w: the key file was removed, or changed and does not open", ErrUnavailable)
}

func (h *fileHolder) Wrap(ctx context.Context, c seal.Context, key seal.Secret) (wrapped []byte, err error) {
	h.follow(ctx)
	err = h.use(func(l *Local) error { wrapped, err = l.Wrap(ctx, c, key); return err })
	return wrapped, err
}

func (h *fileHolder) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (key seal.Secret, err error) {
	h.follow(ctx)
	err = h.use(func(l *Local) error { key, err = l.Unwrap(ctx, c, wrapped); return err })
	if errors.Is(err, ErrUnknownKey) && h.reload(ctx) {
		// Another process has put a newer key into the file.
		err = h.use(func(l *Local) error { key, err = l.Unwrap(ctx, c, wrapped); return err })
	}
	return key, err
}

func (h *fileHolder) current(ctx context.Context) (id string, err error) {
	h.follow(ctx)
	err = h.use(func(l *Local) error { id = l.KeyIDs()[0]; return nil })
	return id, err
}

// follow has the keys be those that the file holds now, if that is wanted: of a file
// that was removed, or is another and does not open, none stay in memory.
func (h *fileHolder) follow(ctx context.Context) {
	if !h.env.FollowFiles {
		return
	}
	now, err := h.file.look(h.env)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed, err != nil && !errors.Is(err, fs.ErrNotExist): // not to be seen is not removed
	case err != nil:
		h.drop()
	case h.local == nil || !h.sameAs(now):
		h.drop()
		if next, err := h.file.read(ctx, h.env); err == nil {
			h.local, h.seen = next, now
		}
	}
}

// sameAs reports whether the file is still the one that was read. The caller has mu.
func (h *fileHolder) sameAs(now fs.FileInfo) bool {
	return h.seen != nil && now != nil && os.SameFile(h.seen, now) && h.seen.ModTime().Equal(now.ModTime())
}

// drop destroys the keys. The caller has mu.
func (h *fileHolder) drop() {
	if h.local != nil {
		h.local.Close()
		h.local = nil
	}
}

// rotate puts a new key at the head of the file.
func (h *fileHolder) rotate(ctx context.Context) (Spec, error) {
	if h.file.credential != "" {
		return Spec{}, errors.New("a systemd credential is read only: rotate the key file that it is made from, make it again, and restart")
	}
	l, err := h.file.lock(ctx, h.env)
	if err != nil {
		return Spec{}, err
	}
	defer l.passphrase.Destroy()
	if err := addKeyLocked(h.file.path, h.env.Random, l); err != nil {
		return Spec{}, err
	}
	h.reload(ctx)
	return h.spec, nil
}

// reload reads the file again when it is not the one that was read, and reports
// whether it did: opening a file has its price, and garbage must not make us pay it.
func (h *fileHolder) reload(ctx context.Context) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.file.stat(h.env)
	if h.local == nil || h.sameAs(now) {
		return false
	}
	next, err := h.file.read(ctx, h.env)
	if err != nil {
		return false
	}
	h.drop()
	h.local, h.seen = next, now
	return true
}

// Close destroys the keys.
func (h *fileHolder) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.drop()
	return nil
}
