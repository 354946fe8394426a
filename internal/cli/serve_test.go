package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
	"github.com/assay-project/assay/internal/store/sqlite"
)

// A running service of the test's own process.
type serving struct {
	url  string
	data string
	stop func() error // lets it end and returns what serve returned
	log  *programtest.Buffer
	out  *programtest.Buffer
}

// startServing runs serve in data; change may alter its options.
func startServing(t testing.TB, data string, change func(*serveOptions)) *serving {
	t.Helper()
	s := &serving{data: data, log: &programtest.Buffer{}, out: &programtest.Buffer{}}
	ready := make(chan string, 1)
	o := &serveOptions{listen: "127.0.0.1:0", tlsMode: tlsSelfSigned, logFormat: "text", logLevel: "info", ready: func(url string) { ready <- url }}
	o.Data = data
	if change != nil {
		change(o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, programtest.Env(s.out, s.log), o) }()
	select {
	case s.url = <-ready:
	case err := <-ended:
		cancel()
		t.Fatalf("serve = %v\n%s", err, s.log)
	}
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { s.stop() }) //nolint:errcheck // a test that cares asks itself
	return s
}

// admin runs a command against the service as its administrator.
func (s *serving) admin(t testing.TB, args ...string) (out string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := programtest.Env(&stdout, &stderr)
	env.Getenv = func(name string) string {
		return map[string]string{"ASSAY_SERVER": s.url, "ASSAY_CA": filepath.Join(s.data, caFile), "ASSAY_TOKEN_FILE": filepath.Join(s.data, tokenFile)}[name]
	}
	status = Main(env, args)
	return stdout.String() + stderr.String(), status
}

func clientFor(t testing.TB, data string) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(filepath.Join(data, caFile)); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func TestFirstStartMakesWhatIsNeededAndTellsNoSecret(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := startServing(t, data, nil)
	token, err := os.ReadFile(filepath.Join(data, tokenFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{s.out.String(), s.log.String()} {
		if strings.Contains(text, strings.TrimSpace(string(token))) {
			t.Errorf("the API token is shown: %s", text)
		}
	}
	for _, want := range []string{s.url, caFile, tokenFile, "/v1/whoami"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("greeting lacks %q:\n%s", want, s.out)
		}
	}
	for name, mode := range map[string]os.FileMode{tokenFile: 0o600, program.KeyFile: 0o600, caKeyFile: 0o600, "assay.db": 0o600} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if sealed, _ := os.ReadFile(filepath.Join(data, caKeyFile)); bytes.Contains(sealed, []byte("PRIVATE")) {
		t.Error("the authority's key is in the clear")
	}
	if out, status := s.admin(t, "whoami"); status != program.StatusOK || !strings.Contains(out, "principals.write") {
		t.Errorf("whoami: %d %s", status, out)
	}
	ca, _ := os.ReadFile(filepath.Join(data, caFile))
	if err := s.stop(); err != nil {
		t.Errorf("serve = %v", err)
	}
	again := startServing(t, data, nil)
	if now, _ := os.ReadFile(filepath.Join(data, caFile)); !bytes.Equal(now, ca) {
		t.Error("the second start made another authority")
	}
	if now, _ := os.ReadFile(filepath.Join(data, tokenFile)); !bytes.Equal(now, token) {
		t.Error("the second start made another administrator")
	}
	if out, status := again.admin(t, "whoami"); status != program.StatusOK {
		t.Errorf("whoami after a restart: %d %s", status, out)
	}
}

func TestServeRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"plain HTTP on a network":       {"--tls", "off", "--listen", "0.0.0.0:0"},
		"plain HTTP on every address":   {"--tls", "off", "--listen", ":0"},
		"open metrics on a network":     {"--metrics-listen", "0.0.0.0:0"},
		"unknown TLS mode":              {"--tls", "sometimes"},
		"certificate without key":       {"--tls-cert", "x"},
		"unknown log format":            {"--log-format", "xml"},
		"unknown log level":             {"--log-level", "loud"},
		"address without port":          {"--listen", "127.0.0.1"},
		"issuer that is no URL":         {"--issuer", "ftp://x"},
		"key file that is not there":    {"--key-file", "/nonexistent/key"},
		"policy that is not there":      {"--policy", "/nonexistent/policy"},
		"two sources of keys":           {"--key-file", "a", "--key-credential", "b"},
		"database that is not there":    {"--database", "postgres://127.0.0.1:1/none?connect_timeout=1"},
		"argument":                      {"now"},
		"certificate that is not there": {"--tls-cert", "/nonexistent/c", "--tls-key", "/nonexistent/k"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs programtest.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			root := newRoot(programtest.Env(&out, &errs))
			root.SetArgs(append([]string{"serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0"}, args...))
			if err := root.ExecuteContext(ctx); err == nil || ctx.Err() != nil {
				t.Errorf("serve %v = %v", args, err)
			}
			if out.String() != "" {
				t.Errorf("it says it serves: %s", &out)
			}
		})
	}
}

