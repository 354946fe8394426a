package differential

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// one is a row of the same command each time, about nothing that is made for it.
func one(cc tpm2.CC, in wire.Layout, handles ...tpm2.Handle) func(*Served) (work, error) {
	return func(*Served) (work, error) { return always(cc, in, handles...) }
}

// cryptoRows are the commands that compute with keys or digests.
func cryptoRows() []Row {
	kilobyte := make([]byte, 1024)
	aes := symmetricKey(tpm2.AttrSign|tpm2.AttrDecrypt, aes128())
	oaep := tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	return []Row{
		{"RSA_Encrypt, OAEP, RSA-2048", 200, keyOnly(rsaDecrypter(), tpm2.CCRSAEncrypt, &command.RSAEncryptIn{Message: make([]byte, 32), InScheme: oaep})},
		{"RSA_Decrypt, OAEP, RSA-2048", 20, withKey(rsaDecrypter(), rsaDecrypt(oaep))},
		{"ECDH_KeyGen, P-256", 60, keyOnly(eccDecrypter(), tpm2.CCECDHKeyGen, new(command.None))},
		{"ECDH_ZGen, P-256", 60, withKey(eccDecrypter(), func(_ *Served, k key) (work, error) {
			return always(tpm2.CCECDHZGen, &command.ECDHZGenIn{InPoint: k.OutPublic.Unique.ECC}, k.Handle)
		})},
		{"EC_Ephemeral and ZGen_2Phase, P-256", 60, withKey(eccDecrypter(), twoPhases)},
		{"Commit, P-256", 60, keyOnly(eccKey(tpm2.AttrSign, none(), tpm2.ECCScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256}), tpm2.CCCommit, new(command.CommitIn))},
		{"ECC_Parameters, P-256", 300, one(tpm2.CCECCParameters, &command.ECCParametersIn{CurveID: tpm2.CurveNISTP256})},
		{"HMAC, SHA-256 of 1 KiB", 300, keyOnly(macKey(), tpm2.CCHMAC, &command.HMACIn{Buffer: kilobyte, InScheme: tpm2.AlgNull})},
		{"EncryptDecrypt, AES-128 CFB, 1 KiB", 300, keyOnly(aes, tpm2.CCEncryptDecrypt, &command.EncryptDecryptIn{Mode: tpm2.AlgNull, IVIn: make([]byte, 16), InData: kilobyte})},
		{"EncryptDecrypt2, AES-128 CFB, 1 KiB", 300, keyOnly(aes, tpm2.CCEncryptDecrypt2, &command.EncryptDecrypt2In{InData: kilobyte, Mode: tpm2.AlgNull, IVIn: make([]byte, 16)})},
		{"HashSequenceStart, SequenceUpdate and Complete, 1 KiB each", 300, func(*Served) (work, error) {
			return sequence(sameTurn(tpm2.CCHashSequenceStart, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA256})), nil
		}},
		{"HMAC_Start, SequenceUpdate and Complete, 1 KiB each", 300, withKey(macKey(), func(_ *Served, k key) (work, error) {
			return sequence(sameTurn(tpm2.CCHMACStart, &command.HMACStartIn{InScheme: tpm2.AlgNull}, k.Handle)), nil
		})},
		{"HashSequenceStart and EventSequenceComplete", 300, func(*Served) (work, error) {
			return inTurn(sameTurn(tpm2.CCHashSequenceStart, &command.HashSequenceStartIn{HashAlg: tpm2.AlgNull}), func(before []byte) ([]byte, error) {
				return encode(tpm2.CCEventSequenceComplete, &command.EventSequenceCompleteIn{Buffer: kilobyte}, 16, handleIn(before))
			}), nil
		}},
		{"StirRandom, 32 bytes", 300, one(tpm2.CCStirRandom, &command.StirRandomIn{InData: make([]byte, 32)})},
	}
}

func rsaDecrypt(scheme tpm2.RSADecrypt) func(*Served, key) (work, error) {
	return func(s *Served, k key) (work, error) {
		var out command.RSAEncryptOut
		if _, err := s.do(tpm2.CCRSAEncrypt, &command.RSAEncryptIn{Message: make([]byte, 32), InScheme: scheme}, &out, k.Handle); err != nil {
			return work{}, err
		}
		return always(tpm2.CCRSADecrypt, &command.RSADecryptIn{CipherText: out.OutData, InScheme: scheme}, k.Handle)
	}
}

// twoPhases agrees with an ephemeral key, whose counter ends the response that made it.
func twoPhases(_ *Served, k key) (work, error) {
	point := k.OutPublic.Unique.ECC
	return inTurn(sameTurn(tpm2.CCECEphemeral, &command.ECEphemeralIn{CurveID: tpm2.CurveNISTP256}), func(before []byte) ([]byte, error) {
		in := &command.ZGen2PhaseIn{InQsB: point, InQeB: point, InScheme: tpm2.AlgECDH, Counter: binary.BigEndian.Uint16(before[len(before)-2:])}
		return encode(tpm2.CCZGen2Phase, in, k.Handle)
	}), nil
}

// sequence starts one, updates and completes it.
func sequence(start turn) work {
	var h tpm2.Handle
	return inTurn(start, func(before []byte) ([]byte, error) {
		h = handleIn(before)
		return encode(tpm2.CCSequenceUpdate, &command.SequenceUpdateIn{Buffer: make([]byte, 1024)}, h)
	}, func([]byte) ([]byte, error) {
		return encode(tpm2.CCSequenceComplete, &command.SequenceCompleteIn{Buffer: make([]byte, 1024), Hierarchy: tpm2.HandleNull}, h)
	})
}

// attestRows are the attestations beside TPM2_Quote.
func attestRows() []Row {
	return []Row{
		{"Certify, P-256", 60, withKey(eccSigner(), func(_ *Served, k key) (work, error) {
			return always(tpm2.CCCertify, &command.CertifyIn{InScheme: asKeySays()}, k.Handle, k.Handle)
		})},
		{"CertifyCreation, P-256", 60, withKey(eccSigner(), func(_ *Served, k key) (work, error) {
			return always(tpm2.CCCertifyCreation, &command.CertifyCreationIn{InScheme: asKeySays(), CreationHash: k.CreationHash, CreationTicket: k.CreationTicket}, k.Handle, k.Handle)
		})},
		{"GetTime, P-256", 60, withKey(eccSigner(), func(_ *Served, k key) (work, error) {
			return always(tpm2.CCGetTime, &command.GetTimeIn{InScheme: asKeySays()}, tpm2.HandleEndorsement, k.Handle)
		})},
		{"GetCommandAuditDigest, P-256", 60, withKey(eccSigner(), func(_ *Served, k key) (work, error) {
			return always(tpm2.CCGetCommandAuditDigest, &command.GetCommandAuditDigestIn{InScheme: asKeySays()}, tpm2.HandleEndorsement, k.Handle)
		})},
		{"GetSessionAuditDigest, P-256", 60, withKey(eccSigner(), sessionAudit)},
		{"NV_Certify, 32 bytes, P-256", 60, withKey(eccSigner(), func(s *Served, k key) (work, error) {
			at, err := s.index(0, 32)
			if err != nil {
				return work{}, err
			}
			return always(tpm2.CCNVCertify, &command.NVCertifyIn{InScheme: asKeySays(), Size: 32}, k.Handle, tpm2.HandleOwner, at)
		})},
	}
}
