package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/program"
)

// demoMachine is the machine of the demonstration.
const demoMachine = "web-1"

// A machineDemo boots real machines by the commands that a user would type.
type machineDemo struct {
	env   *program.Env // of the commands
	out   io.Writer    // what a person reads
	dir   string
	parts *demovm.Parts
	start time.Time
	steps []machineStep
	// service is the URL of the attestation service, serviceToken the file of its
	// administrator's API token.
	service, serviceToken string
}

// A machineStep is one boot and what must come of it.
type machineStep struct {
	Title    string        `json:"title"`
	Want     string        `json:"want"`
	Got      string        `json:"got"`
	Took     time.Duration `json:"nanoseconds"`
	AsItMust bool          `json:"asItMust"`
}

func newDemoMachinesCmd(env *program.Env) *cobra.Command {
	var keep, agent string
	cmd := &cobra.Command{
		Use:   "machines",
		Short: "Boot real machines, good and tampered with, and show what is said of each boot",
		Long: `Makes signed guest images out of Debian's kernel and systemd's stub, and a machine with
secure boot, a TPM and integrity monitoring; boots it; then boots it with another kernel
command line (fails, named), with an unsigned image (refused, named) and with a legitimate
update (fails, shown, approved, passes). Every step is the command that a user would type.

Needs QEMU, OVMF and what make setup unpacks. Exit status: 0 every boot was judged as it
must be; 1 one was not.`,
		Args: cobra.NoArgs,
	}
	format := program.AddOutputFlag(cmd, "text", "json")
	f := cmd.Flags()
	f.StringVar(&keep, "keep", "", "keep the machine in this new folder, to look around in")
	f.StringVar(&agent, "agent", "", "`FILE` of assay-agent, the guest's program (default beside this program)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		out := env.Stdout
		if *format == "json" {
			out = env.Stderr
		}
		dir, done, err := machinesFolder(keep)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		if agent == "" {
			if agent, err = beside("assay-agent"); err != nil {
				return err
			}
		}
		d, err := newMachineDemo(env, dir, agent, out)
		if err != nil {
			return err
		}
		if err := d.run(cmd.Context()); err != nil {
			return err
		}
		if *format == "json" {
			if err := program.PrintJSON(env, d.steps); err != nil {
				return err
			}
		}
		return d.end(keep != "")
	}
	return cmd
}

// beside is a program in this program's folder.
func beside(name string) (string, error) {
	self, err := os.Executable()
	return filepath.Join(filepath.Dir(self), name), err
}

// machinesFolder is where the demonstration works. Sockets have short paths: a temporary
// folder is right below the system's.
func machinesFolder(keep string) (dir string, done func() error, err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "assay-demo")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(keep); err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	return dir, func() error { return nil }, err
}

// end says what came of it, and whether it was as it must be.
func (d *machineDemo) end(kept bool) error {
	good := 0
	fmt.Fprintln(d.out)
	for _, s := range d.steps {
		mark := "NOT AS IT MUST BE"
		if s.AsItMust {
			good++
			mark = "as it must be"
		}
		fmt.Fprintf(d.out, "%-12s %s (%s, %.0f s)\n", s.Got, s.Title, mark, s.Took.Seconds())
	}
	fmt.Fprintf(d.out, "%d of %d boots were judged as they must be, in %.0f s\n", good, len(d.steps), d.env.Now().Sub(d.start).Seconds())
	if kept {
		fmt.Fprintf(d.out, "look around: export ASSAY_VTPM_ROOT=%s; assay vm boots %s; assay vm events %[2]s; assay vm diff %[2]s --boot 1..2\n", filepath.Join(d.dir, "root"), demoMachine)
	} else if _, err := d.must("vm", "delete", demoMachine, "--yes"); err != nil {
		return err
	}
	if good != len(d.steps) {
		return program.Refused()
	}
	return nil
}

