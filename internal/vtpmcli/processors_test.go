package vtpmcli

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/tpm2"
)

// processorsOf has useOneProcessor change a process of four, and returns what it asks for.
func processorsOf(gomaxprocs string) (*processors, *[]int) {
	now, asked := 4, new([]int)
	env := programtest.Env(nil, nil)
	env.Getenv = func(name string) string { return map[string]string{"GOMAXPROCS": gomaxprocs}[name] }
	env.Processors = func(n int) int {
		before := now
		now = n
		*asked = append(*asked, n)
		return before
	}
	return useOneProcessor(env), asked
}

func TestOneTPMHasOneProcessorButForRSAKeys(t *testing.T) {
	p, asked := processorsOf("")
	short := []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81}
	rsa := slices.Concat([]byte{0x80, 2, 0, 0, 0, 28, 0, 0, 1, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 2}, []byte{0, byte(tpm2.AlgRSA)})
	if p.before(short) != nil {
		t.Error("a short command gets more")
	}
	first := p.before(rsa)
	second := p.before(rsa)
	first()
	second()
	p.before(rsa)()
	if diff := cmp.Diff([]int{1, 4, 1, 4, 1}, *asked); diff != "" {
		t.Errorf("processors asked for (-want +got):\n%s", diff)
	}
}

func TestProcessorsAreLeftWhereTheEnvironmentSays(t *testing.T) {
	p, asked := processorsOf("2")
	if p.before([]byte{0x80, 1}) != nil || len(*asked) != 0 {
		t.Errorf("processors asked for: %v, want none", *asked)
	}
}