func TestServeReadsItsEnvironment(t *testing.T) {
	cmd := newServeCmd(programtest.Env(io.Discard, io.Discard))
	if err := cmd.Flags().Set("listen", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	err := fromEnvironment(cmd.Flags(), func(name string) string {
		return map[string]string{"ASSAY_LISTEN": "127.0.0.1:2", "ASSAY_TLS_HOST": "a,b", "ASSAY_OPEN_ATTESTATION": "true"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"listen": "127.0.0.1:1", "tls-host": "[a,b]", "open-attestation": "true", "tls": "self-signed"} {
		if got := cmd.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
	if err := fromEnvironment(newServeCmd(programtest.Env(io.Discard, io.Discard)).Flags(), func(string) string { return "neither" }); err == nil {
		t.Error("a setting of the environment that cannot be read is passed over")
	}
}

func TestServeLetsRequestsUnderWayFinish(t *testing.T) {
	data := t.TempDir()
	s := startServing(t, data, func(o *serveOptions) { o.tlsMode = tlsOff })
	token, err := os.ReadFile(filepath.Join(data, tokenFile))
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(s.url, "http://")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The answer 100 Continue shows that the request is under way.
	fmt.Fprintf(c, "POST /v1/challenges HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", bytes.TrimSpace(token))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q, %v", line, err)
	}
	ended := make(chan error)
	go func() { ended <- s.stop() }()
	for { // until the service takes no connection
		other, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		other.Close()
	}
	io.WriteString(c, "{}") //nolint:errcheck // the answer shows it
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "201") {
		t.Errorf("the request under way got %q, %v", line, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve = %v", err)
	}
}

func TestGivenCertificateIsUsed(t *testing.T) {
	dir := t.TempDir()
	env := programtest.Env(io.Discard, io.Discard)
	made := startServing(t, filepath.Join(dir, "ca"), nil) // lends its authority
	if err := made.stop(); err != nil {
		t.Fatal(err)
	}
	keys, err := program.KeySource{}.Open(env, made.data)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := openCA(t.Context(), env, keys, made.data)
	if err != nil {
		t.Fatal(err)
	}
	key, der, err := (&certificates{env: env, ca: ca, hosts: []string{"127.0.0.1"}}).issue(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, keyName := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, keyName: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startServing(t, filepath.Join(dir, "data"), func(o *serveOptions) { o.tlsCert, o.tlsKey = cert, keyName })
	if _, err := os.Stat(filepath.Join(s.data, caFile)); err == nil {
		t.Error("an authority was made although a certificate was given")
	}
	resp, err := clientFor(t, made.data).Get(s.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if !bytes.Equal(resp.TLS.PeerCertificates[0].Raw, der) {
		t.Error("another certificate is served")
	}
}

// The commands that administer, each against the running service.
func TestAdministrationOverTheAPI(t *testing.T) {
	s := startServing(t, t.TempDir(), nil)
	dir := t.TempDir()
	policyFile := filepath.Join(dir, "p.policy")
	text := "version= 1.2;\nauthorizationrules {\n    [type == \"secureBoot\", value == true] => permit();\n};\nissuancerules {\n};\n"
	if err := os.WriteFile(policyFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, otherToken, empty := "demodata/good.json", filepath.Join(dir, "token"), filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stranger, _, _, err := access.NewToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(otherToken, []byte(stranger), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"principal", "add", "agent", "--role", "attester"}, program.StatusOK, "assay_"},
		{[]string{"principal", "add", "agent", "--role", "attester"}, program.StatusRefused, "request.conflict"},
		{[]string{"principal", "add", "x", "--role", "king"}, program.StatusRefused, "request.invalid"},
		{[]string{"principal", "list"}, program.StatusOK, `"agent"`},
		{[]string{"iam", "role", "set", "night-shift", "--permission", "instances.start,instances.stop"}, program.StatusOK, "night-shift"},
		{[]string{"iam", "role", "set", "viewer", "--permission", "attest"}, program.StatusRefused, "is predefined"},
		{[]string{"iam", "role", "set", "night-shift"}, program.StatusUnusable, "permission"},
		{[]string{"iam", "roles"}, program.StatusOK, "night-shift"},
		{[]string{"iam", "roles", "-o", "json"}, program.StatusOK, `"predefined": true`},
		{[]string{"iam", "grant", "agent", "--role", "night-shift", "--instance", "web-*"}, program.StatusOK, "role night-shift on web-*"},
		{[]string{"iam", "grant", "agent", "--role", "instanceAdmin"}, program.StatusOK, "role instance-admin"},
		{[]string{"iam", "grant", "agent", "--role", "king"}, program.StatusRefused, "does not exist"},
		{[]string{"iam", "grant", "agent", "--permission", "attest", "--instance", "a"}, program.StatusUnusable, "none of the others can be"},
		{[]string{"iam", "grant", "agent"}, program.StatusUnusable, "at least one"},
		{[]string{"iam", "revoke", "agent", "--role", "instanceAdmin"}, program.StatusOK, "night-shift"},
		{[]string{"iam", "revoke", "agent", "--role", "instanceAdmin"}, program.StatusRefused, "no such grant"},
		{[]string{"iam", "revoke", "admin", "--role", "admin"}, program.StatusRefused, "locked out"},
		{[]string{"iam", "why", "agent", "instances.start", "--instance", "web-1"}, program.StatusOK, "role night-shift on web-*"},
		{[]string{"iam", "why", "agent", "instances.start"}, program.StatusRefused, "operator, instance-admin, admin, night-shift"},
		{[]string{"iam", "why", "agent", "instances.start", "-o", "json"}, program.StatusRefused, `"allowed": false`},
		{[]string{"iam", "why", "nobody", "attest"}, program.StatusRefused, "request.not-found"},
		{[]string{"iam", "who-can", "instances.start", "--instance", "web-1"}, program.StatusOK, `"agent"`},
		{[]string{"iam", "who-can", "root"}, program.StatusRefused, "request.invalid"},
		{[]string{"principal", "list"}, program.StatusOK, "night-shift@web-*"},
		{[]string{"iam", "role", "delete", "night-shift"}, program.StatusRefused, "revoke it first"},
		{[]string{"principal", "remove", "agent"}, program.StatusOK, ""},
		{[]string{"iam", "role", "delete", "night-shift"}, program.StatusOK, ""},
		{[]string{"principal", "remove", "agent"}, program.StatusRefused, "request.not-found"},
		{[]string{"principal", "remove", "admin"}, program.StatusRefused, "request.conflict"},
		{[]string{"policy", "put", "web", policyFile, "--comment", "first"}, program.StatusOK, "web"},
		{[]string{"policy", "put", "web", policyFile}, program.StatusOK, "2"},
		{[]string{"policy", "put", "web", policyFile, "--replaces", "1"}, program.StatusRefused, "request.conflict"},
		{[]string{"policy", "rollback", "web", "--version", "1"}, program.StatusOK, "roll back to version 1"},
		{[]string{"policy", "history", "web"}, program.StatusOK, `"first"`},
		{[]string{"policy", "list"}, program.StatusOK, "default"},
		{[]string{"attester", "register", "--machine", "web-1", "--ak", bundle}, program.StatusOK, "000b"},
		{[]string{"attester", "register", "--machine", "web-1", "--ak", bundle}, program.StatusRefused, "attester.taken"},
		{[]string{"attester", "register", "--machine", "web-2", "--ak", empty}, program.StatusUnusable, empty + " is empty"},
		{[]string{"attester", "list"}, program.StatusOK, "web-1"},
		{[]string{"attester", "baseline", "000bff", ""}, program.StatusRefused, "request.not-found"},
		{[]string{"anchor", "add", filepath.Join(s.data, caFile)}, program.StatusOK, "ek-ca-"},
		{[]string{"anchor", "list"}, program.StatusOK, "ek-ca-"},
		{[]string{"anchor", "remove", "ek-ca-0000"}, program.StatusRefused, "request.not-found"},
		{[]string{"reference", "put", "good", policyFile}, program.StatusUnusable, "is not JSON"},
		{[]string{"reference", "list"}, program.StatusOK, "NAME"},
		{[]string{"appraisal", "list"}, program.StatusOK, "VERDICT"},
		{[]string{"appraisal", "show", "nothing"}, program.StatusRefused, "request.not-found"},
		{[]string{"whoami", "--token-file", "/nonexistent"}, program.StatusUnusable, "no such file"},
		{[]string{"whoami", "--token-file", policyFile}, program.StatusUnusable, "holds no API token"},
		{[]string{"whoami", "--token-file", otherToken}, program.StatusRefused, "access.credential-refused"},
		{[]string{"whoami", "--server", "http://192.0.2.1"}, program.StatusUnusable, "not a loopback address"},
		{[]string{"whoami", "-o", "json"}, program.StatusOK, `"name": "admin"`},
	} {
		out, status := s.admin(t, step.args...)
		if status != step.status || !strings.Contains(out, step.want) {
			t.Errorf("assay %s: status %d, want %d with %q:\n%s", strings.Join(step.args, " "), status, step.status, step.want, out)
		}
	}
}

// TestServeChild is the program of TestKillLosesNothingAcknowledged; it does
// nothing when it is run by hand.
func TestServeChild(t *testing.T) {
	args := os.Getenv("ASSAY_TEST_SERVE")
	if args == "" {
		t.Skip("only run by TestKillLosesNothingAcknowledged")
	}
	env := programtest.Env(os.Stdout, os.Stderr)
	os.Exit(Main(env, strings.Split(args, "\n")))
}

// kills is how often each database is killed under load, each time while the last of at
// most maxLoad decisions is acknowledged and others are under way: how many came before
// shows nothing, and is a third of the test's time.
const (
	kills   = 50
	maxLoad = 16
)

func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds := kills
	if testing.Short() {
		rounds = 5
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		data := t.TempDir()
		ids := killRounds(t, rounds, data)
		s, err := sqlite.OpenReader(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		nothingMissing(t, s, ids)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Start(t).Database(t)
		ids := killRounds(t, rounds, t.TempDir(), "--database", url, "--database-without-fsync")
		s, err := postgres.OpenReader(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		nothingMissing(t, s, ids)
	})
}

// A chainReader is what is left after the kills.
type chainReader interface {
	AuditEntries(ctx context.Context, after uint64, limit int) ([]audit.Entry, error)
}

// nothingMissing holds what was acknowledged against the audit chain, which names
// every appraisal that the store holds.
func nothingMissing(t *testing.T, s chainReader, ids []string) {
	t.Helper()
	var v audit.Verifier
	kept := map[string]bool{}
	for {
		page, err := s.AuditEntries(t.Context(), v.Head().Seq, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if err := v.Next(e); err != nil {
				t.Fatal(err)
			}
			kept[e.Subject] = true
		}
		if len(page) == 0 {
			break
		}
	}
	for _, id := range ids {
		if !kept[id] {
			t.Errorf("appraisal %s was acknowledged and is not there", id)
		}
	}
	if len(ids) < kills/10 {
		t.Errorf("only %d decisions were acknowledged: the test has shown nothing", len(ids))
	}
	t.Logf("%d decisions acknowledged, %d entries in the audit chain", len(ids), v.Head().Seq)
}

// killRounds starts the service, loads it, kills it at a random moment, and again.
// What was acknowledged in a round is read back over the API in the next.
func killRounds(t *testing.T, rounds int, data string, args ...string) []string {
	t.Helper()
	var all, last []string
	for range rounds {
		url, kill := startChild(t, data, args)
		api := &attestClient{url: url, http: clientFor(t, data), bundle: mustRead(t, "demodata/good.json"), token: strings.TrimSpace(string(mustRead(t, filepath.Join(data, tokenFile))))}
		for _, id := range last {
			if status, body := api.do("GET", "/v1/appraisals/"+id, nil); status != http.StatusOK {
				t.Fatalf("appraisal %s of the round before: %d %s", id, status, body)
			}
		}
		last = api.loadUntil(t, int64(1+mrand.IntN(maxLoad)), kill)
		all = append(all, last...)
		api.http.CloseIdleConnections()
	}
	return all
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// startChild runs the service in a process of its own. kill ends it with SIGKILL.
func startChild(t *testing.T, data string, args []string) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeChild$")
	all := append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--issuer", "https://assay.test", "--log-level", "error"}, args...)
	cmd.Env = append(os.Environ(), "ASSAY_TEST_SERVE="+strings.Join(all, "\n"))
	var errs programtest.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "assay serves "); ok {
			url = rest
			break
		}
	}
	if url == "" {
		cmd.Wait() //nolint:errcheck // its output says more
		t.Fatalf("the service did not start: %s", &errs)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGKILL) //nolint:errcheck // Wait shows whether it ended
		io.Copy(io.Discard, out)            //nolint:errcheck // as above
		cmd.Wait()                          //nolint:errcheck // killed, as meant
	})
	t.Cleanup(kill)
	return url, kill
}

