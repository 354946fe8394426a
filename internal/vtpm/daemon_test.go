package vtpm

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/state"
)

var (
	guests = flag.Int("guests", 12, "virtual machines at once in the tests of the daemon")
	boots  = flag.Int("boots", 36, "boots of all of them together")
)

// Many guests boot at once, over and over. Every answer is there and is that of
// the guest's own TPM.
func TestBootsOfManyAtOnceLoseAndCrossNothing(t *testing.T) {
	f := newFixture(t)
	names := f.many(*guests)
	f.daemon(DaemonConfig{})
	commands := bootCommands(t)
	var all sync.WaitGroup
	left := make(chan struct{}, *boots)
	for range *boots {
		left <- struct{}{}
	}
	close(left)
	start := time.Now()
	for n, name := range names {
		all.Go(func() {
			g := &guest{salt: byte(n + 1)}
			for range left {
				if err := bootOnce(f.socket(name), g, commands); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d boots of %d commands by %d at once in %v", *boots, len(commands), len(names), time.Since(start))
}

func bootOnce(socket string, g *guest, commands [][]byte) error {
	v, err := dialVM(socket)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := g.boot(v, commands); err != nil {
		v.Close()
		return err
	}
	return v.shutdown()
}

func call(t *testing.T, f *fixture, q *Request, to any) {
	t.Helper()
	result, err := Call(context.Background(), f.Dir(), q)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	if to != nil {
		if err := json.Unmarshal(result, to); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheDaemonCarriesOutRequests(t *testing.T) {
	f := newFixture(t)
	if _, err := Call(context.Background(), f.Dir(), &Request{Verb: VerbList}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("Call without a daemon = %v, want %v", err, ErrNoDaemon)
	}
	f.daemon(DaemonConfig{})
	call(t, f, &Request{Verb: VerbCreate, Name: "web", VM: good()}, nil)
	v, err := dialVM(f.socket("web"))
	if err != nil {
		t.Fatal(err)
	}
	var d Description
	call(t, f, &Request{Verb: VerbDescribe, Name: "web"}, &d)
	if !d.Running || !d.Proved || d.VM != "web-1" {
		t.Errorf("Describe = %+v", d)
	}
	for name, tc := range map[string]struct {
		q    Request
		want error
	}{
		"clear while it runs":  {Request{Verb: VerbClear, Name: "web", Confirm: true}, ErrBusy},
		"delete while it runs": {Request{Verb: VerbDelete, Name: "web", Confirm: true}, ErrBusy},
		"taken name":           {Request{Verb: VerbCreate, Name: "web"}, ErrExists},
		"no such TPM":          {Request{Verb: VerbStart, Name: "nobody"}, ErrUnknown},
		"stop no such TPM":     {Request{Verb: VerbStop, Name: "nobody"}, ErrUnknown},
		"bad name":             {Request{Verb: VerbCreate, Name: "../x"}, ErrName},
	} {
		if _, err := Call(context.Background(), f.Dir(), &tc.q); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	var confirm *ConfirmError
	if _, err := Call(context.Background(), f.Dir(), &Request{Verb: VerbClear, Name: "web"}); !errors.As(err, &confirm) || confirm.Loss.VM != "web-1" {
		t.Errorf("clear without a yes: %v", err)
	}
	var needs *RequirementError
	if _, err := Call(context.Background(), f.Dir(), &Request{Verb: VerbCreate, Name: "x", VM: &VM{Name: "x"}}); !errors.As(err, &needs) || len(needs.Failed) != 4 {
		t.Errorf("create for an unfit machine: %v", err)
	}
	call(t, f, &Request{Verb: VerbStop, Name: "web"}, nil)
	if _, err := v.Send([]byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")); err == nil {
		t.Error("it answers after stop")
	}
	v.Close()
	if _, err := net.Dial("unix", f.socket("web")); err == nil {
		t.Error("its socket is there after stop")
	}
	call(t, f, &Request{Verb: VerbStart, Name: "web"}, nil)
	call(t, f, &Request{Verb: VerbClear, Name: "web", Confirm: true}, nil) // started, and no hypervisor
	call(t, f, &Request{Verb: VerbDetach, Name: "web", Confirm: true, Delete: true}, nil)
	var list []Summary
	if call(t, f, &Request{Verb: VerbList}, &list); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

func TestTheAdminSocketTakesNothingElse(t *testing.T) {
	f := newFixture(t)
	f.daemon(DaemonConfig{})
	for name, text := range map[string]string{
		"no JSON": "x\n", "unknown member": `{"verb":"list","x":1}` + "\n", "unknown verb": `{"verb":"format"}` + "\n",
		"two values": `{"verb":"list"}{"verb":"list"}` + "\n", "too long": strings.Repeat(" ", maxRequest) + "\n",
		"number for a text": `{"verb":1}` + "\n", "odd flag": `{"verb":"clear","name":"x","confirm":"maybe"}` + "\n",
	} {
		c, err := net.Dial("unix", AdminSocket(f.Dir()))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write([]byte(text))
		var re reply
		if err := json.NewDecoder(c).Decode(&re); name != "too long" && (err != nil || re.Error == nil) {
			t.Errorf("%s: %+v, %v", name, re, err)
		}
		c.Close()
	}
}

func TestOnlyNamedUsersMayAdminister(t *testing.T) {
	d := &Daemon{cfg: DaemonConfig{Admins: []uint32{4711}}}
	own := uint32(os.Geteuid())
	for uid, want := range map[uint32]bool{0: true, own: true, 4711: true, 4712: false, 1 << 31: false} {
		if got := d.mayAdminister(uid); got != want {
			t.Errorf("mayAdminister(%d) = %v", uid, got)
		}
	}
}

// A TPM that was started and has no hypervisor yet has an identity, too.
func TestTheIdentityOfATPMThatWaitsIsKnown(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	f.daemon(DaemonConfig{})
	call(t, f, &Request{Verb: VerbStart, Name: "web"}, nil)
	var id Identity
	call(t, f, &Request{Verb: VerbIdentity, Name: "web"}, &id)
	if id.Name != "web" || len(id.Keys) != 3 {
		t.Errorf("identity %+v", id)
	}
	if v, err := dialVM(f.socket("web")); err != nil {
		t.Errorf("its hypervisor: %v", err)
	} else {
		v.Close()
	}
}

// unixPair returns the two ends of a stream.
func unixPair(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(shortDir(t), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if server, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, server
}

// Whom the daemon does not know it neither reads nor lets take a place.
func TestAStrangerIsDeniedUnread(t *testing.T) {
	f := newFixture(t)
	d := &Daemon{root: f.Root, ctx: t.Context(), denials: rate.NewLimiter(0, 1)}
	for range 3 {
		client, server := unixPair(t)
		if _, err := client.Write([]byte(`{"verb":"clear","name":"web"}` + "\n")); err != nil {
			t.Fatal(err)
		}
		d.deny(server, 4712)
		text, _ := io.ReadAll(client)
		var re reply
		if err := json.Unmarshal(text, &re); err != nil || !errors.Is(re.Error.err(), ErrDenied) {
			t.Errorf("%q, %v", text, err)
		}
	}
	d.all.Wait()
	if len(f.events) != 1 {
		t.Errorf("%d events, want the one that the rate allows", len(f.events))
	}
	if e := findEvent(f, EventStranger); e.Actor != "uid 4712" || e.Outcome != OutcomeDenied || e.TPM != "" {
		t.Errorf("event %+v", e)
	}
}

// The admin socket is of use to named users only if they can reach it.
func TestTheWayToTheAdminSocketIsOpenForNamedUsersOnly(t *testing.T) {
	for _, admins := range [][]uint32{nil, {4711}} {
		f := newFixture(t)
		f.create("web")
		f.daemon(DaemonConfig{Admins: admins})
		open := fs.FileMode(0)
		if admins != nil {
			open = 0o011
		}
		for path, want := range map[string]fs.FileMode{
			"": 0o700 | open, "run": 0o700 | open, "tpms": 0o700, "anchors": 0o700, "pending": 0o700,
			"run/web.ctrl": 0o600, "run/admin.sock": 0o600,
		} {
			info, err := os.Stat(filepath.Join(f.Dir(), path))
			if err != nil {
				t.Fatal(err)
			}
			if path == "run/admin.sock" && admins != nil {
				want = 0o666
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("admins %v: %q has mode %#o, want %#o", admins, path, got, want)
			}
		}
	}
}

// One hypervisor that comes and goes does not fill the trail of all.
func TestSessionsOfATPMHaveARate(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	d := &Daemon{root: f.Root, ctx: t.Context()}
	s := newSlot(d, "web", nil)
	if err := s.prepare(tester); err != nil {
		t.Fatal(err)
	}
	i := s.instance
	defer i.Close()
	s.turns.AllowN(time.Now(), f.Root.cfg.Limits.SessionBurst)
	f.p.fail("main", keyprovider.ErrRefused)
	before := len(f.events)
	for range 20 {
		if i.Machine().Init(false) == nil {
			t.Fatal("it starts")
		}
	}
	i.reports.Wait()
	if n := len(f.events) - before; n > 5 {
		t.Errorf("%d events of 20 starts that failed", n)
	}
	if e := findEvent(f, EventLimit); e.TPM != "web" {
		t.Errorf("event %+v", e)
	}
}

func TestAProviderThatIsDownStopsNoRunningTPM(t *testing.T) {
	f := newFixture(t)
	f.cfg.Limits = Limits{StartTime: 300 * time.Millisecond}
	f.reopen()
	f.create("web", "db")
	f.daemon(DaemonConfig{})
	v, err := dialVM(f.socket("web"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	f.p.fail("main", fmt.Errorf("%w: connection refused", keyprovider.ErrUnavailable))
	g := &guest{salt: 1}
	if err := g.boot(v, bootCommands(t)); err != nil {
		t.Errorf("the running TPM: %v", err)
	}
	_, err = Call(context.Background(), f.Dir(), &Request{Verb: VerbStart, Name: "db"})
	if !errors.Is(err, state.ProviderDown) || !strings.Contains(err.Error(), "nothing is lost") {
		t.Errorf("start = %v, want one that says so", err)
	}
	if _, err := dialVM(f.socket("db")); err == nil || !strings.Contains(err.Error(), "INIT: result") {
		t.Errorf("the hypervisor's start: %v", err)
	}
	f.p.fail("main", nil)
	w, err := dialVM(f.socket("db"))
	if err != nil {
		t.Fatalf("after the provider is back: %v", err)
	}
	w.Close()
}

// A start that finds the provider down goes on when it comes back in time.
func TestAStartWaitsForTheProvider(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	f.p.fail("main", keyprovider.ErrUnavailable)
	f.daemon(DaemonConfig{})
	time.AfterFunc(150*time.Millisecond, func() { f.p.fail("main", nil) })
	v, err := dialVM(f.socket("web"))
	if err != nil {
		t.Fatal(err)
	}
	v.Close()
}
