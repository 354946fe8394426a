package route

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/finding"
)

func TestAlertsKeepTheirLabels(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, Route{Name: "am", Type: Alertmanager, URL: r.URL + "/prefix/", Minimum: finding.Low})
	f.apply(t, failed("web-1"))
	f.deliver(t)
	f.now = t0.Add(time.Minute)
	f.apply(t, over("web-1"))
	f.now = t0.Add(2 * time.Minute)
	f.deliver(t)
	var sent []alert
	for _, got := range r.all() {
		var one []alert
		if err := json.Unmarshal(got.text, &one); err != nil || len(one) != 1 || got.path != "/prefix/api/v2/alerts" {
			t.Fatalf("%s %s: %v", got.path, got.text, err)
		}
		sent = append(sent, one[0])
	}
	if len(sent) != 2 || fmt.Sprint(sent[0].Labels) != fmt.Sprint(sent[1].Labels) || sent[0].Labels["alertname"] != "finding.late-boot-failed" {
		t.Fatalf("sent %+v", sent)
	}
	if !sent[0].EndsAt.Equal(t0.Add(alertLife)) || !sent[1].EndsAt.Equal(t0.Add(time.Minute)) || !sent[1].StartsAt.Equal(t0) {
		t.Errorf("ends %s and %s", sent[0].EndsAt, sent[1].EndsAt)
	}
}

// An alert goes with its machine: the host that it left does not end it, and the other
// renews the very same.
func TestAnAlertGoesWithItsMachine(t *testing.T) {
	a, b, r := newFixture(t), newFixture(t), receive(t)
	for _, f := range []*fixture{a, b} {
		f.add(t, Route{Name: "am", Type: Alertmanager, URL: r.URL, Minimum: finding.Low})
	}
	a.apply(t, failed("web-1"))
	a.deliver(t)
	var parcel *finding.Parcel
	err := a.Store.Update(t.Context(), t0, func(book *finding.Book) error {
		text, err := book.Pack("web-1", t0)
		if err != nil {
			return err
		}
		parcel, err = finding.ParseParcel(text, "web-1", t0)
		book.Depart("web-1", t0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	a.deliver(t)
	if err := a.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Store.Update(t.Context(), t0, func(book *finding.Book) error { return book.Unpack(parcel, t0, finding.Stay{}) }); err != nil {
		t.Fatal(err)
	}
	b.deliver(t)
	b.apply(t, over("web-1"))
	b.deliver(t)
	var sent []alert
	for _, got := range r.all() {
		var one []alert
		if err := json.Unmarshal(got.text, &one); err != nil || len(one) != 1 {
			t.Fatalf("%s: %v", got.text, err)
		}
		sent = append(sent, one[0])
	}
	if len(sent) != 3 {
		t.Fatalf("%d alerts are sent, want that it began, that it lasts there, and its end: %+v", len(sent), sent)
	}
	for _, s := range sent[1:] {
		if fmt.Sprint(s.Labels) != fmt.Sprint(sent[0].Labels) || !s.StartsAt.Equal(t0) {
			t.Errorf("sent %+v, want the alert %+v", s, sent[0])
		}
	}
	if !sent[1].EndsAt.After(t0) || !sent[2].EndsAt.Equal(t0) {
		t.Errorf("ends %s and %s", sent[1].EndsAt, sent[2].EndsAt)
	}
	if a.waiting(t)+b.waiting(t) != 0 {
		t.Error("changes are left")
	}
}

func TestAlertsThatLastAreRenewed(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, Route{Name: "am", Type: Alertmanager, URL: r.URL, Minimum: finding.Medium})
	f.apply(t, failed("a"), failed("b"), failed("c"), finding.Signal{Kind: finding.VTPMOff, Machine: "low"})
	f.deliver(t)
	err := f.Store.Update(t.Context(), t0, func(b *finding.Book) error {
		if err := b.Acknowledge(1, finding.Note{Author: "x", Time: t0}); err != nil {
			return err
		}
		return b.Suppress(finding.Suppression{Kind: finding.LateBootFailed, Machine: "b", Reason: "r", Author: "a", Made: t0, Until: t0.Add(time.Hour)})
	})
	if err != nil {
		t.Fatal(err)
	}
	f.deliver(t)
	all := r.all()
	var ended []alert
	if err := json.Unmarshal(all[len(all)-1].text, &ended); err != nil || len(ended) != 1 || ended[0].Labels["machine"] != "b" || !ended[0].EndsAt.Equal(t0) {
		t.Errorf("a suppressed alert is told as %+v, %v", ended, err)
	}
	if err := f.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	all = r.all()
	var last []alert
	if err := json.Unmarshal(all[len(all)-1].text, &last); err != nil || len(last) != 2 || last[0].Labels["machine"] == "b" || last[1].Labels["machine"] == "b" {
		t.Errorf("renewed %+v, %v", last, err)
	}
}

// A real Alertmanager: an alert fires, is still there after a restart, and ends.
func TestARealAlertmanager(t *testing.T) {
	path := alertmanager(t)
	t.Parallel()
	f := newFixture(t)
	f.Now = time.Now
	dir := t.TempDir()
	address := freeAddress(t)
	f.file(t, "am.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n")
	start := func() (stop func()) {
		cmd := exec.Command(path, "--config.file="+filepath.Join(f.dir, "am.yml"), "--storage.path="+dir, "--web.listen-address="+address, "--cluster.listen-address=")
		log := new(strings.Builder)
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop = func() {
			if cmd.ProcessState == nil {
				cmd.Process.Kill() //nolint:errcheck // it may have ended
				cmd.Wait()         //nolint:errcheck // it was killed
			}
			if t.Failed() {
				t.Log(log.String())
			}
		}
		t.Cleanup(stop)
		eventually(t, "Alertmanager", func() bool { _, err := alerts(address); return err == nil })
		return stop
	}
	stop := start()
	f.add(t, Route{Name: "am", Type: Alertmanager, URL: "http://" + address, Minimum: finding.Low})
	f.now = time.Now()
	f.apply(t, failed("web-1"))
	f.deliver(t)
	fires := func() bool {
		all, err := alerts(address)
		return err == nil && len(all) == 1 && all[0].Labels["machine"] == "web-1" && strings.Contains(all[0].Annotations["reasons"], "kernel")
	}
	eventually(t, "the alert", fires)
	stop()
	start()
	if err := f.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the alert after a restart", fires)
	if got, err := f.Try(t.Context(), "am"); err != nil || !got[0].Sent {
		t.Errorf("Try = %v, %v", got, err)
	}
	eventually(t, "the test alert", func() bool { all, err := alerts(address); return err == nil && len(all) == 2 })
	f.now = time.Now()
	f.apply(t, over("web-1"))
	f.deliver(t)
	eventually(t, "the end", func() bool {
		all, err := alerts(address)
		return err == nil && len(all) == 1 && all[0].Labels["alertname"] == "finding.test"
	})
}

// alertmanager is the installed program.
func alertmanager(t *testing.T) string {
	t.Helper()
	const program = "prometheus-alertmanager"
	path, err := exec.LookPath(program)
	if err != nil && os.Getenv("ASSAY_REQUIRE_ALERTMANAGER") == "1" {
		t.Fatalf("%s is not installed: make setup does", program)
	}
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	return path
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// alerts asks Alertmanager which alerts fire.
func alerts(address string) (out []alert, err error) {
	answer, err := http.Get("http://" + address + "/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", answer.Status)
	}
	return out, json.NewDecoder(answer.Body).Decode(&out)
}
