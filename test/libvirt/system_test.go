package libvirt

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/test/qemu"
)

// A guest of libvirt's that has proven what it is.
type guest struct {
	p     *pair
	name  string
	ports net.Listener
	port  *qemu.Guest
	*qemu.Prover
	key *tpm.Key
	log []byte
}

// boot starts a domain on the first host and enrols its guest.
func (p *pair) boot(name string, ports net.Listener) *guest {
	t := p.t
	t.Helper()
	p.a.must("start", name)
	g := &guest{p: p, name: name, ports: ports}
	var err error
	if g.port, err = qemu.NewGuest(ports); err != nil {
		t.Fatalf("%v\n%s", err, p.a.logs())
	}
	if g.log, err = g.port.File(qemu.BootLog); err != nil {
		t.Fatal(err)
	}
	if g.Prover, err = qemu.NewProver(g.port, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if g.key, err = g.Enrol(); err != nil {
		t.Fatal(err)
	}
	g.verify("after it booted")
	return g
}

// verify has the guest quoted and judged, under the key that it enrolled.
func (g *guest) verify(when string) {
	t := g.p.t
	t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	e, err := g.Evidence(nonce, g.log)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	v, err := tpm.Verify(e, tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{g.key}, At: time.Now()})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if v.Boot() == nil || v.Proof() != tpm.ProofActivation {
		t.Errorf("%s: the log is not confirmed, or the key proven by %q", when, v.Proof())
	}
}

// moved does what brings the guest to another QEMU, and checks that it is the one it was.
func (g *guest) moved(how string, move func()) {
	t := g.p.t
	t.Helper()
	if err := g.Extend(16, bytes.Repeat([]byte{0x5a}, 32)); err != nil {
		t.Fatal(err)
	}
	before, err := g.PCRs(16)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	move()
	if err := g.port.FollowTo(g.ports); err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	t.Logf("%s: %v", how, time.Since(begun).Round(time.Millisecond))
	after, err := g.PCRs(16)
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	if !bytes.Equal(before[16], after[16]) {
		t.Errorf("%s: PCR 16 is %x and was %x", how, after[16], before[16])
	}
	g.verify(how)
}

// migrate moves the guest to another host, by the source's daemon (peer to peer) or
// by virsh.
func (g *guest) migrate(from, to *host, more ...string) {
	g.p.t.Helper()
	from.must(g.migration(to, more...)...)
	if got := to.must("domstate", g.name); got != "running" {
		g.p.t.Errorf("on %s the domain is %q", to.name, got)
	}
}

func (g *guest) migration(to *host, more ...string) []string {
	uri := "unix://" + filepath.Join(g.p.dir, "m", to.name)
	return append([]string{"migrate", "--live", "--persistent", g.name, to.uri(), uri}, more...)
}

// A domain of qemu:///system has our TPM in swtpm's place: it is saved and restored,
// its libvirtd is restarted, it migrates, and stays what it was.
func TestASystemDomainMigratesWithItsTPM(t *testing.T) {
	p := newPair(t)
	p.key(p.a)
	p.key(p.b)
	p.copy("/etc/assay/vtpm.keys", p.a, p.b)
	ports := p.ports("d1")
	p.define("d1", "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>")
	g := p.boot("d1", ports)

	p.a.stop()
	g.verify("while libvirtd is away")
	p.a.start()
	if got := p.a.must("domstate", "d1"); got != "running" {
		t.Errorf("after a restart of libvirtd the domain is %q", got)
	}
	g.verify("after a restart of libvirtd")
	g.moved("managedsave and start", func() {
		p.a.must("managedsave", "d1")
		p.a.must("start", "d1")
	})
	g.moved("save and restore", func() {
		p.a.must("save", "d1", "/var/lib/libvirt/d1.save")
		p.a.must("restore", "/var/lib/libvirt/d1.save")
	})
	g.moved("migration, peer to peer", func() { g.migrate(p.a, p.b, "--p2p", "--undefinesource") })
	g.moved("migration back, by virsh", func() { g.migrate(p.b, p.a) })

	p.key(p.b)                             // from now on another one than the first host's
	p.b.virsh("undefine", "d1", "--nvram") //nolint:errcheck // it is there from the migration
	if out, err := p.a.virsh(g.migration(p.b)...); err == nil {
		t.Errorf("it migrates to a host with other keys: %s", out)
	}
	if log := p.b.logs(); !strings.Contains(log, "key-encryption key is not held") {
		t.Errorf("the destination does not say what is wrong:\n%s", log)
	}
	if got := p.a.must("domstate", "d1"); got != "running" {
		t.Errorf("after a migration that failed the domain is %q", got)
	}
	g.verify("after a migration that failed")
}

