package instances

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
)

// instead listens where the supervisor of a machine does, and has say answer each question.
func (f *fixture) instead(name string, say func(question string) string) {
	f.Helper()
	path := filepath.Join(f.dir, "vms", name, "run", "control")
	must(f, os.MkdirAll(filepath.Dir(path), 0o700))
	l, err := net.Listen("unix", path)
	must(f, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if q, err := bufio.NewReader(c).ReadString('\n'); err == nil {
					io.WriteString(c, say(q)+"\n") //nolint:errcheck // who asked may have gone
				}
			})
		}
	})
	f.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
}

// A machine whose supervisor is at fault delays and hides no other.
func TestAListShowsMachinesWhoseSupervisorIsAtFault(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	var asked sync.WaitGroup
	asked.Add(2)
	for _, name := range []string{"web-1", "web-2", "web-3", "web-4"} {
		f.do(admin, "POST", "/v1/instances", plain(name)).want("create", 200)
	}
	for _, name := range []string{"web-1", "web-2"} {
		f.instead(name, func(string) string { // who is asked alone waits for ever
			asked.Done()
			asked.Wait()
			return `{"result":{"name":"` + name + `","state":"running","problem":"what happened is not kept","detail":"open ` + f.dir + `"}}`
		})
	}
	f.instead("web-3", func(string) string { return "?" })
	got := f.do(admin, "GET", "/v1/instances", "").want("list", 200, `"problem":"what happened is not kept"`)
	var list listBody
	got.into(&list)
	var states []string
	for _, s := range list.Items {
		states = append(states, s.Name+" "+s.State)
	}
	if want := []string{"web-1 running", "web-2 running", "web-3 unknown", "web-4 stopped"}; !slices.Equal(states, want) {
		t.Errorf("%q, want %q", states, want)
	}
	if strings.Contains(string(got.body), f.dir) {
		t.Errorf("%s", got.body)
	}
	f.do(admin, "GET", "/v1/instances/web-3", "").want("one", 200, `"state":"unknown"`, "what its supervisor answers cannot be read", `"definition":{`)
	f.do(admin, "POST", "/v1/instances/web-3/reset", "").want("what it was asked to do", 503, "instance.outcome-unknown")
	f.do(admin, "GET", "/v1/instances/web-3/events", "").want("what only it knows", 503, "instance.no-answer")
}

// The host's files stay its own, also where a supervisor of an older version has them in
// its words; and a token speaks for its machine, not for who may look at it.
func TestTheHealthOfAMachineNamesNoFileAndGivesNoToken(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	viewer := f.principal(access.Principal{Name: "viewer", Roles: []access.Role{access.Viewer}})
	var health string
	f.instead("web-1", func(string) string {
		return `{"result":{"name":"web-1","state":"running","health":{"state":"healthy","reasons":[],"agentSeen":true,` + health + `},"baselines":[]}}`
	})
	for said, want := range map[string]string{
		`"tokenProblem":"open /etc/assay/service.token: permission denied"`:                 `"tokenProblem":"no token could be had`,
		`"tokenProblem":"at /etc/assay/x: no","tokenRefusal":"no"`:                          `"tokenProblem":"no"`,
		`"token":"eyJhbGciOi.secret","tokenProblem":"open /etc/assay/x: permission denied"`: `"state":"healthy"`,
		`"token":"eyJhbGciOi.secret"`:                                                       `"state":"healthy"`,
	} {
		health = said
		for _, path := range []string{"/v1/instances", "/v1/instances/web-1"} {
			got := string(f.do(viewer, "GET", path, "").want(path, 200, want).body)
			for _, secret := range []string{"/etc/assay", "eyJ", "tokenRefusal"} {
				if strings.Contains(got, secret) {
					t.Errorf("%s of %s: %s", path, said, got)
				}
			}
		}
	}
}

// Who may do something by a label is not kept waiting by supervisors.
func TestLabelsAreReadWithoutSupervisors(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-1","labels":{"env":"prod"}}}`).want("create", 200)
	f.instead("web-1", func(string) string {
		t.Error("the supervisor was asked")
		return ""
	})
	ann := f.principal(access.Principal{Name: "ann", Bindings: []access.Binding{{Role: access.Viewer, Label: "env=prod"}}})
	f.do(ann, "GET", "/v1/instances/web-1/findings", "").want("on the machine", 200)
	f.do(ann, "GET", "/v1/operations", "").want("on all", 200, `"instance":"web-1"`)
}

