package ekca

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// A module is a TPM from its maker's side.
type module struct {
	tpm *client.TPM
	// buffer is how much NV takes or gives in one command.
	buffer, maxIndex int
}

// certificateIndex are the attributes of an index for a certificate
// (EK Credential Profile, 2.2.1.3): written once by the platform, which alone may
// remove it, and read by everybody. Written and locked they read 0x62072801.
const certificateIndex = tpm2.NVPPWrite | tpm2.NVWriteDefine | tpm2.NVPPRead | tpm2.NVOwnerRead | tpm2.NVAuthRead | tpm2.NVNoDA | tpm2.NVPlatformCreate

// begin starts the TPM and learns its limits.
func (m *module) begin() error {
	if err := m.tpm.Startup(tpm2.StartupClear); err != nil {
		return err
	}
	p, err := m.properties()
	if err != nil {
		return err
	}
	m.buffer, m.maxIndex = int(p[tpm2.PTNVBufferMax]), int(p[tpm2.PTNVIndexMax])
	if m.buffer < 64 || m.maxIndex < m.buffer {
		return fmt.Errorf("TPM takes NV in parts of %d bytes and indices of %d", m.buffer, m.maxIndex)
	}
	return nil
}

// properties are the fixed properties of the TPM.
func (m *module) properties() (map[tpm2.PT]uint32, error) {
	out := map[tpm2.PT]uint32{}
	var got command.GetCapabilityOut
	in := &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTFixed), PropertyCount: 0x100}
	if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCGetCapability, In: in, Out: &got}); err != nil {
		return nil, err
	}
	for _, p := range got.CapabilityData.Properties {
		out[p.Property] = p.Value
	}
	return out, nil
}

// A Device is how a TPM names itself, in the words of certificates.
type Device struct {
	Manufacturer string `json:"manufacturer"` // "id:" and eight hex digits
	Model        string `json:"model"`
	Version      string `json:"version"` // "id:" and eight hex digits, of the firmware
	Family       string `json:"family"`  // "2.0"
	Level        uint32 `json:"level"`
	Revision     uint32 `json:"revision"`
}

// device reads what certificates say of the TPM (EK Credential Profile, 3.1.2).
func (m *module) device() (*Device, error) {
	p, err := m.properties()
	if err != nil {
		return nil, err
	}
	var model strings.Builder
	for _, pt := range []tpm2.PT{tpm2.PTVendorString1, tpm2.PTVendorString2, tpm2.PTVendorString3, tpm2.PTVendorString4} {
		model.WriteString(letters(p[pt]))
	}
	d := &Device{
		Manufacturer: fmt.Sprintf("id:%08X", p[tpm2.PTManufacturer]),
		Model:        strings.Join(strings.Fields(model.String()), " "),
		Version:      fmt.Sprintf("id:%08X", p[tpm2.PTFirmwareVersion1]),
		Family:       letters(p[tpm2.PTFamilyIndicator]),
		Level:        p[tpm2.PTLevel], Revision: p[tpm2.PTRevision],
	}
	if d.Model == "" || d.Family == "" {
		return nil, errors.New("TPM does not say what it is")
	}
	return d, nil
}

// letters are the printable characters of a property that is text.
func letters(v uint32) string {
	var b []byte
	for shift := 24; shift >= 0; shift -= 8 {
		if c := byte(v >> shift); c >= ' ' && c <= '~' {
			b = append(b, c)
		}
	}
	return string(b)
}

// handles lists handles of one kind, from the first one on.
func (m *module) handles(first tpm2.Handle) ([]tpm2.Handle, error) {
	var out []tpm2.Handle
	for {
		var got command.GetCapabilityOut
		in := &command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: uint32(first), PropertyCount: 256}
		if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCGetCapability, In: in, Out: &got}); err != nil {
			return nil, err
		}
		list := got.CapabilityData.Handles
		out = append(out, list...)
		if !got.MoreData || len(list) == 0 {
			return out, nil
		}
		first = list[len(list)-1] + 1
	}
}

// mustBeNew holds that no place of an identity is taken.
func (m *module) mustBeNew() error {
	for _, first := range []tpm2.Handle{0x81010000, 0x01c00000} {
		taken, err := m.handles(first)
		if err != nil {
			return err
		}
		for _, h := range taken {
			if h>>16 == 0x8101 || h>>16 == 0x8102 || h>>16 == 0x01c0 || h>>16 == 0x01c9 {
				return fmt.Errorf("handle %#x is taken: %w", uint32(h), ErrNotNew)
			}
		}
	}
	return nil
}

// makeKey makes a key from its template and puts it in its place.
func (m *module) makeKey(k Kind) (*IssuedKey, error) {
	p, err := placeOf(k)
	if err != nil {
		return nil, err
	}
	h, public, err := m.createPrimary(k)
	if err != nil {
		return nil, err
	}
	// The range of these handles is the owner's, who has no authorization yet
	// (Part 3, 28.5).
	evict := &client.Command{
		Code:    tpm2.CCEvictControl,
		Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: h}},
		In:      &command.EvictControlIn{PersistentHandle: p.handle},
	}
	if _, err := m.tpm.Run(evict); err != nil {
		return nil, err
	}
	return &IssuedKey{Kind: k, Handle: p.handle, Index: p.index, Public: *public}, m.tpm.Flush(h)
}

