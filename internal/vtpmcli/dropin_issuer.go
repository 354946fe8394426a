package vtpmcli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// issuer is who certifies the endorsement keys: the create_certs_tool of
// swtpm_setup.conf, so that a site's own authority stays in place, or the built-in
// authority, which is made at its first use.
func (o *setupOptions) issuer(env *program.Env) (ekca.Issuer, func(), error) {
	nothing := func() {}
	switch {
	case !o.ekCert && !o.platformCert:
		return ekca.None{}, nothing, nil
	case o.conf.tool != "":
		tool, err := exec.LookPath(o.conf.tool)
		if err != nil {
			return nil, nil, fmt.Errorf("create_certs_tool of swtpm_setup.conf: %w", err)
		}
		return &certsTool{env: env, o: o, path: tool}, nothing, nil
	}
	keys, err := openDropInKeys(env, nil, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("keys of the certificate authority: %w", err)
	}
	a, err := openDropInAuthority(env, keys)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("certificate authority: %w", err), keys.Close())
	}
	return a, func() { keys.Close() }, nil //nolint:errcheck // it only forgets
}

// openDropInAuthority opens who certifies for the root, as every other command does, or
// makes an authority under the key provider of the drop-in.
func openDropInAuthority(env *program.Env, keys *dropInKeys) (ekca.Issuer, error) {
	if keys.ephemeral() {
		return nil, fmt.Errorf("%s=%s keeps no keys", keyProviderEnv, ephemeralKeys)
	}
	root, err := dropInRoot(env)
	if err != nil {
		return nil, err
	}
	ctx, dir := context.Background(), filepath.Join(root, authorityDir)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return makeDropInAuthority(ctx, env, root, keys)
	}
	if program, err := ekca.ReadProgram(dir); program != nil || err != nil {
		return program, err
	}
	provider := func(ctx context.Context, spec string) (vtpm.Provider, error) { return openKeySpec(ctx, env, spec) }
	return (&rootIssuer{env: env, dir: dir, provider: provider}).authority(ctx)
}

func makeDropInAuthority(ctx context.Context, env *program.Env, root string, keys *dropInKeys) (*ekca.Authority, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this host"
	}
	cfg := ekca.AuthorityConfig{Provider: keys.provider, Random: env.Rand, Now: env.Now}
	return ekca.CreateAuthority(ctx, filepath.Join(root, authorityDir), ekca.AuthorityOptions{Name: host[:min(len(host), 40)], Provider: keys.name}, cfg)
}

// certsTool is the program that swtpm_setup.conf names, called as swtpm_setup 0.10.1
// calls it: once for each certificate, which it writes to a folder.
type certsTool struct {
	env  *program.Env
	o    *setupOptions
	path string
}

