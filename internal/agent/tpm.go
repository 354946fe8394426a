package agent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A KeyConfig says which attestation key a TPM is to have. The zero value is an
// ECC key on P-256 under the endorsement hierarchy, made anew from its seed at each
// start: the same key each time, as long as nobody clears that hierarchy.
type KeyConfig struct {
	RSA   bool // RSA-2048 with RSASSA instead of ECDSA on P-256
	Owner bool // under the owner's hierarchy, whose counters the TPM obfuscates (Part 1, 36.7)
	// Handle, when not 0, is where the key is kept in the TPM's memory: one that is
	// there is taken, else the key is made and put there, with the owner's authorization.
	Handle tpm2.Handle
}

// A TPM is this machine's, with its attestation key loaded. It is not safe for
// concurrent use.
type TPM struct {
	tpm    *client.TPM
	ak     client.Entity
	public []byte // TPMT_PUBLIC of ak
	loaded bool   // ak is to be flushed
	device io.Closer
	bank   tpm2.Alg
}

// OpenTPM makes or finds the attestation key in the TPM behind t, which is closed
// with the result. Nonces are read from random. The TPM was started, by firmware or
// the kernel.
func OpenTPM(t Device, random io.Reader, cfg KeyConfig) (*TPM, error) {
	m := &TPM{tpm: client.New(t, random), device: t}
	if err := m.begin(cfg); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return m, nil
}

func (m *TPM) begin(cfg KeyConfig) error {
	var err error
	if m.bank, err = m.strongBank(); err != nil {
		return err
	}
	if err := m.attestationKey(cfg); err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	return nil
}

// Close takes the attestation key out of the TPM's working memory, and closes the
// TPM's device.
func (m *TPM) Close() error {
	err := m.unload()
	return errors.Join(err, m.device.Close())
}

func (m *TPM) unload() error {
	if !m.loaded {
		return nil
	}
	m.loaded = false
	return m.tpm.Flush(m.ak.Handle)
}

// AKPublic is the attestation key, a TPMT_PUBLIC.
func (m *TPM) AKPublic() []byte { return bytes.Clone(m.public) }

// akAttributes are those without which no verifier takes a key for an attestation key.
const akAttributes = tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrRestricted | tpm2.AttrSign

func akTemplate(cfg KeyConfig) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, Attributes: akAttributes | tpm2.AttrUserWithAuth | tpm2.AttrNoDA}
	none := tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	if cfg.RSA {
		p.Type = tpm2.AlgRSA
		p.Parameters.RSA = tpm2.RSAParms{Symmetric: none, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256}, KeyBits: 2048}
		return p
	}
	p.Parameters.ECC = tpm2.ECCParms{
		Symmetric: none, Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256},
		CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	return p
}

func (m *TPM) attestationKey(cfg KeyConfig) error {
	if cfg.Handle != 0 {
		found, err := m.find(cfg.Handle)
		if found || err != nil {
			return err
		}
	}
	hierarchy := tpm2.HandleEndorsement
	if cfg.Owner {
		hierarchy = tpm2.HandleOwner
	}
	ak, public, err := m.primary(hierarchy, akTemplate(cfg))
	if err != nil {
		return err
	}
	m.ak, m.loaded = ak, true
	if cfg.Handle != 0 {
		err = m.persist(cfg.Handle)
	}
	if err == nil {
		m.public, err = wire.Encode(public)
	}
	if err != nil {
		return errors.Join(err, m.unload())
	}
	return nil
}

// find takes the key at a persistent handle; found is false when nothing is there.
func (m *TPM) find(h tpm2.Handle) (found bool, err error) {
	out := new(command.ReadPublicOut)
	_, err = m.tpm.Run(&client.Command{Code: tpm2.CCReadPublic, Handles: []client.Entity{{Handle: h}}, Out: out})
	if errors.Is(err, noSuchHandle()) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !out.OutPublic.Attributes.Has(akAttributes) || out.OutPublic.Attributes.Has(tpm2.AttrDecrypt) {
		return false, fmt.Errorf("what is at handle %#x is no attestation key", uint32(h))
	}
	m.ak = client.Entity{Handle: h, Name: out.Name}
	m.public, err = wire.Encode(&out.OutPublic)
	return true, err
}

// noSuchHandle is the answer about a handle that nothing is at (Part 2, 6.6.3).
func noSuchHandle() tpm2.RC { return tpm2.RCHandleValue.Of(tpm2.RCHandle, 1) }

// persist moves the key to its handle.
func (m *TPM) persist(h tpm2.Handle) error {
	_, err := m.tpm.Run(&client.Command{
		Code: tpm2.CCEvictControl, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, m.ak}, In: &command.EvictControlIn{PersistentHandle: h},
	})
	if err != nil {
		return err
	}
	err = m.unload()
	m.ak.Handle = h
	return err
}

