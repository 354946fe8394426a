package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// SelfTestIn is the parameters of TPM2_SelfTest.
type SelfTestIn struct {
	FullTest bool
}

// Wire lays the parameters out.
func (in *SelfTestIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Bool(&in.FullTest)
}

// IncrementalSelfTestIn is the parameters of TPM2_IncrementalSelfTest.
type IncrementalSelfTestIn struct {
	ToTest []tpm2.Alg
}

// Wire lays the parameters out.
func (in *IncrementalSelfTestIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.List32(c, &in.ToTest, tpm2.MaxAlgs)
}

// IncrementalSelfTestOut is what is returned by TPM2_IncrementalSelfTest.
type IncrementalSelfTestOut struct {
	ToDoList []tpm2.Alg
}

// Wire lays the parameters out.
func (out *IncrementalSelfTestOut) Wire(c *wire.Codec) {
	wire.List32(c, &out.ToDoList, tpm2.MaxAlgs)
}

// GetTestResultOut is what is returned by TPM2_GetTestResult.
type GetTestResultOut struct {
	OutData    []byte // TPM2B_MAX_BUFFER
	TestResult tpm2.RC
}

// Wire lays the parameters out.
func (out *GetTestResultOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutData, tpm2.MaxBuffer)
	wire.U32(c, &out.TestResult)
}
