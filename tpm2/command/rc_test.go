package command_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// unhex decodes hexadecimal with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A small TPM offers little, so that what Part 2 knows and it does not is refused.
type small struct{}

func (small) OffersAlg(a tpm2.Alg) bool {
	switch a {
	case tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher, tpm2.AlgSHA256, tpm2.AlgAES, tpm2.AlgCFB,
		tpm2.AlgRSASSA, tpm2.AlgECDSA, tpm2.AlgHMAC, tpm2.AlgKDFa, tpm2.AlgXOR:
		return true
	}
	return false
}
func (small) OffersCurve(c tpm2.ECCCurve) bool           { return c == tpm2.CurveNISTP256 }
func (small) OffersKeyBits(a tpm2.Alg, bits uint16) bool { return bits == 128 || bits == 2048 }
func (small) HandleLimits() tpm2.HandleLimits {
	return tpm2.HandleLimits{PCRs: 24, Sessions: 64, Transients: 3}
}

const (
	noSensitive = "0004 0000 0000"                                             // TPM2B_SENSITIVE_CREATE without anything
	eccKey      = "0016 0023 000b 00060072 0000 0010 0010 0003 0010 0000 0000" // TPM2B_PUBLIC of an unrestricted P-256 key
	noRest      = "0000 00000000"                                              // outsideInfo, creationPCR
)

