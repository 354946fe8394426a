package engine_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// fillNV defines indices until less than an index of the largest size is left, and then
// one that leaves nothing. It returns the last.
func (m *machine) fillNV(l engine.Limits) tpm2.NVPublic {
	m.Helper()
	p := index(byOwner)
	left := l.NVBytes
	for ; left > l.NVIndex; left -= l.NVIndex {
		p.DataSize = uint16(l.NVIndex)
		m.defineNV(p)
		p.NVIndex++
	}
	p.DataSize = uint16(left)
	m.defineNV(p)
	m.do(tpm2.CCNVWrite, handles(tpm2.HandleOwner, p.NVIndex), password(""), &command.NVWriteIn{Data: []byte("end"), Offset: p.DataSize - 3}, nil)
	return p
}

// room is what a TPM says of its room in NV.
func (m *machine) room() map[tpm2.PT]uint32 {
	m.Helper()
	out := map[tpm2.PT]uint32{}
	for _, p := range []tpm2.PT{tpm2.PTNVIndexMax, tpm2.PTNVBufferMax, tpm2.PTNVCountersMax, tpm2.PTHRNVIndex, tpm2.PTNVCounters, tpm2.PTNVCountersAvail, tpm2.PTHRPersistent, tpm2.PTHRPersistentAvail} {
		out[p] = m.property(p)
	}
	return out
}

// checkFull checks that not a byte more fits, that nothing is written or read beyond the
// end of the last index, and that what was there is.
func (m *machine) checkFull(last tpm2.NVPublic) {
	m.Helper()
	more := index(byOwner)
	more.NVIndex, more.DataSize = last.NVIndex+1, 1
	m.fails(tpm2.RCNVSpace, tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: more})
	of := handles(tpm2.HandleOwner, last.NVIndex)
	m.fails(tpm2.RCNVRange, tpm2.CCNVWrite, of, password(""), &command.NVWriteIn{Data: []byte("beyond"), Offset: last.DataSize - 3})
	m.fails(tpm2.RCNVRange, tpm2.CCNVRead, of, password(""), &command.NVReadIn{Size: 6, Offset: last.DataSize - 3})
	var out command.NVReadOut
	m.do(tpm2.CCNVRead, of, password(""), &command.NVReadIn{Size: 3, Offset: last.DataSize - 3}, &out)
	if !bytes.Equal(out.Data, []byte("end")) {
		m.Errorf("the end of the last index is %q", out.Data)
	}
	// What is given back is there again, and no byte more.
	m.do(tpm2.CCNVUndefineSpace, handles(tpm2.HandleOwner, anIndex), password(""), nil, nil)
	first := index(byOwner)
	m.defineNV(first)
	more.DataSize = uint16(m.property(tpm2.PTNVIndexMax)) - first.DataSize + 1
	m.fails(tpm2.RCNVSpace, tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: more})
	more.DataSize--
	m.defineNV(more)
}

// openvmm issues 2819 and 1525: the size of NV was not in the saved state, and what was
// restored had another: it wrote past its end. Here the room is that of the profile's
// version, which the state names: before and after a restart, a snapshot and a change of
// host it is the same to the byte, in each profile.
func TestOpenVMM2819TheRoomInNVOutlivesARestore(t *testing.T) {
	for _, p := range engine.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			m := manufactureBy(t, p)
			m.startup(tpm2.StartupClear)
			last := m.fillNV(p.Limits)
			want := m.room()
			restart := &machine{TB: t, entropy: m.fork().entropy, names: map[tpm2.Handle][]byte{}}
			var err error
			if restart.tpm, err = engine.Restore(restart.config(), m.tpm.MustPermanent(), nil); err != nil {
				t.Fatal(err)
			}
			restart.tpm.PowerOn()
			restart.startup(tpm2.StartupClear)
			snapshot := m.snapshot()
			for how, x := range map[string]*machine{"the TPM itself": m, "a restart": restart, "a snapshot": snapshot, "a snapshot of it": snapshot.snapshot()} {
				if diff := cmp.Diff(want, x.room()); diff != "" {
					t.Errorf("%s has other room (-before +now):\n%s", how, diff)
				}
				x.checkFull(last)
			}
		})
	}
}

// A TPM that has more in NV than there is room for, as one would that an older program
// with more room wrote, keeps and serves it, takes nothing more, and says that nothing is left.
func TestOpenVMM2819MoreInNVThanThereIsRoomFor(t *testing.T) {
	m := newMachine(t)
	for i := range tpm2.Handle(4) {
		p := index(byOwner)
		p.NVIndex += i
		m.defineNV(p)
	}
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, &command.NVWriteIn{Data: []byte("content.")})
	m.tpm.SetNVRoom(2, 16)
	if got := m.property(tpm2.PTNVCountersAvail); got != 0 {
		t.Errorf("TPM_PT_NV_COUNTERS_AVAIL = %d, want 0", got)
	}
	if got := m.content(8); !bytes.Equal(got, []byte("content.")) {
		t.Errorf("the index has %q", got)
	}
	p := index(byOwner)
	p.NVIndex += 4
	in := &command.NVDefineSpaceIn{PublicInfo: p}
	m.fails(tpm2.RCNVSpace, tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), in)
	for i := range tpm2.Handle(3) {
		m.fails(tpm2.RCNVSpace, tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), in)
		m.do(tpm2.CCNVUndefineSpace, handles(tpm2.HandleOwner, anIndex+i), password(""), nil, nil)
	}
	m.do(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), in, nil)
}