// key gives the drop-ins of a host a key of its own.
func (p *pair) key(h *host) {
	p.t.Helper()
	h.run("sh", "-c", `set -e
rm -f /etc/assay/vtpm.keys; rm -rf /etc/assay/root
ASSAY_VTPM_ROOT=/etc/assay/root assay-vtpm key-provider add vms local:/etc/assay/vtpm.keys --create
chown tss: /etc/assay/vtpm.keys
install -d -o tss -m 0700 /var/lib/assay-dropin
echo '{"keyProvider": "local:/etc/assay/vtpm.keys", "root": "/var/lib/assay-dropin"}' > /etc/assay/dropin.json`)
}

// copy copies a file that a host has, over one or to a new one.
func (p *pair) copy(name string, from, to *host) {
	p.t.Helper()
	text, err := os.ReadFile(from.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(to.path(name), text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// A domain of qemu:///system has a TPM of the daemon, which it reaches through a group.
// Each host has a daemon and a place for the TPM.
func TestASystemDomainMigratesBetweenDaemons(t *testing.T) {
	p := newPair(t)
	p.a.run("sh", "-c", "assay-vtpm key-provider add main local:/etc/assay/daemon.keys --create --root /var/lib/assay && assay-vtpm create d2 --root /var/lib/assay")
	p.copy("/etc/assay/daemon.keys", p.a, p.b)
	var tpm struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(p.a.run("assay-vtpm", "describe", "d2", "--root", "/var/lib/assay", "-o", "json")), &tpm); err != nil {
		t.Fatal(err)
	}
	p.b.run("sh", "-c", "assay-vtpm key-provider add main local:/etc/assay/daemon.keys --root /var/lib/assay && assay-vtpm create d2 --root /var/lib/assay --id "+tpm.ID)
	p.a.serveTPMs()
	p.b.serveTPMs()
	ports := p.ports("d2")
	p.define("d2", "<tpm model='tpm-crb'><backend type='external'><source type='unix' mode='connect' path='/run/assay-vtpm/d2.ctrl'/></backend></tpm>")
	g := p.boot("d2", ports)
	g.moved("managedsave and start", func() {
		p.a.must("managedsave", "d2")
		p.a.must("start", "d2")
	})
	g.moved("migration, peer to peer", func() { g.migrate(p.a, p.b, "--p2p") })
	g.moved("migration back, by virsh", func() { g.migrate(p.b, p.a) })
}

// serveTPMs runs the daemon of a host until the test ends.
func (h *host) serveTPMs() {
	h.t.Helper()
	d := h.in("assay-vtpm", "daemon", "--root", "/var/lib/assay", "--socket-dir", "/run/assay-vtpm", "--socket-mode", "0660", "--socket-group", "libvirt-qemu")
	log, err := os.Create(filepath.Join(h.dir, "daemon.log"))
	if err != nil {
		h.t.Fatal(err)
	}
	d.Stderr = log
	out, err := d.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		d.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		d.Wait()                          //nolint:errcheck // it is told to end
		log.Close()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		h.t.Fatalf("the daemon of %s says %q, %v\n%s", h.name, line, err, h.logs())
	}
}
