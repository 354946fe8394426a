package uefi

// Attributes of variables (UEFI 2.10, 8.2.1).
const (
	NonVolatile       uint32 = 0x01
	BootServiceAccess uint32 = 0x02
	RuntimeAccess     uint32 = 0x04
	// TimeBasedAuthenticated is EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS.
	TimeBasedAuthenticated uint32 = 0x20
	// AppendWrite is EFI_VARIABLE_APPEND_WRITE; no stored variable has it.
	AppendWrite uint32 = 0x40
)
