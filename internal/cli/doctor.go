package cli

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
)

// A checkup is one line of assay doctor.
type checkup struct {
	Name   string `json:"name"`
	Status string `json:"status"` // "ok", "missing" or "problem"
	Detail string `json:"detail"`
	For    string `json:"for"` // what needs it
	// Mend is the command that mends it; empty when Status is ok.
	Mend string `json:"mend,omitempty"`
	// Required tells whether assay's service cannot run without it.
	Required bool `json:"required"`
}

// The machine is what doctor looks at; tests put another in its place.
type machine struct {
	root     fs.FS // of the file system
	lookPath func(string) (string, error)
	run      func(ctx context.Context, name string, args ...string) (string, error)
	listen   func() error
	writable func(dir string) error
	env      *program.Env
}

func thisMachine(env *program.Env) *machine {
	return &machine{
		root:     os.DirFS("/"),
		lookPath: exec.LookPath,
		run: func(ctx context.Context, name string, args ...string) (string, error) {
			out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		},
		listen: func() error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			return l.Close()
		},
		writable: func(dir string) error {
			f, err := os.CreateTemp(dir, "assay-doctor-")
			if err != nil {
				return err
			}
			return errors.Join(f.Close(), os.Remove(f.Name()))
		},
		env: env,
	}
}

func newDoctorCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has and lacks, and how to mend it",
		Long: `Looks at what assay uses on this machine: the service's needs, a TPM and its
event log for attesting the machine itself, and what runs virtual machines.

Exit status: 0 the service can run here; 1 something that it needs is missing.`,
		Args: cobra.NoArgs,
	}
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		found := thisMachine(env).examine(cmd.Context())
		if *format == "json" {
			if err := program.PrintJSON(env, found); err != nil {
				return err
			}
		} else {
			printCheckups(env, found)
		}
		for _, c := range found {
			if c.Required && c.Status != "ok" {
				return program.Refused()
			}
		}
		return nil
	}
	return cmd
}

func printCheckups(env *program.Env, found []checkup) {
	w := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSTATUS\tDETAIL\tNEEDED FOR")
	for _, c := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, c.Status, c.Detail, c.For)
	}
	w.Flush()
	for _, c := range found {
		if c.Mend != "" {
			fmt.Fprintf(env.Stdout, "\n%s: %s\n", c.Name, c.Mend)
		}
	}
}

func (m *machine) examine(ctx context.Context) []checkup {
	return []checkup{
		m.clock(), m.loopback(), m.temp(), m.module(),
		m.tpm(), m.bootLog(), m.imaLog(),
		m.qemu(ctx), m.kvm(ctx), m.firmware(), m.postgres(),
	}
}

func ok(name, detail, what string) checkup { return checkup{name, "ok", detail, what, "", false} }

func missing(name, detail, what, mend string) checkup {
	return checkup{name, "missing", detail, what, mend, false}
}

func required(c checkup) checkup {
	c.Required = true
	return c
}

// released is when this source was written: a clock before it is wrong.
var released = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func (m *machine) clock() checkup {
	const what = "expiry of challenges, tokens and certificates"
	if now := m.env.Now(); now.Before(released) {
		return required(checkup{"clock", "problem", "says " + now.UTC().Format(time.RFC3339) + ", before this program was written", what, "timedatectl set-ntp true", false})
	}
	return required(ok("clock", m.env.Now().UTC().Format(time.RFC3339), what))
}

func (m *machine) loopback() checkup {
	const what = "assay serve, assay demo"
	if err := m.listen(); err != nil {
		return required(missing("loopback", err.Error(), what, "ip link set lo up"))
	}
	return required(ok("loopback", "127.0.0.1 takes connections", what))
}

func (m *machine) temp() checkup {
	const what = "assay demo"
	dir := m.env.Getenv("TMPDIR")
	if dir == "" {
		dir = "/tmp"
	}
	if err := m.writable(dir); err != nil {
		return required(missing("temporary folder", err.Error(), what, "set TMPDIR to a folder that you may write"))
	}
	return required(ok("temporary folder", dir, what))
}

