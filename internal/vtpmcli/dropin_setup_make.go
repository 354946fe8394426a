package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// manufacture makes the TPM. Its state is written last: that makes it.
func (o *setupOptions) manufacture(ctx context.Context, env *program.Env, k *keptTPM, issuer ekca.Issuer) error {
	id, err := state.NewID(env.Rand)
	if err != nil {
		return err
	}
	profile := k.profileNow()
	t, err := newTPM(env, profile)
	if err != nil {
		return err
	}
	t.PowerOn()
	if len(o.ekKinds) > 0 {
		if err := o.identity(ctx, env, t, id, issuer); err != nil {
			return err
		}
	}
	if err := o.finish(env, t, profile); err != nil {
		return err
	}
	if !o.overwrite {
		return k.keep(ctx, t, id, profile)
	}
	return k.replace(ctx, t, id, profile)
}

// replace keeps a new TPM in the place of the old one, which goes once the new one is
// there.
func (k *keptTPM) replace(ctx context.Context, t *engine.TPM, id state.ID, profile *engine.Profile) error {
	permanent, err := t.Permanent()
	if err != nil {
		return err
	}
	home, err := k.home()
	if err != nil {
		return err
	}
	k.setMade(profile)
	aside, err := home.Replace(ctx, id, permanent, newDropInRecord(profile))
	if err != nil {
		return err
	}
	for _, name := range []string{aside, k.place.volatile} {
		if name == "" {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// identity makes the endorsement keys, with the certificates that are asked for.
func (o *setupOptions) identity(ctx context.Context, env *program.Env, t *engine.TPM, id state.ID, issuer ekca.Issuer) error {
	options := ekca.Options{TPM: id.String(), CommonName: o.vmid, Keys: o.ekKinds, Random: env.Rand}
	if o.platformCert {
		options.Platform = o.conf.platform(o.vmid)
	}
	issued, err := ekca.Manufacture(ctx, client.InProcess(t, 0), issuer, options)
	if err != nil {
		return err
	}
	for _, key := range issued.Keys {
		fmt.Fprintf(env.Stdout, "  Created EK %s with handle %#x, certificate: %v.\n", key.Kind, uint32(key.Handle), key.Certificate != nil)
		if key.Certificate == nil || o.certDir == "" {
			continue
		}
		if err := durable.WriteFile(filepath.Join(o.certDir, "ek-"+swtpmKeyName(key.Kind)+".crt"), key.Certificate, 0o644); err != nil {
			return err
		}
	}
	t.PowerOn()
	return nil
}

// swtpmKeyName is what swtpm calls a kind of key.
func swtpmKeyName(k ekca.Kind) string {
	switch k {
	case ekca.P256:
		return "secp256r1"
	case ekca.P384:
		return "secp384r1"
	case ekca.P521:
		return "secp521r1"
	}
	return string(k)
}

// finish makes what is not part of the identity, and shuts the TPM down.
func (o *setupOptions) finish(env *program.Env, t *engine.TPM, p *engine.Profile) error {
	tpm := client.New(client.InProcess(t, 0), env.Rand)
	if err := tpm.Startup(tpm2.StartupClear); err != nil {
		return err
	}
	if o.createSPK {
		if err := makeSPK(tpm, o.ecc); err != nil {
			return fmt.Errorf("storage primary key: %w", err)
		}
		fmt.Fprintf(env.Stdout, "  Created storage primary key with handle %#x.\n", uint32(handleSPK))
	}
	if o.pcrs != nil {
		if err := allocate(tpm, p, o.pcrs); err != nil {
			return err
		}
		fmt.Fprintf(env.Stdout, "  Activated PCR banks %v.\n", bankNames(o.pcrs))
	}
	return tpm.Shutdown(tpm2.StartupClear)
}

// handleSPK is where the storage primary key stands (TCG TPM v2.0 Provisioning
// Guidance, 7.8).
const handleSPK tpm2.Handle = 0x81000001

// makeSPK makes the storage primary key of the standard template (Provisioning
// Guidance, 7.5.1: as that of the endorsement key, with user authorization and
// without a policy).
func makeSPK(tpm *client.TPM, ecc bool) error {
	kind := ekca.RSA2048
	if ecc {
		kind = ekca.P384
	}
	template, err := ekca.Template(kind)
	if err != nil {
		return err
	}
	template.AuthPolicy = nil
	template.Attributes = template.Attributes&^tpm2.AttrAdminWithPolicy | tpm2.AttrUserWithAuth | tpm2.AttrNoDA
	owner := client.Entity{Handle: tpm2.HandleOwner}
	key, err := tpm.Run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{owner}, In: &command.CreatePrimaryIn{InPublic: *template}, Out: new(command.CreatePrimaryOut)})
	if err != nil {
		return err
	}
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCEvictControl, Handles: []client.Entity{owner, {Handle: key}}, In: &command.EvictControlIn{PersistentHandle: handleSPK}}); err != nil {
		return err
	}
	return tpm.Flush(key)
}