func TestAListHasPages(t *testing.T) {
	f := newFixture(t)
	const machines = 520
	for i := range machines {
		dir := filepath.Join(f.dir, "vms", fmt.Sprintf("m-%05d", i))
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, homecard.File), []byte("?"), 0o600))
	}
	admin := f.admin()
	var page listBody
	f.do(admin, "GET", "/v1/instances", "").want("one page", 200).into(&page)
	if len(page.Items) != 500 || page.Next != "m-00499" {
		t.Errorf("%d machines, next %q", len(page.Items), page.Next)
	}
	seen, after := []string{}, ""
	for pages := 0; pages == 0 || after != ""; pages++ {
		page = listBody{}
		f.do(admin, "GET", "/v1/instances?limit=300&after="+after, "").want("a page", 200).into(&page)
		for _, s := range page.Items {
			seen = append(seen, s.Name)
		}
		if after = page.Next; pages > machines/300 {
			t.Fatal("the pages do not end")
		}
	}
	if len(seen) != machines || !slices.IsSorted(seen) || len(slices.Compact(seen)) != machines {
		t.Errorf("%d machines on all pages", len(seen))
	}
	few := f.principal(access.Principal{Name: "few", Bindings: []access.Binding{{Role: access.Viewer, Instances: "m-0010*"}}})
	page = listBody{}
	f.do(few, "GET", "/v1/instances?limit=10", "").want("of some", 200).into(&page)
	if len(page.Items) != 10 || page.Next != "" || page.Items[0].Name != "m-00100" {
		t.Errorf("%d machines, next %q", len(page.Items), page.Next)
	}
	for _, query := range []string{"limit=1001", "limit=0", "limit=-1", "after=" + strings.Repeat("x", 64)} {
		f.do(admin, "GET", "/v1/instances?"+query, "").want(query, 422)
	}
}

// Whatever goes wrong, no answer names a file of the host that no definition names.
func TestNoAnswerNamesFilesOfTheHost(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	secret := filepath.Join(f.dir, "secret")
	says := func(kind, words string) func(string) string {
		return func(string) string {
			return fmt.Sprintf(`{"error":"close %s: no space left on device","kind":%q,"words":%q}`, secret, kind, words)
		}
	}
	breaks := func(name, file string) {
		must(t, os.WriteFile(filepath.Join(f.dir, "vms", name, file), []byte("?"), 0o600))
	}
	f.startFault = fmt.Errorf("open %s: permission denied", secret)
	for name, tc := range map[string]struct {
		fault  func(name string)
		status int
		words  string // of the answer to calls, the last of which counts
		calls  []string
	}{
		"a supervisor that says how it is":   {func(n string) { f.instead(n, says("state", "it is on its way")) }, 409, "it is on its way", []string{"GET events", "POST reset"}},
		"a supervisor of an older program":   {func(n string) { f.instead(n, says("state", "")) }, 409, "as the machine is now, it cannot do that", []string{"POST reset"}},
		"a supervisor with a known error":    {func(n string) { f.instead(n, says("notJudged", "boot 3 was compared with no baseline")) }, 409, "boot 3 was compared with no baseline", []string{"GET why", "GET diff", "GET boots"}},
		"a supervisor with an unknown error": {func(n string) { f.instead(n, says("", "")) }, 500, `"requestId":"`, []string{"GET events", "GET boots", "POST reset"}},
		"a supervisor that is at fault":      {func(n string) { f.instead(n, func(string) string { return secret }) }, 503, "instance.no-answer", []string{"GET events"}},
		"a damaged card":                     {func(n string) { breaks(n, homecard.File) }, 409, "instance.damaged", []string{"GET ", "GET check", "GET events"}},
		"a damaged definition":               {func(n string) { breaks(n, "definition.sealed") }, 409, "instance.damaged", []string{"GET check", "GET ", "POST clearTPM", "GET getShieldedInstanceIdentity"}},
		"a damaged history":                  {func(n string) { breaks(n, "integrity.sealed") }, 409, "instance.damaged", []string{"GET boots"}},
		"a damaged note":                     {func(n string) { breaks(n, "running.json") }, 200, "what became of its hypervisor cannot be read", []string{"GET "}},
		"a start that fails":                 {func(string) {}, 409, `"requestId":"`, []string{"POST start"}},
		"variables that cannot be read":      {func(n string) { breaks(n, "variables.sealed") }, 409, "instance.damaged", []string{"GET check"}},
		"a home that is none": {func(n string) {
			must(t, os.Remove(filepath.Join(f.dir, "vms", n, "definition.sealed")))
			must(t, os.Mkdir(filepath.Join(f.dir, "vms", n, "definition.sealed"), 0o700))
		}, 409, "instance.damaged", []string{"GET check"}},
	} {
		t.Run(name, func(t *testing.T) {
			name = "m-" + strings.ReplaceAll(name, " ", "-")
			f.do(admin, "POST", "/v1/instances", plain(name)).want("create", 200)
			tc.fault(name)
			var got answer
			for _, call := range append([]string{"GET ../instances", "GET ../operations"}, tc.calls...) {
				method, path, _ := strings.Cut(call, " ")
				path = strings.TrimSuffix("/v1/instances/"+name+"/"+path, "/")
				path = strings.Replace(path, "/instances/"+name+"/../", "/", 1)
				got = f.do(admin, method, path, "")
				if text := string(got.body); strings.Contains(text, secret) || strings.Contains(text, f.dir) {
					t.Errorf("%s: %d %s", call, got.status, text)
				}
			}
			got.want(tc.calls[len(tc.calls)-1], tc.status, tc.words)
			list := f.do(admin, "GET", "/v1/operations", "").want("operations", 200)
			if strings.Contains(string(list.body), f.dir) {
				t.Errorf("%s", list.body)
			}
		})
	}
}

