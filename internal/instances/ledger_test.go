package instances

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

// again is the API after a restart of its service.
func (f *fixture) again() {
	f.Helper()
	must(f, f.api.Close())
	f.open()
}

func TestOperationsOutliveTheirService(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	var made, failed Operation
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200).into(&made)
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create again", 409)
	failed = f.api.operations.list()[0]
	f.again()
	f.do(admin, "GET", "/v1/operations/"+made.Name, "").want("one that was done", 200, `"status":"DONE"`, `"operationType":"create"`, `"user":"admin"`, `"instance":"web-1"`)
	f.do(admin, "POST", "/v1/operations/"+failed.Name+"/wait", "").want("one that failed", 200, `"status":"DONE"`, "request.conflict")
	var list operationsBody
	f.do(admin, "GET", "/v1/operations", "").want("list", 200).into(&list)
	if len(list.Items) != 2 || list.Items[0].Name != failed.Name || list.Items[1].Name != made.Name {
		t.Errorf("list: %+v", list.Items)
	}
	if diff := cmp.Diff(made, list.Items[1]); diff != "" {
		t.Errorf("before and after (-before +after):\n%s", diff)
	}
	stranger := f.principal(access.Principal{Name: "stranger", Permissions: []access.Permission{access.Attest}})
	f.do(stranger, "GET", "/v1/operations/"+made.Name, "").want("to a stranger there is none", 404)
	for when, status := range map[time.Duration]int{-time.Hour: 200, time.Hour: 404} { // before it began, and after
		named := f.principal(access.Principal{Name: "admin", Added: made.InsertTime.Add(when), Permissions: []access.Permission{access.Attest}})
		f.do(named, "GET", "/v1/operations/"+made.Name, "").want("to one of the name, added "+when.String()+" after it", status)
	}
}

// A service that is killed ends nothing: what it had begun has a record that says RUNNING.
func TestAnOperationThatItsServiceDidNotOutliveIsToldAsUnknown(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	begun := Operation{Name: operationNamed(1), OperationType: "start", Instance: "web-1", User: "starter", Status: statusRunning, InsertTime: time.Now().UTC()}
	must(t, f.api.operations.ledger.write(&begun))
	for range 2 { // the second restart finds what the first has made of it
		f.again()
		f.do(admin, "GET", "/v1/operations/"+begun.Name, "").want("after the crash", 200, `"status":"DONE"`, "instance.outcome-unknown", "/v1/instances/web-1", `"endTime"`)
	}
	if got, want := f.actions("starter"), []string{"instance.start web-1 unknown"}; !slices.Equal(got, want) {
		t.Errorf("audit chain: %q, want %q", got, want)
	}
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("the machine can be changed", 200)
}

func TestARestartWithoutItsAuditChainFails(t *testing.T) {
	f := newFixture(t)
	must(t, f.api.operations.ledger.write(&Operation{Name: operationNamed(1), OperationType: "start", Instance: "web-1", Status: statusRunning, InsertTime: time.Now().UTC()}))
	f.auditFault = errors.New("full")
	c := f.api.cfg
	if _, err := New(t.Context(), c); err == nil {
		t.Error("what was under way is told as unknown, and the audit chain does not have it")
	}
	f.auditFault = nil
}

func TestARecordThatIsDamagedDoesNotVanish(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	name := operationNamed(7)
	must(t, os.WriteFile(f.api.operations.ledger.file(name), []byte(`{"version":1`), 0o600))
	must(t, os.WriteFile(filepath.Join(f.api.operations.ledger.dir, "README"), nil, 0o600))
	f.again()
	f.do(admin, "GET", "/v1/operations/"+name, "").want("damaged", 200, "instance.outcome-unknown", "damaged")
	viewer := f.principal(access.Principal{Name: "viewer", Bindings: []access.Binding{{Role: access.Viewer, Instances: "web-*"}}})
	f.do(viewer, "GET", "/v1/operations/"+name, "").want("of which machine it was nobody knows", 404)
}

func TestAnOperationWithoutARecordIsNotBegun(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.api.operations.ledger.dir = filepath.Join(f.dir, "gone")
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 500)
	f.do(admin, "GET", "/v1/instances/web-1", "").want("nothing was made", 404)
	if got := f.actions("admin"); len(got) != 0 {
		t.Errorf("audit chain: %q", got)
	}
	f.api.operations.ledger.dir = filepath.Join(f.dir, "operations")
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create once it can be kept", 200)
}

