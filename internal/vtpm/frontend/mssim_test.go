package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// simCases are conversations by the simulator protocol, after power on: what the
// client sends, what it gets, and what the TPM is told.
var simCases = map[string]struct {
	platform  bool
	send, get string
	told      []string
}{
	"command":             {false, "00000008" + "03" + "0000000c" + getRandom, "0000000b" + "80010000000b0000017b03" + "00000000", []string{"execute 3 " + getRandom}},
	"two commands":        {false, "00000008" + "00" + "0000000c" + getRandom + "00000008" + "01" + "0000000c" + getRandom, "0000000b80010000000b0000017b0000000000" + "0000000b80010000000b0000017b0100000000", []string{"execute 0 " + getRandom, "execute 1 " + getRandom}},
	"no such locality":    {false, "00000008" + "05" + "0000000c" + getRandom, "0000000b80010000000b0000017b0000000000", []string{"execute 0 " + getRandom}},
	"extended locality":   {false, "00000008" + "20" + "0000000c" + getRandom, "0000000b80010000000b0000017b2000000000", []string{"execute 32 " + getRandom}},
	"empty command":       {false, "00000008" + "00" + "00000000", "0000000b80010000000b000000000000000000", []string{"execute 0 "}},
	"handshake":           {false, "0000000f00000001", "000000010000000d00000000", nil},
	"measurement":         {false, "00000005" + "00000006" + "00000003aabbcc" + "00000006" + "00000000" + "00000007", "00000000000000000000000000000000", []string{"hash start 4", "hash data aabbcc", "hash end"}},
	"alternative result":  {false, "0000001000000000", "00000000", nil},
	"session end":         {false, "00000014", "", nil},
	"power on again":      {true, "00000001", "00000000", nil},
	"power cycle":         {true, "0000000200000001", "0000000000000000", []string{"power on"}},
	"presence":            {true, "0000000300000004", "0000000000000000", []string{"presence true", "presence false"}},
	"cancel":              {true, "000000090000000a", "0000000000000000", []string{"cancel"}},
	"memory":              {true, "0000000c0000000b", "0000000000000000", nil},
	"key cache":           {true, "0000000d0000000e", "0000000000000000", nil},
	"reset":               {true, "00000011", "00000000", []string{"power on"}},
	"reset without power": {true, "0000000200000011", "0000000000000000", nil},
	"restart":             {true, "00000012", "00000000", []string{"time stopped"}},
	"restart, no power":   {true, "0000000200000012", "0000000000000000", nil},
	"platform end":        {true, "00000014", "", nil},
	"platform stop":       {true, "00000015", "", nil},
	"sizes":               {true, "00000019", "00000010" + "00000000000000000000000000000000" + "00000000", nil},
	"timer":               {true, "0000001a40000110", "0000000000000000", nil},
	"failure mode":        {true, "0000001e", "00000000", []string{"fail self-test"}},
	"firmware":            {true, "0000002300000001" + "0000002400000002", "0000000000000000", nil},
}

func newSimulator() (*simulator, *fakeTPM) {
	tpm := &fakeTPM{}
	m := NewMachine(tpm, MachineConfig{})
	m.PowerOn()
	tpm.calls = nil
	return &simulator{machine: m}, tpm
}

func (s *simulator) port(platform bool) handler {
	if platform {
		return s.platformPort
	}
	return s.commandPort
}