// slowBody is a body that is not there before somebody has seen that it is waited for.
type slowBody struct {
	waited, there chan struct{}
	once          sync.Once
	io.Reader
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.once.Do(func() { close(b.waited) })
	<-b.there
	return b.Reader.Read(p)
}

// A label that is taken away while a request is under way gives nothing to it any more.
func TestAPermissionByLabelHoldsWhenTheChangeIsMade(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-1","labels":{"env":"prod"}}}`).want("create", 200)
	ann := f.principal(access.Principal{Name: "ann", Bindings: []access.Binding{{Role: access.InstanceAdmin, Label: "env=prod"}}})
	for path, body := range map[string]string{
		"PATCH /v1/instances/web-1":                                                `{"cpus":2}`,
		"POST /v1/instances/web-1/snapshots":                                       `{"name":"one"}`,
		"PATCH /v1/instances/web-1/updateShieldedInstanceConfig?validateOnly=true": `{"enableSecureBoot":true}`,
	} {
		slow := &slowBody{waited: make(chan struct{}), there: make(chan struct{}), Reader: strings.NewReader(body)}
		method, path, _ := strings.Cut(path, " ")
		req := httptest.NewRequestWithContext(t.Context(), method, path, slow)
		req.ContentLength = int64(len(body))
		req.Header.Set("Authorization", "Bearer "+ann)
		req.Header.Set("Content-Type", "application/json")
		got, done := httptest.NewRecorder(), make(chan struct{})
		go func() {
			f.handler.ServeHTTP(got, req)
			close(done)
		}()
		<-slow.waited // it was let in
		f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"env":"dev"}}`).want("the label goes", 200)
		close(slow.there)
		<-done
		if got.Code != 403 || !strings.Contains(got.Body.String(), "ann") {
			t.Errorf("%s: %d %s", path, got.Code, got.Body)
		}
		f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"env":"prod"}}`).want("the label comes back", 200)
	}
	if d, err := f.root.Describe(t.Context(), "web-1"); err != nil || d.Definition.CPUs != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}

