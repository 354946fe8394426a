package vtpmcli

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/tpm2"
)

// processorsOf has fewProcessors change a process of four, and returns what it asks for.
func processorsOf(gomaxprocs string) (*processors, *[]int) {
	now, asked := 4, new([]int)
	env := programtest.Env(nil, nil)
	env.Getenv = func(name string) string { return map[string]string{"GOMAXPROCS": gomaxprocs}[name] }
	env.Processors = func(n int) int {
		before := now
		if n > 0 {
			now = n
			*asked = append(*asked, n)
		}
		return before
	}
	return fewProcessors(env), asked
}

func TestOneTPMHasOneProcessorButForRSAKeys(t *testing.T) {
	p, asked := processorsOf("")
	short := []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81}
	rsa := slices.Concat([]byte{0x80, 2, 0, 0, 0, 28, 0, 0, 1, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 2}, []byte{0, byte(tpm2.AlgRSA)})
	p.before(rsa)()
	for range settled - 2 {
		if p.before(short) != nil {
			t.Error("something is done after a short command")
		}
	}
	if len(*asked) != 0 {
		t.Errorf("processors asked for by the first commands: %v, want none", *asked)
	}
	p.before(short)
	first := p.before(rsa)
	second := p.before(rsa)
	p.before(short)
	first()
	second()
	p.before(rsa)()
	if diff := cmp.Diff([]int{1, 4, 1, 4, 1}, *asked); diff != "" {
		t.Errorf("processors asked for (-want +got):\n%s", diff)
	}
}

func TestProcessorsAreLeftWhereTheEnvironmentSays(t *testing.T) {
	p, asked := processorsOf("2")
	for range 2 * settled {
		if p.before([]byte{0x80, 1}) != nil {
			t.Error("something is done after a command")
		}
	}
	if len(*asked) != 0 {
		t.Errorf("processors asked for: %v, want none", *asked)
	}
}