// createPrimary makes a key of a kind; the caller flushes it.
func (m *module) createPrimary(k Kind) (tpm2.Handle, *tpm2.Public, error) {
	template, err := Template(k)
	if err != nil {
		return 0, nil, err
	}
	var out command.CreatePrimaryOut
	h, err := m.tpm.Run(&client.Command{
		Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleEndorsement}},
		In: &command.CreatePrimaryIn{InPublic: *template}, Out: &out,
	})
	return h, &out.OutPublic, err
}

// platformIndex is the pair of handles of NV commands that the platform authorizes.
func platformIndex(index tpm2.Handle, name []byte) []client.Entity {
	return []client.Entity{{Handle: tpm2.HandlePlatform}, {Handle: index, Name: name}}
}

// writeIndex defines an index, writes and locks it. One that is there is replaced.
func (m *module) writeIndex(index tpm2.Handle, data []byte) error {
	if len(data) > m.maxIndex {
		return fmt.Errorf("%d bytes do not fit index %#x of at most %d", len(data), uint32(index), m.maxIndex)
	}
	if err := m.removeIndex(index); err != nil {
		return err
	}
	define := &command.NVDefineSpaceIn{PublicInfo: tpm2.NVPublic{
		NVIndex: index, NameAlg: tpm2.AlgSHA256, Attributes: certificateIndex, DataSize: uint16(len(data)),
	}}
	if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVDefineSpace, Handles: platformIndex(0, nil)[:1], In: define}); err != nil {
		return err
	}
	for at := 0; at < len(data); at += m.buffer {
		part := &command.NVWriteIn{Data: data[at:min(at+m.buffer, len(data))], Offset: uint16(at)}
		if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVWrite, Handles: platformIndex(index, nil), In: part}); err != nil {
			return err
		}
	}
	_, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVWriteLock, Handles: platformIndex(index, nil)})
	return err
}

// isRC reports whether the TPM answered rc, of whatever handle or parameter.
func isRC(err error, rc tpm2.RC) bool {
	var got tpm2.RC
	return errors.As(err, &got) && got.Base() == rc
}

// removeIndex removes an index of the platform; one that is not there is no error.
func (m *module) removeIndex(index tpm2.Handle) error {
	_, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVUndefineSpace, Handles: platformIndex(index, nil)})
	if isRC(err, tpm2.RCHandleValue) {
		return nil
	}
	return err
}

// readIndex reads an index by the platform's authorization; nil when there is none.
func (m *module) readIndex(index tpm2.Handle) ([]byte, error) {
	var public command.NVReadPublicOut
	_, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVReadPublic, Handles: []client.Entity{{Handle: index}}, Out: &public})
	if isRC(err, tpm2.RCHandleValue) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !public.NVPublic.Attributes.Has(tpm2.NVWritten) || public.NVPublic.Attributes.Type() != tpm2.NVOrdinary {
		return nil, nil // defined by somebody, and never given a content
	}
	var data []byte
	for size := int(public.NVPublic.DataSize); len(data) < size; {
		var out command.NVReadOut
		in := &command.NVReadIn{Size: uint16(min(size-len(data), m.buffer)), Offset: uint16(len(data))}
		if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVRead, Handles: platformIndex(index, nil), In: in, Out: &out}); err != nil {
			return nil, err
		}
		if len(out.Data) != int(in.Size) {
			return nil, fmt.Errorf("index %#x gives %d bytes for %d: %w", uint32(index), len(out.Data), in.Size, client.ErrResponse)
		}
		data = append(data, out.Data...)
	}
	return data, nil
}

// writeChain writes certificates one after the other, as many indices as they
// take; those that an older chain took beyond are removed (EK Credential Profile,
// 2.2.1.5.2).
func (m *module) writeChain(chain [][]byte) error {
	var all []byte
	for _, c := range chain {
		all = append(all, c...)
	}
	index := indexChain
	for ; len(all) > 0; index++ {
		n := min(len(all), m.maxIndex)
		if err := m.writeIndex(index, all[:n]); err != nil {
			return fmt.Errorf("certificate chain: %w", err)
		}
		all = all[n:]
	}
	taken, err := m.handles(index)
	if err != nil {
		return err
	}
	for _, h := range taken {
		if h <= indexChainEnd {
			if err := m.removeIndex(h); err != nil {
				return fmt.Errorf("certificate chain: %w", err)
			}
		}
	}
	return nil
}

// readName returns the Name of the object at a handle.
func (m *module) readName(h tpm2.Handle) ([]byte, error) {
	var out command.ReadPublicOut
	_, err := m.tpm.Run(&client.Command{Code: tpm2.CCReadPublic, Handles: []client.Entity{{Handle: h}}, Out: &out})
	return out.Name, err
}
