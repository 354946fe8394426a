package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 14 of Part 3: the asymmetric primitives.

// rsaEncrypt is TPM2_RSA_Encrypt (Part 3, 14.2).
func rsaEncrypt(c *call, in *command.RSAEncryptIn, out *command.RSAEncryptOut) error {
	o := c.t.object(c.handles[0])
	switch {
	case o.public.Type != tpm2.AlgRSA:
		return handleError(tpm2.RCKey, 1)
	case !o.attr(tpm2.AttrDecrypt):
		return handleError(tpm2.RCAttributes, 1)
	}
	scheme, err := rsaPadding(o, in.InScheme, in.Label)
	if err != nil {
		return err
	}
	k, err := o.rsaPublicKey()
	if err != nil {
		return err
	}
	out.OutData, err = k.Encrypt(c.t.random, scheme, in.Label, in.Message)
	return err
}

// rsaDecrypt is TPM2_RSA_Decrypt (Part 3, 14.3).
func rsaDecrypt(c *call, in *command.RSADecryptIn, out *command.RSADecryptOut) error {
	o := c.t.object(c.handles[0])
	switch {
	case o.public.Type != tpm2.AlgRSA:
		return handleError(tpm2.RCKey, 1)
	case !decryptsAnything(o):
		return handleError(tpm2.RCAttributes, 1)
	}
	scheme, err := rsaPadding(o, in.InScheme, in.Label)
	if err != nil {
		return err
	}
	k, err := o.rsaKey()
	if err != nil {
		return err
	}
	out.Message, err = k.Decrypt(scheme, in.Label, in.CipherText)
	return err
}

// decryptsAnything reports whether the key decrypts for whoever may use it: a
// restricted one decrypts only what the TPM knows the layout of.
func decryptsAnything(o *object) bool {
	return o.attr(tpm2.AttrDecrypt) && !o.attr(tpm2.AttrRestricted)
}

// rsaPadding checks the label and settles the padding: the key's, the caller's,
// or both where they agree (CryptRsaSelectScheme of the reference).
func rsaPadding(o *object, in tpm2.RSADecrypt, label []byte) (tpm2.RSAScheme, error) {
	// Part 1, B.4: a label ends with a zero, so that none is a prefix of another.
	if len(label) != 0 && label[len(label)-1] != 0 {
		return tpm2.RSAScheme{}, parameter(tpm2.RCValue, 3)
	}
	own, asked := o.public.Parameters.RSA.Scheme, tpm2.RSAScheme(in)
	switch {
	case own.Scheme == tpm2.AlgNull:
		return asked, nil
	case asked.Scheme == tpm2.AlgNull, asked == own:
		return own, nil
	}
	return asked, parameter(tpm2.RCScheme, 2)
}

// ecdhKeyGen is TPM2_ECDH_KeyGen (Part 3, 14.4).
func ecdhKeyGen(c *call, _ *command.None, out *command.ECDHKeyGenOut) error {
	o := c.t.object(c.handles[0])
	if o.public.Type != tpm2.AlgECC {
		return handleError(tpm2.RCKey, 1)
	}
	k, err := o.eccPublicKey()
	if err != nil {
		return handleError(tpm2.RCKey, 1) // a point that TPM2_LoadExternal did not check
	}
	out.PubPoint, out.ZPoint, err = k.Agree(c.t.random)
	return err
}

// ecdhZGen is TPM2_ECDH_ZGen (Part 3, 14.5).
func ecdhZGen(c *call, in *command.ECDHZGenIn, out *command.ECDHZGenOut) error {
	o := c.t.object(c.handles[0])
	if err := checkAgreement(o); err != nil {
		return err
	}
	if s := o.public.Parameters.ECC.Scheme.Scheme; s != tpm2.AlgECDH && s != tpm2.AlgNull {
		return handleError(tpm2.RCScheme, 1)
	}
	k, err := o.eccKey()
	if err != nil {
		return err
	}
	out.OutPoint, err = k.Multiply(in.InPoint)
	if err != nil {
		return parameter(responseCode(err), 1)
	}
	return nil
}

// checkAgreement checks that the first handle is an ECC key that agrees or
// decrypts for whoever may use it.
func checkAgreement(o *object) error {
	switch {
	case o.public.Type != tpm2.AlgECC:
		return handleError(tpm2.RCKey, 1)
	case !decryptsAnything(o):
		return handleError(tpm2.RCAttributes, 1)
	}
	return nil
}

