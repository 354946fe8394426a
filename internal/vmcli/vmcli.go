// Package vmcli has the commands of virtual machines: assay vm, assay support-matrix and
// assay component.
// They read command lines and print; what a machine is and does is of packages fleet and
// machine. Start with [NewVMCmd].
package vmcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpmcli"
	"github.com/assay-project/assay/uefi/keyset"
)

// NewVMCmd is "vm".
func NewVMCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Virtual machines with secure boot, a TPM, and a boot that is watched",
		Long: `Create and run virtual machines on this host's QEMU. Three options, each on its own:

  --secure-boot            the firmware starts only what the key set allows
  --vtpm                   the machine has a TPM 2.0, which no guest of another reaches
  --integrity-monitoring   each boot is compared with the machine's baseline, from the
                           host alone: nothing is installed in the guest

docs/guide/trusted-vms.md is the guide.`,
	}
	cmd.AddCommand(
		newCreateCmd(env), newListCmd(env), newDescribeCmd(env), newUpdateCmd(env), newDeleteCmd(env),
		newStartCmd(env), newRunCmd(env), newStopCmd(env), newResetCmd(env), newConsoleCmd(env), newClearCmd(env), newSnapshotCmd(env), newMigrateCmd(env), newReceiveCmd(env),
		newCheckCmd(env), newVariablesCmd(env), newEventsCmd(env), newBootsCmd(env), newDiffCmd(env), newWhyCmd(env), newBaselineCmd(env), newProfilesCmd(env),
		newMetricsCmd(env),
		newVMBackupCmd(env), newVMRestoreCmd(env), newPlaceCmd(env), NewImportCmd(env), newConvertCmd(env),
	)
	return cmd
}

// hostFlags say which host's machines a command is about.
type hostFlags struct {
	*vtpmcli.Host
	env         *program.Env
	accelerator string // as the flag has it
	runsBy      string // the accelerator of this host, once open
	// provider opens a key provider, once open.
	provider func(ctx context.Context, spec string) (vtpm.Provider, error)
	recorder *finding.Recorder
	firmware machine.Firmware
	quiet    bool                               // print no events
	issuer   func(machine string) health.Issuer // of tokens; nil for none
}

func addHostFlags(env *program.Env, cmd *cobra.Command) *hostFlags {
	h := &hostFlags{Host: vtpmcli.AddHostFlag(cmd), env: env}
	f := cmd.Flags()
	f.StringVar(&h.accelerator, "accelerator", "auto", "`auto`, kvm or tcg: auto tries whether KVM runs this firmware here")
	def := machine.DefaultFirmware()
	f.StringVar(&h.firmware.Code, "firmware", def.Code, "`FILE` with OVMF for machines without secure boot")
	f.StringVar(&h.firmware.SecureCode, "firmware-secure", def.SecureCode, "`FILE` with OVMF for machines with it")
	f.StringVar(&h.firmware.Variables, "firmware-variables", def.Variables, "`FILE` with OVMF's template of variables, without keys")
	return h
}

// open opens the machines of the host; close what it returns.
func (h *hostFlags) open(ctx context.Context) (_ *machine.Root, closing func() error, err error) {
	tpms, err := h.VTPM(h.env)
	if err != nil {
		return nil, nil, err
	}
	dir, err := h.MachinesDir(h.env)
	if err != nil {
		return nil, nil, err
	}
	matrix, err := h.matrix()
	if err != nil {
		return nil, nil, err
	}
	place, err := h.place()
	if err != nil {
		return nil, nil, err
	}
	tpms.Event = nil // they are in the trail of the TPMs; this command prints its own
	root, err := vtpm.OpenRoot(ctx, tpms)
	if err != nil {
		return nil, nil, err
	}
	accelerator, err := h.accelerate(ctx, dir)
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	h.runsBy, h.provider = accelerator, tpms.Provider
	stop, err := h.record()
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	r, err := machine.OpenRoot(machine.Config{
		Dir: dir, TPMs: root, Provider: tpms.Provider, DefaultProvider: tpms.DefaultProvider,
		Keyset: func(name string) (*keyset.Set, error) { return h.Keyset(ctx, h.env, name) },
		Matrix: matrix, Place: place, Firmware: h.firmware, Accelerator: accelerator,
		Random: h.env.Rand, Now: h.env.Now, Log: slog.New(slog.NewTextHandler(h.env.Stderr, nil)),
		Event: h.told, Heard: h.heard, Booted: h.booted, Issuer: h.issuer, Components: h.components(),
		Findings: carried{h},
	})
	if err != nil {
		stop()
		return nil, nil, errors.Join(err, root.Close())
	}
	h.endGone(ctx, r)
	return r, func() error {
		stop()
		return root.Close()
	}, nil
}

