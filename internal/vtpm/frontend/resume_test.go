package frontend

import (
	"errors"
	"slices"
	"testing"
)

// A shelf is a VolatileStore whose reads can fail.
type shelf struct {
	heldVolatile
	fault error
}

func (s *shelf) Get() ([]byte, error) { return s.state, s.fault }

func TestAMachineLoadsItsTPMWhenItGetsPower(t *testing.T) {
	fault := errors.New("no key")
	loads := 0
	tpm := &fakeTPM{}
	m := NewMachine(nil, MachineConfig{Load: func() (TPM, error) {
		loads++
		if loads < 3 {
			return nil, fault
		}
		return tpm, nil
	}})
	m.Cancel() // of nothing
	if got := m.Execute(nil, 0, unhex(t, getRandom)); len(got) != 0 || loads != 0 {
		t.Errorf("without power: answer %x, %d loads", got, loads)
	}
	if err := m.Init(false); !errors.Is(err, fault) || m.Powered() || !errors.Is(m.LoadErr(), fault) {
		t.Errorf("Init = %v, powered %v, LoadErr %v", err, m.Powered(), m.LoadErr())
	}
	if m.PowerOn(); m.Powered() {
		t.Error("powered without a TPM")
	}
	if err := m.Init(false); err != nil || !m.Powered() || m.LoadErr() != nil {
		t.Errorf("third time: Init = %v, powered %v, LoadErr %v", err, m.Powered(), m.LoadErr())
	}
	if err := m.Init(false); err != nil || loads != 3 {
		t.Errorf("Init = %v, %d loads, want 3", err, loads)
	}
}

func TestATPMThatIsLoadedLaterKnowsItsBuffer(t *testing.T) {
	f := new(fakeTPM)
	m := NewMachine(nil, MachineConfig{Load: func() (TPM, error) { return f, nil }})
	if n, _, greatest := m.BufferSize(); n != greatest {
		t.Errorf("size %d before anyone says, want %d", n, greatest)
	}
	if !m.SetBufferSize(3000) {
		t.Error("a machine without power takes no size")
	}
	m.PowerOn()
	if got, want := f.noted(), []string{"buffer 3000", "power on"}; !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
	if m.SetBufferSize(4000) {
		t.Error("a machine with power takes another size")
	}
	if n, _, _ := m.BufferSize(); n != 3000 {
		t.Errorf("size %d, want 3000", n)
	}
}

func TestVolatileStateThatCannotBeReadIsKept(t *testing.T) {
	s := &shelf{heldVolatile{[]byte("state")}, errors.New("provider is down")}
	m := NewMachine(&fakeTPM{}, MachineConfig{Volatile: s, Restore: func(_, _ []byte) (TPM, error) { return &fakeTPM{}, nil }})
	if err := m.Init(true); !errors.Is(err, s.fault) || m.Powered() || s.state == nil {
		t.Errorf("Init = %v, powered %v, kept %q", err, m.Powered(), s.state)
	}
	s.fault = nil
	if err := m.Init(true); err != nil || !m.Powered() || s.state != nil {
		t.Errorf("Init = %v, powered %v, kept %q; want it used up", err, m.Powered(), s.state)
	}
}

func TestShutdownIsTheClientsWhenToldSo(t *testing.T) {
	tpm := &fakeTPM{}
	m := NewMachine(tpm, MachineConfig{NoShutdown: true})
	m.PowerOn()
	if err := m.Shutdown(); err != nil || !slices.Equal(tpm.noted(), []string{"power on"}) {
		t.Errorf("Shutdown = %v, calls %q", err, tpm.noted())
	}
}

func TestAResetEndsInOrder(t *testing.T) {
	const shutdown = "execute 0 80010000000c000001450000"
	for name, tc := range map[string]struct {
		cfg   MachineConfig
		first []string // commands before
		want  []string
	}{
		"something ran":             {MachineConfig{}, []string{getRandom}, []string{shutdown, "power on"}},
		"nothing ran":               {MachineConfig{}, nil, []string{shutdown, "power on"}},
		"the client ended in order": {MachineConfig{}, []string{"80010000000c000001450000"}, []string{"power on"}},
		"it is the client's":        {MachineConfig{NoShutdown: true}, []string{getRandom}, []string{"power on"}},
		"over volatile storage": {
			MachineConfig{Restore: func(_, _ []byte) (TPM, error) { return nil, errors.New("there is none") }},
			[]string{getRandom},
			[]string{shutdown, "power on"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := &fakeTPM{}
			m := NewMachine(tpm, tc.cfg)
			if err := m.Init(false); err != nil {
				t.Fatal(err)
			}
			if got, want := tpm.noted(), []string{"power on"}; !slices.Equal(got, want) {
				t.Errorf("a first Init: calls %q, want %q", got, want)
			}
			for _, c := range tc.first {
				m.Execute(nil, 0, unhex(t, c))
			}
			before := len(tpm.noted())
			if err := m.Init(false); err != nil || !m.Powered() {
				t.Fatalf("Init = %v, powered %v", err, m.Powered())
			}
			if got := tpm.noted()[before:]; !slices.Equal(got, tc.want) {
				t.Errorf("calls %q, want %q", got, tc.want)
			}
		})
	}
}