// An operation at its deadline, or whose service ends, may have taken place.
func TestABrokenOffOperationIsNotToldAsFailed(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	release := f.slow(admin, "web-1")
	must(t, f.api.Close())
	op := f.api.operations.list()[0]
	if op.Status != statusDone || op.Error == nil || op.Error.Code != codeOutcome {
		t.Errorf("after Close: %+v, %+v", op, op.Error)
	}
	if got := f.actions("admin"); !slices.Contains(got, "instance.start web-1 unknown") {
		t.Errorf("audit chain: %q", got)
	}
	release()
	f.open()
	f.do(admin, "GET", "/v1/operations/"+op.Name, "").want("after the restart", 200, "instance.outcome-unknown")
}

// What an operation showed of a machine's definition is sealed in the machine's home, and
// a record is not.
func TestARecordHasNothingOfAHome(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-1","memoryMiB":1234}}`).want("create", 200)
	var op Operation
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"memoryMiB":2345}`).want("change", 200, "1234", "2345").into(&op)
	text, err := os.ReadFile(f.api.operations.ledger.file(op.Name))
	must(t, err)
	if s := string(text); strings.Contains(s, "1234") && strings.Contains(s, "2345") || !strings.Contains(s, `"operationType":"update"`) {
		t.Errorf("record: %s", s)
	}
}

// goldenRecord is a record of version 1: all versions that were ever written are read.
const goldenRecord = `{"format":"assay operation","version":1,"oldestReader":1,"name":"operation-00000000000000ff","operationType":"start","instance":"web-1","user":"ann","status":"DONE","insertTime":"2026-11-22T10:00:00Z","endTime":"2026-11-22T10:00:01Z","error":{"code":"instance.start-failed","message":"it did not start","errors":[{"field":"a","detail":"b"}]}}`

func TestRecordOfVersion1(t *testing.T) {
	got, err := parseRecord(operationNamed(255), []byte(goldenRecord))
	must(t, err)
	end := time.Date(2026, 11, 22, 10, 0, 1, 0, time.UTC)
	want := &Operation{
		Kind: "operation", Name: operationNamed(255), OperationType: "start", Instance: "web-1", User: "ann", Status: statusDone,
		InsertTime: end.Add(-time.Second), EndTime: &end, Error: &Fault{codeStart, "it did not start", []apiserver.FieldError{{Field: "a", Detail: "b"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i := range len(goldenRecord) {
		if _, err := parseRecord(operationNamed(255), []byte(goldenRecord[:i])); err == nil {
			t.Errorf("the first %d bytes are read", i)
		}
	}
	for what, text := range map[string]string{
		"a byte more":        goldenRecord + "x",
		"another's":          strings.Replace(goldenRecord, "00ff", "00fe", 1),
		"a newer format":     strings.Replace(goldenRecord, `"oldestReader":1`, `"oldestReader":2`, 1),
		"another format":     strings.Replace(goldenRecord, "assay operation", "assay findings", 1),
		"no version":         strings.Replace(goldenRecord, `"version":1`, `"version":0`, 1),
		"an unknown member":  strings.Replace(goldenRecord, `"user"`, `"usher"`, 1),
		"no type":            strings.Replace(goldenRecord, `"start"`, `""`, 1),
		"no such status":     strings.Replace(goldenRecord, "DONE", "GONE", 1),
		"running, and ended": strings.Replace(goldenRecord, "DONE", "RUNNING", 1),
		"done, not ended":    strings.Replace(goldenRecord, `"endTime":"2026-11-22T10:00:01Z",`, "", 1),
		"a member twice":     strings.Replace(goldenRecord, `"user":"ann"`, `"user":"ann","user":"bob"`, 1),
	} {
		if _, err := parseRecord(operationNamed(255), []byte(text)); err == nil {
			t.Errorf("%s is read", what)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(goldenRecord))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseRecord(operationNamed(255), text)
		if err != nil {
			return
		}
		kept, err := recordOf(got)
		must(t, err)
		again, err := parseRecord(got.Name, kept)
		must(t, err)
		a, errA := json.Marshal(got)
		b, errB := json.Marshal(again)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s, %v becomes %s, %v", a, errA, b, errB)
		}
	})
}

// What else went wrong is not for clients: it may name files of the host.
func TestWordsAreOfTheKnownErrorAlone(t *testing.T) {
	known := fmt.Errorf("boot 3 %w", machine.ErrNotJudged)
	for name, err := range map[string]error{
		"alone":          known,
		"joined":         errors.Join(known, errors.New("close /srv/assay/machines/web-1: no space")),
		"joined below":   fmt.Errorf("machine: %w", errors.Join(known, errors.New("close /srv"))),
		"joined in that": errors.Join(errors.New("sync /srv/assay"), errors.Join(nil, known)),
	} {
		if got := machine.WordsOf(err, machine.ErrNotJudged); got != known.Error() {
			t.Errorf("%s: %q, want %q", name, got, known)
		}
	}
}
