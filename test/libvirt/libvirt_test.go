// Package libvirt starts real domains of libvirt whose TPM is this project's, in the
// place of swtpm and as an external backend. It proves that libvirt and QEMU take
// the programs as they are, by the exit status of virsh and by what stands on the
// disk; not what a guest sees, which is test/qemu's. Start with TestDomainsHaveOurTPM.
//
// libvirt 9.0, domain XML: TPM device.
package libvirt

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody runs libvirt when the tests are root's: its session is for ordinary users.
const nobody = 65534

// A session is a libvirt of its own.
type session struct {
	t   *testing.T
	dir string
	env []string
}

func (s *session) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// virsh runs a command that succeeds.
func (s *session) virsh(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	out, err := s.command(ctx, "virsh", append([]string{"-c", "qemu:///session"}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("virsh %v: %v\n%s\n%s", args, err, out, s.logs())
	}
	return string(out)
}

// logs is what swtpm and QEMU wrote.
func (s *session) logs() string {
	var all strings.Builder
	names, err := filepath.Glob(filepath.Join(s.dir, ".cache/libvirt/qemu/log/*"))
	if err != nil {
		return err.Error()
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		fmt.Fprintf(&all, "%s (%v):\n%s\n", name, err, text[max(0, len(text)-2000):])
	}
	return all.String()
}

// newSession builds the programs and starts libvirtd with them first on its PATH.
// libvirt asks every QEMU of the machine what it can do, which takes a minute or two.
func newSession(t *testing.T) *session {
	t.Helper()
	if os.Getenv("ASSAY_REQUIRE_LIBVIRT") == "" {
		t.Skip("ASSAY_REQUIRE_LIBVIRT is not set: make test-libvirt")
	}
	for _, name := range []string{"libvirtd", "virsh", "qemu-system-x86_64"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "lv") // the paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	dropIns(t, filepath.Join(dir, "bin"))
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		for _, name := range []string{dir, filepath.Join(dir, "run")} {
			if err := os.Chown(name, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := &session{t: t, dir: dir, env: []string{
		"HOME=" + dir, "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"PATH=" + filepath.Join(dir, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
	}}
	s.daemon()
	return s
}

// daemon runs libvirtd until the test ends.
func (s *session) daemon() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := s.command(ctx, "libvirtd", "-t", "0")
	d.Cancel = func() error { return d.Process.Signal(syscall.SIGTERM) }
	log := filepath.Join(s.dir, "libvirtd.log")
	out, err := os.Create(log)
	if err != nil {
		s.t.Fatal(err)
	}
	d.Stdout, d.Stderr = out, out
	if err := d.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		d.Wait() //nolint:errcheck // it was told to end
		out.Close()
	})
	for end := time.Now().Add(2 * time.Minute); ; {
		if out, err := s.command(ctx, "virsh", "-c", "qemu:///session", "version").CombinedOutput(); err == nil {
			s.t.Logf("%s", out)
			return
		} else if time.Now().After(end) {
			text, _ := os.ReadFile(log)
			s.t.Fatalf("libvirtd does not run: %v, %s\n%s", err, out, text)
		}
	}
}

// define gives libvirt a domain with a TPM.
func (s *session) define(name, tpm string) {
	s.t.Helper()
	xml := fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>96</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>%s</devices></domain>`, name, tpm)
	file := filepath.Join(s.dir, name+".xml")
	if err := os.WriteFile(file, []byte(xml), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.virsh("define", file)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.command(ctx, "virsh", "-c", "qemu:///session", "destroy", name).Run() //nolint:errcheck // it may be off
	})
}

func (s *session) state(name string) string {
	return strings.TrimSpace(s.virsh("domstate", name))
}

// header is how a state file of ours begins.
const header = "ASSAYNVR"

// kept is the content of the one state file below a folder.
func (s *session) kept(dir string) string {
	s.t.Helper()
	var found string
	err := filepath.WalkDir(filepath.Join(s.dir, dir), func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == "tpm2-00.permall" {
			found = path
		}
		return nil
	})
	if err != nil || found == "" {
		s.t.Fatalf("no state below %q: %v", dir, err)
	}
	text, err := os.ReadFile(found)
	if err != nil || !strings.HasPrefix(string(text), header) {
		s.t.Fatalf("%s does not begin with %q: %v", found, header, err)
	}
	return string(text)
}

func TestDomainsHaveOurTPM(t *testing.T) {
	s := newSession(t)
	t.Run("in swtpm's place", func(t *testing.T) { inPlace(t, s) })
	t.Run("started by somebody else", func(t *testing.T) { external(t, s) })
}

// The domain's XML is what users of swtpm have; only PATH differs.
func inPlace(t *testing.T, s *session) {
	s.t = t
	s.define("t1", "<tpm model='tpm-crb'><backend type='emulator' version='2.0'><active_pcr_banks><sha256/><sha384/></active_pcr_banks></backend></tpm>")
	s.virsh("start", "t1")
	made := s.kept(".config/libvirt/qemu/swtpm")
	s.virsh("reset", "t1")
	s.virsh("suspend", "t1")
	s.virsh("resume", "t1")
	saved := filepath.Join(s.dir, "t1.save")
	s.virsh("save", "t1", saved)
	s.virsh("restore", saved)
	if got := s.state("t1"); got != "running" {
		t.Errorf("state %q after restore", got)
	}
	s.virsh("managedsave", "t1")
	s.virsh("start", "t1")
	s.virsh("destroy", "t1")
	s.virsh("start", "t1") // and the TPM is set up no second time, but for its banks
	if now := s.kept(".config/libvirt/qemu/swtpm"); now[:64] != made[:64] {
		t.Errorf("the state's file is another: it begins with %x, and began with %x", now[:64], made[:64])
	}
	log := s.logs()
	for _, want := range []string{"Created EK rsa2048 with handle 0x81010001, certificate: true", "Activated PCR banks sha256,sha384", "reconfiguration"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log of swtpm_setup does not say %q:\n%s", want, log)
		}
	}
	s.virsh("destroy", "t1")
}

func external(t *testing.T, s *session) {
	s.t = t
	socket, pid := filepath.Join(s.dir, "run", "tpm"), filepath.Join(s.dir, "pid")
	run := func(name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if out, err := s.command(ctx, filepath.Join(s.dir, "bin", name), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v, %s", name, err, out)
		}
	}
	run("swtpm_setup", "--create-config-files", "skip-if-exist")
	if err := os.Mkdir(filepath.Join(s.dir, "tpm"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(s.dir, "tpm"), 0o777); err != nil {
		t.Fatal(err)
	}
	// It answers when the call returns, and ends when QEMU does.
	run("swtpm", "socket", "--tpm2", "--daemon", "--tpmstate", "dir="+filepath.Join(s.dir, "tpm"), "--ctrl", "type=unixio,path="+socket+",terminate", "--pid", "file="+pid, "--log", "file="+filepath.Join(s.dir, "log"))
	if _, err := os.Stat(pid); err != nil {
		t.Fatal(err)
	}
	s.define("t2", "<tpm model='tpm-tis'><backend type='external'><source type='unix' mode='connect' path='"+socket+"'/></backend></tpm>")
	s.virsh("start", "t2")
	s.virsh("reset", "t2")
	s.virsh("destroy", "t2")
	s.kept("tpm")
	for end := time.Now().Add(30 * time.Second); ; {
		if _, err := os.Stat(pid); os.IsNotExist(err) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("swtpm is still there: %v", err)
		}
	}
}