// newMachineDemo reads what guests are made of. agent is the program that is the whole of
// the guest.
func newMachineDemo(env *program.Env, dir, agent string, out io.Writer) (*machineDemo, error) {
	cache := env.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(env.Getenv("HOME"), ".cache")
	}
	program, err := os.ReadFile(agent)
	if err != nil {
		return nil, fmt.Errorf("the guest's program: %w (make build makes it)", err)
	}
	parts, err := demovm.Open(filepath.Join(cache, demovm.CacheFolder), program)
	if err != nil {
		return nil, err
	}
	inner := *env
	inner.Getenv = func(name string) string {
		if name == "ASSAY_VTPM_ROOT" {
			return filepath.Join(dir, "root")
		}
		return env.Getenv(name)
	}
	return &machineDemo{env: &inner, out: out, dir: dir, parts: parts, start: env.Now()}, nil
}

func (d *machineDemo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "[%5.1f s] "+format+"\n", append([]any{d.env.Now().Sub(d.start).Seconds()}, args...)...)
}

// assay runs a command as a person would, shows it, and returns its exit status and what
// it printed.
func (d *machineDemo) assay(args ...string) (status int, out string) {
	fmt.Fprintf(d.out, "  $ assay %s\n", shortTokens(strings.Join(args, " ")))
	var stdout bytes.Buffer
	e := *d.env
	e.Stdout, e.Stderr = io.MultiWriter(&stdout, indented{d.out}), indented{d.out}
	// A command that starts another of this program is told where by flags.
	if args[0] == "vm" {
		args = append(args, "--root", filepath.Join(d.dir, "root"))
	}
	status = Main(&e, args)
	return status, stdout.String()
}

// shortTokens shows of each token, which fills a screen, its beginning.
func shortTokens(line string) string {
	const shown = 40
	words := strings.Split(line, " ")
	for i, w := range words {
		if text := strings.TrimRight(w, "\n"); strings.HasPrefix(text, "eyJ") && len(text) > shown {
			words[i] = fmt.Sprintf("%s…%s", text[:shown], w[len(text):])
		}
	}
	return strings.Join(words, " ")
}

// indented shows the output of a command below it.
type indented struct{ w io.Writer }

