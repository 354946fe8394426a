package launch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
)

const (
	// grubVersion and grubVendor are the build whose measurements were compared with
	// those of a TPM.
	grubVersion = "2.06"
	grubVendor  = "grub.debian"
	grubMenu    = "grub.cfg"
)

// The objects that GRUB's core carries (GRUB, include/grub/kernel.h).
const (
	moduleMagic   = "mimg"
	moduleDisk    = 1
	moduleConfig  = 2
	modulePrefix  = 3
	maxModules    = 4096
	maxModuleText = 4096
	// memoryScript is the first script of a GRUB that carries a file system.
	memoryScript = "normal (memdisk)/grub.cfg"
)

// A grub is one that runs.
type grub struct {
	b      *boot
	s      *shim // nil when firmware started it
	i      *image
	device string // as GRUB names the partition: hd0,gpt1
	env    map[string]string
	steps  int
	words  int // bytes of all commands with their variables replaced
	depth  int

	kernel *image
	failed error // why there is no kernel
}

// grub follows GRUB's scripts, as far as the disk determines them.
func (b *boot) grub(i *image, s *shim) error {
	version, err := i.versionOf("grub")
	if err != nil {
		return err
	}
	if version != grubVersion || !has(i.c.SBAT, grubVendor) {
		b.p.leave(unknown(codeVersion, "what GRUB %q measures was not compared with a TPM: that of Debian 12 was", version), 4, 5, 7, 8, 9)
	}
	g := &grub{b: b, s: s, i: i, device: fmt.Sprintf("hd0,gpt%d", i.volume.Number), env: map[string]string{}}
	script, err := g.carried()
	if err != nil {
		return err
	}
	if err := g.script(script, i.c.Path); err != nil && !errors.Is(err, errBooted) {
		return err
	} else if err == nil {
		return i.c.refuse(evidence.Refuse(codePrompt, "its configuration ends without the command boot: it waits at its prompt"))
	}
	b.exit()
	return nil
}

// errBooted ends the scripts.
var errBooted = errors.New("booted")

