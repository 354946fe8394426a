package differential

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Rows are the commands that are measured.
func Rows() []Row {
	eight := tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 1, 2, 3, 4, 5, 6, 7)}}
	extend := &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}
	session := &command.StartAuthSessionIn{NonceCaller: make([]byte, 32), SessionType: tpm2.SessionPolicy, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}
	rows := []Row{
		{"GetCapability, all fixed properties", 1000, one(tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: 0x100, PropertyCount: 127})},
		{"GetRandom, 32 bytes", 1000, one(tpm2.CCGetRandom, &command.GetRandomIn{BytesRequested: 32})},
		{"Hash, SHA-256 of 1 KiB", 1000, one(tpm2.CCHash, &command.HashIn{Data: make([]byte, 1024), HashAlg: tpm2.AlgSHA256, Hierarchy: tpm2.HandleNull})},
		{"PCR_Extend, SHA-256", 1000, one(tpm2.CCPCRExtend, extend, 16)},
		{"PCR_Read, 8 values", 1000, one(tpm2.CCPCRRead, &command.PCRReadIn{PCRSelectionIn: eight})},
		{"StartAuthSession, policy", 1000, withFlush(one(tpm2.CCStartAuthSession, session, tpm2.HandleNull, tpm2.HandleNull))},
		{"ReadClock", 1000, one(tpm2.CCReadClock, new(command.None))},
		{"CreatePrimary, P-256", 60, withFlush(primaries(eccStorage()))},
		{"CreatePrimary, RSA-2048", 4, withFlush(primaries(rsaStorage()))},
		{"Create, P-256", 60, child(tpm2.CCCreate, eccSigner())},
		{"Create, RSA-2048", 4, child(tpm2.CCCreate, rsaSigner())},
		{"Create, 32 bytes sealed", 500, child(tpm2.CCCreate, sealed())},
		{"Load, P-256", 500, withFlush(child(tpm2.CCLoad, eccSigner()))},
		{"Load, RSA-2048", 200, withFlush(child(tpm2.CCLoad, rsaSigner()))},
		{"Sign, P-256", 100, using(eccSigner(), sign)},
		{"Sign, RSA-2048", 30, using(rsaSigner(), sign)},
		{"Quote of 8 PCRs, P-256", 100, using(eccSigner(), quoteOf(eight))},
		{"Quote of 8 PCRs, RSA-2048", 30, using(rsaSigner(), quoteOf(eight))},
		{"VerifySignature, P-256", 100, using(eccSigner(), verifyOwn)},
		{"VerifySignature, RSA-2048", 500, using(rsaSigner(), verifyOwn)},
		{"ContextSave, P-256", 1000, using(eccSigner(), save)},
		{"ContextLoad, P-256", 1000, withFlush(using(eccSigner(), restore))},
		{"Unseal, 32 bytes", 1000, using(sealed(), func(_ *Served, h tpm2.Handle) (work, error) { return always(tpm2.CCUnseal, new(command.None), h) })},
		{"NV_Write, 32 bytes", 1000, index(tpm2.CCNVWrite, &command.NVWriteIn{Data: make([]byte, 32)})},
		{"NV_Read, 32 bytes", 1000, index(tpm2.CCNVRead, &command.NVReadIn{Size: 32})},
		{"SelfTest, full", 3, one(tpm2.CCSelfTest, &command.SelfTestIn{FullTest: true})},
	}
	return slices.Concat(rows, cryptoRows(), attestRows(), objectRows(), wrappedRows(), policyRows(), stateRows())
}

// withFlush flushes what each command of a row loads.
func withFlush(of func(*Served) (work, error)) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		w, err := of(s)
		w.after = flush
		return w, err
	}
}

const keyAttributes = tpm2.AttrUserWithAuth | tpm2.AttrSensitiveDataOrigin | tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrNoDA

func none() tpm2.SymDefObject { return tpm2.SymDefObject{Algorithm: tpm2.AlgNull} }

func aes128() tpm2.SymDefObject {
	return tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
}

func eccKey(attr tpm2.ObjectAttributes, sym tpm2.SymDefObject, scheme tpm2.ECCScheme) command.CreateIn {
	p := &tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: keyAttributes | attr}
	return command.CreateIn{InPublic: *ecc(p, tpm2.ECCParms{Symmetric: sym, Scheme: scheme, CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}})}
}

func eccStorage() command.CreateIn {
	return eccKey(tpm2.AttrRestricted|tpm2.AttrDecrypt, aes128(), tpm2.ECCScheme{Scheme: tpm2.AlgNull})
}

func eccSigner() command.CreateIn {
	return eccKey(tpm2.AttrSign, none(), tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256})
}

func rsaKey(attr tpm2.ObjectAttributes, sym tpm2.SymDefObject, scheme tpm2.RSAScheme) command.CreateIn {
	p := tpm2.Public{Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256, Attributes: keyAttributes | attr}
	p.Parameters.RSA = tpm2.RSAParms{Symmetric: sym, Scheme: scheme, KeyBits: 2048}
	return command.CreateIn{InPublic: p}
}