// An attestClient has evidence appraised again and again. The evidence is
// recorded, so the answer is a refusal, which is a decision like any other.
type attestClient struct {
	url, token string
	http       *http.Client
	bundle     []byte
}

func (c *attestClient) do(method, path string, body []byte) (int, []byte) {
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, text
}

// attest returns the id of a decision that was acknowledged, or "".
func (c *attestClient) attest() (id string, status int) {
	status, text := c.do("POST", "/v1/challenges", []byte("{}"))
	var answer struct{ Challenge, ID string }
	if status != http.StatusCreated || json.Unmarshal(text, &answer) != nil {
		return "", status
	}
	status, text = c.do("POST", "/v1/attest", fmt.Appendf(nil, `{"challenge":%q,"evidence":%s}`, answer.Challenge, c.bundle))
	if status != http.StatusOK || json.Unmarshal(text, &answer) != nil {
		return "", status
	}
	return answer.ID, status
}

// loadUntil attests from several goroutines until n decisions are acknowledged,
// then kills the service under the load, and returns all that were.
func (c *attestClient) loadUntil(t *testing.T, n int64, kill func()) []string {
	t.Helper()
	var mu sync.Mutex
	var ids []string
	var count atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				id, status := c.attest()
				if status == 0 {
					return
				}
				if id == "" {
					t.Errorf("answer %d", status)
					return
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
				if count.Add(1) == n {
					kill()
				}
			}
		})
	}
	wg.Wait()
	kill()
	return ids
}
