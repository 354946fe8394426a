package vtpmcli

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/tpm2"
)

// processorsOf has fewProcessors change a process of so many, and returns what it asks for.
func processorsOf(now int, environ map[string]string) (*processors, *[]int) {
	asked := new([]int)
	env := programtest.Env(nil, nil)
	env.Getenv = func(name string) string { return environ[name] }
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

func TestOneTPMHasFewProcessorsButForRSAKeys(t *testing.T) {
	p, asked := processorsOf(4, nil)
	short := []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x81}
	rsa := slices.Concat([]byte{0x80, 2, 0, 0, 0, 28, 0, 0, 1, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 2}, []byte{0, byte(tpm2.AlgRSA)})
	p.before(rsa)()
	for range settled - 2 {
		if p.before(short) != nil {
			t.Error("something is done after a short command")
		}
	}
	if diff := cmp.Diff([]int{4}, *asked); diff != "" {
		t.Errorf("processors asked for by the first commands (-want +got):\n%s", diff)
	}
	p.before(short)
	first := p.before(rsa)
	second := p.before(rsa)
	p.before(short)
	first()
	second()
	p.before(rsa)()
	if diff := cmp.Diff([]int{4, few, 4, few, 4, few}, *asked); diff != "" {
		t.Errorf("processors asked for (-want +got):\n%s", diff)
	}
}

// Where a machine has one, or comes to have one, a client that holds it would keep it from
// all else.
func TestOneTPMHasASecondProcessor(t *testing.T) {
	for _, has := range []int{1, few} {
		p, asked := processorsOf(has, nil)
		for range 2 * settled {
			p.before([]byte{0x80, 1})
		}
		if diff := cmp.Diff([]int{few}, *asked); diff != "" {
			t.Errorf("of %d, processors asked for (-want +got):\n%s", has, diff)
		}
	}
}

func TestProcessorsAreLeftWhereTheEnvironmentSays(t *testing.T) {
	for _, environ := range []map[string]string{{"GOMAXPROCS": "2"}, {"GODEBUG": "x=1,asyncpreemptoff=1"}, {"GODEBUG": "asyncpreemptoff=2"}} {
		p, asked := processorsOf(4, environ)
		if p != nil {
			t.Errorf("%v: a client may hold a processor", environ)
		}
		for range 2 * settled {
			if p.before([]byte{0x80, 1}) != nil {
				t.Error("something is done after a command")
			}
		}
		if len(*asked) != 0 {
			t.Errorf("%v: processors asked for: %v, want none", environ, *asked)
		}
	}
}