func rsaStorage() command.CreateIn {
	return rsaKey(tpm2.AttrRestricted|tpm2.AttrDecrypt, aes128(), tpm2.RSAScheme{Scheme: tpm2.AlgNull})
}

func rsaSigner() command.CreateIn {
	return rsaKey(tpm2.AttrSign, none(), tpm2.RSAScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256})
}

func sealed() command.CreateIn {
	p := tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: keyAttributes &^ tpm2.AttrSensitiveDataOrigin}
	p.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	return command.CreateIn{InPublic: p, InSensitive: tpm2.SensitiveCreate{Data: make([]byte, 32)}}
}

// primaries makes another primary key each time.
func primaries(t command.CreateIn) func(*Served) (work, error) {
	return func(*Served) (work, error) {
		return work{request: func(i int) ([]byte, error) {
			in := command.CreatePrimaryIn(t)
			other := binary.BigEndian.AppendUint32(nil, uint32(i))
			in.InPublic.Unique.RSA, in.InPublic.Unique.ECC.X = other, other
			return encode(tpm2.CCCreatePrimary, &in, tpm2.HandleOwner)
		}}, nil
	}
}

func (s *Served) parent() (tpm2.Handle, error) {
	in := command.CreatePrimaryIn(eccStorage())
	return s.tpm.Run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleOwner}}, In: &in})
}

// child measures TPM2_Create or TPM2_Load.
func child(cc tpm2.CC, t command.CreateIn) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		parent, err := s.parent()
		if err != nil {
			return work{}, err
		}
		if cc == tpm2.CCCreate {
			return always(cc, &t, parent)
		}
		var out command.CreateOut
		if _, err := s.tpm.Run(&client.Command{Code: tpm2.CCCreate, Handles: []client.Entity{{Handle: parent}}, In: &t, Out: &out}); err != nil {
			return work{}, err
		}
		return always(cc, &command.LoadIn{InPrivate: out.OutPrivate, InPublic: out.OutPublic}, parent)
	}
}

// using measures a command that uses a loaded object.
func using(t command.CreateIn, of func(*Served, tpm2.Handle) (work, error)) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		load, err := child(tpm2.CCLoad, t)(s)
		if err != nil {
			return work{}, err
		}
		c, err := load.request(0)
		if err != nil {
			return work{}, err
		}
		r, err := s.Transport.Send(c)
		if err != nil {
			return work{}, err
		}
		if len(r) < 14 {
			return work{}, rcOf(r)
		}
		return of(s, tpm2.Handle(binary.BigEndian.Uint32(r[10:])))
	}
}

func signIn() *command.SignIn {
	return &command.SignIn{Digest: make([]byte, 32), InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}, Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}
}

func sign(_ *Served, h tpm2.Handle) (work, error) { return always(tpm2.CCSign, signIn(), h) }

func quoteOf(pcrs tpm2.PCRSelections) func(*Served, tpm2.Handle) (work, error) {
	return func(_ *Served, h tpm2.Handle) (work, error) {
		return always(tpm2.CCQuote, &command.QuoteIn{QualifyingData: make([]byte, 32), InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}, PCRSelect: pcrs}, h)
	}
}

func verifyOwn(s *Served, h tpm2.Handle) (work, error) {
	var out command.SignOut
	if _, err := s.tpm.Run(&client.Command{Code: tpm2.CCSign, Handles: []client.Entity{{Handle: h}}, In: signIn(), Out: &out}); err != nil {
		return work{}, err
	}
	return always(tpm2.CCVerifySignature, &command.VerifySignatureIn{Digest: make([]byte, 32), Signature: out.Signature}, h)
}

func save(_ *Served, h tpm2.Handle) (work, error) {
	return always(tpm2.CCContextSave, new(command.None), h)
}

func restore(s *Served, h tpm2.Handle) (work, error) {
	var out command.ContextSaveOut
	if _, err := s.tpm.Run(&client.Command{Code: tpm2.CCContextSave, Handles: []client.Entity{{Handle: h}}, Out: &out}); err != nil {
		return work{}, err
	}
	return always(tpm2.CCContextLoad, &command.ContextLoadIn{Context: out.Context})
}

// index measures a command on an ordinary NV index of 32 bytes, which is written.
func index(cc tpm2.CC, in wire.Layout) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		const at = 0x01000001
		p := tpm2.NVPublic{NVIndex: at, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.NVOwnerWrite | tpm2.NVOwnerRead, DataSize: 32}
		_, err := s.tpm.Run(&client.Command{Code: tpm2.CCNVDefineSpace, Handles: []client.Entity{{Handle: tpm2.HandleOwner}}, In: &command.NVDefineSpaceIn{PublicInfo: p}})
		if err != nil && !errors.Is(err, tpm2.RCNVDefined) {
			return work{}, err
		}
		write, err := encode(tpm2.CCNVWrite, &command.NVWriteIn{Data: make([]byte, 32)}, tpm2.HandleOwner, at)
		if err != nil {
			return work{}, err
		}
		if _, err := s.Transport.Send(write); err != nil {
			return work{}, err
		}
		return always(cc, in, tpm2.HandleOwner, at)
	}
}
