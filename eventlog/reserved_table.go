package eventlog

import (
	"bytes"
	"slices"

	"github.com/assay-project/assay/tpm2"
)

// What separators say (PFP 3.3.2.2 and 10.4.1): two ways to write "all is well",
// and an error while firmware measured.
const (
	separatorZero  = "\x00\x00\x00\x00"
	separatorOnes  = "\xff\xff\xff\xff"
	separatorError = "\x01\x00\x00\x00"
)

// Texts of EV_EFI_ACTION (PFP 10.4.4).
const (
	actionCalling   = "Calling EFI Application from Boot Option"
	actionReturning = "Returning from EFI Application from Boot Option"
	actionExit      = "Exit Boot Services Invocation"
	actionExitFail  = "Exit Boot Services Returned with Failure"
	actionExitDone  = "Exit Boot Services Returned with Success"
	actionDebug     = "UEFI Debug Mode"
	actionNoDMA     = "DMA Protection Disabled"
)

// reserved is a text that only one type of event may have measured into certain
// registers. An event with the digest of such a text must say so: otherwise a
// marker could be hidden under another type.
type reserved struct {
	content string
	typ     Type
	pcrs    uint32 // bit set
}

const (
	pcrs0to7   = 0xFF
	pcrs12to14 = 7 << 12
)

var reservedContents = [...]reserved{
	{separatorZero, Separator, pcrs0to7},
	{separatorOnes, Separator, pcrs0to7},
	// In PCR 1 a boot variable may well hold these four bytes.
	{separatorError, Separator, pcrs0to7 &^ (1 << 1)},
	{wbclMarker, Separator, pcrs12to14},
	{actionCalling, EFIAction, 1<<4 | 1<<5},
	{actionReturning, EFIAction, 1<<4 | 1<<5},
	{actionExit, EFIAction, 1 << 5},
	{actionExitFail, EFIAction, 1 << 5},
	{actionExitDone, EFIAction, 1 << 5},
	{actionDebug, EFIAction, 1 << 7},
	{actionNoDMA, EFIAction, 1 << 7},
}

// reservedRow is the digests of reservedContents in one bank.
type reservedRow [len(reservedContents)][tpm2.MaxDigest]byte

// reservedDigests are the rows of all banks.
var reservedDigests = func() map[tpm2.Alg]*reservedRow {
	out := map[tpm2.Alg]*reservedRow{}
	for _, a := range replayable {
		row := new(reservedRow)
		for i, r := range reservedContents {
			sum(a, row[i][:], []byte(r.content))
		}
		out[a] = row
	}
	return out
}()

// replayable are the banks whose hash is implemented here, strongest use first:
// SHA-256 is the bank that every TPM has.
var replayable = [...]tpm2.Alg{
	tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512,
	tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512, tpm2.AlgSHA1,
}

// at returns the reserved text whose digest an event of pcr has, or nil.
func (row *reservedRow) at(pcr uint32, digest []byte) *reserved {
	for i := range row {
		if r := &reservedContents[i]; r.pcrs&(1<<pcr) != 0 && bytes.Equal(row[i][:len(digest)], digest) {
			return r
		}
	}
	return nil
}

// Replayable returns the banks whose hash is implemented here, SHA-256 first and
// SHA-1 last: the order in which to choose one.
func Replayable() []tpm2.Alg { return slices.Clone(replayable[:]) }