// primary makes a primary key from a template; the same template gives the same key.
func (m *TPM) primary(hierarchy tpm2.Handle, template tpm2.Public) (client.Entity, *tpm2.Public, error) {
	out := new(command.CreatePrimaryOut)
	h, err := m.tpm.Run(&client.Command{
		Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: hierarchy}}, In: &command.CreatePrimaryIn{InPublic: template}, Out: out,
	})
	return client.Entity{Handle: h, Name: out.Name}, &out.OutPublic, err
}

// strongBank is the first bank that has all registers of a boot, of those that are
// trusted alone.
func (m *TPM) strongBank() (tpm2.Alg, error) {
	out := new(command.GetCapabilityOut)
	if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCGetCapability, In: &command.GetCapabilityIn{Capability: tpm2.CapPCRs, PropertyCount: 1}, Out: out}); err != nil {
		return 0, err
	}
	for _, alg := range []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
		for _, s := range out.CapabilityData.AssignedPCR {
			if s.Hash == alg && s.Select.Has(0) && s.Select.Has(7) {
				return alg, nil
			}
		}
	}
	return 0, errors.New("the TPM has no PCR bank of SHA-256 or stronger")
}

// quotedPCRs are the registers of the boot and of the running system (PFP 2.3.4).
const quotedPCRs = 16

// maxTries bounds how often registers are read again that changed meanwhile: the
// kernel extends PCR 10 with each file that it measures.
const maxTries = 8

// Quote has the TPM sign its registers 0 to 15 and a nonce, and returns their values
// as they were then.
func (m *TPM) Quote(nonce []byte) (Quote, map[string]map[string]string, error) {
	for range maxTries {
		values, err := m.pcrs()
		if err != nil {
			return Quote{}, nil, err
		}
		q, digest, err := m.quote(nonce)
		if err != nil {
			return Quote{}, nil, err
		}
		if sum, ok := tpm2.AlgSHA256.Sum(nil, values...); ok && bytes.Equal(sum, digest) {
			named := map[string]string{}
			for i, v := range values {
				named[strconv.Itoa(i)] = hex.EncodeToString(v)
			}
			return q, map[string]map[string]string{m.bank.BankName(): named}, nil
		}
	}
	return Quote{}, nil, fmt.Errorf("the PCRs changed at each of %d quotes", maxTries)
}

// quote also returns the digest of the registers, which is by the hash of the key's
// scheme (Part 3, 18.4): SHA-256 for the keys that are made here.
func (m *TPM) quote(nonce []byte) (q Quote, digest []byte, err error) {
	out := new(command.QuoteOut)
	var all tpm2.PCRSelect
	for i := range quotedPCRs {
		all.Set(i)
	}
	_, err = m.tpm.Run(&client.Command{Code: tpm2.CCQuote, Handles: []client.Entity{m.ak}, In: &command.QuoteIn{
		QualifyingData: nonce, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}, PCRSelect: tpm2.PCRSelections{{Hash: m.bank, Select: all}},
	}, Out: out})
	if err != nil {
		return q, nil, err
	}
	a, err := tpm2.ParseAttest(out.Quoted)
	if err != nil {
		return q, nil, fmt.Errorf("quote: %w", err)
	}
	if a.Type != tpm2.AttestQuote {
		return q, nil, errors.New("quote: the TPM made another attestation")
	}
	q.Attest = out.Quoted
	q.Signature, err = wire.Encode(&out.Signature)
	return q, a.Attested.Quote.PCRDigest, err
}

// pcrs reads registers 0 to 15. A TPM gives eight at a time at most (Part 3, 22.4).
func (m *TPM) pcrs() ([][]byte, error) {
	values := make([][]byte, quotedPCRs)
	for first := 0; first < quotedPCRs; first += 8 {
		var want tpm2.PCRSelect
		for i := range 8 {
			want.Set(first + i)
		}
		out := new(command.PCRReadOut)
		in := &command.PCRReadIn{PCRSelectionIn: tpm2.PCRSelections{{Hash: m.bank, Select: want}}}
		if _, err := m.tpm.Run(&client.Command{Code: tpm2.CCPCRRead, In: in, Out: out}); err != nil {
			return nil, err
		}
		if len(out.PCRValues) != 8 {
			return nil, fmt.Errorf("the TPM reads %d PCRs, asked for 8", len(out.PCRValues))
		}
		for i, v := range out.PCRValues {
			values[first+i] = v
		}
	}
	return values, nil
}