// told writes an event of a machine as one line of JSON, for the journal of the host
// unless that is not wanted, and has it begin and end findings.
func (h *hostFlags) told(n integrity.Notice) {
	if text, err := json.Marshal(n); err == nil && !h.quiet {
		fmt.Fprintf(h.env.Stderr, "%s\n", program.PrintableJSON(text))
	}
	h.find(&n)
}

// matrixFile, in the root, replaces the support matrix that comes with the program.
const matrixFile = "support-matrix.json"

func (h *hostFlags) matrix() (*fleet.Matrix, error) {
	dir, err := h.Dir(h.env)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, matrixFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fleet.DefaultMatrix()
	}
	if err != nil {
		return nil, err
	}
	m, err := fleet.ParseMatrix(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", matrixFile, err)
	}
	return m, nil
}

// probeFile keeps what was found out about KVM: trying takes two seconds.
const probeFile = "kvm.json"

// A probed is that, and for which boot of the host and firmware it holds.
type probed struct {
	Host     string     `json:"hostBoot"`
	Firmware string     `json:"firmware"`
	Probe    qemu.Probe `json:"probe"`
}

// accelerate returns how machines run here.
func (h *hostFlags) accelerate(ctx context.Context, dir string) (string, error) {
	switch h.accelerator {
	case qemu.KVM, qemu.TCG:
		return h.accelerator, nil
	case "auto":
	default:
		return "", fmt.Errorf("--accelerator %q is none of auto, kvm, tcg", h.accelerator)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return qemu.TCG, nil //nolint:nilerr // no Linux: no KVM
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return qemu.TCG, nil //nolint:nilerr // there is none
	}
	now := probed{Host: string(boot), Firmware: h.firmware.SecureCode}
	name := filepath.Join(dir, probeFile)
	var known probed
	if text, err := os.ReadFile(name); err == nil && json.Unmarshal(text, &known) == nil && known.Host == now.Host && known.Firmware == now.Firmware {
		return known.Probe.Accelerator, nil
	}
	if now.Probe, err = qemu.ProbeKVM(ctx, "", qemu.Firmware{Code: h.firmware.SecureCode, Variables: h.firmware.Variables, Secure: true}); err != nil {
		return "", fmt.Errorf("find out whether KVM runs this firmware: %w", err)
	}
	text, err := json.Marshal(now)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return now.Probe.Accelerator, durable.WriteFile(name, text, 0o600)
}

// with opens the machines for one operation. An answer that is no ends with status 1.
func (h *hostFlags) with(ctx context.Context, do func(*machine.Root) error) error {
	r, closing, err := h.open(ctx)
	if err != nil {
		return err
	}
	err = do(r)
	var refused *machine.RefusedError
	if errors.As(err, &refused) || errors.Is(err, machine.ErrExists) || errors.Is(err, fleet.ErrElsewhere) || errors.Is(err, machine.ErrOriginal) || errors.Is(err, machine.ErrGiven) {
		err = program.RefusedBy(err)
	}
	return errors.Join(err, closing())
}

// actor is who runs this command.
func actor() string { return vtpm.Actor(uint32(os.Geteuid())) } // a user id is one of 32 bits

// emit prints a value as JSON, or for people.
func emit(env *program.Env, format program.OutputFormat, v any, text func(io.Writer) error) error {
	if format == "json" {
		return program.PrintJSON(env, v)
	}
	return text(env.Stdout)
}
