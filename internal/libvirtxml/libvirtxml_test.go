package libvirtxml

import (
	"errors"
	"strings"
	"testing"
)

const good = `<domain type="kvm"><name>web</name><uuid>0BADC0DE-0000-4000-8000-000000000001</uuid><memory unit="GiB">2</memory><vcpu placement="static">2</vcpu>
<os><type arch="x86_64" machine="pc-q35-7.2">hvm</type><loader readonly="yes" secure="yes" type="pflash">/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader><nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>
<devices><disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="/images/web.qcow2"/><target dev="vda" bus="virtio"/></disk>
<interface type="network"><mac address="52:54:00:00:00:01"/></interface><interface type="user"/><tpm model="tpm-tis"><backend type="emulator" version="2.0"/></tpm><video/></devices></domain>`

func mustParse(t *testing.T, text string) *Domain {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAGoodDomainIsMappedAndWhatIsLeftIsSaid(t *testing.T) {
	t.Parallel()
	p := mustParse(t, good).Map("")
	d := p.Definition
	if p.Stopped() || d.Name != "web" || p.UUID != "0badc0de-0000-4000-8000-000000000001" || d.MemoryMiB != 2048 || d.CPUs != 2 || !d.Shielded.SecureBoot || d.TPM != "tis" || !p.TPM {
		t.Errorf("plan %+v of %+v", p, d)
	}
	if len(d.Disks) != 1 || !d.Disks[0].Boot || d.Disks[0].File != "/images/web.qcow2" || len(d.Networks) != 1 || p.Variables == "" {
		t.Errorf("disks %v, networks %v, variables %q", d.Disks, d.Networks, p.Variables)
	}
	d.Complete()
	if err := d.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
	for _, what := range []string{"interface network", "device video"} {
		found := false
		for _, l := range p.Lines {
			found = found || l.What == what && l.Becomes == "" && l.Why != ""
		}
		if !found {
			t.Errorf("it is not said that %q is left: %+v", what, p.Lines)
		}
	}
}

func TestWhatCannotBeAMachineStopsThePlan(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ old, to, want string }{
		"BIOS":             {` type="pflash"`, "", "BIOS"},
		"another board":    {"pc-q35-7.2", "pc-i440fx-7.2", "q35"},
		"architecture":     {"x86_64", "aarch64", "x86_64"},
		"memory unit":      {`"GiB"`, `"XiB"`, "not known"},
		"too much memory":  {">2</memory>", ">9223372036854775807</memory>", "not known"},
		"no processors":    {">2</vcpu>", ">two</vcpu>", "no number"},
		"format":           {`type="qcow2"`, `type="vmdk"`, "never guessed"},
		"network disk":     {`file="/images/web.qcow2"`, `protocol="rbd"`, "neither a file"},
		"a shared disk":    {`<target dev="vda"`, `<shareable/><target dev="vda"`, "shared"},
		"an encrypted one": {`<target dev="vda"`, `<encryption/><target dev="vda"`, "decrypts"},
		"passthrough":      {`"emulator"`, `"passthrough"`, "host's own"},
		"TPM 1.2":          {`"2.0"`, `"1.2"`, "2.0"},
	} {
		p := mustParse(t, strings.Replace(good, tc.old, tc.to, 1)).Map("")
		said := false
		for _, l := range p.Lines {
			said = said || l.Stops && strings.Contains(l.Why, tc.want)
		}
		if !p.Stopped() || !said {
			t.Errorf("%s: %+v", name, p.Lines)
		}
	}
}

func TestWhatIsNoDomainIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":         "",
		"another element": "<network/>",
		"cut":             good[:len(good)-1],
		"two of them":     good + good,
		"a document type": "<!DOCTYPE domain [<!ENTITY a \"b\">]>" + good,
		"an entity":       strings.Replace(good, "<name>web", "<name>&a;", 1),
		"two names":       strings.Replace(good, "<name>web</name>", "<name>web</name><name>db</name>", 1),
		"no memory":       strings.Replace(good, "memory", "recollection", 2),
		"too deep":        strings.Repeat("<domain>", maxDepth+1) + strings.Repeat("</domain>", maxDepth+1),
		"too long":        strings.Repeat(" ", maxSize) + good,
		"too many parts":  "<domain>" + strings.Repeat("<a/>", maxTokens) + "</domain>",
	} {
		if d, err := Parse([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		if p := d.Map("m"); p.Definition.Name != "m" || len(p.Lines) == 0 {
			t.Errorf("plan %+v", p)
		}
	})
}