// Activate returns the secret of a credential that was made for the endorsement key
// of a standard template and for the attestation key (Part 1, 24).
func (m *TPM) Activate(template string, blob, encrypted []byte) (secret []byte, err error) {
	t, err := ekTemplate(template)
	if err != nil {
		return nil, err
	}
	ek, _, err := m.primary(tpm2.HandleEndorsement, t.Public)
	if err != nil {
		return nil, fmt.Errorf("endorsement key %s: %w", template, err)
	}
	defer func() { err = errors.Join(err, m.tpm.Flush(ek.Handle)) }()
	uses := []client.Use{{}, {}}
	if !t.Public.Attributes.Has(tpm2.AttrUserWithAuth) {
		s, err := m.endorsementPolicy()
		if err != nil {
			return nil, err
		}
		uses[1].Session = s
	}
	out := new(command.ActivateCredentialOut)
	_, err = m.tpm.Run(&client.Command{
		Code: tpm2.CCActivateCredential, Handles: []client.Entity{m.ak, ek}, Uses: uses,
		In: &command.ActivateCredentialIn{CredentialBlob: blob, Secret: encrypted}, Out: out,
	})
	if err != nil {
		if s := uses[1].Session; s != nil {
			err = errors.Join(err, m.tpm.Flush(s.Handle())) // a refused command leaves its session
		}
		return nil, err
	}
	return out.CertInfo, nil
}

func ekTemplate(name string) (tpm2.EKTemplate, error) {
	for _, t := range tpm2.EKTemplates() {
		if t.Name == name {
			return t, nil
		}
	}
	return tpm2.EKTemplate{}, fmt.Errorf("there is no template %.20q of endorsement keys", name)
}

// endorsementPolicy starts a session that fulfils policy A (EK Credential Profile, B.6).
func (m *TPM) endorsementPolicy() (*client.Session, error) {
	s, err := m.tpm.StartSession(client.SessionConfig{Type: tpm2.SessionPolicy})
	if err != nil {
		return nil, err
	}
	_, err = m.tpm.Run(&client.Command{
		Code: tpm2.CCPolicySecret, Handles: []client.Entity{{Handle: tpm2.HandleEndorsement}, {Handle: s.Handle()}},
		In: new(command.PolicySecretIn), Out: new(command.PolicySecretOut),
	})
	if err != nil {
		return nil, errors.Join(err, m.tpm.Flush(s.Handle()))
	}
	return s, nil
}

// maxEKCert bounds an endorsement key's certificate, as a service does.
const maxEKCert = 8 << 10

// EndorsementKey returns the key of a standard template, a TPMT_PUBLIC, and its
// certificate as it stands in the TPM; nil when there is none.
func (m *TPM) EndorsementKey(template string) (public, cert []byte, err error) {
	t, err := ekTemplate(template)
	if err != nil {
		return nil, nil, err
	}
	ek, p, err := m.primary(tpm2.HandleEndorsement, t.Public)
	if err != nil {
		return nil, nil, fmt.Errorf("endorsement key %s: %w", template, err)
	}
	if err := m.tpm.Flush(ek.Handle); err != nil {
		return nil, nil, err
	}
	if public, err = wire.Encode(p); err != nil {
		return nil, nil, err
	}
	cert, err = m.readIndex(tpm2.Handle(t.NVCert))
	return public, cert, err
}

// readIndex reads an NV index by the owner's authorization; nil for one that is not there.
func (m *TPM) readIndex(index tpm2.Handle) ([]byte, error) {
	is := new(command.NVReadPublicOut)
	_, err := m.tpm.Run(&client.Command{Code: tpm2.CCNVReadPublic, Handles: []client.Entity{{Handle: index}}, Out: is})
	if errors.Is(err, noSuchHandle()) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if is.NVPublic.DataSize > maxEKCert {
		return nil, fmt.Errorf("NV index %#x has %d bytes, more than %d", uint32(index), is.NVPublic.DataSize, maxEKCert)
	}
	var data []byte
	for len(data) < int(is.NVPublic.DataSize) {
		const piece = 512 // every TPM gives that much at once
		in := &command.NVReadIn{Size: min(piece, is.NVPublic.DataSize-uint16(len(data))), Offset: uint16(len(data))}
		out := new(command.NVReadOut)
		_, err := m.tpm.Run(&client.Command{
			Code: tpm2.CCNVRead, Handles: []client.Entity{{Handle: index, Name: is.NVName}, {Handle: index, Name: is.NVName}}, In: in, Out: out,
		})
		if err != nil {
			return nil, err
		}
		if len(out.Data) != int(in.Size) {
			return nil, fmt.Errorf("NV index %#x gives %d bytes, asked for %d", uint32(index), len(out.Data), in.Size)
		}
		data = append(data, out.Data...)
	}
	return data, nil
}
