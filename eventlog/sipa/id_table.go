package sipa

// The identifiers that this package reads, named as in the WBCL header.
const (
	TrustBoundary           ID = 0x40010001
	ELAMAggregation         ID = 0x40010002
	LoadedModuleAggregation ID = 0x40010003
	TrustpointAggregation   ID = 0xC0010004
	KSRAggregation          ID = 0x40010005
	KSRSignedAggregation    ID = 0x40010006
	BootCounter             ID = 0x00020002
	TransferControl         ID = 0x00020003
	BitlockerUnlock         ID = 0x00020005
	EventCounter            ID = 0x00020006
	CounterID               ID = 0x00020007
	ApplicationSVN          ID = 0x00020009
	BootDebugging           ID = 0x00040001
	BootRevocationList      ID = 0x00040002
	OSKernelDebug           ID = 0x00050001
	CodeIntegrity           ID = 0x00050002
	TestSigning             ID = 0x00050003
	DataExecutionPrevention ID = 0x00050004
	SafeMode                ID = 0x00050005
	WinPE                   ID = 0x00050006
	HypervisorLaunchType    ID = 0x0005000A
	HypervisorDebug         ID = 0x0005000D
	DriverLoadPolicy        ID = 0x0005000E
	SIPolicy                ID = 0x0005000F
	VSMLaunchType           ID = 0x00050012
	OSRevocationList        ID = 0x00050013
	FlightSigning           ID = 0x00050021
	PagefileEncryption      ID = 0x00050022
	HibernationDisabled     ID = 0x00050024
	DumpsDisabled           ID = 0x00050025
	DumpEncryption          ID = 0x00050026
	FilePath                ID = 0x00070001
	ImageSize               ID = 0x00070002
	HashAlgorithmID         ID = 0x00070003
	AuthenticodeHash        ID = 0x00070004
	AuthorityIssuer         ID = 0x00070005
	AuthoritySerial         ID = 0x00070006
	AuthorityPublisher      ID = 0x00070008
	AuthoritySHA1Thumbprint ID = 0x00070009
	ImageValidated          ID = 0x0007000A
	ModuleSVN               ID = 0x0007000B
	ELAMKeyName             ID = 0x00090001
	VBSVSMRequired          ID = 0x000A0001
	VBSSecureBootRequired   ID = 0x000A0002
	VBSIOMMURequired        ID = 0x000A0003
	VBSMandatoryEnforcement ID = 0x000A0006
	VBSHVCIPolicy           ID = 0x000A0007
	DRTMStateAuth           ID = 0x000C0001
	DRTMSMMLevel            ID = 0x000C0002
	AuthorityPublicKey      ID = 0x00060002
)

// What TRANSFER_CONTROL says the boot manager handed over to.
const (
	controlOSLoader   = 1
	controlResume     = 2 // winresume: the machine wakes from hibernation
	controlHypervisor = 5
)