// allocate activates banks of PCRs, and no others.
func allocate(tpm *client.TPM, p *engine.Profile, banks []tpm2.Alg) error {
	var want tpm2.PCRSelections
	for _, a := range p.Banks {
		s := tpm2.PCRSelection{Hash: a, Select: tpm2.PCRSelect{0, 0, 0}}
		for _, b := range banks {
			if a == b {
				s.Select = tpm2.PCRSelect{0xff, 0xff, 0xff}
			}
		}
		want = append(want, s)
	}
	for _, b := range banks {
		if !p.OffersAlg(b) {
			return fmt.Errorf("--pcr-banks: profile %q has no bank %s", p.Name, b.BankName())
		}
	}
	out := new(command.PCRAllocateOut)
	platform := client.Entity{Handle: tpm2.HandlePlatform}
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCPCRAllocate, Handles: []client.Entity{platform}, In: &command.PCRAllocateIn{PCRAllocation: want}, Out: out}); err != nil {
		return fmt.Errorf("activate PCR banks: %w", err)
	}
	if !out.AllocationSuccess {
		return fmt.Errorf("activate PCR banks %v: the TPM refuses", bankNames(banks))
	}
	return nil
}

func bankNames(banks []tpm2.Alg) string {
	names := make([]string, 0, len(banks))
	for _, b := range banks {
		names = append(names, b.BankName())
	}
	return strings.Join(names, ",")
}

// changeBanks is --reconfigure.
func (o *setupOptions) changeBanks(k *keptTPM) error {
	t, err := k.open(context.Background())
	if err != nil {
		return err
	}
	t.PowerOn()
	o.createSPK = false
	if err := o.finish(k.env, t, k.profileNow()); err != nil {
		return err
	}
	permanent, err := t.Permanent()
	if err != nil {
		return err
	}
	return k.file.SavePermanent(permanent)
}

// keep writes a TPM that was made.
func (k *keptTPM) keep(ctx context.Context, t *engine.TPM, id state.ID, profile *engine.Profile) error {
	permanent, err := t.Permanent()
	if err != nil {
		return err
	}
	home, err := k.home()
	if err != nil {
		return err
	}
	k.setMade(profile)
	k.file, err = home.Create(ctx, id, permanent, newDropInRecord(profile))
	return err
}

// A setupConfig is what of swtpm_setup.conf is followed.
type setupConfig struct {
	banks, rsaBits, profile string
	tool, toolConfig        string // create_certs_tool
	toolOptions             string
}

// readSetupConfig reads swtpm_setup.conf: the file that is named, or swtpm's usual
// ones. None is there is no error unless it was named.
func readSetupConfig(env *program.Env, name string) (c setupConfig, err error) {
	names := []string{name}
	if name == "" {
		names = swtpmConfigFiles(env)
	}
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err == nil {
			return parseSetupConfig(env, string(text)), nil
		}
		if name != "" || !os.IsNotExist(err) && !os.IsPermission(err) {
			return c, fmt.Errorf("--config: %w", err)
		}
	}
	return c, nil
}

// swtpmConfigFiles are where the configuration of swtpm_setup may be.
func swtpmConfigFiles(env *program.Env) []string { return configFilesOf(env, "swtpm_setup.conf") }

// configFilesOf are where a configuration of swtpm may be, the user's own first.
func configFilesOf(env *program.Env, name string) []string {
	var files []string
	if dir := env.Getenv("XDG_CONFIG_HOME"); dir != "" {
		files = append(files, filepath.Join(dir, name))
	} else if dir := env.Getenv("HOME"); dir != "" {
		files = append(files, filepath.Join(dir, ".config", name))
	}
	return append(files, filepath.Join("/etc", name))
}

// configLines gives the lines of the form name = value; ${NAME} in a value is of
// the environment.
func configLines(env *program.Env, text string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range strings.Lines(text) {
			name, value, ok := strings.Cut(line, "=")
			if !ok || strings.HasPrefix(strings.TrimSpace(line), "#") {
				continue
			}
			if !yield(strings.TrimSpace(name), os.Expand(strings.TrimSpace(value), env.Getenv)) {
				return
			}
		}
	}
}

// parseSetupConfig reads a configuration. What is not known in it is for swtpm.
func parseSetupConfig(env *program.Env, text string) setupConfig {
	var c setupConfig
	for name, value := range configLines(env, text) {
		switch name {
		case "active_pcr_banks":
			c.banks = value
		case "rsa_keysize":
			c.rsaBits = value
		case "profile":
			c.profile = value
		case "create_certs_tool":
			c.tool = value
		case "create_certs_tool_config":
			c.toolConfig = value
		case "create_certs_tool_options":
			c.toolOptions = value
		}
	}
	return c
}

// platform describes the VM. vmid is NAME or, as libvirt has it, NAME:UUID.
func (c *setupConfig) platform(vmid string) *ekca.Platform {
	p := &ekca.Platform{Manufacturer: "QEMU", Model: "virtual machine", Version: "1"}
	if i := strings.LastIndexByte(vmid, ':'); i >= 0 {
		if _, err := state.ParseID(vmid[i+1:]); err == nil {
			p.Serial = vmid[i+1:]
		}
	}
	return p
}