// The home is read under its lock: what another process changed meanwhile counts, too.
func TestAChangeIsHeldAgainstTheLabelsInTheHome(t *testing.T) {
	f := newFixture(t)
	f.do(f.admin(), "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-1","labels":{"env":"prod"}}}`).want("create", 200)
	f.relabel = func() { // by assay vm update on the host, after the last look
		_, err := f.root.Update(context.Background(), "operator", "web-1", relabelled("dev"))
		must(t, err)
	}
	ann := f.principal(access.Principal{Name: "ann", Bindings: []access.Binding{{Role: access.InstanceAdmin, Label: "env=prod"}}})
	f.do(ann, "PATCH", "/v1/instances/web-1", `{"cpus":2}`).want("afterwards", 403, "instances.update", "ann")
}

// relabelled changes a machine's label.
func relabelled(env string) machine.UpdateOptions {
	return machine.UpdateOptions{Change: func(d *fleet.Definition) error {
		d.Labels = map[string]string{"env": env}
		return nil
	}}
}

// No name reaches a file, or anything but an answer that says what is wrong with it.
func TestNamesThatAreNoneAreRefusedOnEveryRoute(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	for _, o := range operationsOf(t) {
		if !strings.Contains(o.path, "{instance}") {
			continue
		}
		for _, name := range []string{"..%2Fvms%2Fweb-1", ".", "a%00b", "a%0Ab", "a.b", "web-1%2F", strings.Repeat("a", 64), "%FF"} {
			path, body := o.request(name, 1)
			path = strings.ReplaceAll(path, "{snapshot}", "one")
			if name == "." { // ServeMux cleans such a path away
				path = strings.ReplaceAll(path, "/./", "/%2E/")
			}
			got := f.do(admin, o.method, path, body)
			if ok := got.status >= 300 && got.status < 500; !ok || strings.Contains(string(got.body), f.dir) {
				t.Errorf("%s %s: %d %s", o.method, path, got.status, got.body)
			}
		}
	}
	f.do(admin, "GET", "/v1/instances/web-1", "").want("the one that there is", 200)
}

func TestBodiesThatAreTooMuchAreRefused(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	wide := `{"labels":{` + strings.TrimSuffix(strings.Repeat(`"a":"b",`, 6000), ",") + `}}`
	for what, tc := range map[string]struct {
		method, path, body string
		status             int
	}{
		"deep":             {"PATCH", "/v1/instances/web-1", deep, 400},
		"wide":             {"PATCH", "/v1/instances/web-1", wide, 400},
		"large":            {"PATCH", "/v1/instances/web-1", `{"name":"` + strings.Repeat("a", 65<<10) + `"}`, 413},
		"large where none": {"POST", "/v1/instances/web-1/reset", strings.Repeat("a", 65<<10), 409},
		"many labels":      {"PATCH", "/v1/instances/web-1", manyLabels(1000), 422},
		"a list":           {"PATCH", "/v1/instances/web-1", `[]`, 422},
		"nothing":          {"PATCH", "/v1/instances/web-1", `null`, 422},
		"control":          {"PATCH", "/v1/instances/web-1", `{"labels":{"a":"b\u0000"}}`, 422},
	} {
		if got := f.do(admin, tc.method, tc.path, tc.body); got.status != tc.status {
			t.Errorf("%s: %d %.300s, want %d", what, got.status, got.body, tc.status)
		}
	}
}

func manyLabels(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"l%d":"v"`, i)
	}
	return `{"labels":{` + b.String()[1:] + `}}`
}

// Of two who change what both have read one is told.
func TestAChangeIsOfTheDefinitionThatWasSeen(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	const path = "/v1/instances/web-1"
	tag := func() string { return f.do(admin, "GET", path, "").want("read", 200).header.Get("ETag") }
	first := tag()
	change := func(match, to string) answer {
		return f.doWith(map[string]string{"If-Match": match}, admin, "PATCH", path, `{"cpus":`+to+`}`)
	}
	change(first, "2").want("the first", 200)
	second := tag()
	if first == second || first == "" {
		t.Errorf("ETag %s, then %s", first, second)
	}
	change(first, "3").want("the second", 409, "If-Match")
	f.doWith(map[string]string{"If-Match": first}, admin, "PATCH", path+"/updateShieldedInstanceConfig", `{"enableSecureBoot":true}`).want("of the options", 409, "If-Match")
	change("no tag", "3").want("no tag", 409)
	f.doWith(map[string]string{"If-Match": first}, admin, "PATCH", path+"?validateOnly=true", `{"cpus":3}`).want("a look", 409)
	if got := tag(); got != second {
		t.Errorf("ETag %s after changes that were refused, want %s", got, second)
	}
	change("*", "3").want("any", 200)
	change(tag(), "4").want("after another look", 200)
}