// eccParameters is TPM2_ECC_Parameters (Part 3, 14.6).
func eccParameters(_ *call, in *command.ECCParametersIn, out *command.ECCParametersOut) error {
	p, err := tpmcrypto.Parameters(in.CurveID)
	if err != nil {
		return parameter(tpm2.RCValue, 1)
	}
	out.Parameters = tpm2.ECCDetail{
		CurveID: in.CurveID, KeySize: p.KeyBits,
		KDF:  tpm2.KDFScheme{Scheme: tpm2.AlgKDF1, HashAlg: curveHash(in.CurveID)},
		Sign: tpm2.ECCScheme{Scheme: tpm2.AlgNull},
		P:    p.P, A: p.A, B: p.B, Gx: p.GX, Gy: p.GY, N: p.N, H: p.H,
	}
	return nil
}

// curveHash is the hash that the TCG Algorithm Registry pairs with the curve (6.2).
func curveHash(c tpm2.ECCCurve) tpm2.Alg {
	switch c {
	case tpm2.CurveNISTP384:
		return tpm2.AlgSHA384
	case tpm2.CurveNISTP521:
		return tpm2.AlgSHA512
	}
	return tpm2.AlgSHA256
}

// zgen2Phase is TPM2_ZGen_2Phase (Part 3, 14.7): agreement with the key and an
// ephemeral key that TPM2_EC_Ephemeral made, which serves once.
func zgen2Phase(c *call, in *command.ZGen2PhaseIn, out *command.ZGen2PhaseOut) error {
	t, o := c.t, c.t.object(c.handles[0])
	if err := checkAgreement(o); err != nil {
		return err
	}
	p := &o.public.Parameters.ECC
	if p.Scheme.Scheme != tpm2.AlgNull && p.Scheme.Scheme != in.InScheme {
		return parameter(tpm2.RCScheme, 3)
	}
	for i, point := range []tpm2.ECCPoint{in.InQsB, in.InQeB} {
		if tpmcrypto.OnCurve(p.CurveID, point) != nil {
			return parameter(tpm2.RCECCPoint, i+1)
		}
	}
	full, err := t.committed(in.Counter)
	if err != nil {
		return parameter(tpm2.RCValue, 4)
	}
	static, err := o.eccKey()
	if err != nil {
		return err
	}
	ephemeral, err := t.ephemeralKey(full, p.CurveID)
	if err != nil {
		return err
	}
	out.OutZ1, out.OutZ2, err = static.TwoPhase(in.InScheme, ephemeral, in.InQsB, in.InQeB)
	if err != nil {
		if rc := responseCode(err); rc != tpm2.RCScheme {
			return rc
		}
		return parameter(tpm2.RCScheme, 3)
	}
	t.endCommitment(in.Counter)
	return nil
}

// eccEncrypt is TPM2_ECC_Encrypt (Part 3, 14.8).
func eccEncrypt(c *call, in *command.ECCEncryptIn, out *command.ECCEncryptOut) error {
	o := c.t.object(c.handles[0])
	if o.public.Type != tpm2.AlgECC {
		return handleError(tpm2.RCKey, 1)
	}
	kdf, ok := eccMask(o, in.InScheme)
	if !ok {
		return parameter(tpm2.RCScheme, 2)
	}
	k, err := o.eccPublicKey()
	if err != nil {
		return handleError(tpm2.RCKey, 1)
	}
	out.C1, out.C2, out.C3, err = k.Encrypt(c.t.random, kdf, in.PlainText)
	return err
}

// eccDecrypt is TPM2_ECC_Decrypt (Part 3, 14.9).
func eccDecrypt(c *call, in *command.ECCDecryptIn, out *command.ECCDecryptOut) error {
	o := c.t.object(c.handles[0])
	if err := checkAgreement(o); err != nil {
		return err
	}
	kdf, ok := eccMask(o, in.InScheme)
	if !ok {
		return parameter(tpm2.RCScheme, 4)
	}
	k, err := o.eccKey()
	if err != nil {
		return err
	}
	// The reference goes on with C1 itself when it is no point of the curve.
	if tpmcrypto.OnCurve(o.public.Parameters.ECC.CurveID, in.C1) != nil {
		return parameter(tpm2.RCECCPoint, 1)
	}
	out.PlainText, err = k.Decrypt(kdf, in.C1, in.C2, in.C3)
	return err
}

// eccMask settles how the mask of TPM2_ECC_Encrypt is derived: the key's way, the
// caller's, or both where they agree (CryptEccSelectScheme of the reference).
func eccMask(o *object, in tpm2.KDFScheme) (tpm2.KDFScheme, bool) {
	own := o.public.Parameters.ECC.KDF
	if in.Scheme == tpm2.AlgNull {
		in = own
	}
	return in, in.Scheme != tpm2.AlgNull && (own.Scheme == tpm2.AlgNull || own == in)
}
