package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/instances"
	vm "github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vmcli"
)

// machineOptions say which machines a service has, if any.
type machineOptions struct {
	root        string
	disks       []string
	backups     string
	backupsEach int
	backupsGiB  int64
	accelerator string
	firmware    vm.Firmware
}

func (o *machineOptions) addFlags(f *pflag.FlagSet) {
	def := vm.DefaultFirmware()
	f.StringVar(&o.root, "machines", "", "`DIR` of assay vm (--root there) whose machines the API has, too (default none)")
	f.StringSliceVar(&o.disks, "machine-disks", nil, "`DIR` with disks that callers of the API may give to machines (repeatable; default none)")
	f.StringVar(&o.backups, "machine-backups", "", "`DIR` that backups of machines are written to and restored from by callers of the API (default none)")
	f.IntVar(&o.backupsEach, "machine-backups-each", 32, "`NUMBER` of backups of one machine in that folder, for which another is refused")
	f.Int64Var(&o.backupsGiB, "machine-backups-size", 0, "`GIB` that all files in that folder may have (default what its file system has room for)")
	f.StringVar(&o.accelerator, "machine-accelerator", "auto", "auto, kvm or tcg, as --accelerator of assay vm")
	f.StringVar(&o.firmware.Code, "machine-firmware", def.Code, "`FILE`, as --firmware of assay vm")
	f.StringVar(&o.firmware.SecureCode, "machine-firmware-secure", def.SecureCode, "`FILE`, as --firmware-secure of assay vm")
	f.StringVar(&o.firmware.Variables, "machine-firmware-variables", def.Variables, "`FILE`, as --firmware-variables of assay vm")
}

// servedMachines are the machines of a service; the zero one has none.
type servedMachines struct {
	host *vmcli.Host
	api  *instances.API
}

// operationsFolder, in the data folder, has the records of operations.
const operationsFolder = "operations"

// open opens the machines, when the command line names any. The data folder is this
// service's alone.
func (o *machineOptions) open(ctx context.Context, env *program.Env, data string, audit apiserver.AuditLog, log *slog.Logger) (_ *servedMachines, err error) {
	m := &servedMachines{}
	if o.root == "" {
		if len(o.disks) > 0 || o.backups != "" {
			return nil, errors.New("--machine-disks and --machine-backups are for --machines")
		}
		return m, nil
	}
	if _, err := os.Stat(o.root); err != nil {
		return nil, fmt.Errorf("--machines: %w", err)
	}
	if err := o.checkBackups(); err != nil {
		return nil, err
	}
	if m.host, err = vmcli.OpenHost(ctx, env, vmcli.HostOptions{Root: o.root, Accelerator: o.accelerator, Firmware: o.firmware}); err != nil {
		return nil, fmt.Errorf("--machines: %w", err)
	}
	images, err := m.host.Images()
	if err != nil {
		return nil, errors.Join(err, m.host.Close())
	}
	backups, err := m.host.Backups()
	if err != nil {
		return nil, errors.Join(err, m.host.Close())
	}
	m.api, err = instances.New(ctx, instances.Config{
		Machines: m.host.Machines, Findings: m.host.Findings, Images: images, Host: m.host, Audit: audit, Backups: backups, BackupDir: o.backups,
		BackupsOfOne: o.backupsEach, BackupBytes: o.backupsGiB << 30,
		Dir: filepath.Join(data, operationsFolder), Disks: o.disks, Now: env.Now, Rand: env.Rand, Log: log,
	})
	if err != nil {
		return nil, errors.Join(err, m.host.Close())
	}
	return m, nil
}

// checkBackups refuses a folder for backups that is none.
func (o *machineOptions) checkBackups() error {
	if o.backups == "" {
		return nil
	}
	if o.backupsEach < 1 || o.backupsGiB < 0 || o.backupsGiB > 1<<30 {
		return errors.New("--machine-backups-each is 1 at least, and --machine-backups-size from 0 to 2^30 GiB")
	}
	info, err := os.Stat(o.backups)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", o.backups)
	}
	if err != nil {
		return fmt.Errorf("--machine-backups: %w", err)
	}
	return nil
}

// count has the metrics of a service tell how its machines are, too.
func (m *servedMachines) count(to *prometheus.Registry) error {
	if m.host == nil {
		return nil
	}
	c, err := m.host.Metrics()
	if err != nil {
		return err
	}
	return to.Register(c)
}

// routes are what the API has of the machines.
func (m *servedMachines) routes() []apiserver.Routes {
	if m.api == nil {
		return nil
	}
	return []apiserver.Routes{m.api}
}

// Close ends operations under way. Machines that run go on.
func (m *servedMachines) Close() error {
	if m == nil || m.api == nil {
		return nil
	}
	return errors.Join(m.api.Close(), m.host.Close())
}
