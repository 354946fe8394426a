package vtpmcli

import "github.com/assay-project/assay/tpm2"

// algNames are the names of TPM_ALG_ID without the prefix (Part 2, 6.3).
var algNames = map[tpm2.Alg]string{
	tpm2.AlgRSA: "RSA", tpm2.AlgTDES: "TDES", tpm2.AlgSHA1: "SHA1", tpm2.AlgHMAC: "HMAC", tpm2.AlgAES: "AES", tpm2.AlgMGF1: "MGF1",
	tpm2.AlgKeyedHash: "KEYEDHASH", tpm2.AlgXOR: "XOR", tpm2.AlgSHA256: "SHA256", tpm2.AlgSHA384: "SHA384", tpm2.AlgSHA512: "SHA512",
	tpm2.AlgRSASSA: "RSASSA", tpm2.AlgRSAES: "RSAES", tpm2.AlgRSAPSS: "RSAPSS", tpm2.AlgOAEP: "OAEP", tpm2.AlgECDSA: "ECDSA",
	tpm2.AlgECDH: "ECDH", tpm2.AlgECDAA: "ECDAA", tpm2.AlgECSchnorr: "ECSCHNORR", tpm2.AlgECMQV: "ECMQV",
	tpm2.AlgKDF1: "KDF1_SP800_56A", tpm2.AlgKDF2: "KDF2", tpm2.AlgKDFa: "KDF1_SP800_108", tpm2.AlgECC: "ECC", tpm2.AlgSymCipher: "SYMCIPHER",
	tpm2.AlgSHA3x256: "SHA3_256", tpm2.AlgSHA3x384: "SHA3_384", tpm2.AlgSHA3x512: "SHA3_512", tpm2.AlgCMAC: "CMAC",
	tpm2.AlgCTR: "CTR", tpm2.AlgOFB: "OFB", tpm2.AlgCBC: "CBC", tpm2.AlgCFB: "CFB", tpm2.AlgECB: "ECB",
	tpm2.AlgMLKEM: "MLKEM", tpm2.AlgMLDSA: "MLDSA", tpm2.AlgHashMLDSA: "HASH_MLDSA",
}