// carried reads what the core brings along: the first script, and where its files are.
func (g *grub) carried() (script string, err error) {
	none := &undecided{evidence.Refuse(codeLoader, "what GRUB carries with it cannot be read").About(g.i.c.Path)}
	s, ok := g.i.Section("mods")
	if !ok {
		return "", none
	}
	r := g.i.Open(s)
	prefix, menu, memory, err := modules(r)
	if err != nil {
		return "", err
	}
	if prefix == "" || !strings.HasPrefix(prefix, "/") || strings.TrimSpace(menu) != memoryScript || memory == nil {
		return "", none
	}
	v, err := disk.OpenFAT(memory, memory.Size())
	if err != nil {
		return "", none
	}
	f, err := v.Open(grubMenu)
	if err != nil || f.Size() > maxScript {
		return "", none
	}
	text, err := io.ReadAll(f)
	g.env["root"] = g.device
	g.env["prefix"] = "(" + g.device + ")" + prefix
	g.env["cmdpath"] = "(" + g.device + ")" + strings.TrimSuffix(strings.ReplaceAll(folderOf(g.i.c.Path), `\`, "/"), "/")
	return string(text), err
}

// modules finds the prefix, the script and the file system among the objects; what is
// not there is empty.
func modules(r *io.SectionReader) (prefix, script string, memory *io.SectionReader, err error) {
	head := make([]byte, 24)
	if _, err := r.ReadAt(head, 0); err != nil || !bytes.HasPrefix(head, []byte(moduleMagic)) {
		return "", "", nil, endless(err)
	}
	at, end := binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
	end = min(end, uint64(r.Size()))
	for range maxModules {
		if at > end || end-at < 8 {
			break
		}
		b := make([]byte, 8)
		if _, err := r.ReadAt(b, int64(at)); err != nil {
			return "", "", nil, endless(err)
		}
		kind, size := binary.LittleEndian.Uint32(b), uint64(binary.LittleEndian.Uint32(b[4:]))
		if size < 8 || size > end-at {
			break
		}
		body := io.NewSectionReader(r, int64(at)+8, int64(size)-8)
		switch kind {
		case moduleDisk:
			memory = body
		case moduleConfig, modulePrefix:
			text, err := io.ReadAll(io.LimitReader(body, maxModuleText))
			if err != nil {
				return "", "", nil, err
			}
			text, _, _ = bytes.Cut(text, []byte{0})
			if kind == moduleConfig {
				script = string(text)
			} else {
				prefix = string(text)
			}
		}
		at += size
	}
	return prefix, script, memory, nil
}

// script runs a script; from names it in reasons.
func (g *grub) script(text, from string) error {
	if g.depth++; g.depth > maxNesting {
		return unknown(codeScript, "scripts that are nested too deep")
	}
	defer func() { g.depth-- }()
	all, err := parseScript(text)
	if err == nil {
		_, err = g.run(all)
	}
	var open *undecided
	if errors.As(err, &open) && open.Component == "" {
		return &undecided{open.About(from)}
	}
	return err
}

// run runs statements; ok is the result of the last.
func (g *grub) run(all []statement) (ok bool, err error) {
	ok = true
	for _, s := range all {
		if g.steps++; g.steps > maxCommands {
			return false, unknown(codeScript, "more than %d commands and files", maxCommands)
		}
		if s.arms != nil {
			ok, err = g.choose(s.arms)
		} else {
			ok, err = g.command(&s)
		}
		if err != nil {
			return false, err
		}
	}
	return ok, nil
}

func (g *grub) choose(arms []arm) (bool, error) {
	for _, a := range arms {
		yes := true
		if a.condition != nil {
			var err error
			if yes, err = g.run(a.condition); err != nil {
				return false, err
			}
		}
		if yes {
			return g.run(a.body)
		}
	}
	return true, nil
}

// expand replaces the variables of a command's words.
func (g *grub) expand(s *statement) ([]string, error) {
	var out []string
	for _, w := range s.words {
		var text strings.Builder
		for _, p := range w {
			value := p.text
			if p.variable {
				v, ok := g.env[p.text]
				if !ok || !p.quoted && (v == "" || strings.ContainsAny(v, " \t\n")) {
					return nil, unknown(codeScript, "line %d: the variable %s", s.line, p.text)
				}
				value = v
			}
			if g.words += len(value); g.words > maxWords {
				return nil, unknown(codeScript, "line %d: more than %d KiB of words with all variables in their places", s.line, maxWords>>10)
			}
			text.WriteString(value)
		}
		out = append(out, text.String())
	}
	return out, nil
}

// command runs one command. GRUB measures each before it runs (GRUB manual, "Measuring
// boot components").
func (g *grub) command(s *statement) (bool, error) {
	args, err := g.expand(s)
	if err != nil {
		return false, err
	}
	text := strings.Join(args, " ")
	switch args[0] {
	case "[", "test", "set", "export", "echo", "true", "source", ".", "linux", "linuxefi", "initrd", "initrdefi", "boot":
	default:
		return false, unknown(codeScript, "line %d: the command %.60q", s.line, args[0])
	}
	g.b.p.extend(8, digestOf([]byte(text)), Name{Kind: eventlog.KindConfig, Name: "GRUB command", Detail: text})
	switch args[0] {
	case "[":
		if args[len(args)-1] != "]" {
			return false, unknown(codeScript, "line %d: [ without ]", s.line)
		}
		return g.test(s, args[1:len(args)-1])
	case "test":
		return g.test(s, args[1:])
	case "set":
		return g.set(s, args[1:])
	case "source", ".":
		return g.source(s, args[1:])
	case "linux", "linuxefi":
		return g.linux(s, args[1:])
	case "initrd", "initrdefi":
		return true, g.initrd(s, args[1:])
	case "boot":
		if g.kernel == nil {
			return false, g.unbooted()
		}
		return true, errBooted
	}
	return true, nil
}

func (g *grub) unbooted() error {
	if g.failed != nil {
		return g.failed
	}
	return g.i.c.refuse(evidence.Refuse(codePrompt, "its configuration has the command boot before any kernel"))
}

func (g *grub) set(s *statement, args []string) (bool, error) {
	if len(args) != 1 {
		return false, unknown(codeScript, "line %d: set with %d arguments", s.line, len(args))
	}
	name, value, ok := strings.Cut(args[0], "=")
	if !ok {
		return false, unknown(codeScript, "line %d: set without =", s.line)
	}
	g.env[name] = value
	return true, nil
}

// test evaluates a condition: terms joined by -o and -a, of which -a binds closer.
func (g *grub) test(s *statement, args []string) (bool, error) {
	result, all := false, true
	for len(args) > 0 {
		yes, rest, err := g.term(s, args)
		if err != nil {
			return false, err
		}
		all = all && yes
		switch {
		case len(rest) == 0:
			return result || all, nil
		case rest[0] == "-o":
			result, all = result || all, true
		case rest[0] != "-a":
			return false, unknown(codeScript, "line %d: the condition %.60q", s.line, rest[0])
		}
		args = rest[1:]
	}
	return false, unknown(codeScript, "line %d: an unusual condition", s.line)
}

func (g *grub) term(s *statement, args []string) (yes bool, rest []string, err error) {
	not := false
	for len(args) > 0 && args[0] == "!" {
		not, args = !not, args[1:]
	}
	switch {
	case len(args) >= 3 && (args[1] == "=" || args[1] == "==" || args[1] == "!="):
		yes, rest = (args[0] == args[2]) == (args[1] != "!="), args[3:]
	case len(args) >= 2 && (args[0] == "-z" || args[0] == "-n"):
		yes, rest = (args[1] == "") == (args[0] == "-z"), args[2:]
	case len(args) >= 2 && (args[0] == "-e" || args[0] == "-f" || args[0] == "-d" || args[0] == "-s"):
		path, err := g.path(s, args[1])
		if err != nil {
			return false, nil, err
		}
		if yes, err = g.exists(path, args[0]); err != nil {
			return false, nil, err
		}
		rest = args[2:]
	default:
		return false, nil, unknown(codeScript, "line %d: an unusual condition", s.line)
	}
	return yes != not, rest, nil
}

// exists asks for what a test of a file asks for.
func (g *grub) exists(path, what string) (bool, error) {
	r, err := g.i.volume.open(path)
	var open *undecided
	switch {
	case err == nil:
		return what == "-e" || what == "-f" || what == "-s" && r.Size() > 0, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.As(err, &open):
		return false, err
	}
	if _, err := g.i.volume.list(path); err != nil {
		return false, err
	}
	return what == "-e" || what == "-d", nil
}

// path is a file of the partition that GRUB was started from; others are not read.
func (g *grub) path(s *statement, name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "("+g.device+")"); ok {
		name = rest
	} else if g.env["root"] != g.device {
		return "", unknown(codeScript, "line %d: the file %.100q of another partition", s.line, name)
	}
	if !strings.HasPrefix(name, "/") {
		return "", unknown(codeScript, "line %d: the file %.100q", s.line, name)
	}
	return name, nil
}

// file opens a file and measures its content.
func (g *grub) file(s *statement, name string, kind Kind) (*io.SectionReader, error) {
	if g.steps++; g.steps > maxCommands {
		return nil, unknown(codeScript, "more than %d commands and files", maxCommands)
	}
	path, err := g.path(s, name)
	if err != nil {
		return nil, err
	}
	r, err := g.i.volume.open(path)
	if err != nil {
		return nil, err
	}
	d := g.b.digests[path] // of this volume: GRUB reads no other
	if d == nil {
		if d, err = digest(io.NewSectionReader(r, 0, r.Size())); err != nil {
			return nil, err
		}
		g.b.digests[path] = d
	}
	n := Name{Kind: eventlog.KindKernel, Name: path}
	if kind != Linux {
		c := &Component{Path: path, Kind: kind, Size: r.Size(), Digests: d}
		g.b.p.Chain = append(g.b.p.Chain, c)
		n = c.name()
	}
	g.b.p.extend(9, d, n)
	return r, nil
}

func (g *grub) source(s *statement, args []string) (bool, error) {
	if len(args) != 1 {
		return false, unknown(codeScript, "line %d: source with %d arguments", s.line, len(args))
	}
	r, err := g.file(s, args[0], Config)
	if errors.Is(err, fs.ErrNotExist) {
		return false, unknown(codeFileMissing, "line %d: the configuration %.100q is not there", s.line, args[0])
	}
	if err != nil {
		return false, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxScript+1))
	if err != nil {
		return false, err
	}
	return true, g.script(string(text), strings.TrimPrefix(args[0], "("+g.device+")"))
}

// linux loads a kernel. Under Secure Boot shim verifies it, and it is measured by both:
// when the file is opened, and when it is loaded.
func (g *grub) linux(s *statement, args []string) (bool, error) {
	if len(args) == 0 {
		return false, unknown(codeScript, "line %d: linux without a file", s.line)
	}
	if g.failed != nil {
		g.b.p.leave(unknown(codeScript, "line %d: a second kernel in place of one that GRUB does not load", s.line), 4, 8, 9)
	}
	g.kernel, g.failed = nil, nil
	r, err := g.file(s, args[0], Linux)
	if errors.Is(err, fs.ErrNotExist) {
		g.failed = evidence.Refuse(codeFileMissing, "GRUB is told to load it, and it is not there").About(args[0])
		return false, nil
	}
	if err != nil {
		return false, err
	}
	k, err := g.b.parse(r, strings.TrimPrefix(args[0], "("+g.device+")"))
	if err == nil && g.s != nil {
		err = g.s.verify(k, true)
	}
	if len(evidence.Reasons(err)) > 0 {
		var open *undecided
		if errors.As(err, &open) {
			return false, err
		}
		g.failed = err
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if g.b.secure {
		g.b.p.extend(4, k.c.Digests, k.c.name())
		g.b.p.extend(4, k.c.Digests, k.c.name())
	}
	g.kernel = k
	line := strings.Join(args, " ")
	if strings.Count(line, " ") != len(args)-1 || strings.ContainsAny(line, `"'\`) {
		g.b.p.leave(unknown(codeScript, "line %d: GRUB writes quotes into this command line", s.line), 8)
	}
	g.b.p.extend(8, digestOf([]byte(line)), Name{Kind: eventlog.KindCommandLine, Name: "kernel command line", Detail: line})
	return true, nil
}

func (g *grub) initrd(s *statement, args []string) error {
	if g.kernel == nil {
		return nil // GRUB says so, opens no file and goes on
	}
	for _, name := range args {
		_, err := g.file(s, name, Initrd)
		if errors.Is(err, fs.ErrNotExist) {
			return unknown(codeFileMissing, "line %d: the initrd %.100q is not there", s.line, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
