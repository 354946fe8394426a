package tpmtest_test

import (
	"fmt"
	"io"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2/tpmtest"
)

// A test with go-tpm: the TPM is its transport.
func ExampleOpen() {
	_ = func(t *testing.T) { // func TestRandom(t *testing.T)
		tpm := tpmtest.Open(t)
		r, err := gotpm.GetRandom{BytesRequested: 16}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%x", r.RandomBytes.Buffer)
	}
}

// A TPM of a seed answers alike in every run.
func ExampleNew() {
	tpm, err := tpmtest.New(tpmtest.Config{Seed: []byte("the same in every run")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tpm.Close()

	// go-tpm-tools and go-tpm's legacy package take an io.ReadWriteCloser,
	// canonical/go-tpm2 a Transport, which is the same methods.
	var rwc io.ReadWriteCloser = tpm
	if _, err := rwc.Write([]byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")); err != nil {
		fmt.Println(err)
		return
	}
	response := make([]byte, 4096)
	n, err := rwc.Read(response)
	fmt.Println(n, err)
	// Output: 20 <nil>
}