func TestAnOperationOutlivesItsMachine(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	release := f.slow(admin, "web-1")
	must(t, f.root.Delete(t.Context(), "operator on the host", "web-1"))
	f.do(admin, "GET", "/v1/instances/web-1", "").want("the machine", 404)
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("by another operation", 409, "instance.busy")
	release()
	op := f.api.operations.list()[0]
	f.do(admin, "POST", "/v1/operations/"+op.Name+"/wait", "").want("the operation", 200, `"status":"DONE"`)
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("afterwards", 404)
	f.mu.Lock()
	f.hold = nil
	f.mu.Unlock()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("another of the name", 200)
}

func TestOldEventsComeOnlyWhenTheyAreWanted(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	for _, n := range []string{"2", "3", "4"} {
		f.do(admin, "PATCH", "/v1/instances/web-1", `{"cpus":`+n+`}`).want("change", 200)
	}
	got := f.do(admin, "GET", "/v1/instances/web-1/events?limit=2", "").want("two", 200, "cpus: 3", "cpus: 4", `"older":true`)
	if strings.Contains(string(got.body), "cpus: 2") {
		t.Errorf("%s", got.body)
	}
	got = f.do(admin, "GET", "/v1/instances/web-1/events", "").want("all", 200, "cpus: 2", "cpus: 4")
	if strings.Contains(string(got.body), "older") {
		t.Errorf("%s", got.body)
	}
	f.do(admin, "GET", "/v1/instances/web-1/events?limit=10001", "").want("too many", 422)
}

// Who reads much waits for others who do, and no longer than its request may: of a machine
// that is off, and of one whose supervisor answers.
func TestLogsAreReadAFewAtATime(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	f.do(admin, "POST", "/v1/instances", plain("web-2")).want("create", 200)
	f.instead("web-2", func(string) string { return `{"result":[]}` })
	f.do(admin, "GET", "/v1/instances/web-2/events", "").want("while there is room", 200)
	for range mostHeavy {
		leave, err := f.api.heavy.enter(t.Context(), bound{"", mostHeavy})
		must(t, err)
		defer leave()
	}
	for _, path := range []string{"web-1/events", "web-1/reports", "web-1/boots", "web-1/diff", "web-1/why", "web-2/events"} {
		if got := f.waiting(&f.api.heavy, admin, "/v1/instances/"+path); got.Code != 429 {
			t.Errorf("%s: %d %s", path, got.Code, got.Body)
		}
	}
	f.do(admin, "GET", "/v1/instances/web-1", "").want("what is short", 200)
}

// within asks with a request that lasts only so long.
func (f *fixture) within(d time.Duration, token, path string) *httptest.ResponseRecorder {
	ctx, cancel := context.WithTimeout(f.Context(), d)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	got := httptest.NewRecorder()
	f.handler.ServeHTTP(got, req)
	return got
}

// waiting asks with a request that ends once it waits for a turn, however long it takes to come
// to that.
func (f *fixture) waiting(all *turns, token, path string) *httptest.ResponseRecorder {
	f.Helper()
	waits := func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		return all.freed != nil
	}
	all.mu.Lock()
	all.freed = nil // of who waited before, and waits no more
	all.mu.Unlock()
	ctx, end := context.WithCancel(f.Context())
	defer end()
	req := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	got, answered := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(answered)
		f.handler.ServeHTTP(got, req)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !waits() {
		select {
		case <-answered: // without a wait
			return got
		case <-tick.C:
		}
	}
	end()
	<-answered
	return got
}