func TestTheSimulatorProtocolIsSpokenWhateverTheReads(t *testing.T) {
	for name, tc := range simCases {
		for _, step := range []int{0, 1, 3, 7} {
			t.Run(fmt.Sprintf("%s/%d", name, step), func(t *testing.T) {
				s, tpm := newSimulator()
				got, err := converse(s.port(tc.platform), unhex(t, tc.send), step)
				if !ended(err) {
					t.Errorf("the connection ended by %v", err)
				}
				if diff := cmp.Diff(tc.get, fmt.Sprintf("%x", got)); diff != "" {
					t.Errorf("answers (-want +got):\n%s", diff)
				}
				want, told := strings.Join(tc.told, "\n"), strings.Join(tpm.noted(), "\n")
				if diff := cmp.Diff(want, told); diff != "" {
					t.Errorf("the TPM was told (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestAFrameThatIsNotWholeDoesNothing(t *testing.T) {
	for name, tc := range simCases {
		if name == "measurement" || strings.HasPrefix(name, "two") || len(tc.told) > 1 {
			continue // more than one frame
		}
		whole := unhex(t, tc.send)
		for n := range len(whole) - 1 {
			s, tpm := newSimulator()
			got, err := converse(s.port(tc.platform), whole[:n], 0)
			if !ended(err) {
				t.Errorf("%s: %d bytes: ended by %v", name, n, err)
			}
			if n < 4 && (len(got) > 0 || len(tpm.noted()) > 0) {
				t.Errorf("%s: %d bytes: answer %x, TPM told %q", name, n, got, tpm.noted())
			}
			if strings.HasPrefix(strings.Join(tpm.noted(), ""), "execute") {
				t.Errorf("%s: %d bytes of a command were executed", name, n)
			}
		}
	}
}

func TestTheSimulatorEndsWhatItCannotCut(t *testing.T) {
	for name, tc := range map[string]struct {
		platform  bool
		send, get string
		want      error
	}{
		"unknown command":          {false, "00000063", "", errUnknown},
		"platform command here":    {false, "00000001", "", errUnknown},
		"handshake of version 0":   {false, "0000000f00000000", "", errUnknown},
		"command too long":         {false, "000000080000004001", "", errFrame},
		"command of 4 GiB":         {false, "0000000800ffffffff", "", errFrame},
		"stop":                     {false, "00000015", "", errStop},
		"unknown platform command": {true, "00000063", "00000001", errUnknown},
		"command on platform port": {true, "00000008", "00000001", errUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s, tpm := newSimulator()
			got, err := converse(s.port(tc.platform), unhex(t, tc.send+"00000014"), 0)
			if !errors.Is(err, tc.want) || fmt.Sprintf("%x", got) != tc.get {
				t.Errorf("answer %x, ended by %v; want %s, %v", got, err, tc.get, tc.want)
			}
			if told := tpm.noted(); len(told) != 0 {
				t.Errorf("the TPM was told %q", told)
			}
		})
	}
}

func TestWithoutPowerThereIsNoAnswer(t *testing.T) {
	s, tpm := newSimulator()
	s.machine.PowerOff()
	got, err := converse(s.commandPort, unhex(t, "0000000800"+"0000000c"+getRandom+"00000005"), 0)
	if want := "0000000000000000" + "00000000"; !ended(err) || fmt.Sprintf("%x", got) != want {
		t.Errorf("answer %x, %v, want %s", got, err, want)
	}
	if told := tpm.noted(); len(told) != 0 {
		t.Errorf("the TPM was told %q", told)
	}
}

func TestWithoutMemoryOnlyCommandsThatWriteItAreRefused(t *testing.T) {
	s, tpm := newSimulator()
	s.machine.SetMemory(false)
	clear := "80010000000a00000126" // TPM2_Clear
	got, err := converse(s.commandPort, unhex(t, "0000000800"+"0000000a"+clear+"0000000800"+"0000000c"+getRandom), 0)
	if want := "0000000a" + "80010000000a00000923" + "00000000" + "0000000b80010000000b0000017b0000000000"; !ended(err) || fmt.Sprintf("%x", got) != want {
		t.Errorf("answer %x, %v, want %s", got, err, want)
	}
	if diff := cmp.Diff([]string{"execute 0 " + getRandom}, tpm.noted()); diff != "" {
		t.Errorf("the TPM was told (-want +got):\n%s", diff)
	}
}

func TestTheLongestMessagesAreReportedOnce(t *testing.T) {
	s, _ := newSimulator()
	long := "80010000001100000144" + "00000000000000"
	send := "0000000800" + "00000011" + long + "0000000800" + "0000000c" + getRandom
	if _, err := converse(s.commandPort, unhex(t, send), 0); !ended(err) {
		t.Fatal(err)
	}
	got, _ := converse(s.platformPort, unhex(t, "0000001900000019"), 0)
	want := "00000010" + "11000000" + "00000144" + "0b000000" + "00000144" + "00000000" + "00000010" + strings.Repeat("00", 16) + "00000000"
	if fmt.Sprintf("%x", got) != want {
		t.Errorf("sizes are %x, want %s", got, want)
	}
}

func FuzzSimulator(f *testing.F) {
	f.Add(true, bytes.Repeat([]byte{0, 0, 0, 0x19}, 3), uint8(0))
	for _, tc := range simCases {
		f.Add(tc.platform, unhex(f, tc.send), uint8(0))
		f.Add(tc.platform, unhex(f, tc.send), uint8(1))
	}
	f.Fuzz(func(t *testing.T, platform bool, in []byte, step uint8) {
		s, whole := newSimulator()
		got, _ := converse(s.port(platform), in, 0)
		// At most, a signal of 4 bytes asks for the sizes of the longest messages: 24.
		if len(got) > 6*len(in)+16 {
			t.Errorf("%d bytes are answered with %d", len(in), len(got))
		}
		pieces, pieced := newSimulator()
		again, _ := converse(pieces.port(platform), in, int(step))
		if string(got) != string(again) || cmp.Diff(whole.noted(), pieced.noted()) != "" {
			t.Errorf("read in pieces of %d: answer %x, whole: %x", step, again, got)
		}
	})
}
