package engine

import "github.com/assay-project/assay/tpm2"

// limits1 are the limits of the first versions: those of libtpms where a caller
// can see them, with more room in NV.
var limits1 = Limits{
	Transient: 3, Sessions: 3, Persistent: 64,
	NVIndices: 64, NVBytes: 64 << 10, NVIndex: 2048, NVBuffer: 1024, Command: 4096,
}

// banks1 are the hashes of libtpms' banks.
var banks1 = []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}

// libtpmsAlgorithms1 are those of libtpms that this project has, in the first
// versions of the profiles for who expects that TPM.
var libtpmsAlgorithms1 = []tpm2.Alg{
	tpm2.AlgRSA, tpm2.AlgSHA1, tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgMGF1, tpm2.AlgKeyedHash, tpm2.AlgXOR,
	tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgRSASSA, tpm2.AlgRSAES, tpm2.AlgRSAPSS, tpm2.AlgOAEP,
	tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgECMQV, tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa,
	tpm2.AlgECC, tpm2.AlgSymCipher, tpm2.AlgCMAC,
	tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB,
}

// profiles are all profiles ever published; a version that is here stays as it is.
var profiles = []*Profile{
	{
		Name: "default", Version: 1,
		Summary: "what Windows and Linux guests use, SHA-1 included",
		Algorithms: []tpm2.Alg{
			tpm2.AlgRSA, tpm2.AlgSHA1, tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgMGF1, tpm2.AlgKeyedHash, tpm2.AlgXOR,
			tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgRSASSA, tpm2.AlgRSAES, tpm2.AlgRSAPSS, tpm2.AlgOAEP,
			tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgECMQV, tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa,
			tpm2.AlgECC, tpm2.AlgSymCipher, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512, tpm2.AlgCMAC,
			tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB,
		},
		Curves:    []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521},
		RSABits:   []uint16{1024, 2048, 3072, 4096},
		SymBits:   []uint16{128, 192, 256},
		Banks:     banks1,
		Allocated: banks1,
		Limits:    limits1,
	},
	{
		Name: "compatible", Version: 1,
		Summary:    "default with the hashes of libtpms and its BN P-256: tpm2-tss knows no SHA-3, and its tests want that curve",
		Algorithms: libtpmsAlgorithms1,
		Curves:     []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521, tpm2.CurveBNP256},
		RSABits:    []uint16{1024, 2048, 3072, 4096},
		SymBits:    []uint16{128, 192, 256},
		Banks:      banks1,
		Allocated:  banks1,
		Limits:     limits1,
	},
	{
		Name: "libtpms", Version: 1, Libtpms: true,
		Summary:    "for TPMs that came from swtpm: keys made again from the seeds are the same",
		Algorithms: libtpmsAlgorithms1,
		Curves:     []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521},
		RSABits:    []uint16{1024, 2048, 3072, 4096},
		SymBits:    []uint16{128, 192, 256},
		Banks:      banks1,
		Allocated:  banks1,
		Limits:     limits1,
	},
	{
		Name: "fips", Version: 1, FIPS: true,
		Summary: "only algorithms approved by FIPS 140-3",
		Algorithms: []tpm2.Alg{
			tpm2.AlgRSA, tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgMGF1, tpm2.AlgKeyedHash,
			tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgOAEP,
			tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgKDF1, tpm2.AlgKDFa,
			tpm2.AlgECC, tpm2.AlgSymCipher, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512, tpm2.AlgCMAC,
			tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB,
		},
		Curves:    []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521},
		RSABits:   []uint16{2048, 3072, 4096},
		SymBits:   []uint16{128, 192, 256},
		Banks:     []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512},
		Allocated: []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384},
		Without: []tpm2.CC{
			tpm2.CCECCEncrypt, tpm2.CCECCDecrypt, tpm2.CCCommit, tpm2.CCECEphemeral, tpm2.CCZGen2Phase,
		},
		Limits: limits1,
	},
	{
		Name: "reference", Version: 1,
		Summary:    "for test suites: the key sizes of the reference code's simulator, and BN P-256",
		Algorithms: libtpmsAlgorithms1,
		Curves:     []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521, tpm2.CurveBNP256},
		RSABits:    []uint16{1024, 2048},
		SymBits:    []uint16{128, 192, 256},
		Banks:      banks1,
		Allocated:  banks1,
		Limits:     limits1,
	},
	{
		Name: "post-quantum", Version: 1, Version185: true,
		Summary: "default, with ML-KEM and the commands of TPM 2.0 version 1.85",
		Algorithms: []tpm2.Alg{
			tpm2.AlgRSA, tpm2.AlgSHA1, tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgMGF1, tpm2.AlgKeyedHash, tpm2.AlgXOR,
			tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgRSASSA, tpm2.AlgRSAES, tpm2.AlgRSAPSS, tpm2.AlgOAEP,
			tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgECMQV, tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa,
			tpm2.AlgECC, tpm2.AlgSymCipher, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512, tpm2.AlgCMAC,
			tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB, tpm2.AlgMLKEM,
		},
		Curves:    []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521},
		RSABits:   []uint16{1024, 2048, 3072, 4096},
		SymBits:   []uint16{128, 192, 256},
		Banks:     banks1,
		Allocated: []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384},
		Limits: Limits{
			Transient: 3, Sessions: 3, Persistent: 64,
			NVIndices: 64, NVBytes: 64 << 10, NVIndex: 2048, NVBuffer: 1024, Command: 8192,
		},
	},
	{
		Name: "post-quantum", Version: 2, Version185: true,
		Summary: "default, with ML-KEM, ML-DSA and the commands of TPM 2.0 version 1.85",
		Algorithms: []tpm2.Alg{
			tpm2.AlgRSA, tpm2.AlgSHA1, tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgMGF1, tpm2.AlgKeyedHash, tpm2.AlgXOR,
			tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgRSASSA, tpm2.AlgRSAES, tpm2.AlgRSAPSS, tpm2.AlgOAEP,
			tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgECMQV, tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa,
			tpm2.AlgECC, tpm2.AlgSymCipher, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512, tpm2.AlgCMAC,
			tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB, tpm2.AlgMLKEM, tpm2.AlgMLDSA, tpm2.AlgHashMLDSA,
		},
		Curves:    []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521},
		RSABits:   []uint16{1024, 2048, 3072, 4096},
		SymBits:   []uint16{128, 192, 256},
		Banks:     banks1,
		Allocated: []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384},
		Limits: Limits{
			Transient: 3, Sessions: 3, Persistent: 64,
			NVIndices: 64, NVBytes: 64 << 10, NVIndex: 2048, NVBuffer: 1024, Command: 8192,
		},
	},
}