// As many silent supervisors as there are turns to read keep nobody from another's log.
func TestASilentSupervisorHoldsNoOthersLog(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("db-1")).want("create", 200)
	eve := f.principal(access.Principal{Name: "eve", Bindings: []access.Binding{{Role: access.Viewer, Instances: "eve-*"}}})
	release := make(chan struct{})
	const silent = mostOfCaller - 1
	asked := make(chan string, 2*silent)
	var reading sync.WaitGroup
	for i := range silent {
		name := fmt.Sprintf("eve-%d", i)
		f.do(admin, "POST", "/v1/instances", plain(name)).want("create", 200)
		f.instead(name, func(string) string {
			asked <- name
			<-release
			return `{"result":[]}`
		})
		reading.Go(func() { f.do(eve, "GET", "/v1/instances/"+name+"/events", "").want("at last", 200) })
	}
	late := time.After(time.Minute)
	for n := range silent {
		select {
		case <-asked:
		case <-late:
			close(release)
			reading.Wait()
			t.Fatalf("%d of %d silent supervisors were asked", n, silent)
		}
	}
	if got := f.within(time.Minute, admin, "/v1/instances/db-1/events"); got.Code != 200 {
		t.Errorf("another's log: %d %s", got.Code, got.Body)
	}
	if got := f.waiting(&f.api.asking, eve, "/v1/instances/eve-0/boots"); got.Code != 429 {
		t.Errorf("the same machine twice at once: %d %s", got.Code, got.Body)
	}
	close(release)
	reading.Wait()
}

