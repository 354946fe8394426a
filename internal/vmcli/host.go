package vmcli

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/instances"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpmcli"
)

// HostOptions say which host's machines a service has.
type HostOptions struct {
	Root        string // as --root of assay vm
	Accelerator string
	Firmware    machine.Firmware
}

// A Host is the machines of this host for a service that lives long.
type Host struct {
	Machines *machine.Root
	Findings *finding.Store

	flags *hostFlags
	close []func() error
}

// OpenHost opens the machines of this host; close what it returns.
func OpenHost(ctx context.Context, env *program.Env, o HostOptions) (_ *Host, err error) {
	f := &hostFlags{Host: vtpmcli.HostAt(o.Root), env: env, accelerator: o.Accelerator, firmware: o.Firmware, quiet: true}
	h := &Host{flags: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	forget, err := f.KeepTokens(ctx, env)
	if err != nil {
		return nil, err
	}
	h.close = append(h.close, forget)
	root, closing, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	h.close = append(h.close, closing)
	h.Machines = root
	h.Findings, err = f.Findings(env)
	return h, err
}

// Close gives back what the machines' folder needed. Machines that run go on.
func (h *Host) Close() error {
	var errs []error
	for i := len(h.close) - 1; i >= 0; i-- {
		errs = append(errs, h.close[i]())
	}
	return errors.Join(errs...)
}

// Create makes a machine, of an image where its definition names one.
func (h *Host) Create(ctx context.Context, actor, provider string, d *fleet.Definition) error {
	_, err := h.flags.create(ctx, h.Machines, actor, provider, d)
	return err
}

// Images are the images of the host.
func (h *Host) Images() (*gallery.Gallery, error) { return h.flags.gallery() }

// Boots says of a disk whether it boots under a key set: yes, no or unknown, and why not.
func (h *Host) Boots(ctx context.Context, file, format, keyset string) (boots, why string, err error) {
	return h.flags.ImageVerdict(ctx, h.flags.env, file, format, keyset)
}

// Backups write the machines of the host to files, and make machines of such files.
func (h *Host) Backups() (*vmbackup.Store, error) {
	return vmbackup.New(vmbackup.Config{Machines: h.Machines, Provider: h.flags.provider, Random: h.flags.env.Rand, Now: h.flags.env.Now})
}

// Start starts a machine as assay vm start does: its supervisor is a process of its own,
// which goes on when this one ends.
func (h *Host) Start(_ context.Context, actor, name string) error {
	dir, err := h.flags.MachinesDir(h.flags.env)
	if err != nil {
		return err
	}
	root, err := h.flags.Dir(h.flags.env)
	if err != nil {
		return err
	}
	fw := h.flags.firmware
	child, err := supervise(name, filepath.Join(dir, name, "run", "supervisor.log"), []string{
		"--root", root, "--accelerator", h.flags.runsBy, "--actor", actor,
		"--firmware", fw.Code, "--firmware-secure", fw.SecureCode, "--firmware-variables", fw.Variables,
	})
	if err != nil {
		start := &instances.StartError{Cause: err}
		var said *spawnError
		if errors.As(err, &said) {
			start.Words = said.told
		}
		return start
	}
	go child.Wait() //nolint:errcheck // a process that ended and that nobody waited for stays; how the machine ended is in its events
	return nil
}

// Metrics collects how the machines of the host are, as assay vm metrics does.
func (h *Host) Metrics() (prometheus.Collector, error) { return h.flags.collector(h.Machines) }

// Changed looks at the recommendations for a machine anew.
func (h *Host) Changed(ctx context.Context, name string) { h.flags.recommend(ctx, h.Machines, name) }

// Deleted ends the findings of a machine.
func (h *Host) Deleted(ctx context.Context, name string) { h.flags.forget(ctx, name) }
