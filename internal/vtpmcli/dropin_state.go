package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2/engine"
)

// A swtpmPlace is where a drop-in keeps a TPM. The names are swtpm's, since backup
// scripts and hooks look for them; what is in the files is not (docs/formats/nvram.md).
type swtpmPlace struct {
	permanent, volatile string
	lock                string // empty for none beside the state's own
}

const (
	swtpmPermanent = "tpm2-00.permall"
	swtpmVolatile  = "tpm2-00.volatilestate"
	swtpmLock      = ".lock"
)

// place is where --tpmstate, or else $TPM_PATH, says; nil when neither is there.
func (o *swtpmOptions) place(env *program.Env) (*swtpmPlace, error) {
	dir := env.Getenv("TPM_PATH")
	switch {
	case o.state.has("dir"):
		dir = o.state["dir"]
	case o.state.has("backend-uri"):
		return placeOfURI(o.state["backend-uri"])
	case o.state != nil:
		return nil, errors.New("--tpmstate: dir or backend-uri is missing")
	}
	if dir == "" {
		return nil, nil
	}
	return placeOfURI("dir://" + dir)
}

// placeOfURI reads a backend-uri. A file of swtpm holds both states; ours stand
// beside each other.
func placeOfURI(uri string) (*swtpmPlace, error) {
	if dir, ok := strings.CutPrefix(uri, "dir://"); ok && dir != "" {
		dir, err := filepath.Abs(dir)
		return &swtpmPlace{filepath.Join(dir, swtpmPermanent), filepath.Join(dir, swtpmVolatile), filepath.Join(dir, swtpmLock)}, err
	}
	file, ok := strings.CutPrefix(uri, "file://")
	if !ok || file == "" {
		return nil, fmt.Errorf("backend-uri %q is neither dir://DIR nor file://FILE", uri)
	}
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("backend-uri %q: no regular file; a block device is not served", uri)
	}
	file, err := filepath.Abs(file)
	return &swtpmPlace{permanent: file, volatile: file + ".volatilestate"}, err
}

// keys opens the key provider, if state is to be kept.
func (o *swtpmOptions) keys(env *program.Env) (*dropInKeys, error) {
	keys, err := openDropInKeys(env, o.key, o.migrationKey)
	if err == nil {
		keys.keepRenewed(env)
	}
	return keys, err
}

// A servedTPM is what a drop-in serves.
type servedTPM struct {
	machine *frontend.Machine
	profile func() *engine.Profile
	kept    bool
	close   func() error
}

// open makes or opens the TPM, and the machine around it.
func (o *swtpmOptions) open(ctx context.Context, env *program.Env, keys *dropInKeys) (*servedTPM, error) {
	place, err := o.place(env)
	if err != nil {
		return nil, err
	}
	profile, err := profileOfWords(o.profile)
	if err != nil {
		return nil, err
	}
	if keys.ephemeral() {
		return o.openEphemeral(env, place, profile)
	}
	if place == nil {
		return nil, errors.New("--tpmstate is missing: where is the TPM kept? " + keyProviderEnv + "=" + ephemeralKeys + " keeps none")
	}
	k := &keptTPM{env: env, place: place, keys: keys, profile: profile, noLock: o.state["lock"] == "" && o.state.given("lock"), takesOver: true, ledger: o.ledger.open()}
	cfg := frontend.MachineConfig{
		Load: k.load, StandIn: k.standIn, Stale: k.stale, Save: k.save, Restore: k.restore, Volatile: k,
		ExportBlob: k.exportBlob, ImportBlob: k.importBlob,
		NoShutdown: o.flags.has("disable-auto-shutdown"),
	}
	cfg.Lock = k.relock
	if o.migration.has("release-lock-outgoing") {
		cfg.Unlock = k.unlock
	}
	m := frontend.NewMachine(nil, cfg)
	return &servedTPM{m, k.profileNow, true, func() error { return errors.Join(m.Shutdown(), k.close()) }}, nil
}

// openEphemeral makes a TPM that is not kept, and says so. It never stands in for
// one that is.
func (o *swtpmOptions) openEphemeral(env *program.Env, place *swtpmPlace, profile *engine.Profile) (*servedTPM, error) {
	if place != nil {
		if _, err := os.Lstat(place.permanent); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%q holds a TPM, and %s=%s would put another in its place", place.permanent, keyProviderEnv, ephemeralKeys)
		}
		vtpmLog(env).Warn("the TPM ends with this process: " + keyProviderEnv + "=" + ephemeralKeys)
	}
	if profile == nil {
		var err error
		if profile, err = engine.FindProfile(dropInProfile(), 0); err != nil {
			return nil, err
		}
	}
	t, err := newTPM(env, profile)
	if err != nil {
		return nil, err
	}
	m := frontend.NewMachine(t, frontend.MachineConfig{Restore: restorer(env), NoShutdown: o.flags.has("disable-auto-shutdown")})
	return &servedTPM{m, func() *engine.Profile { return profile }, false, m.Shutdown}, nil
}

// openKeySpec opens the provider that a spec or a configured name says.
func openKeySpec(ctx context.Context, env *program.Env, spec string) (*keyprovider.Opened, error) {
	var set *keyprovider.Set
	if root, err := defaultVTPMRoot(env); err == nil { // else a name is not found
		if set, err = keyprovider.LoadSet(filepath.Join(root, keyprovider.SetFile)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
	}
	return keyprovider.OpenSpec(ctx, spec, providerEnv(env, set))
}
