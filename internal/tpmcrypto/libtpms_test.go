package tpmcrypto_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// Seeds of the state in internal/vtpm/libtpms/testdata.
const (
	libtpmsOwner       = "d135377c0e7764f96a283cd219be848eca774202768d32f98450a6176aaa05cb531cdc0514c2e15b61fa3653f755ed07d69e8fd4797e96888b1633929f9f18b7"
	libtpmsPlatform    = "89f497f4f7dfb64eb5bfe34902ef355e2ac76881cde73370a675d179c79429517a481c09aa378a981402c5d8776fde993fc2768dcc5df2a136be2c473712501a"
	libtpmsEndorsement = "eda4b191ba5557c4632fa285fe680e7d3f17aefc529db335abc4b97b19b861d60c14daf81631412c6f2c4e52831fd18880833a69913956508c901b86bfa8f813"
)

// The keys that Debian's swtpm 0.7.1 with libtpms 0.9.2 gave for these seeds and
// templates: the SHA-256 of a modulus, or of the X of a point. Those of the original
// level are of the same state with the level of its seeds set to 0.
func TestLibtpmsKeysAreThoseOfSwtpm(t *testing.T) {
	for _, tc := range []struct {
		what       string
		level      tpmcrypto.SeedLevel
		seed, name string
		bits       int // of RSA
		curve      tpm2.ECCCurve
		want       string
	}{
		{"P-256", tpmcrypto.SeedPrimeFix, libtpmsOwner, "000b6428bbb52aa53dd748ee16e69b853b3b595f1d11a4fb55cf92a39c6c2477ec21", 0, tpm2.CurveNISTP256, "dcdc6bfc01be3e097e4ee489c3d47fb2a8db6974a43f8e11540ad9fc41480267"},
		{"P-384", tpmcrypto.SeedPrimeFix, libtpmsPlatform, "000b39317e2735f84062289ad9c3883b8abb1adf54331f060907388b379b754f9e88", 0, tpm2.CurveNISTP384, "a4d6120fa5079fb81c6d70a9d4e9f24bf7097cf48379330d3607d75f7990807a"},
		{"EK P-256", tpmcrypto.SeedPrimeFix, libtpmsEndorsement, "000b0f1277a2f3f382e7f75db466fac234182a8d62f97dfbaae7b06fdf52bda51467", 0, tpm2.CurveNISTP256, "e98dd4ec23dbbccd85197babc3b49515d214ea9db79199f8b31ce248584ca64f"},
		{"RSA 1024", tpmcrypto.SeedPrimeFix, libtpmsPlatform, "000b5987a4e03e422d6171e047b124e594dda738846b99a142f8dc4171540d879df8", 1024, 0, "5f103cf4a70af7835c1ade60fd33a36fa5e1dc329027836bab8dd30a16658a38"},
		{"RSA 2048", tpmcrypto.SeedPrimeFix, libtpmsOwner, "000b726dfd8203d5ecdeb156cbd324328258a14d2e15caf37f62084eb80a4705ee92", 2048, 0, "b9886a5ab58a83355780952086fe54d347687d20fe7ca42ef720ea40c6a9f2c9"},
		{"EK RSA 2048", tpmcrypto.SeedPrimeFix, libtpmsEndorsement, "000b32503929a1287eedaa3e89d932f9b51a6f92abd0fa57721ffa6fc041e04f7498", 2048, 0, "c28a7beda42913c291eeb9de8b6f01f6f2bada29f571cf22c592f8a2f05c5079"},
		{"RSA 3072", tpmcrypto.SeedPrimeFix, libtpmsPlatform, "000baf687aa4789c57540809c94222bd325006734283406f529e7ea838885173bc16", 3072, 0, "7ff4a94147c9ab11b49036391fe6576d788b03481071cb7dd0f413ccc015d186"},
		{"original, P-256", tpmcrypto.SeedOriginal, libtpmsOwner, "000b6428bbb52aa53dd748ee16e69b853b3b595f1d11a4fb55cf92a39c6c2477ec21", 0, tpm2.CurveNISTP256, "dcdc6bfc01be3e097e4ee489c3d47fb2a8db6974a43f8e11540ad9fc41480267"},
		{"original, RSA 1024", tpmcrypto.SeedOriginal, libtpmsOwner, "000b5987a4e03e422d6171e047b124e594dda738846b99a142f8dc4171540d879df8", 1024, 0, "bdac84662aeb6b0cbafb8882bc2ce54ceac8b95a212813a3a98dbfd7159dc909"},
		{"original, RSA 2048", tpmcrypto.SeedOriginal, libtpmsOwner, "000b726dfd8203d5ecdeb156cbd324328258a14d2e15caf37f62084eb80a4705ee92", 2048, 0, "d1d435cb49c121979c957f47b7aaf2966dafbda5db991062104002bb02008b08"},
		{"original, RSA 3072", tpmcrypto.SeedOriginal, libtpmsOwner, "000baf687aa4789c57540809c94222bd325006734283406f529e7ea838885173bc16", 3072, 0, "08eaf6fde7b0471d1ab492baf50b8e81d253b4dee7e34eae6bc6da42b59f9135"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			t.Parallel()
			s := tpmcrypto.Libtpms(tc.level, unhex(t, tc.seed), unhex(t, tc.name), nil)
			var public []byte
			if tc.bits != 0 {
				k, err := s.GenerateRSA(s, tc.bits, 0)
				if err != nil {
					t.Fatal(err)
				}
				public = k.Modulus()
			} else {
				k, err := tpmcrypto.GenerateECC(s, tc.curve)
				if err != nil {
					t.Fatal(err)
				}
				public = k.Point().X
			}
			if got := sha256.Sum256(public); hex.EncodeToString(got[:]) != tc.want {
				t.Errorf("key is %x, want %s", got, tc.want)
			}
		})
	}
}

// What a canceled command reads is an error, not other bytes.
func TestLibtpmsSearchEndsWithItsReader(t *testing.T) {
	s := tpmcrypto.Libtpms(tpmcrypto.SeedPrimeFix, []byte("seed"), nil, nil)
	if _, err := s.GenerateRSA(io.LimitReader(s, 200), 2048, 0); err == nil {
		t.Error("a key was made of 200 bytes")
	}
	if _, err := s.GenerateRSA(s, 2047, 0); err == nil {
		t.Error("a key of 2047 bits was made")
	}
}
