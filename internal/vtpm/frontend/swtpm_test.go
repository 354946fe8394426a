package frontend

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const setLocality2 = "80010000000b20001000" + "02"

// swtpmCases are conversations with a running TPM on swtpm's channels.
var swtpmCases = map[string]struct {
	control   bool
	send, get string
	told      []string
}{
	"raw command":           {false, getRandom, "80010000000b0000017b00", []string{"execute 0 " + getRandom}},
	"two commands":          {false, getRandom + getRandom, "80010000000b0000017b0080010000000b0000017b00", []string{"execute 0 " + getRandom, "execute 0 " + getRandom}},
	"prefixed command":      {false, "0000000802" + "0000000c" + getRandom, "0000000b" + "80010000000b0000017b02" + "00000000", []string{"execute 2 " + getRandom}},
	"both forms":            {false, "0000000802" + "0000000c" + getRandom + getRandom, "0000000b80010000000b0000017b0200000000" + "80010000000b0000017b02", []string{"execute 2 " + getRandom, "execute 2 " + getRandom}},
	"TPM 1.2 command":       {false, "00c10000000a00000099", "80010000000b0000009900", []string{"execute 0 00c10000000a00000099"}},
	"locality":              {false, setLocality2 + getRandom, "80010000000a00000000" + "80010000000b0000017b02", []string{"execute 2 " + getRandom}},
	"no such locality":      {false, "80010000000b20001000" + "05", "80010000000a00000907", nil},
	"locality left out":     {false, "80010000000a20001000", "80010000000a0000009a", nil},
	"capability":            {true, "00000001", "00000000" + "0000fcbf", nil},
	"init":                  {true, "00000002" + "00000000", "00000000", []string{"execute 0 80010000000c000001450000", "power on"}},
	"established":           {true, "00000004", "00000000" + "01000000", nil},
	"set locality":          {true, "00000005" + "03", "00000000", nil},
	"padded locality":       {true, "00000005" + "03" + "000000" + "00000001", "00000000" + "00000000" + "0000fcbf", nil},
	"strange padding":       {true, "00000005" + "03" + "a1b2c3" + "00000001", "00000000" + "00000000" + "0000fcbf", nil},
	"bad locality":          {true, "00000005" + "05", "0000003d", nil},
	"measurement":           {true, "00000006" + "00000007" + "00000002beef" + "00000008", "00000000" + "00000000" + "00000000", []string{"hash start 4", "hash data beef", "hash end"}},
	"cancel":                {true, "00000009", "00000000", []string{"cancel"}},
	"store volatile":        {true, "0000000a", "0000000a", nil},
	"reset established":     {true, "0000000b" + "03", "00000000", []string{"reset established 3"}},
	"from locality 0":       {true, "0000000b" + "00", "0000003d", []string{"reset established 0"}},
	"stop":                  {true, "0000000e", "00000000", []string{"execute 0 80010000000c000001450000"}},
	"stop twice":            {true, "0000000e0000000e", "0000000000000000", []string{"execute 0 80010000000c000001450000"}},
	"stopped":               {true, "0000000e" + "00000004" + "00000006" + "00000007" + "00000001ff" + "00000008" + "0000000b03", "00000000" + strings.Repeat("0000000a", 5), []string{"execute 0 80010000000c000001450000"}},
	"config":                {true, "0000000f", "0000000000000000", nil},
	"buffer size":           {true, "00000011" + "00000000", "00000000" + "00001000" + "00000af8" + "00001000", nil},
	"buffer size running":   {true, "00000011" + "00000f80", "0000000a", nil},
	"buffer size stopped":   {true, "0000000e" + "00000011" + "00000f80", "00000000" + "00000000" + "00000f80" + "00000af8" + "00001000", []string{"execute 0 80010000000c000001450000", "buffer 3968"}},
	"buffer size too small": {true, "0000000e" + "00000011" + "00000001", "00000000" + "00000000" + "00000af8" + "00000af8" + "00001000", []string{"execute 0 80010000000c000001450000", "buffer 2808"}},
	"buffer size too great": {true, "0000000e" + "00000011" + "ffffffff", "00000000" + "00000000" + "00001000" + "00000af8" + "00001000", []string{"execute 0 80010000000c000001450000", "buffer 4096"}},
	"no state to give":      {true, "0000000c" + "00000001" + "00000001" + "00000000", "00000003", nil},
	"no state to take":      {true, "0000000d" + "00000000" + "00000001" + "00000004" + "01020304" + "00000001", "00000003" + "00000000" + "0000fcbf", nil},
	"no file":               {true, "00000010" + "00000001", "00000003" + "00000000" + "0000fcbf", nil},
	"no lock":               {true, "00000013" + "0000012c", "0000000a", nil},
	"info":                  {true, "00000012" + "0000000000000001" + "00000000" + "00000000", "00000000" + "00000003" + "00000003" + "7b7d00", nil},
	"info from offset":      {true, "00000012" + "0000000000000001" + "00000001" + "00000000", "00000000" + "00000003" + "00000002" + "7d00", nil},
	"info past its end":     {true, "00000012" + "0000000000000001" + "00000002" + "00000000", "00000003", nil},
}

func newSWTPM() (*swtpm, *fakeTPM) {
	tpm := &fakeTPM{}
	m := NewMachine(tpm, MachineConfig{})
	m.PowerOn()
	tpm.calls = nil
	return &swtpm{machine: m, cfg: SWTPMConfig{AllowSetLocality: true, Info: func(uint64) []byte { return []byte("{}") }}}, tpm
}

func (s *swtpm) channel(control bool) handler {
	if control {
		return s.control
	}
	return s.data
}

