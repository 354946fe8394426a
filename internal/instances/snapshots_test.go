package instances

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/uefi"
)

func TestSnapshotsComeAndGo(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	const path = "/v1/instances/web-1/snapshots"
	f.do(admin, "GET", path, "").want("none yet", 200, `"items":[]`)
	var made Operation
	f.do(admin, "POST", path, `{"name":"good"}`).want("make", 200, `"operationType":"createSnapshot"`).into(&made)
	if s := made.Snapshot; s == nil || s.Name != "good" || s.By != "principal admin" || s.Memory {
		t.Errorf("snapshot: %+v", s)
	}
	f.do(admin, "POST", path, `{"name":"good"}`).want("one of that name", 409, "there is a snapshot of that name")
	f.do(admin, "POST", path, `{"name":"../good"}`).want("no name", 422, "not a name for a snapshot")
	f.do(admin, "POST", path, `{}`).want("without a name", 422, "name")
	var list snapshotsBody
	f.do(admin, "GET", path, "").want("list", 200).into(&list)
	if diff := cmp.Diff([]Snapshot{*made.Snapshot}, list.Items); diff != "" {
		t.Errorf("(-made +listed):\n%s", diff)
	}
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"a":"b"}}`).want("change", 200)
	f.do(admin, "POST", path+"/good/restore", "").want("go back", 200, `"operationType":"restoreSnapshot"`)
	f.do(admin, "POST", path+"/bad/restore", "").want("to none", 404)
	f.do(admin, "DELETE", path+"/bad", "").want("delete none", 404)
	f.do(admin, "DELETE", path+"/good", "").want("delete", 200, `"operationType":"deleteSnapshot"`)
	f.do(admin, "GET", path, "").want("deleted", 200, `"items":[]`)
	f.do(admin, "GET", "/v1/instances/none/snapshots", "").want("of none", 404)
	f.do(admin, "GET", "/v1/instances/web-1/events", "").want("events", 200, "machine.snapshot-made", "machine.snapshot-restored", "machine.snapshot-deleted", "principal admin")
	if slices.ContainsFunc(f.told, func(s string) bool { return strings.HasPrefix(s, "start") }) {
		t.Errorf("a machine that was off was started: %q", f.told)
	}
	if got := f.actions("admin"); !slices.Contains(got, "instance.restoreSnapshot web-1 done") || !slices.Contains(got, "instance.restoreSnapshot web-1 failed") {
		t.Errorf("audit chain: %q", got)
	}
}

// supervise answers for a machine as its supervisor would, and returns the verbs that it is
// asked.
func (f *fixture) supervise(name string) (asked func() []string) {
	f.Helper()
	socket := filepath.Join(f.dir, "vms", name, "run", "control")
	must(f, os.MkdirAll(filepath.Dir(socket), 0o700))
	l, err := net.Listen("unix", socket)
	must(f, err)
	var mu sync.Mutex
	var verbs []string
	var serving sync.WaitGroup
	answer := func(c net.Conn) {
		defer c.Close()
		line, err := bufio.NewReader(c).ReadString('\n')
		var q struct{ Verb string }
		if err != nil || json.Unmarshal([]byte(line), &q) != nil {
			return
		}
		mu.Lock()
		verbs = append(verbs, q.Verb)
		mu.Unlock()
		result := map[string]string{
			"snapshots": `[{"name":"good","memory":true}]`, "status": `{"name":"` + name + `","state":"running"}`,
		}[q.Verb]
		text := `{"result":` + result + "}\n"
		if result == "" {
			text = `{"error":"it is not to be asked this"}` + "\n"
		}
		io.WriteString(c, text) //nolint:errcheck // who asks says so
	}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { answer(c) })
		}
	})
	f.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(verbs)
	}
}

// A way back that is refused leaves the machine running.
func TestAMachineRunsOnWhenItsWayBackIsRefused(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	f.do(admin, "POST", "/v1/instances/web-1/snapshots", `{"name":"good"}`).want("snapshot", 200)
	asked := f.supervise("web-1")
	f.do(admin, "POST", "/v1/instances/web-1/snapshots/good/restore", "").want("to a memory that there is not", 409, "has no memory")
	if got := asked(); !slices.Equal(got, []string{"snapshots"}) {
		t.Errorf("the supervisor was asked %q", got)
	}
}

// emptyDisk makes a disk from which firmware finds nothing to start, in the folder of a
// machine, and returns the body that creates the machine.
func (f *fixture) emptyDisk(name string) (file, body string) {
	f.Helper()
	file = filepath.Join(f.disks, name, "disk.raw")
	to, err := os.Create(file)
	must(f, err)
	d := guestimage.Disk{GUID: uefi.GUID{1}, Partition: uefi.GUID{2}, Time: time.Unix(1<<30, 0), Files: []guestimage.File{{Name: "README.TXT", Data: []byte("nothing")}}}
	_, err = d.Write(to)
	must(f, errors.Join(err, to.Close()))
	text, err := json.Marshal(map[string]any{"profile": "off", "instance": map[string]any{
		"name": name, "disks": []any{map[string]any{"file": file, "format": "raw", "bus": "virtio", "boot": true}},
	}})
	must(f, err)
	return file, string(text)
}

func TestWhatIsWrongWithADiskIsNamed(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	file, body := f.emptyDisk("web-1")
	f.do(admin, "POST", "/v1/instances", body).want("create", 200)
	f.do(admin, "POST", "/v1/instances/web-1/snapshots", `{"name":"good"}`).want("snapshot", 409, "only a qcow2 disk")
	var check struct {
		Boots *bool
		PCRs  map[string]map[string]*string
	}
	f.do(admin, "GET", "/v1/instances/web-1/check", "").want("check", 200, `"format":"raw"`, `"secureBoot":false`, "launch.no-loader").into(&check)
	if check.Boots == nil || *check.Boots || len(check.PCRs["sha256"]) == 0 {
		t.Errorf("check: %+v", check)
	}
	must(t, os.Truncate(file, 4096))
	f.do(admin, "GET", "/v1/instances/web-1/check", "").want("check of half a disk", 409, "disk is malformed")
	must(t, os.Remove(file))
	f.do(admin, "GET", "/v1/instances/web-1/check", "").want("check without its disk", 409, "cannot be read")
}

// A denied call names the one permission that is missing.
func TestSnapshotsNeedTheirPermissions(t *testing.T) {
	f := newFixture(t)
	f.do(f.admin(), "POST", "/v1/instances", plain("web-1")).want("create", 200)
	operator := f.principal(access.Principal{Name: "operator", Roles: []access.Role{access.Operator}})
	for call, missing := range map[[3]string]string{
		{"POST", "/v1/instances/web-1/snapshots", `{"name":"a"}`}:       "instances.createSnapshot",
		{"DELETE", "/v1/instances/web-1/snapshots/a", ""}:               "instances.deleteSnapshot",
		{"POST", "/v1/instances/web-1/snapshots/a/restore", ""}:         "instances.restoreSnapshot",
		{"POST", "/v1/instances/web-1/approveNextBoot", `{}`}:           "instances.setShieldedVmIntegrityPolicy",
		{"DELETE", "/v1/instances/web-1/approveNextBoot", ""}:           "instances.setShieldedVmIntegrityPolicy",
		{"POST", "/v1/instances/web-1/restoreBaseline", `{"number":1}`}: "instances.setShieldedVmIntegrityPolicy",
	} {
		f.do(operator, call[0], call[1], call[2]).want(strings.Join(call[:2], " "), 403, missing, "web-1", "instance-admin")
	}
	f.do(operator, "GET", "/v1/instances/web-1/snapshots", "").want("list", 200)
}

func TestTheNextBootOfAMachineWithoutABaseline(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", `{"profile":"baseline","instance":{"name":"web-1"}}`).want("create", 200)
	const path = "/v1/instances/web-1/approveNextBoot"
	digest := strings.Repeat("0", 64)
	f.do(admin, "GET", "/v1/instances/web-1/nextBoot", "").want("look", 409, "no ")
	f.do(admin, "POST", path, `{"digest":"`+digest+`"}`).want("approve", 409, "no ")
	f.do(admin, "POST", path, `{"digest":"short"}`).want("a digest that is none", 422, "digest")
	f.do(admin, "POST", path, `{"digest":"`+digest+`","hours":721}`).want("for too long", 422, "hours")
	f.do(admin, "DELETE", path, "").want("take back what is not there", 200)
}

func TestTheDigestOfANextBootIsOfAllThatIsSeen(t *testing.T) {
	seen := func() *machine.Foreseen {
		return &machine.Foreseen{Baseline: 3, Bank: "sha256", Registers: []machine.ForeseenRegister{{PCR: 9, State: machine.ForeseenChanges, Judged: true, Old: "00", New: "01"}}}
	}
	of := func(change func(*machine.Foreseen)) string {
		s := seen()
		change(s)
		d, err := digestOf(s)
		must(t, err)
		return d
	}
	same := of(func(*machine.Foreseen) {})
	for what, change := range map[string]func(*machine.Foreseen){
		"the baseline": func(s *machine.Foreseen) { s.Baseline++ }, "the bank": func(s *machine.Foreseen) { s.Bank = "sha384" },
		"a register": func(s *machine.Foreseen) { s.Registers[0].PCR = 4 }, "its value": func(s *machine.Foreseen) { s.Registers[0].New = "02" },
		"whether it decides": func(s *machine.Foreseen) { s.Registers[0].Judged = false }, "one less": func(s *machine.Foreseen) { s.Registers = nil },
	} {
		if of(change) == same {
			t.Errorf("%s is not in the digest", what)
		}
	}
}
