package tpmcrypto

import (
	"crypto/fips140"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// knownUnlessFIPS returns the answer that an operation has for known randomness:
// nothing in FIPS 140-3 mode unless it uses none, as the module brings its own.
func knownUnlessFIPS(always bool, parts ...[]byte) []byte {
	if fips140.Enabled() && !always {
		return nil
	}
	return shorten(parts...)
}

// fipsAnswer is the answer for known randomness, none in FIPS 140-3 mode.
func fipsAnswer(answer string) string {
	if fips140.Enabled() {
		return ""
	}
	return answer
}

// drbgAnswer is that of SelfTestDRBG.
const drbgAnswer = "b4c0756397a69c244cd06ed36f053f7bedea8a5884577d1e6871a91b80c1a11f"

// selfTests are the known answers, computed with p. Those of hashes are FIPS 180-4's and FIPS 202's
// for "abc"; the others were computed by this package and, as the tests of the
// package show, by others.
func selfTests(p selfTestParts) []selfTest {
	key := p.privateTest()
	return []selfTest{
		{tpm2.AlgSHA1, hashTest(tpm2.AlgSHA1), "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{tpm2.AlgSHA256, hashTest(tpm2.AlgSHA256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{tpm2.AlgSHA384, hashTest(tpm2.AlgSHA384), "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
		{tpm2.AlgSHA512, hashTest(tpm2.AlgSHA512), "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{tpm2.AlgSHA3x256, hashTest(tpm2.AlgSHA3x256), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"},
		{tpm2.AlgSHA3x384, hashTest(tpm2.AlgSHA3x384), "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25"},
		{tpm2.AlgSHA3x512, hashTest(tpm2.AlgSHA3x512), "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0"},
		{tpm2.AlgHMAC, testHMAC, "6f1e5466d510dfe9179ddf7d32e4890d5cd939048b9499534cd7801b664b25e9"},
		{tpm2.AlgAES, testAES, "f37248235b1a18775ede1a52327c6737c5a7c723c7ed74d218e3377521ffd4e4fcead9a25947c53fa43272a8ee01bb90"},
		{tpm2.AlgCTR, modeTest(tpm2.AlgCTR), "58b39ddbd71431019e793297e6e3e9ed30cc19ccd316b55540c7081862564b49"},
		{tpm2.AlgOFB, modeTest(tpm2.AlgOFB), "f2e3f026ec1cd9e1e576bce15661f9d2a7cc3580afb0a90bd0ac5fe3043eaa04"},
		{tpm2.AlgCBC, modeTest(tpm2.AlgCBC), "becb12f39762608ce1d12cce6af69352530cd31bf9485ac0ed6c11712df81838"},
		{tpm2.AlgCFB, modeTest(tpm2.AlgCFB), "ea8f45ad62ca4aef4a5856d2ebfaa3741b6c2ecd97f4a0b5f39612bc41347add"},
		{tpm2.AlgECB, modeTest(tpm2.AlgECB), "bace28f3a16c2ae386c92c4dea5813f6b95a9025fd63db97e262c5c6d9d2eb9f"},
		{tpm2.AlgCMAC, testCMAC, "4c55d40bbb082d29c05dccbbdafac422"},
		{tpm2.AlgXOR, testXOR, "0acf5e528ace3a0a6bb4361341595b9d9572b07c0da57aac62bb824f0ec267df49024761ef545bdc"},
		{tpm2.AlgKDFa, testKDFa, "7e7e25c0b67c510e5900b1a5f24770a79edbf376bf57e13ebf022ce994b53c9e66f07b1504a59f4d385bf31fb4b9c2e2"},
		{tpm2.AlgKDF1, testKDFe, "c5146881bedbaa12eafd5789a3220a9dd70bd4a5f915696a1b336f6db35d7c8eef8aafd66b05ccfb124a8a3ebd349067"},
		{tpm2.AlgMGF1, maskTest(0), "42f6e1629b3d7bbd45a119f514c6f0d1df152998a03b3847cef405dd38528a081924f3c9781a9466"},
		{tpm2.AlgKDF2, maskTest(1), "1924f3c9781a9466878feb0f6a8790618eec70c07c1262e3be85e3e03efef680b5fe5ffa4e0e7eb1"},
		{tpm2.AlgRSA, rsaEncryptTest(key, tpm2.RSAScheme{Scheme: tpm2.AlgNull}), "5764eca0f5aaffa4516f41437d9602d1aa29d8e21890760937aafffa60be69f2"},
		{tpm2.AlgRSASSA, rsaSignTest(key, tpm2.AlgRSASSA, testRSASSA), "21c0b77f8fe2659ae973cacd2b1c93b2a7d583502ce5f7c47b9524d10978d7d1"},
		{tpm2.AlgRSAPSS, rsaSignTest(key, tpm2.AlgRSAPSS, testRSAPSS), "1a3a43795f0d7ed5aaaed6a3cb2334e2986b2bce2cc718c3d539e446d1cf5660"},
		{tpm2.AlgRSAES, rsaEncryptTest(key, tpm2.RSAScheme{Scheme: tpm2.AlgRSAES}), "dfa636a814a0ba4458aa1fb4fbbfe3c2239df81d53efdaf9647087ee3f12e033"},
		{tpm2.AlgOAEP, rsaEncryptTest(key, tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}), "708c97b25da7428d53834707d4363520f1573f3a6daf6ceb7c6032d5a497612e"},
		{tpm2.AlgECC, p.eccTest, "f60ca60697ec2d0dd2956c4c011c92f2bce79af6a7483abe87f154f260953b98"},
		{tpm2.AlgECDSA, p.eccSignTest(tpm2.AlgECDSA, (*ECCKey).SignECDSA), fipsAnswer("21ad355ef96e201c847e15235fc5c501cf2d1f9fb1dcd8c79fb0546f5e7669cb")},
		{tpm2.AlgECSchnorr, p.eccSignTest(tpm2.AlgECSchnorr, signSchnorrSHA256), "9f31d6231d77d8300ad55d1cf5a08c9556461015b2efc9e10448976e9fc7026f"},
		{tpm2.AlgECDAA, p.ecdaaTest, "f1774c6f6ecd1ecc3c1732eb7d1c022b74be9d26898c242b0091fd495cb70b90"},
		{tpm2.AlgECDH, p.agreeTest(tpm2.AlgECDH), "c949d32844ff0da8e683e00577416a5b51be6bb5f800f26c215ca196a009ad65"},
		{tpm2.AlgECMQV, p.agreeTest(tpm2.AlgECMQV), "b8a048124f247a63620c78b4eeb28645e2ac7b4e93d06755a7f29e6b5c90b652"},
		{tpm2.AlgMLKEM, testMLKEM, "437f257dc5c0e18ece6587b16999c29ed5082c7557283ea4bc78871e0639d16b"},
	}
}

func signSchnorrSHA256(k *ECCKey, r io.Reader, digest []byte) (sigR, sigS []byte, err error) {
	return k.SignSchnorr(r, tpm2.AlgSHA256, digest)
}

// The key of the RSA tests: the seeded key of 2048 bits that the tests of the
// package make, too; the inverse of its second prime; and signatures by it of
// testPattern(32) with SHA-256, the second with that for salt.
const (
	testModulus = "ab457a984bbc563f1be4fdb5f38c1e2e09084bce36bcf2a0d4a506e838636ee3738cca1667166af94c971d962e7cb78f2888396e18f3f07e25ffb463c752db884a30d8a49639c7db52f2d61e30471459e26246210c6b3c425d7e46f4de89bf6f7b4d8d01809cb1f0217c3d93ad981200121eddb10b1b72970c55c94839bbe64c3c2013d0595eceeb870afeb7923ba92f2f3351c00e5d8e5f3442d4e696b2d5231fa9e606fb3cae10ad858d3520c471163276240ebb431e37732644678653b02ab2cb7bf9722b6f15aa7637121715a66b5deb80d12f8a0f37cc22ebc715229e54d3c84954bc37cb64d4dc54efed9a21449f662395b8e4850830e21b7194bfacb3"
	testPrime   = "d55ea3d55dff342e7ccae6f74eb1f48e19045ec3594a06653a11d933a27ecc61ce30cfbd16437476e7a6ef3b96a929af829b899441894f9a53f9a16c7c12e4e366596d6aed5b64507288d0724522a6646159436665e0c701462306f514ca349ebd2b494e13feacd5b96efd23a35f5f064c7cee8aada8114730478de0f1176215"
	testInverse = "91971f0a2d5f903c6ef325218eded20cd7e781d5feed9b95fe44960c080c2e0f89196897f871f8933d972502ca229b56846571349ddb79547b2d0a7e849e6e0218b229197a6aa2dfed2371235076a55e2b10c969a1d6231134a2935ca9621ca368cf8e7b54bff54ec0152cb15a016985e62effca625a6541422f909ea5c66bb9"
	testRSASSA  = "30055d7edde27ffa0fb754cf67598b80b001780cdbbfa0f741099aac6c89543b5a1a196e064109006f964614b4609126bc5081d31fd1f501720a7aea013a17d6a7121858813c7453fa2fe1374672e8834b624b70526a97420ad193c390ecf06d2f549d73d963a223f3c59acb6db51f7ca5a507228dc4860d89df24f78fa466e8e51697468f29565ea68a9847ce1f1deeceea59096e8795eab92180aff2285d77d92eba306a3b2bbad6388e41109d88463d3f04a4c161fc5445cd9a58a3fb535ef8047e725ae6a7099afbdd67f4732fcdc97cdf20672c07f64a365fda6dbcea593612d1d4f216bab910a043b6552c8fb34ed272cb52a9b289e220f7ecac464c27"
	testRSAPSS  = "641409de61df11be0b842b734abdf7dc696d1762ce96a89275a3f305368cc853e9e4f8b7628e815183ab804b7a398085678edc5ac7dcba08ca8de4f116c5833fcfec52bd477b69c1d2d4d782a4f55b575c0d7bf67d32b23abe8f67e07abdcc7fdd3f39f3ef6eb624a81a76538df8c5de0c989e644a731873dce6f71dee5766a61051dcbf48fcf0b72958b6c28e836f5c61384213489fe37c93c7ff389404b53f03bb944bef80561228e4519c3fb481391b336f0dd8b9728592da7305be6d184c715892f05e6a1758bbf6c38d810c246c098bbee74e54e714ffdb23299fa9dc259f6841c7ebeaae79c7a1be11dcc9db79a7cee4b50b23cd3a3f7083d6b796e8ca"
)

// testMultiple takes each of the 16 entries that the products of nistec choose from.
// They take scalars of any size, which a group need not.
const testMultiple = "0123456789abcdef"