func TestSWTPMsChannelsAreSpoken(t *testing.T) {
	for name, tc := range swtpmCases {
		for _, step := range []int{0, 1, 3, 7} {
			if step > 0 && strings.Contains(name, "padd") {
				continue // padding comes in one write
			}
			t.Run(fmt.Sprintf("%s/%d", name, step), func(t *testing.T) {
				s, tpm := newSWTPM()
				got, err := converse(s.channel(tc.control), unhex(t, tc.send), step)
				if !ended(err) {
					t.Errorf("the connection ended by %v", err)
				}
				if diff := cmp.Diff(tc.get, fmt.Sprintf("%x", got)); diff != "" {
					t.Errorf("answers (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(strings.Join(tc.told, "\n"), strings.Join(tpm.noted(), "\n")); diff != "" {
					t.Errorf("the TPM was told (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestSWTPMEndsWhatItCannotCut(t *testing.T) {
	for name, tc := range map[string]struct {
		control   bool
		send, get string
		want      error
	}{
		"size below a header":   {false, "800100000009" + "0000017b", "80010000000b0000017b00", errFrame},
		"size too large":        {false, "800100004001" + "0000017b", "80010000000b0000017b00", errFrame},
		"size of 4 GiB":         {false, "8001ffffffff" + "0000017b", "80010000000b0000017b00", errFrame},
		"prefix with 4 GiB":     {false, "0000000800ffffffff", "", errFrame},
		"unknown control":       {true, "00000063", "0000000a", errUnknown},
		"blob of 2 MiB":         {true, "0000000d" + "00000000" + "00000001" + "00200000", "", errFrame},
		"control of code zero":  {true, "00000000", "0000000a", errUnknown},
		"shutdown ends it":      {true, "00000003", "00000000", errStop},
		"control is no command": {true, getRandom, "0000000a", errUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSWTPM()
			got, err := converse(s.channel(tc.control), unhex(t, tc.send), 0)
			if !errors.Is(err, tc.want) || fmt.Sprintf("%x", got) != tc.get {
				t.Errorf("answer %x, ended by %v; want %s, %v", got, err, tc.get, tc.want)
			}
		})
	}
}

func TestBeforeInitTheAnswerStillHasATag(t *testing.T) {
	tpm := &fakeTPM{}
	s := &swtpm{machine: NewMachine(tpm, MachineConfig{})}
	got, err := converse(s.data, unhex(t, "80010000000a00000181"), 0)
	if want := "80010000000a00000101"; !ended(err) || fmt.Sprintf("%x", got) != want {
		t.Errorf("answer %x, %v, want %s", got, err, want)
	}
	if told := tpm.noted(); len(told) != 0 {
		t.Errorf("the TPM was told %q", told)
	}
}

func TestLocalityIsChosenOnlyWhereAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg     SWTPMConfig
		control bool
		send    string
		get     string
	}{
		"not allowed":          {SWTPMConfig{}, false, setLocality2, "80010000000a00000101"},
		"4 rejected":           {SWTPMConfig{AllowSetLocality: true, RejectLocality4: true}, false, "80010000000b2000100004", "80010000000a00000907"},
		"4 accepted":           {SWTPMConfig{AllowSetLocality: true}, false, "80010000000b2000100004", "80010000000a00000000"},
		"4 rejected, control":  {SWTPMConfig{RejectLocality4: true}, true, "0000000504", "0000003d"},
		"always, over control": {SWTPMConfig{}, true, "0000000504", "00000000"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSWTPM()
			s.cfg = tc.cfg
			got, err := converse(s.channel(tc.control), unhex(t, tc.send), 0)
			if !ended(err) || fmt.Sprintf("%x", got) != tc.get {
				t.Errorf("answer %x, %v, want %s", got, err, tc.get)
			}
		})
	}
}

func TestStoredVolatileStateIsWhereInitGoesOn(t *testing.T) {
	first, second := &fakeTPM{}, &fakeTPM{}
	restored := 0
	m := NewMachine(first, MachineConfig{Restore: func(permanent, volatile []byte) (TPM, error) {
		if string(permanent) != "permanent" || string(volatile) != "volatile" {
			t.Errorf("Restore(%q, %q)", permanent, volatile)
		}
		restored++
		return second, nil
	}})
	m.PowerOn()
	s := &swtpm{machine: m}
	got, err := converse(s.control, unhex(t, "0000000a"+"0000000200000001"+"0000000200000000"), 0)
	if want := "000000000000000000000000"; !ended(err) || fmt.Sprintf("%x", got) != want {
		t.Errorf("answers %x, %v, want %s", got, err, want)
	}
	if restored != 1 {
		t.Errorf("restored %d times, want once: the second CMD_INIT finds the volatile state deleted", restored)
	}
	if diff := cmp.Diff([]string{"power on"}, second.noted()); diff != "" {
		t.Errorf("the restored TPM was told (-want +got):\n%s", diff)
	}
}

func FuzzSWTPM(f *testing.F) {
	for _, tc := range swtpmCases {
		f.Add(tc.control, unhex(f, tc.send))
	}
	f.Fuzz(func(t *testing.T, control bool, in []byte) {
		s, _ := newSWTPM()
		got, _ := converse(s.channel(control), in, 0)
		if len(got) > 16*len(in)+16 {
			t.Errorf("%d bytes are answered with %d", len(in), len(got))
		}
		if !control {
			again, _ := newSWTPM()
			if pieces, _ := converse(again.data, in, 1); string(pieces) != string(got) {
				t.Errorf("byte by byte the answer is %x, else %x", pieces, got)
			}
		}
	})
}
