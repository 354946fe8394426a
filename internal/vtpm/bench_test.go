package vtpm

import (
	"context"
	"testing"
)

// BenchmarkStart is a hypervisor's connection until TPM2_Startup has answered, and
// the shutdown after it.
func BenchmarkStart(b *testing.B) {
	f := newFixture(b)
	f.cfg.Limits.Sessions = 1e6
	f.reopen()
	f.create("web")
	f.daemon(DaemonConfig{})
	for b.Loop() {
		v, _, err := startedVM(f.socket("web"))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := v.shutdown(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkBoot is the commands of a boot.
func BenchmarkBoot(b *testing.B) {
	f := newFixture(b)
	f.cfg.Limits.Sessions = 1e6
	f.reopen()
	f.create("web")
	f.daemon(DaemonConfig{})
	commands := bootCommands(b)
	for b.Loop() {
		b.StopTimer()
		v, err := dialVM(f.socket("web"))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := (&guest{}).boot(v, commands); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := v.shutdown(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkCreate is a TPM with its three endorsement keys, on the disk.
func BenchmarkCreate(b *testing.B) {
	f := newFixture(b)
	n := 0
	for b.Loop() {
		name := "t" + string(rune('a'+n%26)) + string(rune('a'+n/26%26)) + string(rune('a'+n/676))
		if _, err := f.Create(context.Background(), tester, CreateOptions{Name: name}); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
