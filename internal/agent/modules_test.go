package agent

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/channel"
)

func TestRefusedModulesAreFoundInTheKernelsWords(t *testing.T) {
	for name, tc := range map[string]struct {
		lines string
		want  []channel.Module
	}{
		"loaded without a signature": {
			"[   12.5] evil: loading out-of-tree module taints kernel.\n[   12.6] evil: module verification failed: signature and/or required key missing - tainting kernel",
			[]channel.Module{{Name: "evil", Loaded: true, Reason: "signature and/or required key missing", Source: "kernel log"}},
		},
		"refused by the signature": {
			"Loading of unsigned module is rejected\nLoading of module with unavailable key is rejected",
			[]channel.Module{{Reason: "unsigned module", Source: "kernel log"}, {Reason: "module with unavailable key", Source: "kernel log"}},
		},
		"refused by lockdown": {
			"Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7",
			[]channel.Module{{Reason: "lockdown: unsigned module loading is restricted", By: "insmod", Source: "kernel log"}},
		},
		"audit in the kernel's log": {
			"audit: type=1300 audit(1700000000.123:45): arch=c000003e syscall=313 success=no exit=-129 a0=3 comm=\"modprobe\" exe=\"/usr/bin/kmod\"\naudit: type=1330 audit(1700000000.123:45): name=\"evil\"",
			[]channel.Module{{Name: "evil", Reason: "the signature is by a key that is not accepted (EKEYREJECTED)", By: "modprobe", Source: "audit"}},
		},
		"audit's own log": {
			"type=SYSCALL msg=audit(1.2:7): arch=c000003e syscall=175 success=no exit=-126 comm=\"insmod\"\ntype=KERN_MODULE msg=audit(1.2:7): name=\"evil\"",
			[]channel.Module{{Name: "evil", Reason: "the signature's key is not known (ENOKEY)", By: "insmod", Source: "audit"}},
		},
		"another event's module": {
			"type=SYSCALL msg=audit(1.2:7): success=no exit=-126 comm=\"insmod\"\ntype=KERN_MODULE msg=audit(1.2:8): name=\"good\"", nil,
		},
		"a module that loads": {
			"type=SYSCALL msg=audit(1.2:7): success=yes exit=0 comm=\"insmod\"\ntype=KERN_MODULE msg=audit(1.2:7): name=\"good\"", nil,
		},
		"a call that succeeds, whatever it returns": {
			"type=SYSCALL msg=audit(1.2:7): success=yes exit=-1 comm=\"insmod\"\ntype=KERN_MODULE msg=audit(1.2:7): name=\"good\"", nil,
		},
		"another error": {
			"type=SYSCALL msg=audit(1.2:7): success=no exit=-2 comm=\"insmod\"\ntype=KERN_MODULE msg=audit(1.2:7): name=\"gone\"", nil,
		},
		"told twice": {
			"Loading of unsigned module is rejected\nLoading of unsigned module is rejected",
			[]channel.Module{{Reason: "unsigned module", Source: "kernel log"}},
		},
		"a record that is cut": {"type=KERN_MODULE msg=audit(1.2:7", nil},
		"names that a terminal would act on": {
			"ev\x1b[2Jil: module verification failed: signature and/or required key missing - tainting kernel",
			[]channel.Module{{Name: "ev?[2Jil", Loaded: true, Reason: "signature and/or required key missing", Source: "kernel log"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var m Modules
			m.Take(strings.Split(tc.lines, "\n"))
			if diff := cmp.Diff(tc.want, m.Found()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhatAGuestCanMakeOfModulesIsBounded(t *testing.T) {
	var m Modules
	for i := range 1000 {
		m.Take([]string{
			fmt.Sprintf("evil%d: module verification failed: signature and/or required key missing - tainting kernel", i),
			fmt.Sprintf("type=SYSCALL msg=audit(1.2:%d): success=no exit=-126", i),
		})
	}
	if len(m.Found()) != channel.MaxModules || len(m.denied) != maxDenials || len(m.order) != maxDenials {
		t.Errorf("%d modules, %d and %d system calls are kept", len(m.Found()), len(m.denied), len(m.order))
	}
	long := strings.Repeat("x", 5000)
	m = Modules{}
	m.Take([]string{long + ": module verification failed: signature and/or required key missing - tainting kernel"})
	beat := &channel.Heartbeat{Boot: "01234567-89ab-cdef-0123-456789abcdef", Modules: m.Found()}
	if _, err := channel.Encode(beat); err != nil {
		t.Errorf("a long name makes a heartbeat that cannot be sent: %v", err)
	}
}

func TestTheKernelsStateIsRead(t *testing.T) {
	root := fstest.MapFS{
		modulesPath: {Data: []byte("good 16384 0 - Live 0x0000000000000000\nevil 16384 1 dep, Live 0x0000000000000000 (OE)\nforced 1 0 - Live 0x0 (F)\nodd 1 0 - Live 0x0 (O)\n")},
		taintedPath: {Data: []byte("12288\n")}, lockdownPath: {Data: []byte("none [integrity] confidentiality\n")}, sigEnforcePath: {Data: []byte("Y\n")},
	}
	var m Modules
	if diff := cmp.Diff(&channel.Kernel{Tainted: 12288, Lockdown: "integrity", SigEnforce: "Y"}, m.Look(root)); diff != "" {
		t.Errorf("kernel (-want +got)\n%s", diff)
	}
	want := []channel.Module{
		{Name: "evil", Loaded: true, Reason: "loaded with taint (OE)", Source: "modules"},
		{Name: "forced", Loaded: true, Reason: "loaded with taint (F)", Source: "modules"},
	}
	if diff := cmp.Diff(want, m.Found()); diff != "" {
		t.Errorf("modules (-want +got)\n%s", diff)
	}
	if k := m.Look(fstest.MapFS{}); *k != (channel.Kernel{}) {
		t.Errorf("of a kernel that shows nothing: %+v", k)
	}
}

// The refusal is in the words of Debian's Linux 6.1 under secure boot, as test/vm has it:
// its log does not name the module. The list has the form of the kernel's own.
func TestARefusedModuleIsNamedByWhatIMAMeasured(t *testing.T) {
	const measured = "10 6022ee0a2b1ba2b2a8e9d1b2c1d6b4bd4c9d1f7e ima-ng sha256:09fe boot_aggregate\n" +
		"10 00 ima-ng sha256:01 /init\n" +
		"10 00 ima-ng sha256:02 /lib/modules/6.1/virtio-net.ko.xz\n" +
		"10 00 ima-sig sha256:03 /modules/test-unsigned.ko 0302\n" +
		"10 00 ima-ng sha256:04 /modules/test-unsigned.ko\n" +
		"10 00 ima-ng sha256:05 /root/not.kernel\nshort.ko\n"
	const source = "kernel log; IMA measured this module, and it is not loaded"
	refused := []string{"[    6.643101] Loading of unsigned module is rejected"}
	nameless := []channel.Module{{Reason: "unsigned module", Source: "kernel log"}}
	for name, tc := range map[string]struct {
		log                []string
		measured, loaded   string
		want               []channel.Module
		unreadableMeasured bool
	}{
		"one that is not loaded": {
			log: refused, measured: measured, loaded: "virtio_net 16384 0 - Live 0x0\n",
			want: []channel.Module{{Name: "test_unsigned", Reason: "unsigned module", Source: source}},
		},
		"two that are not": {
			log: refused, measured: measured,
			want: []channel.Module{{Name: "virtio_net", Reason: "unsigned module", Source: source}, {Name: "test_unsigned", Reason: "unsigned module", Source: source}},
		},
		"none":            {log: refused, measured: measured, loaded: "virtio_net 1\ntest_unsigned 1\n", want: nameless},
		"no list":         {log: refused, unreadableMeasured: true, want: nameless},
		"nothing refused": {measured: measured},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{modulesPath: {Data: []byte(tc.loaded)}}
			if !tc.unreadableMeasured {
				root[imaTextPath] = &fstest.MapFile{Data: []byte(tc.measured)}
			}
			var m Modules
			for range 2 { // the kernel says it again
				m.Take(tc.log)
				m.Look(root)
			}
			if diff := cmp.Diff(tc.want, m.Found()); diff != "" {
				t.Errorf("modules (-want +got)\n%s", diff)
			}
		})
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "10 00 ima-ng sha256:04 /modules/evil%d.ko\n", i)
	}
	m := Modules{}
	m.Take(refused)
	m.Look(fstest.MapFS{modulesPath: {}, imaTextPath: {Data: []byte(many.String())}})
	if n := len(m.Found()); n != channel.MaxModules {
		t.Errorf("%d modules are kept", n)
	}
}

func FuzzModules(f *testing.F) {
	f.Add("audit: type=1300 audit(1.2:3): success=no exit=-129\naudit: type=1330 audit(1.2:3): name=\"evil\"")
	f.Add("Loading of unsigned module is rejected\n10 00 ima-ng sha256:04 /a-b.ko.xz\n")
	f.Add("Lockdown: x: unsigned module loading is restricted")
	f.Fuzz(func(t *testing.T, text string) {
		var m Modules
		m.Take(strings.Split(text, "\n"))
		m.loaded(text)
		m.name(fstest.MapFS{imaTextPath: {Data: []byte(text)}}, text)
		beat := &channel.Heartbeat{Boot: "01234567-89ab-cdef-0123-456789abcdef", Modules: m.Found()}
		if _, err := channel.Encode(beat); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