func TestStoredVolatileStateNeedsNoShutdown(t *testing.T) {
	for name, tc := range map[string]struct {
		after func(*Machine)
		want  bool // TPM2_Shutdown is sent
	}{
		"nothing ran since": {func(*Machine) {}, false},
		"a command did":     {func(m *Machine) { m.Execute(nil, 0, unhex(t, getRandom)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := &fakeTPM{}
			m := NewMachine(tpm, MachineConfig{Restore: func(_, _ []byte) (TPM, error) { return tpm, nil }})
			m.PowerOn()
			if err := m.StoreVolatile(); err != nil {
				t.Fatal(err)
			}
			tc.after(m)
			if err := m.Shutdown(); err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(tpm.noted(), "execute 0 80010000000c000001450000"); got != tc.want {
				t.Errorf("TPM2_Shutdown sent: %v, want %v; calls %q", got, tc.want, tpm.noted())
			}
		})
	}
}

func TestVolatileStateIsStoredWithThePermanentStateThatItFits(t *testing.T) {
	var saved []string
	m := NewMachine(&fakeTPM{}, MachineConfig{
		Save:    func(b []byte) error { saved = append(saved, string(b)); return nil },
		Restore: func(_, _ []byte) (TPM, error) { return &fakeTPM{}, nil },
	})
	m.PowerOn()
	if err := m.StoreVolatile(); err != nil || len(saved) != 1 {
		t.Errorf("StoreVolatile = %v, saved %q; want one permanent state, changed or not", err, saved)
	}
}

func TestATPMThatWasExchangedIsLoadedAnew(t *testing.T) {
	loads, stale := 0, false
	m := NewMachine(nil, MachineConfig{
		Load:  func() (TPM, error) { loads++; return &fakeTPM{}, nil },
		Stale: func() bool { return stale },
	})
	for _, tc := range []struct {
		name        string
		stop, stale bool
		want        int
	}{
		{"first power", false, false, 1},
		{"as it was", true, false, 1},
		{"exchanged", true, true, 2},
		{"exchanged under power", false, true, 2},
	} {
		if tc.stop {
			if err := m.Shutdown(); err != nil {
				t.Fatal(err)
			}
		}
		stale = tc.stale
		if err := m.Init(false); err != nil || loads != tc.want {
			t.Errorf("%s: Init = %v, %d loads, want %d", tc.name, err, loads, tc.want)
		}
	}
}

// What stands in for state that came is never what runs: not when that state does not
// fit, and not at the start after it.
func TestAStandInNeverGetsPower(t *testing.T) {
	loads, stands := 0, 0
	refused := errors.New("refused")
	fits := error(nil)
	m := NewMachine(nil, MachineConfig{
		Load:    func() (TPM, error) { loads++; return nil, refused },
		StandIn: func() (TPM, error) { stands++; return &fakeTPM{}, nil },
		Restore: func(_, _ []byte) (TPM, error) { return &fakeTPM{}, fits },
		Save:    func([]byte) error { return nil },
	})
	come := func() {
		t.Helper()
		if err := m.SetStateBlob(BlobPermanent, []byte("p")); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, err, wantErr error, wantLoads, wantStands int) {
		t.Helper()
		if !errors.Is(err, wantErr) || loads != wantLoads || stands != wantStands || m.Powered() != (wantErr == nil) {
			t.Errorf("%s: %v, %d loads, %d stand-ins, power %v", what, err, loads, stands, m.Powered())
		}
	}
	fits = errors.New("does not fit")
	come()
	want("state that does not fit", m.Init(false), fits, 0, 1)
	want("a start without state", m.Init(false), refused, 1, 1)
	come()
	if err := m.Shutdown(); err != nil { // which forgets it
		t.Fatal(err)
	}
	want("a start after state was forgotten", m.Init(false), refused, 2, 1)
	if _, _, err := m.StateBlob(BlobPermanent, 0); !errors.Is(err, refused) {
		t.Errorf("StateBlob = %v, want %v", err, refused)
	}
	fits = nil
	come()
	want("state that fits", m.Init(false), nil, 3, 2)
}
