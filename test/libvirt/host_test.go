package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/test/qemu"
)

// A host is a libvirtd of the system (qemu:///system) that takes this machine for its
// own: /etc, /var and /run are its alone, and so is its name. Two of them migrate to
// each other like two machines.
type host struct {
	t      *testing.T
	name   string
	dir    string    // both hosts see it
	holder *exec.Cmd // keeps the name spaces
	daemon *exec.Cmd
	exited chan struct{}
}

// settle makes the name spaces of a host. What it writes is in memory, and gone with it.
const settle = `set -e
hostname "$1"
mount -t tmpfs none "$2/own"
for d in etc var; do
	mkdir "$2/own/$d" "$2/own/$d.work"
	mount -t overlay none -o "lowerdir=/$d,upperdir=$2/own/$d,workdir=$2/own/$d.work" "/$d"
done
mount -t tmpfs none /run
mkdir -p /etc/assay /etc/libvirt /run/libvirt /var/log/swtpm
rm -rf /etc/libvirt/qemu /etc/swtpm_setup.conf
cat > /etc/libvirt/qemu.conf <<X
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
remember_owner = 0
X
cat > /etc/libvirt/libvirtd.conf <<X
host_uuid = "$3"
unix_sock_dir = "$2"
auth_unix_rw = "none"
auth_unix_ro = "none"
X
echo settled
exec sleep infinity
`

// newHost starts a host. Its libvirtd finds the programs of tools first on its PATH.
func newHost(t *testing.T, name, tools string, number int) *host {
	t.Helper()
	dir := filepath.Join(filepath.Dir(tools), name)
	h := &host{t: t, name: name, dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "own"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.holder = exec.Command("sh", "-c", settle, "sh", name, dir, fmt.Sprintf("6e0a5cd7-94a1-4d5f-8c11-%012d", number))
	h.holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS}
	h.holder.Stderr = os.Stderr
	out, err := h.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.holder.Process.Kill() //nolint:errcheck // it may have ended
		h.holder.Wait()         //nolint:errcheck // it was killed
	})
	if n, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatalf("the name spaces of host %s: read %d bytes, %v", name, n, err)
	}
	h.start()
	t.Cleanup(h.stop)
	return h
}