func (m *machine) module() checkup {
	const what = "sites that ask for FIPS 140-3"
	if fips140.Enabled() {
		return ok("FIPS 140-3", "the validated module is on", what)
	}
	return missing("FIPS 140-3", "this build uses the standard library outside FIPS mode", what, "make build FIPS=1")
}

func (m *machine) tpm() checkup {
	const what = "attesting this machine itself"
	for _, dev := range []string{"dev/tpmrm0", "dev/tpm0"} {
		if _, err := fs.Stat(m.root, dev); err == nil {
			return ok("TPM", "/"+dev, what)
		}
	}
	return missing("TPM", "no /dev/tpmrm0", what, "turn the TPM on in the firmware's setup; in a VM, attach a vTPM")
}

func (m *machine) bootLog() checkup {
	const what = "attesting this machine itself"
	return m.kernelFile("boot event log", "sys/kernel/security/tpm0/binary_bios_measurements", what,
		"mount -t securityfs securityfs /sys/kernel/security; boot by UEFI with a TPM; read it as root")
}

func (m *machine) imaLog() checkup {
	const what = "runtime integrity of this machine"
	return m.kernelFile("IMA list", "sys/kernel/security/ima/binary_runtime_measurements", what,
		"boot with ima_policy=tcb on the kernel command line; read it as root")
}

func (m *machine) kernelFile(name, path, what, mend string) checkup {
	f, err := m.root.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return checkup{name, "problem", "/" + path + " may not be read by this user", what, "run as root, or let the agent's user read it", false}
	}
	if err != nil {
		return missing(name, "no /"+path, what, mend)
	}
	f.Close()
	return ok(name, "/"+path, what)
}

const emulator = "qemu-system-x86_64"

func (m *machine) qemu(ctx context.Context) checkup {
	const what = "virtual machines"
	if _, err := m.lookPath(emulator); err != nil {
		return missing("QEMU", "no "+emulator+" on PATH", what, "apt-get install qemu-system-x86")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := m.run(ctx, emulator, "--version")
	if err != nil {
		return checkup{"QEMU", "problem", err.Error(), what, "apt-get install --reinstall qemu-system-x86", false}
	}
	first, _, _ := strings.Cut(out, "\n")
	return ok("QEMU", first, what)
}

// kvm starts a machine that enters system management mode at once: the device
// file alone says nothing (on some hosts it is there and cannot run OVMF).
func (m *machine) kvm(ctx context.Context) checkup {
	const what = "virtual machines at full speed (software emulation otherwise)"
	if _, err := fs.Stat(m.root, "dev/kvm"); err != nil {
		return missing("KVM", "no /dev/kvm", what, "turn virtualization on in the firmware's setup; modprobe kvm_intel or kvm_amd")
	}
	if _, err := m.lookPath(emulator); err != nil {
		return missing("KVM", "/dev/kvm is there; not tried without QEMU", what, "apt-get install qemu-system-x86")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out, err := m.run(ctx, emulator, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35,smm=on", "-accel", "kvm", "-cpu", "host", "-m", "64")
	if err != nil && ctx.Err() == nil {
		first, _, _ := strings.Cut(out, "\n")
		return checkup{"KVM", "problem", "a machine with SMM does not start: " + first, what, "use a host with VMX or SVM; assay emulates in software meanwhile", false}
	}
	return ok("KVM", "a machine with SMM runs", what)
}

func (m *machine) firmware() checkup {
	const what = "virtual machines with secure boot"
	const code = "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	if _, err := fs.Stat(m.root, code); err != nil {
		return missing("OVMF firmware", "no /"+code, what, "apt-get install ovmf")
	}
	return ok("OVMF firmware", "/"+code, what)
}

func (m *machine) postgres() checkup {
	const what = "running the service's tests; PostgreSQL in place of SQLite"
	found, _ := fs.Glob(m.root, "usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return missing("PostgreSQL server", "none under /usr/lib/postgresql", what, "apt-get install postgresql")
	}
	return ok("PostgreSQL server", "/"+filepath.Dir(found[len(found)-1]), what)
}