// Issue has the program certify each key.
func (c *certsTool) Issue(ctx context.Context, b *ekca.Batch) (*ekca.Certificates, error) {
	dir, err := os.MkdirTemp("", "swtpm_setup.certs.")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := &ekca.Certificates{Keys: make([][]byte, len(b.Keys))}
	for i, k := range b.Keys {
		ek, err := ekParameter(k)
		if err != nil {
			return nil, err
		}
		if c.o.ekCert {
			if out.Keys[i], err = c.call(ctx, dir, "ek", ek); err != nil {
				return nil, err
			}
		}
		if c.o.platformCert && i == 0 {
			if out.Platform, err = c.call(ctx, dir, "platform", ek); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// ekParameter is --ek: the modulus in hexadecimal, or a point and its curve.
func ekParameter(k ekca.BatchKey) (string, error) {
	key, err := k.Public.Key()
	if err != nil {
		return "", err
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("%x", key.N.Bytes()), nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return "", err
		}
		half := (len(point) - 1) / 2
		return fmt.Sprintf("x=%x,y=%x,id=%s", point[1:1+half], point[1+half:], swtpmKeyName(k.Kind)), nil
	}
	return "", fmt.Errorf("key %s: %T", k.Kind, key)
}

// maxCertificate bounds a certificate, in bytes.
const maxCertificate = 64 << 10

// call runs the program for one certificate.
func (c *certsTool) call(ctx context.Context, dir, kind, ek string) ([]byte, error) {
	args := []string{"--type", kind, "--ek", ek, "--dir", dir}
	if c.o.logfile != "" {
		args = append(args, "--logfile", c.o.logfile)
	}
	if c.o.vmid != "" {
		args = append(args, "--vmid", c.o.vmid)
	}
	args = append(args, "--tpm-spec-family", "2.0", "--tpm-spec-revision", "183", "--tpm-spec-level", "0",
		"--tpm-manufacturer", "id:58595A20", "--tpm-model", "assay", "--tpm-version", "id:20260001", "--tpm2")
	if c.o.conf.toolConfig != "" {
		args = append(args, "--configfile", c.o.conf.toolConfig)
	}
	if c.o.conf.toolOptions != "" {
		args = append(args, "--optsfile", c.o.conf.toolOptions)
	}
	cmd := exec.CommandContext(ctx, c.path, args...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(c.path), err, bytes.TrimSpace(said))
	}
	f, err := os.Open(filepath.Join(dir, kind+".cert"))
	if err != nil {
		return nil, fmt.Errorf("%s wrote no certificate: %w", filepath.Base(c.path), err)
	}
	defer f.Close()
	der, err := io.ReadAll(io.LimitReader(f, maxCertificate))
	return der, errors.Join(err, os.Remove(f.Name()))
}

// createDropInConfig is swtpm_setup --create-config-files: a key file, and the
// configuration of the drop-ins that names it. libvirt asks for that in its
// session mode.
func createDropInConfig(env *program.Env, words []string) error {
	if words[0] != "" {
		if err := knownWords("--create-config-files", words, "overwrite", "root", "skip-if-exist"); err != nil {
			return err
		}
	}
	has := func(word string) bool { return strings.Contains(","+strings.Join(words, ",")+",", ","+word+",") }
	if env.Getenv(keyProviderEnv) != "" && has("skip-if-exist") {
		return nil // there is a key provider
	}
	if os.Geteuid() == 0 && !has("root") {
		return errors.New("--create-config-files: for root only with \"root\"; /etc/assay/dropin.json serves the whole machine")
	}
	files := dropInConfigFiles(env)
	if len(files) < 2 {
		return errors.New("--create-config-files: neither XDG_CONFIG_HOME nor HOME is set")
	}
	name := files[0]
	if _, err := os.Lstat(name); err == nil && !has("overwrite") {
		if has("skip-if-exist") {
			return nil
		}
		return fmt.Errorf("%q is there already", name)
	}
	keys := filepath.Join(filepath.Dir(name), "vtpm.keys")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	// A key file that is there stays: TPMs may be sealed under it.
	spec, err := keyprovider.ParseSpec("local:" + strings.ReplaceAll(keys, " ", "%20"))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(keys); errors.Is(err, fs.ErrNotExist) {
		if _, err := keyprovider.Create(context.Background(), spec, keyprovider.Env{Random: env.Rand, Now: env.Now, Getenv: env.Getenv}); err != nil {
			return err
		}
		fmt.Fprintf(env.Stdout, "Writing %s.\n", keys)
	}
	if err := createSetupConfig(env); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "Writing %s.\n", name)
	return durable.WriteFile(name, fmt.Appendf(nil, "{\"keyProvider\": %q}\n", spec), 0o600)
}

// createSetupConfig writes the user's own swtpm_setup.conf, unless there is one: that
// of the machine may name an authority whose files are root's.
func createSetupConfig(env *program.Env) error {
	name := swtpmConfigFiles(env)[0]
	const text = "# Without create_certs_tool, assay's built-in authority certifies.\nactive_pcr_banks = sha256\n"
	err := durable.CreateFile(name, []byte(text), 0o644)
	if errors.Is(err, durable.ErrExists) {
		return nil
	}
	if err == nil {
		fmt.Fprintf(env.Stdout, "Writing %s.\n", name)
	}
	return err
}