func (i indented) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "{") {
			continue // events, for a log
		}
		if _, err := fmt.Fprintf(i.w, "    %s", shortTokens(line)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// must runs a command that has to succeed.
func (d *machineDemo) must(args ...string) (string, error) {
	status, out := d.assay(args...)
	if status != program.StatusOK {
		return out, fmt.Errorf("assay %s ends with status %d", strings.Join(args, " "), status)
	}
	return out, nil
}

// run is the demonstration.
func (d *machineDemo) run(ctx context.Context) (err error) {
	guests, err := d.prepare()
	if err != nil {
		return err
	}
	var open closers
	defer func() { err = errors.Join(err, open.close()) }()
	data := filepath.Join(d.dir, "service")
	if d.service, err = runService(ctx, d.env, wiring{Data: data}, &open); err != nil {
		return err
	}
	d.say("An attestation service on %s makes tokens of what the machine's agent proves", d.service)
	d.serviceToken = filepath.Join(data, tokenFile)
	defer func() {
		if err != nil { // else each step has stopped it
			d.assay("vm", "stop", "--force", demoMachine)
		}
	}()
	for _, s := range []struct {
		title string
		image []byte
		want  string
		then  func() error
	}{
		{"The first boot: signed image, secure boot on. It becomes the baseline", guests.Good, "passed", d.shown},
		{"Somebody changes the kernel's command line; the image is signed, and starts", guests.CommandLine, "failed", d.explained},
		{"Somebody puts an image there that nobody signed", guests.Unsigned, "refused", nil},
		{"A legitimate update: another version, signed. It differs, and is approved", guests.Update, "failed", d.approved},
		{"The update boots again", guests.Update, "passed", nil},
	} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := d.step(s.title, s.image, s.want, s.then); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes keys, images and the machine.
func (d *machineDemo) prepare() (*demovm.Guests, error) {
	d.say("Keys, images and a machine with the three options on")
	for _, args := range [][]string{
		{"key-provider", "add", "main", "local:" + filepath.Join(d.dir, "keys"), "--create"},
		{"keyset", "create", "demo", "--kind", "own"},
	} {
		if _, err := d.must(args...); err != nil {
			return nil, err
		}
	}
	guests, err := d.parts.Guests(d.sign)
	if err != nil {
		return nil, err
	}
	_, err = d.must("vm", "create", demoMachine, "--keyset", "demo", "--memory", "512", "--secure-boot", "--vtpm", "--integrity-monitoring", "--agent",
		"--disk", filepath.Join(d.dir, "disk.raw"))
	return guests, err
}

// sign has the key set sign an image, by the command that a user would type.
func (d *machineDemo) sign(image []byte) ([]byte, error) {
	name, signed := filepath.Join(d.dir, "image.efi"), filepath.Join(d.dir, "signed.efi")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		return nil, err
	}
	if _, err := d.must("keyset", "sign", "demo", name, "--out", signed); err != nil {
		return nil, err
	}
	out, err := os.ReadFile(signed)
	return out, errors.Join(err, os.Remove(name), os.Remove(signed))
}

// step boots an image and compares what came of it.
func (d *machineDemo) step(title string, image []byte, want string, then func() error) error {
	fmt.Fprintln(d.out)
	d.say("%s", title)
	begun := d.env.Now()
	if err := demovm.WriteDisk(filepath.Join(d.dir, "disk.raw"), image); err != nil {
		return err
	}
	start := []string{"vm", "start", demoMachine, "--attestation-service", d.service, "--attestation-token-file", d.serviceToken, "--wait"}
	if want == "passed" { // and then its agent attests
		start[len(start)-1] = "--wait-attested"
	}
	_, said := d.assay(start...)
	got, err := d.outcome()
	if err != nil {
		return err
	}
	s := machineStep{title, want, got, d.env.Now().Sub(begun), got == want}
	if want == "passed" {
		s.AsItMust = s.AsItMust && d.verified(said)
	}
	d.steps = append(d.steps, s)
	d.say("the platform's word: %s", got)
	if then != nil {
		if err := then(); err != nil {
			return err
		}
	}
	_, err = d.must("vm", "stop", "--force", demoMachine)
	return err
}

// verified has a relying party check the token that a start printed.
func (d *machineDemo) verified(said string) bool {
	_, token, _ := strings.Cut(said, "\ntoken ")
	token, _, _ = strings.Cut(token, "\n")
	status, _ := d.assay("token", "verify", token, "--issuer", d.service)
	return status == program.StatusOK
}

// outcome is what the platform says of the boot, in one word.
func (d *machineDemo) outcome() (string, error) {
	var out bytes.Buffer
	e := *d.env
	e.Stdout = &out
	if status := Main(&e, []string{"vm", "list", "-o", "json"}); status != program.StatusOK {
		return "", fmt.Errorf("assay vm list ends with status %d", status)
	}
	var list []struct {
		Boot *struct {
			Phase string `json:"phase"`
			Early *bool  `json:"earlyBootPassed"`
			Late  *bool  `json:"lateBootPassed"`
		} `json:"boot"`
	}
	if err := json.Unmarshal(out.Bytes(), &list); err != nil || len(list) != 1 || list[0].Boot == nil {
		return "unknown", err
	}
	switch b := list[0].Boot; {
	case b.Late != nil && *b.Late && *b.Early:
		return "passed", nil
	case b.Late != nil:
		return "failed", nil
	default:
		return b.Phase, nil
	}
}

func (d *machineDemo) shown() error {
	_, err := d.must("vm", "events", demoMachine)
	return err
}

func (d *machineDemo) explained() error {
	status, out := d.assay("vm", "why", demoMachine)
	if status != program.StatusRefused || !strings.Contains(out, "kernel command line") {
		return fmt.Errorf("assay vm why ends with status %d and does not name the kernel's command line", status)
	}
	return nil
}

func (d *machineDemo) approved() error {
	status, out := d.assay("vm", "update", demoMachine, "--learn-integrity-policy")
	if status != program.StatusRefused {
		return fmt.Errorf("a baseline was learned without a yes: status %d", status)
	}
	var boot string // whose list was shown
	if _, err := fmt.Sscanf(out, "boot %s of", &boot); err != nil {
		return fmt.Errorf("the list names no boot: %w", err)
	}
	_, err := d.must("vm", "update", demoMachine, "--learn-integrity-policy", "--boot", boot, "--yes", "--reason", "version 2")
	return err
}