// in makes a command that runs on a host.
func (h *host) in(name string, args ...string) *exec.Cmd {
	c := exec.Command("nsenter", append([]string{"--target", fmt.Sprint(h.holder.Process.Pid), "--mount", "--uts", name}, args...)...)
	c.Env = []string{"PATH=" + filepath.Join(filepath.Dir(h.dir), "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin"}
	return c
}

// run runs a command on a host, as somebody, and succeeds.
func (h *host) run(args ...string) string {
	h.t.Helper()
	out, err := h.in(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("on %s: %v: %v\n%s", h.name, args, err, out)
	}
	return string(out)
}

// uri is how others reach a host.
func (h *host) uri() string {
	return "qemu+unix:///system?socket=" + filepath.Join(h.dir, "libvirt-sock")
}

// start starts libvirtd and waits for it.
func (h *host) start() {
	h.t.Helper()
	h.daemon, h.exited = h.in("libvirtd", "-t", "0"), make(chan struct{})
	log, err := os.OpenFile(filepath.Join(h.dir, "libvirtd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	h.daemon.Stdout, h.daemon.Stderr = log, log
	if err := h.daemon.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		h.daemon.Wait() //nolint:errcheck // it is told to end
		close(h.exited)
	}()
	for end := time.Now().Add(2 * time.Minute); ; {
		out, err := h.virsh("version")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("libvirtd does not run: %v, %s\n%s", err, out, h.logs())
		}
	}
}

// stop ends libvirtd. Domains run on.
func (h *host) stop() {
	h.daemon.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	<-h.exited
}

// virsh runs a command of virsh.
func (h *host) virsh(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "virsh", append([]string{"-c", h.uri()}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// must runs a command of virsh that succeeds.
func (h *host) must(args ...string) string {
	h.t.Helper()
	out, err := h.virsh(args...)
	if err != nil {
		h.t.Fatalf("on %s: virsh %v: %v\n%s\n%s", h.name, args, err, out, h.logs())
	}
	return out
}

// path is where a file of a host is for us.
func (h *host) path(name string) string {
	return filepath.Join("/proc", fmt.Sprint(h.holder.Process.Pid), "root", name)
}

// logs is what libvirtd, swtpm and QEMU wrote.
func (h *host) logs() string {
	var all strings.Builder
	for _, pattern := range []string{filepath.Join(h.dir, "*.log"), h.path("/var/log/swtpm/libvirt/qemu/*"), h.path("/var/log/libvirt/qemu/*.log")} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return err.Error()
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			fmt.Fprintf(&all, "%s (%v):\n%s\n", name, err, text[max(0, len(text)-3000):])
		}
	}
	return all.String()
}

// A pair is two hosts and the image that their domains boot.
type pair struct {
	t     *testing.T
	dir   string
	image *qemu.Image
	a, b  *host
}

// newPair builds the programs and starts two hosts.
func newPair(t *testing.T) *pair {
	t.Helper()
	if os.Getenv("ASSAY_REQUIRE_LIBVIRT") == "" {
		t.Skip("ASSAY_REQUIRE_LIBVIRT is not set: make test-libvirt")
	}
	if os.Geteuid() != 0 {
		t.Skip("qemu:///system is root's")
	}
	dir, err := os.MkdirTemp("", "lh") // the paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	meet := filepath.Join(dir, "m") // where migrations meet: QEMU's user makes sockets here
	if err := errors.Join(os.Mkdir(meet, 0o777), os.Chmod(meet, 0o777), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, dir: dir, image: newImage(t, dir)}
	dropIns(t, filepath.Join(dir, "bin"))
	p.a, p.b = newHost(t, "a", filepath.Join(dir, "bin"), 1), newHost(t, "b", filepath.Join(dir, "bin"), 2)
	return p
}

// newImage makes what domains boot, where QEMU's user may read it.
func newImage(t *testing.T, dir string) *qemu.Image {
	t.Helper()
	image, err := qemu.NewImage(dir)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile(image.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	image.Kernel = filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(image.Kernel, kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(image.Initrd, 0o644); err != nil {
		t.Fatal(err)
	}
	return image
}

// dropIns builds assay-vtpm and gives it the names of swtpm's programs.
func dropIns(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := qemu.Program(dir)
	if err != nil {
		t.Fatal(err)
	}
	if program != filepath.Join(dir, "assay-vtpm") {
		text, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "assay-vtpm"), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"swtpm", "swtpm_setup", "swtpm_ioctl"} {
		if err := os.Symlink("assay-vtpm", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// ports listens where a domain's second serial port connects to, again at each host.
func (p *pair) ports(name string) net.Listener {
	p.t.Helper()
	path := filepath.Join(p.dir, name+".s")
	l, err := net.Listen("unix", path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { l.Close() })
	if err := os.Chmod(path, 0o777); err != nil {
		p.t.Fatal(err)
	}
	return l
}

// define gives the first host a domain with real firmware, a kernel and a TPM.
func (p *pair) define(name, tpm string) {
	p.t.Helper()
	xml := fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type>
<loader readonly='yes' type='pflash'>%s</loader><nvram template='%s'/>
<kernel>%s</kernel><initrd>%s</initrd><cmdline>console=ttyS0,115200 panic=-1 quiet</cmdline></os>
<features><acpi/><apic/></features><cpu mode='maximum'/>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='file'><source path='/var/log/libvirt/qemu/%s.console'/><target port='0'/></serial>
<serial type='unix'><source mode='connect' path='%s'/><target port='1'/></serial>
<memballoon model='none'/>%s</devices></domain>`,
		name, p.image.Firmware, p.image.Variables, p.image.Kernel, p.image.Initrd, name, filepath.Join(p.dir, name+".s"), tpm)
	file := filepath.Join(p.dir, name+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.a.must("define", file)
	p.t.Cleanup(func() {
		for _, h := range []*host{p.a, p.b} {
			h.virsh("destroy", name) //nolint:errcheck // it may be off, or elsewhere
		}
	})
}
