package launch

import (
	"io"
	"strconv"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi/authenticode"
)

const (
	// stubMagic begins what systemd's stub says of its version.
	stubMagic = "#### LoaderInfo: systemd-stub "
	// stubVersion is the one whose measurements were compared with those of a TPM.
	stubVersion = "252"
	maxFill     = 64 << 20 // zeros that follow a section in memory
	maxCommand  = 16 << 10
)

// stubSections are measured by the stub of version 252, in this order
// (systemd-stub(7), "PCR 11"); .pcrsig is not, because it holds signatures of the
// values.
func stubSections() []string {
	return []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}
}

// stub is systemd's, in front of a kernel.
func (b *boot) stub(i *image, o option) error {
	magic, err := i.text(".sdmagic")
	if err != nil {
		return err
	}
	version, ok := strings.CutPrefix(magic, stubMagic)
	if !ok || !strings.HasPrefix(version, stubVersion+".") && !strings.HasPrefix(version, stubVersion+" ") {
		b.p.leave(unknown(codeVersion, "what the stub %q measures was not compared with a TPM: that of version %s was", strings.Trim(magic, "# \x00"), stubVersion), 4, 8, 9, 11, 12, 13)
		b.exit()
		return nil
	}
	sections, err := i.stubSections()
	if err != nil {
		return err
	}
	if err := b.extras(i); err != nil {
		return err
	}
	for _, name := range stubSections() {
		s, ok := sections[name]
		if !ok {
			continue
		}
		d, err := digest(inMemory(i, s))
		if err != nil {
			return err
		}
		b.p.extend(11, digestOf([]byte(name+"\x00")), Name{Kind: eventlog.KindConfig, Name: "name of section " + name})
		b.p.extend(11, d, Name{Kind: sectionKind(name), Name: "UKI section " + name})
	}
	return b.stubKernel(i, o, sections)
}

func sectionKind(name string) string {
	switch name {
	case ".linux":
		return eventlog.KindKernel
	case ".initrd":
		return eventlog.KindInitrd
	case ".cmdline":
		return eventlog.KindCommandLine
	default:
		return eventlog.KindConfig
	}
}

// stubSections finds the sections by name. The stub compares the beginning of a
// section's name, and takes the last: images that depend on this are left open.
func (i *image) stubSections() (map[string]authenticode.Section, error) {
	out := map[string]authenticode.Section{}
	for _, name := range stubSections() {
		for _, s := range i.Sections {
			if !strings.HasPrefix(s.Name, name) || s.VirtualSize == 0 {
				continue
			}
			if _, twice := out[name]; twice || s.Name != name {
				return nil, &undecided{evidence.Refuse(codeLoader, "more than one section begins with %q", name).About(i.c.Path)}
			}
			if int64(s.VirtualSize)-int64(s.Size) > maxFill {
				return nil, &undecided{evidence.Refuse(codeLoader, "section %q has %d bytes in memory and %d in the file", name, s.VirtualSize, s.Size).About(i.c.Path)}
			}
			out[name] = s
		}
	}
	return out, nil
}

// zeros are what memory holds behind the bytes of a section.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// inMemory is a section as the stub sees it.
func inMemory(i *image, s authenticode.Section) io.Reader {
	r := i.Open(s)
	return io.MultiReader(r, io.LimitReader(zeros{}, int64(s.VirtualSize)-r.Size()))
}

// extras looks for files that the stub adds to the initrd (systemd-stub(7)).
func (b *boot) extras(i *image) error {
	for _, folder := range []string{i.c.Path + ".extra.d", `\loader\credentials`} {
		all, err := i.volume.list(folder)
		if err != nil {
			return err
		}
		for _, e := range all {
			name := strings.ToLower(e.Name)
			if strings.HasSuffix(name, ".cred") || strings.HasSuffix(name, ".raw") {
				b.p.leave(unknown(codeExtras, `%s\%s goes to the kernel, in an archive that the stub makes`, folder, e.Name), 9, 12, 13)
				return nil
			}
		}
	}
	return nil
}

// stubKernel starts the kernel inside. Under Secure Boot the stub vouches for it, and
// firmware neither verifies nor measures it.
func (b *boot) stubKernel(i *image, o option, sections map[string]authenticode.Section) error {
	s, ok := sections[".linux"]
	if !ok || s.Size < s.VirtualSize {
		return i.c.refuse(evidence.Refuse(codeFileMissing, "it has no kernel: section .linux is empty or cut short"))
	}
	r := i.Open(s)
	if !b.secure {
		k, err := b.parse(r, i.c.Path+" .linux")
		if err != nil {
			return err
		}
		b.p.extend(4, k.c.Digests, k.c.name())
	}
	version, err := kernelVersion(r)
	if err != nil {
		return err
	}
	command, err := i.commandLine(sections)
	if err != nil {
		return err
	}
	switch {
	case !measuresInitrd(version):
		b.p.leave(unknown(codeVersion, "what a kernel of version %.60q measures was not compared with a TPM: those from 6.1 on were", version), 9)
	case command == "":
		b.p.leave(unknown(codeVersion, "the command line is empty, or has other than printable characters"), 9)
	case len(o.data) > 2 && !b.secure:
		b.p.leave(unknown(codeState, "the boot option gives a command line, which takes the place of the one in the image"), 9, 12)
	default:
		b.p.extend(9, digestOf(utf16Bytes(command+"\x00")), Name{Kind: eventlog.KindCommandLine, Name: "kernel command line", Detail: command})
		if s, ok := sections[".initrd"]; ok {
			d, err := digest(inMemory(i, s))
			if err != nil {
				return err
			}
			b.p.extend(9, d, Name{Kind: eventlog.KindInitrd, Name: "initrd"})
		}
	}
	b.exit()
	return nil
}

// commandLine is the text of .cmdline, "" when it is not plain.
func (i *image) commandLine(sections map[string]authenticode.Section) (string, error) {
	s, ok := sections[".cmdline"]
	if !ok || s.VirtualSize > maxCommand || s.Size < s.VirtualSize {
		return "", nil
	}
	b := make([]byte, s.VirtualSize)
	if _, err := io.ReadFull(i.Open(s), b); err != nil {
		return "", err
	}
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return "", nil
		}
	}
	return string(b), nil
}

// measuresInitrd reports whether a kernel measures its options and initrd as those do
// that were compared.
func measuresInitrd(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	a, err1 := strconv.Atoi(major)
	c, err2 := strconv.Atoi(minor)
	return err1 == nil && err2 == nil && (a > 6 || a == 6 && c >= 1)
}
