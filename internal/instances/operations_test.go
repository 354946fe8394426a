package instances

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
)

// slow begins a start that does not end before release is called.
func (f *fixture) slow(token, name string) (release func()) {
	f.Helper()
	hold, entered := make(chan struct{}), make(chan struct{})
	f.mu.Lock()
	f.hold, f.entered = hold, entered
	f.mu.Unlock()
	answered := make(chan answer, 1)
	go func() { answered <- f.do(token, "POST", "/v1/instances/"+name+"/start", "") }()
	<-entered
	return func() {
		close(hold)
		<-answered
	}
}

func TestAMachineHasOneOperationAtATime(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	f.do(admin, "POST", "/v1/instances", plain("web-2")).want("create", 200)
	release := f.slow(admin, "web-1")
	op := f.api.operations.list()[0]
	f.do(admin, "GET", "/v1/operations/"+op.Name, "").want("while it is under way", 200, `"status":"RUNNING"`, `"operationType":"start"`)
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("another", 409, "instance.busy", op.Name)
	f.do(admin, "DELETE", "/v1/instances/web-2", "").want("of another machine", 200)
	stranger := f.principal(access.Principal{Name: "stranger", Permissions: []access.Permission{access.Attest}})
	f.do(stranger, "GET", "/v1/operations/"+op.Name, "").want("to a stranger there is none", 404)
	f.do(stranger, "POST", "/v1/operations/"+op.Name+"/wait", "").want("nor to wait for", 404)
	release()
	f.do(admin, "POST", "/v1/operations/"+op.Name+"/wait", "").want("afterwards", 200, `"status":"DONE"`)
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("another afterwards", 200)
}

func TestWhoBeganAnOperationMaySeeIt(t *testing.T) {
	f := newFixture(t)
	f.do(f.admin(), "POST", "/v1/instances", plain("web-1")).want("create", 200)
	starter := f.principal(access.Principal{Name: "starter", Permissions: []access.Permission{access.StartInstance}})
	var op Operation
	f.do(starter, "POST", "/v1/instances/web-1/start", "").want("start", 200).into(&op)
	f.do(starter, "GET", "/v1/operations/"+op.Name, "").want("its own", 200, `"user":"starter"`)
	f.do(starter, "GET", "/v1/instances/web-1", "").want("the machine", 403)
}

func TestAFailedStartSaysWhy(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	for name, tc := range map[string]struct {
		status int
		words  string
	}{"bad-1": {409, "QEMU says no"}, "panic-1": {500, "service.internal"}} {
		f.do(admin, "POST", "/v1/instances", plain(name)).want("create", 200)
		got := f.do(admin, "POST", "/v1/instances/"+name+"/start", "").want(name, tc.status, tc.words)
		if strings.Contains(string(got.body), "secret") {
			t.Errorf("%s: %s", name, got.body)
		}
		op := f.api.operations.list()[0]
		if op.Status != statusDone || op.Error == nil || !strings.Contains(string(op.Error.Code)+op.Error.Message, tc.words) {
			t.Errorf("%s: %+v, %+v", name, op, op.Error)
		}
	}
	f.do(admin, "POST", "/v1/instances/none/start", "").want("none", 404)
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	release := f.slow(admin, "web-1")
	must(t, f.api.Close())
	if op := f.api.operations.list()[0]; op.Status != statusDone || op.Error == nil {
		t.Errorf("after Close: %+v", op)
	}
	release()
}

func TestOperationsKeptAreBounded(t *testing.T) {
	now := time.Now().UTC()
	o := newOperations(t.TempDir())
	for i := range maxOperations {
		o.recall(Operation{Name: operationNamed(i), InsertTime: now, EndTime: &now, Status: statusDone})
	}
	const more = 3
	for i := range more {
		op, err := o.begin(Operation{Name: operationNamed(maxOperations + i), OperationType: "start", Instance: "web-1", Status: statusRunning, InsertTime: now})
		must(t, err)
		as := op.Operation
		as.Status, as.EndTime = statusDone, &now
		must(t, o.finish(op, as, nil))
	}
	if n := len(o.list()); n != maxOperations {
		t.Errorf("%d operations are kept, want %d", n, maxOperations)
	}
	for range maxOperations {
		o.recall(Operation{Name: "operation-" + rand.Text(), Status: statusDone})
	}
	if left, err := os.ReadDir(o.ledger.dir); err != nil || len(left) != 0 {
		t.Errorf("records of operations that are found no more: %v, %v", left, err)
	}
	o = newOperations(t.TempDir())
	for i := range mostRunning {
		_, err := o.begin(Operation{Name: operationNamed(i), Instance: operationNamed(i), User: fmt.Sprint(i % 2)})
		must(t, err)
	}
	if _, err := o.begin(Operation{Name: operationNamed(mostRunning), Instance: "more"}); err == nil {
		t.Error("there is no bound of operations at once")
	}
}

// Who begins many operations takes neither the turns of others nor what is known of theirs.
func TestOperationsOfOnePrincipalLeaveRoomForOthers(t *testing.T) {
	now := time.Now().UTC()
	o := newOperations(t.TempDir())
	for i := range mostOfOne {
		_, err := o.begin(Operation{Name: operationNamed(i), Instance: operationNamed(i), User: "eve"})
		must(t, err)
	}
	if _, err := o.begin(Operation{Name: operationNamed(mostOfOne), Instance: "more", User: "eve"}); err == nil {
		t.Error("one principal takes all turns")
	}
	if _, err := o.begin(Operation{Name: operationNamed(mostRunning), Instance: "ann's", User: "ann"}); err != nil {
		t.Errorf("another has no turn: %v", err)
	}
	o = newOperations(t.TempDir())
	for i := range maxOperations + 100 {
		user := "eve"
		if i < 10 {
			user = "ann"
		}
		o.recall(Operation{Name: operationNamed(i), User: user, InsertTime: now, EndTime: &now, Status: statusDone})
	}
	if o.find(operationNamed(0)) == nil || o.find(operationNamed(9)) == nil {
		t.Error("the operations of another were pushed out")
	}
	if n := len(o.list()); n != maxOperations {
		t.Errorf("%d operations are kept, want %d", n, maxOperations)
	}
	if o.find(operationNamed(10)) != nil || o.find(operationNamed(maxOperations+99)) == nil {
		t.Error("of one principal the newest are kept")
	}
}

func operationNamed(i int) string { return fmt.Sprintf("operation-%016x", i) }
