package eventlog

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

// benchmarked is the log of the budget in docs/benchmarks.md: 45 kB, 116 events.
const benchmarked = "eventlogs/bios/gce-ubuntu-2404-amd-sevsnp.bin"

func BenchmarkParseReplay(b *testing.B) {
	data := sample(b, benchmarked)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		l, err := Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Replay(tpm2.AlgSHA256); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkConfirm(b *testing.B, name string, use func(*Confirmed)) {
	data := sample(b, name)
	l, err := Parse(data)
	if err != nil {
		b.Fatal(err)
	}
	r, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		b.Fatal(err)
	}
	quoted := map[int][]byte{}
	for pcr := range 15 {
		quoted[pcr] = r.Value(pcr)
	}
	b.ReportAllocs()
	for b.Loop() {
		l, err := Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		c, err := l.Confirm(tpm2.AlgSHA256, quoted)
		if err != nil {
			b.Fatal(err)
		}
		use(c)
	}
}

func BenchmarkConfirm(b *testing.B) {
	for _, bm := range []struct{ name, file string }{
		{"Ubuntu", benchmarked},
		{"COS", "eventlogs/bios/gce-cos-101-amd-sev.bin"},
		{"UKI", "vmboot/good-uki/eventlog.bin"},
		{"Windows", "eventlogs/bios/win-latitude-vbs-hvci.bin"},
	} {
		b.Run(bm.name, func(b *testing.B) { benchmarkConfirm(b, bm.file, func(*Confirmed) {}) })
		b.Run(bm.name+"+claims", func(b *testing.B) { benchmarkConfirm(b, bm.file, func(c *Confirmed) { _ = c.Claims() }) })
		b.Run(bm.name+"+components", func(b *testing.B) { benchmarkConfirm(b, bm.file, func(c *Confirmed) { _ = c.Components() }) })
	}
}

// hostileLogs are worst cases of about 1 MiB, by what they are many of.
func hostileLogs() map[string][]byte {
	repeat := func(e made) []byte {
		one := len(makeLogBytes(e)) - len(makeLogBytes())
		n := min(MaxEvents-1, (MaxSize-200)/one)
		all := make([]made, n)
		for i := range all {
			all[i] = e
		}
		return makeLogBytes(all...)
	}
	var lists bytes.Buffer // each with one certificate of one byte
	for lists.Len() < maxLargeData-200 {
		lists.Write([]byte("\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72"))
		lists.Write(binary.LittleEndian.AppendUint32(nil, 28+17))
		lists.Write(binary.LittleEndian.AppendUint32(nil, 0))
		lists.Write(binary.LittleEndian.AppendUint32(nil, 17))
		lists.Write(make([]byte, 17))
	}
	many := lists.String()
	nested := func() string {
		b := []byte{}
		for range 32000 {
			b = append(b, 2, 0, 1, 0x40)
			b = binary.LittleEndian.AppendUint32(b, uint32(8*(32000-len(b)/8)))
		}
		return string(b)
	}()
	tags := func() string { // a container full of empty tags
		body := bytes.Repeat([]byte{1, 0, 4, 0, 0, 0, 0, 0}, 32000)
		head := []byte{1, 0, 1, 0x40}
		return string(append(binary.LittleEndian.AppendUint32(head, uint32(len(body))), body...))
	}()
	return map[string][]byte{
		"tiny events":        repeat(made{pcr: 15, typ: Unused}),
		"tiny NO_ACTION":     repeat(made{pcr: 0, typ: NoAction, data: "Spec ID Event03"}),
		"unknown types":      repeat(made{pcr: 7, typ: 0x12345, data: "x"}),
		"separators":         repeat(made{pcr: 0, typ: Separator, data: separatorZero}),
		"GRUB commands":      repeat(grubEvent("grub_cmd", "linux a")),
		"sections":           repeat(sectionEvents(".linux", "x")[0]),
		"huge tagged events": makeLogBytes(made{pcr: 12, typ: EventTag, data: nested}, made{pcr: 13, typ: EventTag, data: tags}, made{pcr: 12, typ: EventTag, data: tags}),
		"signature lists": makeLogBytes(append([]made{
			variable(uefi.GlobalVariable, "SecureBoot", "\x01"), variable(uefi.GlobalVariable, "PK", many),
			variable(uefi.GlobalVariable, "KEK", many), variable(uefi.ImageSecurityDatabase, "db", many),
		}, secureBootEvents()[4:]...)...),
		"authorities": repeat(made{pcr: 7, typ: EFIVariableAuthority, data: variable(uefi.ShimLock, "S", "x").data}),
		"images":      repeat(img("x")),
		"zero tail":   append(makeLogBytes(made{pcr: 0, typ: 0, data: ""}), make([]byte, MaxSize-200)...),
		"ones tail":   append(makeLogBytes(made{pcr: 0, typ: 0, data: ""}), bytes.Repeat([]byte{0xFF}, MaxSize-200)...),
	}
}

// analyseAll does all that a verifier or the command line does with a log.
func analyseAll(data []byte) {
	l, err := Parse(data)
	if err != nil {
		return
	}
	b, err := l.Inspect(tpm2.AlgSHA256)
	if err != nil {
		return
	}
	b.Claims()
	b.Early()
	b.Late()
	b.Findings()
}

// BenchmarkHostileConfirm is what a verifier does with a log once a quote is
// known to be genuine, in CPU time: the registers are those that the log leads to.
func BenchmarkHostileConfirm(b *testing.B) {
	for name, data := range hostileLogs() {
		b.Run(name, func(b *testing.B) {
			quoted := map[int][]byte{}
			l, err := Parse(data)
			if err != nil {
				b.Fatal(err)
			}
			r, err := l.Replay(tpm2.AlgSHA256)
			if err != nil {
				b.Fatal(err)
			}
			for pcr := range maxPCR {
				quoted[pcr] = r.Value(pcr)
			}
			start, n := cpuTime(b), 0
			for b.Loop() {
				if l, err := Parse(data); err == nil {
					_, _ = l.Confirm(tpm2.AlgSHA256, quoted)
				}
				n++
			}
			b.ReportMetric(float64((cpuTime(b)-start).Microseconds())/1000/float64(n), "cpu-ms/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkHostile(b *testing.B) {
	for name, data := range hostileLogs() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				analyseAll(data)
			}
		})
		b.Run(name+"+components", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			l, err := Parse(data)
			if err != nil {
				b.Fatal(err)
			}
			in, err := l.Inspect(tpm2.AlgSHA256)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				in.Components()
			}
		})
	}
}
