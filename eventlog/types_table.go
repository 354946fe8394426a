package eventlog

import "fmt"

// Type is a TCG_EVENTTYPE (PFP 10.4.1). It is not covered by any digest.
type Type uint32

// Event types of PFP 10.4.1, table 27.
const (
	PrebootCert                Type = 0x00000000
	PostCode                   Type = 0x00000001
	Unused                     Type = 0x00000002
	NoAction                   Type = 0x00000003
	Separator                  Type = 0x00000004
	Action                     Type = 0x00000005
	EventTag                   Type = 0x00000006
	SCRTMContents              Type = 0x00000007
	SCRTMVersion               Type = 0x00000008
	CPUMicrocode               Type = 0x00000009
	PlatformConfigFlags        Type = 0x0000000A
	TableOfDevices             Type = 0x0000000B
	CompactHash                Type = 0x0000000C
	IPL                        Type = 0x0000000D
	IPLPartitionData           Type = 0x0000000E
	NonhostCode                Type = 0x0000000F
	NonhostConfig              Type = 0x00000010
	NonhostInfo                Type = 0x00000011
	OmitBootDeviceEvents       Type = 0x00000012
	PostCode2                  Type = 0x00000013
	EFIVariableDriverConfig    Type = 0x80000001
	EFIVariableBoot            Type = 0x80000002
	EFIBootServicesApplication Type = 0x80000003
	EFIBootServicesDriver      Type = 0x80000004
	EFIRuntimeServicesDriver   Type = 0x80000005
	EFIGPTEvent                Type = 0x80000006
	EFIAction                  Type = 0x80000007
	EFIPlatformFirmwareBlob    Type = 0x80000008
	EFIHandoffTables           Type = 0x80000009
	EFIPlatformFirmwareBlob2   Type = 0x8000000A
	EFIHandoffTables2          Type = 0x8000000B
	EFIVariableBoot2           Type = 0x8000000C
	EFIGPTEvent2               Type = 0x8000000D
	EFIHCRTMEvent              Type = 0x80000010
	EFIVariableAuthority       Type = 0x800000E0
	EFISPDMFirmwareBlob        Type = 0x800000E1
	EFISPDMFirmwareConfig      Type = 0x800000E2
	EFISPDMDevicePolicy        Type = 0x800000E3
	EFISPDMDeviceAuthority     Type = 0x800000E4
)

// typeNames are the names of table 27.
var typeNames = map[Type]string{
	PrebootCert:                "EV_PREBOOT_CERT",
	PostCode:                   "EV_POST_CODE",
	Unused:                     "EV_UNUSED",
	NoAction:                   "EV_NO_ACTION",
	Separator:                  "EV_SEPARATOR",
	Action:                     "EV_ACTION",
	EventTag:                   "EV_EVENT_TAG",
	SCRTMContents:              "EV_S_CRTM_CONTENTS",
	SCRTMVersion:               "EV_S_CRTM_VERSION",
	CPUMicrocode:               "EV_CPU_MICROCODE",
	PlatformConfigFlags:        "EV_PLATFORM_CONFIG_FLAGS",
	TableOfDevices:             "EV_TABLE_OF_DEVICES",
	CompactHash:                "EV_COMPACT_HASH",
	IPL:                        "EV_IPL",
	IPLPartitionData:           "EV_IPL_PARTITION_DATA",
	NonhostCode:                "EV_NONHOST_CODE",
	NonhostConfig:              "EV_NONHOST_CONFIG",
	NonhostInfo:                "EV_NONHOST_INFO",
	OmitBootDeviceEvents:       "EV_OMIT_BOOT_DEVICE_EVENTS",
	PostCode2:                  "EV_POST_CODE2",
	EFIVariableDriverConfig:    "EV_EFI_VARIABLE_DRIVER_CONFIG",
	EFIVariableBoot:            "EV_EFI_VARIABLE_BOOT",
	EFIBootServicesApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",
	EFIBootServicesDriver:      "EV_EFI_BOOT_SERVICES_DRIVER",
	EFIRuntimeServicesDriver:   "EV_EFI_RUNTIME_SERVICES_DRIVER",
	EFIGPTEvent:                "EV_EFI_GPT_EVENT",
	EFIAction:                  "EV_EFI_ACTION",
	EFIPlatformFirmwareBlob:    "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	EFIHandoffTables:           "EV_EFI_HANDOFF_TABLES",
	EFIPlatformFirmwareBlob2:   "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	EFIHandoffTables2:          "EV_EFI_HANDOFF_TABLES2",
	EFIVariableBoot2:           "EV_EFI_VARIABLE_BOOT2",
	EFIGPTEvent2:               "EV_EFI_GPT_EVENT2",
	EFIHCRTMEvent:              "EV_EFI_HCRTM_EVENT",
	EFIVariableAuthority:       "EV_EFI_VARIABLE_AUTHORITY",
	EFISPDMFirmwareBlob:        "EV_EFI_SPDM_FIRMWARE_BLOB",
	EFISPDMFirmwareConfig:      "EV_EFI_SPDM_FIRMWARE_CONFIG",
	EFISPDMDevicePolicy:        "EV_EFI_SPDM_DEVICE_POLICY",
	EFISPDMDeviceAuthority:     "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// Known reports whether the standard names t.
func (t Type) Known() bool { _, ok := typeNames[t]; return ok }

func (t Type) String() string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("%#08x", uint32(t))
}
