package engine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Every row of the table has a function and every function a row: what
// TPM2_GetCapability tells, what the page says and what runs are one list.
func TestEveryCommandOfTheTableHasAHandler(t *testing.T) {
	for _, i := range command.All() {
		if handlers[i.Code] == nil {
			t.Errorf("%s has no handler", i.Name)
		}
	}
	for cc := range handlers {
		if _, ok := command.Lookup(cc); !ok {
			t.Errorf("handler of %#x: no such command", uint32(cc))
		}
	}
}

// A handler is a function over the very structures that the table makes.
func TestHandlersTakeWhatTheTableMakes(t *testing.T) {
	takes := func(i *command.Info) (err error) {
		defer func() {
			var mismatch *runtime.TypeAssertionError
			if fault, ok := recover().(error); ok && errors.As(fault, &mismatch) {
				err = mismatch
			}
		}()
		in, out := i.New()
		_ = handlers[i.Code](new(call), in, out) // there is no TPM: what comes of it says nothing
		return nil
	}
	for _, i := range command.All() {
		if err := takes(i); err != nil {
			t.Errorf("%s: %v", i.Name, err)
		}
	}
}

func TestProfilesAreConsistent(t *testing.T) {
	for _, p := range Profiles() {
		for _, cc := range p.Without {
			if _, ok := command.Lookup(cc); !ok {
				t.Errorf("%s leaves out %#x, which is no command", p.Name, uint32(cc))
			}
		}
		for _, a := range p.Banks {
			if _, ok := a.Hash(); !ok || !p.OffersAlg(a) {
				t.Errorf("%s may allocate a bank of %s without having that hash", p.Name, a.BankName())
			}
		}
		if got, err := FindProfile(p.Name, p.Version); err != nil || got != p {
			t.Errorf("FindProfile(%q, %d) = %v, %v", p.Name, p.Version, got, err)
		}
	}
}

const commandsPage = "../../docs/tpm-commands.md"

// The page is written from the tables by which the TPM runs.
func TestCommandsPageIsCurrent(t *testing.T) {
	want := commandsMarkdown()
	if *Update {
		if err := os.WriteFile(commandsPage, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(commandsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/tpm-commands.md is not what the tables say: run go test ./tpm2/engine -run TestCommandsPageIsCurrent -update")
	}
}

func commandsMarkdown() string {
	var b strings.Builder
	b.WriteString("# The commands of the TPM\n\nWritten from the tables by which the engine runs; do not edit.\n" +
		"Handles are those of the command, with the role that must be authorized.\n" +
		"`d` and `e`: a session may decrypt the first parameter, or encrypt the first one of the response.\n" +
		"`nv`: it may write permanent state. `ro`: refused in read-only mode. `pp`: TPM2_PP_Commands may ask for physical presence.\n")
	chapter := ""
	for _, i := range byChapter() {
		if i.Chapter != chapter {
			chapter = i.Chapter
			fmt.Fprintf(&b, "\n## %s\n\n| command | code | handles | returns | | profiles |\n|---|---|---|---|---|---|\n", chapter)
		}
		fmt.Fprintf(&b, "| %s | %#03x | %s | %s | %s | %s |\n", i.Name, uint32(i.Code), handlesOf(i), i.Response, flagsOf(i), profilesWith(i.Code))
	}
	return b.String()
}

// byChapter orders the commands by the chapters of Part 3, as the table has them.
func byChapter() []*command.Info {
	var order []string
	groups := map[string][]*command.Info{}
	for _, i := range command.All() {
		if groups[i.Chapter] == nil {
			order = append(order, i.Chapter)
		}
		groups[i.Chapter] = append(groups[i.Chapter], i)
	}
	var out []*command.Info
	for _, c := range order {
		out = append(out, groups[c]...)
	}
	return out
}

func handlesOf(i *command.Info) string {
	var names []string
	for _, h := range i.Handles {
		name := h.Name
		if h.Role != command.RoleNone {
			name += " (" + h.Role.String() + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func flagsOf(i *command.Info) string {
	var out []string
	for _, f := range []struct {
		on   bool
		name string
	}{
		{i.DecryptFirst, "d"},
		{i.EncryptFirst, "e"},
		{i.Attr.Has(tpm2.CommandNV), "nv"},
		{i.NotReadOnly, "ro"},
		{i.Presence != command.PPNever, "pp"},
	} {
		if f.on {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, " ")
}

func profilesWith(cc tpm2.CC) string {
	var out []string
	for _, p := range NewestProfiles() {
		if p.Has(cc) {
			out = append(out, p.Name)
		}
	}
	return strings.Join(out, ", ")
}