// names are the identifiers of the WBCL header, less the prefix SIPAEVENT_.
var names = map[ID]string{
	TrustBoundary:           "TRUSTBOUNDARY",
	ELAMAggregation:         "ELAM_AGGREGATION",
	LoadedModuleAggregation: "LOADEDMODULE_AGGREGATION",
	TrustpointAggregation:   "TRUSTPOINT_AGGREGATION",
	KSRAggregation:          "KSR_AGGREGATION",
	KSRSignedAggregation:    "KSR_SIGNED_MEASUREMENT_AGGREGATION",

	BootCounter:     "BOOTCOUNTER",
	TransferControl: "TRANSFER_CONTROL",
	BitlockerUnlock: "BITLOCKER_UNLOCK",
	EventCounter:    "EVENTCOUNTER",
	CounterID:       "COUNTERID",
	0x00020008:      "MORBIT_NOT_CANCELABLE",
	ApplicationSVN:  "APPLICATION_SVN",
	0x0002000A:      "SVN_CHAIN_STATUS",
	0x0002000B:      "MORBIT_API_STATUS",
	0x0002000C:      "IDK_GENERATION_STATUS",

	BootDebugging:      "BOOTDEBUGGING",
	BootRevocationList: "BOOT_REVOCATION_LIST",

	OSKernelDebug:           "OSKERNELDEBUG",
	CodeIntegrity:           "CODEINTEGRITY",
	TestSigning:             "TESTSIGNING",
	DataExecutionPrevention: "DATAEXECUTIONPREVENTION",
	SafeMode:                "SAFEMODE",
	WinPE:                   "WINPE",
	0x00050007:              "PHYSICALADDRESSEXTENSION",
	0x00050008:              "OSDEVICE",
	0x00050009:              "SYSTEMROOT",
	HypervisorLaunchType:    "HYPERVISOR_LAUNCH_TYPE",
	0x0005000B:              "HYPERVISOR_PATH",
	0x0005000C:              "HYPERVISOR_IOMMU_POLICY",
	HypervisorDebug:         "HYPERVISOR_DEBUG",
	DriverLoadPolicy:        "DRIVER_LOAD_POLICY",
	SIPolicy:                "SI_POLICY",
	0x00050010:              "HYPERVISOR_MMIO_NX_POLICY",
	0x00050011:              "HYPERVISOR_MSR_FILTER_POLICY",
	VSMLaunchType:           "VSM_LAUNCH_TYPE",
	OSRevocationList:        "OS_REVOCATION_LIST",
	0x00050014:              "SMT_STATUS",
	0x00050020:              "VSM_IDK_INFO",
	FlightSigning:           "FLIGHTSIGNING",
	PagefileEncryption:      "PAGEFILE_ENCRYPTION_ENABLED",
	0x00050023:              "VSM_IDKS_INFO",
	HibernationDisabled:     "HIBERNATION_DISABLED",
	DumpsDisabled:           "DUMPS_DISABLED",
	DumpEncryption:          "DUMP_ENCRYPTION_ENABLED",
	0x00050027:              "DUMP_ENCRYPTION_KEY_DIGEST",
	0x00050028:              "LSAISO_CONFIG",
	0x00050029:              "SBCP_INFO",
	0x00050030:              "HYPERVISOR_BOOT_DMA_PROTECTION",
	0x00050031:              "SI_POLICY_SIGNER",
	0x00050032:              "SI_POLICY_UPDATE_SIGNER",
	0x00050033:              "REFS_VERSION",
	0x00050034:              "REFS_ROLLBACK_PROTECTION_VERSION",
	0x00050035:              "REFS_VOLUME_CHECKPOINT",
	0x00050036:              "REFS_ROLLBACK_PROTECTION_USER_PAYLOAD_HASH",
	0x00050037:              "REFS_ROLLBACK_PROTECTION_VERIFICATION_ERROR",
	0x0005003A:              "VSM_SEALED_SI_POLICY",
	0x0005003B:              "VSM_DRTM_KEYROLL_DETECTED",
	0x0005003C:              "VSM_SRTM_UNSEAL_POLICY",
	0x0005003D:              "VSM_SRTM_ANTI_ROLLBACK_COUNTER",
	0x00050040:              "VTL1_DUMP_CONFIG",

	0x00060001:         "NOAUTHORITY",
	AuthorityPublicKey: "AUTHORITYPUBKEY",

	FilePath:                "FILEPATH",
	ImageSize:               "IMAGESIZE",
	HashAlgorithmID:         "HASHALGORITHMID",
	AuthenticodeHash:        "AUTHENTICODEHASH",
	AuthorityIssuer:         "AUTHORITYISSUER",
	AuthoritySerial:         "AUTHORITYSERIAL",
	0x00070007:              "IMAGEBASE",
	AuthorityPublisher:      "AUTHORITYPUBLISHER",
	AuthoritySHA1Thumbprint: "AUTHORITYSHA1THUMBPRINT",
	ImageValidated:          "IMAGEVALIDATED",
	ModuleSVN:               "MODULE_SVN",
	0x0007000C:              "MODULE_PLUTON",
	0x0007000D:              "MODULE_ORIGINAL_FILENAME",
	0x0007000E:              "MODULE_VERSION",
	0x0007000F:              "MODULE_OEM",

	0x80080001: "QUOTE",
	0x80080002: "QUOTESIGNATURE",
	0x80080003: "AIKID",
	0x80080004: "AIKPUBDIGEST",

	ELAMKeyName: "ELAM_KEYNAME",
	0x00090002:  "ELAM_CONFIGURATION",
	0x00090003:  "ELAM_POLICY",
	0x00090004:  "ELAM_MEASURED",

	VBSVSMRequired:          "VBS_VSM_REQUIRED",
	VBSSecureBootRequired:   "VBS_SECUREBOOT_REQUIRED",
	VBSIOMMURequired:        "VBS_IOMMU_REQUIRED",
	0x000A0004:              "VBS_MMIO_NX_REQUIRED",
	0x000A0005:              "VBS_MSR_FILTERING_REQUIRED",
	VBSMandatoryEnforcement: "VBS_MANDATORY_ENFORCEMENT",
	VBSHVCIPolicy:           "VBS_HVCI_POLICY",
	0x000A0008:              "VBS_MICROSOFT_BOOT_CHAIN_REQUIRED",
	0x000A0009:              "VBS_DUMP_USES_AMEROOT",
	0x000A000A:              "VBS_VSM_NOSECRETS_ENFORCED",

	0x000B0001: "KSR_SIGNATURE",

	DRTMStateAuth: "DRTM_STATE_AUTH",
	DRTMSMMLevel:  "DRTM_SMM_LEVEL",
	0x000C0003:    "DRTM_AMD_SMM_HASH",
	0x000C0004:    "DRTM_AMD_SMM_SIGNER_KEY",
}
