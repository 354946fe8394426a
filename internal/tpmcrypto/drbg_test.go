package tpmcrypto_test

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"io"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// The CTR_DRBG group with AES-256 and no derivation function of NIST's ACVP server,
// gen-val/json-files/ctrDRBG-1.0.
func TestDRBGGivesTheAnswersOfNIST(t *testing.T) {
	entropy := unhex(t, "9fcbb4ccc0135c484bded061da9fd70748682fe84166b97ff53f9aa1909b2e95d3d529c0f453b3ac575d12aa441cc5cd"+
		"913c0da19b010eddd55a7a4f3f713eef5b1534d34360a7ec376ae71a6b340043cc7726f762cb853453f399b3a645062a")
	d, err := tpmcrypto.NewDRBG(bytes.NewReader(entropy), unhex(t, "2c9fed0b39556cdbe699ebca2a0ec7eecb287e8744475050c572fa8ae9ed0a4a7d6f1cabf1c4278532fb20af7d64bd32"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Reseed(unhex(t, "2d9d4ec141a22e6cd2f6ee4f6719cf6bdf95cfe50b8d5ea6c87d38b4b872706fff80b0380bb90e9c42d11d6526e56c29")); err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "f10c645683ff0131254052ed4c698122b46b563654c29d728ac191ca4aaefe649eefe4c6fc33b25bb739294dd5cf578099f856c98d98000cbf971f1e6ea900822ff8c110118f6520471744d3f8a3f5c7d568494240e57f5488af9c9f9f4e7322f56ccd843c0dbfce9170c02e205389420527f23edb3369d9fcc5e34901b5ba4eb71b973fc7982ffe0899ff7fe53ee0c4f51a3ef93ef9c6d4d279dd7536f8776be94aaa05e89ef6e6aee8832b4b42ffca5fb91ec0273f9ef945865512889b0c5ee141d1b38df827d2a694835561628c6f9b093a01a835f07adbb9e03febf93389e8f3b86e1e0abf1f9958fa286ad995289c2f606d1a9043a166c1afe8d00769c712650819c9068a4bd22717c98338395a7ba6e95b5178bfbf4efb0f05a91713ba8bf2127a6ba1edfa6d1cab05c03ee0d2afe1da4eb8f2c579ec872ff4b602027ef4bdcf2f4b01423f8e600a13d7cacb6ab83263ba58f907694af614a6724fd0e4c627a0d91ddc6716c697face6f4808a4f37b731de4e0cd4766ceadaaaf47992505299c72ac1a6e9a8335b8d7e501b3841188d0da4de5267674444dc2b0cf9f010756fa865a25ca3f1b24c34e845b2259926b6a867a7684de68a6137c4fb0f47a2e54ae9e6455beba0b0a9629644fe9e378ee95386443ba977124ffd1192e9f460684c7b09fa99f5f93f04f56fd7955e042187887ce696f1934017e458b16b5c9")
	got := make([]byte, len(want))
	for _, additional := range []string{
		"a642f06d327828f3e84564a3e37d60c157073b95864ca07981b0189668a0d978cd5dc68f06801ceff0dc839a312b028e",
		"9db14babfa9107c88ba92073c0b4a65e89147ea06d74b894142979482f452915b35b5636f9b8a951759735ade7c8d5d1",
	} {
		if err := d.Generate(got, unhex(t, additional)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Generate = %x, want %x", got, want)
	}
}

// newDRBG is a generator of fixed entropy that can be reseeded.
func newDRBG(t testing.TB) *tpmcrypto.DRBG {
	t.Helper()
	d, err := tpmcrypto.NewDRBG(bytes.NewReader(pattern(480)), []byte(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func draw(t testing.TB, r io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestARestoredDRBGGoesOn(t *testing.T) {
	d := newDRBG(t)
	draw(t, d, 100)
	state, err := wire.Encode(d)
	if err != nil || len(state) != 56 {
		t.Fatalf("Encode = %d bytes, %v; want 56", len(state), err)
	}
	if got, want := state[48:], []byte{0, 0, 0, 0, 0, 0, 0, 2}; !bytes.Equal(got, want) {
		t.Errorf("counter after one request is %x, want %x", got, want)
	}
	again, err := tpmcrypto.RestoreDRBG(bytes.NewReader(pattern(480)[48:]), state)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if a, b := draw(t, d, 40), draw(t, again, 40); !bytes.Equal(a, b) {
			t.Fatalf("restored DRBG gives %x, the other %x", b, a)
		}
		if err := errors.Join(d.Reseed([]byte("x")), again.Reseed([]byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range state {
		if _, err := tpmcrypto.RestoreDRBG(nil, state[:n]); !errors.Is(err, wire.ErrShort) {
			t.Errorf("RestoreDRBG of %d bytes = %v, want ErrShort", n, err)
		}
	}
	if _, err := tpmcrypto.RestoreDRBG(nil, append(state, 0)); !errors.Is(err, wire.ErrTrailing) {
		t.Errorf("RestoreDRBG of one byte more = %v, want ErrTrailing", err)
	}
	for name, counter := range map[string][]byte{"0": make([]byte, 8), "2^48+2": {0, 1, 0, 0, 0, 0, 0, 2}} {
		if _, err := tpmcrypto.RestoreDRBG(nil, append(bytes.Clone(state[:48]), counter...)); !errors.Is(err, wire.ErrRange) {
			t.Errorf("RestoreDRBG with counter %s = %v, want ErrRange", name, err)
		}
	}
}

func TestADRBGReseedsItselfWhenDue(t *testing.T) {
	state, err := wire.Encode(newDRBG(t))
	if err != nil {
		t.Fatal(err)
	}
	copy(state[48:], []byte{0, 1, 0, 0, 0, 0, 0, 0}) // 2^48: one request is left
	d, err := tpmcrypto.RestoreDRBG(bytes.NewReader(pattern(48)), state)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // the second takes the seed
		if _, err := d.Read(make([]byte, 8)); err != nil {
			t.Fatalf("Read %d = %v", i, err)
		}
	}
	copy(state[48:], []byte{0, 1, 0, 0, 0, 0, 0, 1})
	d, err = tpmcrypto.RestoreDRBG(bytes.NewReader(nil), state)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(make([]byte, 8)); !errors.Is(err, io.EOF) {
		t.Errorf("Read when a seed is due and there is none = %v, want EOF", err)
	}
}

func TestWhatSetsADRBGApart(t *testing.T) {
	seen := map[string]string{}
	long := pattern(100)
	digest := sha512.Sum384(long)
	for name, p := range map[string][]byte{"none": nil, "a": []byte("a"), "long": long, "b": []byte("b")} {
		d, err := tpmcrypto.NewDRBG(bytes.NewReader(pattern(48)), p)
		if err != nil {
			t.Fatal(err)
		}
		got := string(draw(t, d, 32))
		if other, ok := seen[got]; ok {
			t.Errorf("DRBGs %q and %q give the same", name, other)
		}
		seen[got] = name
	}
	d, err := tpmcrypto.NewDRBG(bytes.NewReader(pattern(48)), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if seen[string(draw(t, d, 32))] != "long" {
		t.Error("a personalisation string of 100 bytes does not count by its SHA-384")
	}
	if _, err := tpmcrypto.NewDRBG(bytes.NewReader(pattern(47)), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("NewDRBG with 47 bytes of entropy = %v", err)
	}
	if _, err := tpmcrypto.NewDRBG(bytes.NewReader(pattern(48)), nil); err != nil {
		t.Error(err)
	}
}

// Golden: this stream must never change.
func TestSeededStreamIsForEver(t *testing.T) {
	for _, tc := range []struct {
		h        tpm2.Alg
		skip     int
		wantHead string
	}{
		{tpm2.AlgSHA256, 0, "1b93598d8181ebdd324ef5ebb46e57f1d1740ada2e859f2878a3d09edf8dd302"},
		{tpm2.AlgSHA384, 0, "218059fc7d65d59aa7d711f9be53c9431bfa5bb6454775efe2ba53fa3f95a5c6"},
		{tpm2.AlgSHA512, 5000, "6dcdf8c480e95a81e5ceb1452845acdf94b856fca17d21239c118475f812bea1"},
	} {
		for _, cut := range []int{1, 7, 1024, 5000} {
			r, err := tpmcrypto.Seeded(tc.h, pattern(64), "primary", []byte("template"), []byte{1})
			if err != nil {
				t.Fatal(err)
			}
			for n := 0; n < tc.skip; n += cut {
				draw(t, r, min(cut, tc.skip-n))
			}
			if got, want := draw(t, r, 32), unhex(t, tc.wantHead); !bytes.Equal(got, want) {
				t.Errorf("Seeded by %s after %d bytes = %x, want %x", tc.h.BankName(), tc.skip, got, want)
			}
		}
	}
	if _, err := tpmcrypto.Seeded(tpm2.AlgSM3, nil, "", nil, nil); !errors.Is(err, tpm2.RCHash) {
		t.Errorf("Seeded by SM3 = %v, want TPM_RC_HASH", err)
	}
}

func BenchmarkDRBG32(b *testing.B) {
	d := newDRBG(b)
	buf := make([]byte, 32)
	for b.Loop() {
		if _, err := d.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzStates(f *testing.F) {
	state, err := wire.Encode(newDRBG(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state)
	c, err := tpmcrypto.NewCMAC(tpm2.AlgAES, 128, make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	c.Write(pattern(20))
	f.Add(c.State())
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := tpmcrypto.RestoreDRBG(bytes.NewReader(pattern(48)), b); err == nil {
			if again, err := wire.Encode(d); err != nil || !bytes.Equal(again, b) {
				t.Errorf("Encode = %x, %v; want %x", again, err, b)
			}
			draw(t, d, 20)
		}
		if c.Restore(b) == nil {
			if again := c.State(); !bytes.Equal(again, b) {
				t.Errorf("State = %x, want %x", again, b)
			}
			c.Write(b)
			c.Sum(nil)
		}
	})
}
