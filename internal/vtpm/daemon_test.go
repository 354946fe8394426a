package vtpm

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

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