func TestFaultsHaveTheCodeOfPart2(t *testing.T) {
	edit := func(s, old, with string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%q is not in %q", old, s)
		}
		return strings.Replace(s, old, with, 1)
	}
	create := new(command.CreateIn)
	session := new(command.StartAuthSessionIn)
	const start = "0010 000102030405060708090a0b0c0d0e0f 0000 00 0010 000b"
	for name, tc := range map[string]struct {
		v    wire.Layout
		in   string
		want tpm2.RC
	}{
		"create":                                {create, noSensitive + eccKey + noRest, tpm2.RCSuccess},
		"sensitive is empty":                    {create, "0000" + eccKey + noRest, tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"sensitive is longer than its parts":    {create, "0005 0000 0000 00" + eccKey + noRest, tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"sensitive is shorter than its parts":   {create, "0003 0000 0000" + eccKey + noRest, tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"userAuth is longer than a digest":      {create, "0045 0041" + strings.Repeat("00", 65) + "0000" + eccKey + noRest, tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"public is empty":                       {create, noSensitive + "0000" + noRest, tpm2.RCSize.Of(tpm2.RCParameter, 2)},
		"type":                                  {create, noSensitive + edit(eccKey, "0023", "0099") + noRest, tpm2.RCType.Of(tpm2.RCParameter, 2)},
		"nameAlg":                               {create, noSensitive + edit(eccKey, "000b", "0099") + noRest, tpm2.RCHash.Of(tpm2.RCParameter, 2)},
		"nameAlg null":                          {create, noSensitive + edit(eccKey, "000b", "0010") + noRest, tpm2.RCHash.Of(tpm2.RCParameter, 2)},
		"reserved attribute":                    {create, noSensitive + edit(eccKey, "00060072", "00060073") + noRest, tpm2.RCReservedBits.Of(tpm2.RCParameter, 2)},
		"symmetric":                             {create, noSensitive + edit(eccKey, "0000 0010", "0000 0025") + noRest, tpm2.RCSymmetric.Of(tpm2.RCParameter, 2)},
		"scheme":                                {create, noSensitive + edit(eccKey, "0010 0010 0003", "0010 0014 0003") + noRest, tpm2.RCScheme.Of(tpm2.RCParameter, 2)},
		"curve":                                 {create, noSensitive + edit(eccKey, "0003", "0999") + noRest, tpm2.RCCurve.Of(tpm2.RCParameter, 2)},
		"KDF":                                   {create, noSensitive + edit(eccKey, "0003 0010", "0003 0005") + noRest, tpm2.RCKDF.Of(tpm2.RCParameter, 2)},
		"outsideInfo cut off":                   {create, noSensitive + eccKey + "0004 00", tpm2.RCInsufficient.Of(tpm2.RCParameter, 3)},
		"PCR bank":                              {create, noSensitive + eccKey + "0000 00000001 0099 03 000000", tpm2.RCHash.Of(tpm2.RCParameter, 4)},
		"PCR bitmap":                            {create, noSensitive + eccKey + "0000 00000001 000b 04 00000000", tpm2.RCValue.Of(tpm2.RCParameter, 4)},
		"too many banks":                        {create, noSensitive + eccKey + "0000 00000099", tpm2.RCSize.Of(tpm2.RCParameter, 4)},
		"more bytes":                            {create, noSensitive + eccKey + noRest + "00", tpm2.RCSize},
		"public reaches beyond the input":       {new(command.LoadIn), "0000" + edit(eccKey, "0016", "0017"), tpm2.RCSize.Of(tpm2.RCParameter, 2)},
		"public is cut off":                     {new(command.LoadIn), "0000" + edit(eccKey, " 0000 0000", " 0000"), tpm2.RCInsufficient.Of(tpm2.RCParameter, 2)},
		"RSA key bits":                          {new(command.TestParmsIn), "0001 0010 0010 0801 00000000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"RSA scheme":                            {new(command.TestParmsIn), "0001 0010 0018 0800 00000000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"AES key bits":                          {new(command.TestParmsIn), "0025 0006 0081 0043", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"mode":                                  {new(command.TestParmsIn), "0025 0006 0080 0006", tpm2.RCMode.Of(tpm2.RCParameter, 1)},
		"cipher without an algorithm":           {new(command.TestParmsIn), "0025 0010", tpm2.RCSymmetric.Of(tpm2.RCParameter, 1)},
		"keyed hash scheme":                     {new(command.TestParmsIn), "0008 0014 000b", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"parameter set":                         {new(command.TestParmsIn), "00a0 0010 0009", tpm2.RCParms.Of(tpm2.RCParameter, 1)},
		"session":                               {session, start, tpm2.RCSuccess},
		"session type":                          {session, edit(start, "0000 00 0010", "0000 02 0010"), tpm2.RCValue.Of(tpm2.RCParameter, 3)},
		"session with XOR":                      {session, edit(start, "00 0010 ", "00 000a 000b "), tpm2.RCSuccess},
		"session with XOR and no hash":          {session, edit(start, "00 0010 ", "00 000a 0010 "), tpm2.RCHash.Of(tpm2.RCParameter, 4)},
		"session cipher":                        {session, edit(start, "00 0010 ", "00 0014 "), tpm2.RCSymmetric.Of(tpm2.RCParameter, 4)},
		"session hash":                          {session, edit(start, "000b", "0010"), tpm2.RCHash.Of(tpm2.RCParameter, 5)},
		"startup type":                          {new(command.StartupIn), "0002", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"yes or no":                             {new(command.SelfTestIn), "02", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"clock rate":                            {new(command.ClockRateAdjustIn), "04", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"capability":                            {new(command.GetCapabilityIn), "0000000d 00000000 00000001", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"operation":                             {new(command.PolicyCounterTimerIn), "0000 0000 000c", tpm2.RCValue.Of(tpm2.RCParameter, 3)},
		"null signature":                        {new(command.VerifySignatureIn), "0000 0010", tpm2.RCScheme.Of(tpm2.RCParameter, 2)},
		"tag of a ticket":                       {new(command.CertifyCreationIn), "0000 0000 0010 8022 40000007 0000", tpm2.RCTag.Of(tpm2.RCParameter, 4)},
		"hierarchy of a ticket":                 {new(command.CertifyCreationIn), "0000 0000 0010 8021 40000008 0000", tpm2.RCValue.Of(tpm2.RCParameter, 4)},
		"one digest to choose from":             {new(command.PolicyORIn), "00000001 0000", tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"nine digests to choose from":           {new(command.PolicyORIn), "00000009", tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"digest of no hash":                     {new(command.PCRExtendIn), "00000001 0010", tpm2.RCHash.Of(tpm2.RCParameter, 1)},
		"cipher mode":                           {new(command.EncryptDecryptIn), "00 003f 0000 0000", tpm2.RCMode.Of(tpm2.RCParameter, 2)},
		"MAC scheme":                            {new(command.HMACIn), "0000 0006", tpm2.RCSymmetric.Of(tpm2.RCParameter, 2)},
		"padding":                               {new(command.RSADecryptIn), "0000 0014 000b 0000", tpm2.RCValue.Of(tpm2.RCParameter, 2)},
		"key exchange":                          {new(command.ZGen2PhaseIn), "0004 0000 0000 0004 0000 0000 0018 0000", tpm2.RCScheme.Of(tpm2.RCParameter, 3)},
		"point is empty":                        {new(command.ECDHZGenIn), "0000", tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"handle to flush":                       {new(command.FlushContextIn), "40000001", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"persistent handle":                     {new(command.EvictControlIn), "80000000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"saved handle":                          {new(command.ContextLoadIn), "0000000000000001 81000000 40000001 0000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"what to enable":                        {new(command.HierarchyControlIn), "40000007 00", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"index outside its range":               {new(command.NVDefineSpaceIn), "0000 000e 02800001 000b 00000000 0000 0008", tpm2.RCValue.Of(tpm2.RCParameter, 2)},
		"reserved attribute of an index":        {new(command.NVDefineSpaceIn), "0000 000e 01800001 000b 00000100 0000 0008", tpm2.RCReservedBits.Of(tpm2.RCParameter, 2)},
		"index too large":                       {new(command.NVDefineSpaceIn), "0000 000e 01800001 000b 00000000 0000 0801", tpm2.RCSize.Of(tpm2.RCParameter, 2)},
		"kind of index":                         {new(command.NVDefineSpace2In), "0000 0001 40", tpm2.RCSelector.Of(tpm2.RCParameter, 2)},
		"buffer beyond its limit":               {new(command.StirRandomIn), "0081" + strings.Repeat("00", 129), tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"parameters of a command that has none": {new(command.None), "00", tpm2.RCSize},
	} {
		t.Run(name, func(t *testing.T) {
			err := wire.Decode(unhex(t, tc.in), tc.v)
			if got := tpm2.RCOf(err); got != tc.want {
				t.Errorf("Decode(%s) = %v, which is %v, want %v", tc.in, err, got, tc.want)
			}
		})
	}
}

func TestWhatATPMDoesNotOfferIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		v    wire.Layout
		in   string
		want tpm2.RC
	}{
		"hash":           {new(command.HashIn), "0000 000c 40000007", tpm2.RCHash.Of(tpm2.RCParameter, 2)},
		"curve":          {new(command.ECCParametersIn), "0004", tpm2.RCCurve.Of(tpm2.RCParameter, 1)},
		"mode":           {new(command.TestParmsIn), "0025 0006 0080 0042", tpm2.RCMode.Of(tpm2.RCParameter, 1)},
		"cipher":         {new(command.TestParmsIn), "0025 0013 0080 0043", tpm2.RCSymmetric.Of(tpm2.RCParameter, 1)},
		"AES key bits":   {new(command.TestParmsIn), "0025 0006 0100 0043", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"RSA key bits":   {new(command.TestParmsIn), "0001 0010 0010 0c00 00000000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"RSA scheme":     {new(command.TestParmsIn), "0001 0010 0016 000b 0800 00000000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"type":           {new(command.TestParmsIn), "00a0 0010 0002", tpm2.RCType.Of(tpm2.RCParameter, 1)},
		"signature":      {new(command.VerifySignatureIn), "0000 001a 000b 0000 0000", tpm2.RCScheme.Of(tpm2.RCParameter, 2)},
		"banks":          {new(command.PCRReadIn), "00000002 000b 03 000000 000b 03 000000", tpm2.RCSize.Of(tpm2.RCParameter, 1)},
		"transient":      {new(command.FlushContextIn), "80000003", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"session":        {new(command.FlushContextIn), "02000040", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"saved session":  {new(command.ContextLoadIn), "0000000000000001 03000040 40000007 0000", tpm2.RCValue.Of(tpm2.RCParameter, 1)},
		"firmware-bound": {new(command.HashIn), "0000 000b 40000140", tpm2.RCValue.Of(tpm2.RCParameter, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wire.Decode(unhex(t, tc.in), tc.v); err != nil {
				t.Errorf("Decode(%s) without a TPM = %v", tc.in, err)
			}
			err := wire.DecodeIn(small{}, unhex(t, tc.in), tc.v)
			if got := tpm2.RCOf(err); got != tc.want {
				t.Errorf("DecodeIn(%s) = %v, which is %v, want %v", tc.in, err, got, tc.want)
			}
		})
	}
	for name, in := range map[string]string{"ECC key": noSensitive + eccKey + noRest, "RSA": "0001 0010 0010 0800 00000000", "null": "0008 0010"} {
		var v wire.Layout = new(command.TestParmsIn)
		if name == "ECC key" {
			v = new(command.CreateIn)
		}
		if err := wire.DecodeIn(small{}, unhex(t, in), v); err != nil {
			t.Errorf("%s, which the TPM offers: %v", name, err)
		}
	}
}
