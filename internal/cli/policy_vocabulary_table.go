package cli

import (
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/policy"
)

// policyVocabulary lists the claims that verifiers produce: those of
// docs/claims.md, and the inputs that Azure Attestation documents. The registers
// are those that prove a claim wherever it is proven.
func policyVocabulary() policy.Vocabulary {
	v := policy.Vocabulary{
		// TPM evidence.
		"aikValidated": nil, "aikPubHash": nil, "tpmVersion": nil, "pcrs": nil,
		"secureBootEnabled": {7}, "bootDebuggingDisabled": {12, 13}, "notSafeMode": {12, 13}, "notWinPE": {12, 13},
		"vbsEnabled": {12, 13}, "iommuEnabled": {12, 13}, "vbsReportPresent": nil, "vsmReportPresent": nil,
		"enclaveSvn": nil, "enclavePlatformSvn": nil, "enclaveFlags": nil, "enclaveAuthorId": nil, "enclaveImageId": nil,
		"enclaveOwnerId": nil, "enclaveFamilyId": nil,
		"events": nil, "bootEvents": nil, "x-ms-tpm-request-key": nil, "x-ms-tpm-other-keys": nil,
		// Other kinds of evidence, as Azure Attestation names their claims.
		"x-ms-attestation-type": nil, "x-ms-compliance-status": nil, "x-ms-runtime": nil, "x-ms-inittime": nil,
		"x-ms-sgx-*": nil, "x-ms-sevsnpvm-*": nil, "x-ms-azurevm-*": nil, "x-ms-isolation-tee*": nil,
		"$is-debuggable": nil, "$product-id": nil, "$sgx-mrsigner": nil, "$sgx-mrenclave": nil, "$svn": nil, "$tee": nil,
		"secureboot": {7}, "attester_tcb_status": nil, "dbgstat": nil, "eat_profile": nil, "intuse": nil, "tdx_*": nil,
	}
	registers := map[string][]int{
		"firmwareVersion": {0}, "partitionTable": {5}, "exitBootServices": {5}, "bootLoader": {4}, "bootImages": {4},
		"bootFiles": {4, 9}, "kernelCommandLine": {4, 8}, "kernelDebug": {4, 8}, "secureBoot": {7}, "secureBootAuthorities": {7},
		"sbatLevel": {4, 7}, "mokState": {4, 14}, "kernel": {4, 11}, "initrd": {4, 11}, "ukiSections": {4, 11},
	}
	for _, c := range eventlog.ClaimNames() {
		v[c.Name] = registers[c.Name]
		if registers[c.Name] == nil && strings.HasPrefix(c.Meaning, "Windows:") {
			v[c.Name] = []int{12, 13}
		}
	}
	return v
}