// A route's files, and the machine as its hypervisor is told of it, name files of the host.
func TestFindingsAndSnapshotsNameNoFileOfTheHost(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	now := time.Now()
	lost := "a change was given up: open /etc/assay/pager.secret: permission denied" // as package route says it
	must(t, f.find.Update(t.Context(), now, func(b *finding.Book) error {
		return b.Apply(now, finding.Signal{Kind: finding.DeliveryFailed, Component: "route pager", Reasons: []evidence.Reason{{Code: finding.DeliveryFailed, Message: lost, Component: "pager"}}})
	}))
	for _, path := range []string{"/v1/findings", "/v1/findings/1"} {
		if got := f.do(admin, "GET", path, "").want(path, 200, `"component":"pager"`, "assay finding show"); strings.Contains(string(got.body), "/etc/assay") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	made := f.do(admin, "POST", "/v1/instances/web-1/snapshots", `{"name":"one"}`).want("snapshot", 200, `"name":"one"`)
	var op Operation
	made.into(&op)
	for what, got := range map[string]answer{
		"the answer":    made,
		"the list":      f.do(admin, "GET", "/v1/instances/web-1/snapshots", "").want("list", 200, `"name":"one"`),
		"the operation": f.do(admin, "GET", "/v1/operations/"+op.Name, "").want("operation", 200, `"name":"one"`),
	} {
		if text := string(got.body); strings.Contains(text, "code.fd") || strings.Contains(text, "hardware") {
			t.Errorf("%s: %s", what, text)
		}
	}
}

// A guest chooses how long a review is. Who asks for one has it; kept it is not.
func TestAReviewIsInTheAnswerToItsOwnRequestAlone(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	approved := true
	f.instead("web-1", func(question string) string {
		switch {
		case strings.Contains(question, `"review"`):
			return `{"result":{"bootCounter":"7","digest":"` + strings.Repeat("b", 64) + `","changes":[{"pcr":8,"words":"words of the guest"}]}}`
		case approved:
			return `{"result":[]}`
		}
		return `{"error":"no","kind":"notSeen","words":"no"}`
	})
	const path, learn = "/v1/instances/web-1/setShieldedInstanceIntegrityPolicy", `{"updateAutoLearnPolicy":true}`
	var op Operation
	f.do(admin, "PATCH", path, learn).want("learn", 200, "words of the guest").into(&op)
	approved = false
	if got := f.do(admin, "PATCH", path, learn); got.status == 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	f.do(admin, "PATCH", path+"?validateOnly=true", learn).want("only looked at", 200, "words of the guest")
	for _, path := range []string{"/v1/operations", "/v1/operations/" + op.Name} {
		if got := f.do(admin, "GET", path, "").want(path, 200, op.Name, `"setShieldedInstanceIntegrityPolicy"`); strings.Contains(string(got.body), "words of the guest") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	f.api.operations.mu.Lock()
	defer f.api.operations.mu.Unlock()
	for name, o := range f.api.operations.byName {
		if o.review != nil || o.Review != nil {
			t.Errorf("%s keeps its review", name)
		}
	}
}

// A slowReader takes nothing of its answer until it is told to.
type slowReader struct {
	*httptest.ResponseRecorder
	began chan<- struct{}
	goOn  <-chan struct{}
}

func (w *slowReader) Write(b []byte) (int, error) {
	w.began <- struct{}{}
	<-w.goOn
	return w.ResponseRecorder.Write(b)
}

// An answer that is not taken is in memory: one caller has a few such, and keeps nobody else
// from the logs of any machine with them.
func TestWhoReadsSlowlyHoldsAFewAnswersAndKeepsNobodyWaiting(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	eve := f.principal(access.Principal{Name: "eve", Roles: []access.Role{access.Viewer}})
	began, goOn := make(chan struct{}, 64), make(chan struct{})
	var reading sync.WaitGroup
	for range mostOfCaller {
		w := &slowReader{httptest.NewRecorder(), began, goOn}
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/instances/web-1/events", nil)
		req.Header.Set("Authorization", "Bearer "+eve)
		reading.Go(func() { f.handler.ServeHTTP(w, req) })
		<-began
	}
	if got := f.waiting(&f.api.answering, eve, "/v1/instances/web-1/boots"); got.Code != 429 {
		t.Errorf("one answer more: %d %s", got.Code, got.Body)
	}
	if got := f.within(time.Minute, admin, "/v1/instances/web-1/events"); got.Code != 200 {
		t.Errorf("another's answer: %d %s", got.Code, got.Body)
	}
	close(goOn)
	reading.Wait()
	f.do(eve, "GET", "/v1/instances/web-1/events", "").want("when all are taken", 200)
	f.api.answering.mu.Lock()
	defer f.api.answering.mu.Unlock()
	if n := len(f.api.answering.held); n != 0 {
		t.Errorf("%d turns are held", n)
	}
}

func TestATurnIsHeldOnlyWhenAllBoundsHaveRoom(t *testing.T) {
	var all turns
	ann, bob, db := bound{"ann", 1}, bound{"bob", 1}, bound{"db", 2}
	leave, err := all.enter(t.Context(), ann, db)
	must(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.enter(gone, db, ann); !errors.Is(err, context.Canceled) {
		t.Errorf("a second turn of one caller: %v", err)
	}
	other, err := all.enter(t.Context(), bob, db) // what ann waited for is not held
	must(t, err)
	if _, err := all.enter(gone, bound{"eve", 1}, db); !errors.Is(err, context.Canceled) {
		t.Errorf("a third turn of a machine: %v", err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		again, err := all.enter(t.Context(), ann, db)
		if err != nil {
			t.Error(err)
			return
		}
		again()
	})
	leave()
	waiting.Wait()
	other()
	if len(all.held) != 0 {
		t.Errorf("held at the end: %v", all.held)
	}
}

// What errors and events of the host say of its files is told on the host alone.
func TestNoEventNamesFilesOfTheHost(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	h, err := f.root.Open(t.Context(), "web-1")
	must(t, err)
	for typ, code := range map[string]evidence.Code{
		integrity.EventMigrated: "machine.migration-failed", integrity.EventTPMLost: "machine.tpm-lost", integrity.EventShutdown: "machine.hypervisor-failed",
	} {
		n := integrity.Notice{Type: typ, Instance: "web-1", Time: time.Now(), Reasons: []evidence.Reason{{Code: code, Message: "open " + f.dir}}}
		must(t, h.Log(n))
		must(t, f.find.Update(t.Context(), n.Time, func(b *finding.Book) error { return b.Apply(n.Time, finding.FromNotice(&n)...) }))
	}
	must(t, h.Close())
	for path, words := range map[string]string{
		"instances/web-1/events": "was taken back from it", "instances/web-1/events?format=gce": "items", "instances/web-1/findings": "items", "findings": "finding.tpm-lost", "findings/1": "finding.",
	} {
		if got := f.do(admin, "GET", "/v1/"+path, "").want(path, 200, words); strings.Contains(string(got.body), f.dir) {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}
