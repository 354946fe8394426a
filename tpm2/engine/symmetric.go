package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 15 of Part 3: the symmetric primitives.

// encryptDecrypt is TPM2_EncryptDecrypt (Part 3, 15.2).
func encryptDecrypt(c *call, in *command.EncryptDecryptIn, out *command.EncryptDecryptOut) error {
	x := cipherRun{decrypt: in.Decrypt, mode: in.Mode, iv: in.IVIn, data: in.InData, modeAt: 2, ivAt: 3, dataAt: 4}
	var err error
	out.OutData, out.IVOut, err = x.run(c.t.object(c.handles[0]))
	return err
}

// encryptDecrypt2 is TPM2_EncryptDecrypt2 (Part 3, 15.3): the same with the data
// in front, where a session can encrypt them.
func encryptDecrypt2(c *call, in *command.EncryptDecrypt2In, out *command.EncryptDecrypt2Out) error {
	x := cipherRun{decrypt: in.Decrypt, mode: in.Mode, iv: in.IVIn, data: in.InData, modeAt: 3, ivAt: 4, dataAt: 1}
	var err error
	out.OutData, out.IVOut, err = x.run(c.t.object(c.handles[0]))
	return err
}

// A cipherRun is one encryption or decryption by a symmetric key, and the numbers
// of its parameters in the command.
type cipherRun struct {
	decrypt  bool
	mode     tpm2.Alg
	iv, data []byte

	modeAt, ivAt, dataAt int
}

// run checks the key and the parameters in the reference's order.
func (x *cipherRun) run(o *object) (out, iv []byte, err error) {
	if o.public.Type != tpm2.AlgSymCipher {
		return nil, nil, handleError(tpm2.RCKey, 1)
	}
	use := tpm2.AttrSign // of a symmetric key: it encrypts
	if x.decrypt {
		use = tpm2.AttrDecrypt
	}
	if o.attr(tpm2.AttrRestricted) || !o.attr(use) {
		return nil, nil, handleError(tpm2.RCAttributes, 1)
	}
	def := o.public.Parameters.SymCipher
	switch {
	case def.Mode == tpm2.AlgCMAC:
		return nil, nil, handleError(tpm2.RCMode, 1)
	case def.Mode == tpm2.AlgNull:
		def.Mode = x.mode
	case x.mode != tpm2.AlgNull && x.mode != def.Mode:
		return nil, nil, parameter(tpm2.RCMode, x.modeAt)
	}
	if def.Mode == tpm2.AlgNull {
		return nil, nil, parameter(tpm2.RCMode, x.modeAt)
	}
	if err := x.checkSizes(def.Mode); err != nil {
		return nil, nil, err
	}
	if x.decrypt {
		return tpmcrypto.DecryptSym(def, o.sensitive.Bits, x.iv, x.data)
	}
	return tpmcrypto.EncryptSym(def, o.sensitive.Bits, x.iv, x.data)
}

// checkSizes holds that ECB has no initial value, and that ECB and CBC take whole
// blocks.
func (x *cipherRun) checkSizes(mode tpm2.Alg) error {
	want := tpmcrypto.BlockSize
	if mode == tpm2.AlgECB {
		want = 0
	}
	if len(x.iv) != want {
		return parameter(tpm2.RCSize, x.ivAt)
	}
	if (mode == tpm2.AlgECB || mode == tpm2.AlgCBC) && len(x.data)%tpmcrypto.BlockSize != 0 {
		return parameter(tpm2.RCSize, x.dataAt)
	}
	return nil
}

// hashCommand is TPM2_Hash (Part 3, 15.4).
func hashCommand(c *call, in *command.HashIn, out *command.HashOut) error {
	var ok bool
	if out.OutHash, ok = in.HashAlg.Sum(c.t.digest[:0], in.Data); !ok {
		return tpm2.RCHash
	}
	out.Validation.Hierarchy = tpm2.HandleNull
	// Here the data are whole: less than four bytes cannot become what a TPM attests.
	if in.Hierarchy == tpm2.HandleNull || len(in.Data) >= 4 && !ticketSafe(in.Data) {
		return nil
	}
	var err error
	out.Validation, err = c.t.hashCheckTicket(in.Hierarchy, in.HashAlg, out.OutHash)
	return err
}

// mac is TPM2_HMAC and TPM2_MAC, which are one command (Part 3, 15.5 and 15.6).
func mac(c *call, in *command.HMACIn, out *command.HMACOut) error {
	o := c.t.object(c.handles[0])
	scheme, err := macScheme(o, in.InScheme)
	if err != nil {
		return err
	}
	if scheme != tpm2.AlgCMAC {
		out.OutMAC, err = c.t.macs.sum(nil, scheme, o.sensitive.Bits, in.Buffer)
		return err
	}
	p := &o.public.Parameters.SymCipher
	sum, err := tpmcrypto.NewCMAC(p.Algorithm, p.KeyBits, o.sensitive.Bits)
	if err != nil {
		return err
	}
	sum.Write(in.Buffer)
	out.OutMAC = sum.Sum(nil)
	return nil
}

// macScheme settles what a key and the caller, in parameter 2, make MACs with: a
// hash for HMAC, or AlgCMAC. The order is that of TPM2_MAC (CryptSelectMac of the
// reference), which looks at the scheme before the attributes.
func macScheme(o *object, in tpm2.Alg) (tpm2.Alg, error) {
	own := tpm2.AlgNull
	switch p := &o.public.Parameters; o.public.Type {
	case tpm2.AlgKeyedHash:
		if p.KeyedHash.Scheme != tpm2.AlgNull {
			own = p.KeyedHash.HashAlg
		}
	case tpm2.AlgSymCipher:
		own = p.SymCipher.Mode
	default:
		return in, handleError(tpm2.RCType, 1)
	}
	if in == tpm2.AlgNull {
		in = own
	}
	switch {
	case in == tpm2.AlgNull, own != tpm2.AlgNull && own != in:
		return in, parameter(tpm2.RCValue, 2)
	case o.public.Type == tpm2.AlgSymCipher && in != tpm2.AlgCMAC, o.public.Type == tpm2.AlgKeyedHash && in == tpm2.AlgCMAC:
		return in, parameter(tpm2.RCScheme, 2)
	case o.attr(tpm2.AttrRestricted):
		return in, handleError(tpm2.RCAttributes, 1)
	case !o.attr(tpm2.AttrSign):
		return in, handleError(tpm2.RCKey, 1)
	}
	return in, nil
}
