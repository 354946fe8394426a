package kmip

// A Tag says what an item is (9.1.3.1).
type Tag uint32

// The tags that are used here.
const (
	TagAttribute               Tag = 0x420008
	TagAttributeName           Tag = 0x42000a
	TagAttributeValue          Tag = 0x42000b
	TagBatchCount              Tag = 0x42000d
	TagBatchItem               Tag = 0x42000f
	TagBlockCipherMode         Tag = 0x420011
	TagCryptographicAlgorithm  Tag = 0x420028
	TagCryptographicLength     Tag = 0x42002a
	TagCryptographicParameters Tag = 0x42002b
	TagCryptographicUsageMask  Tag = 0x42002c
	TagIVCounterNonce          Tag = 0x42003d
	TagKeyBlock                Tag = 0x420040
	TagKeyFormatType           Tag = 0x420042
	TagKeyMaterial             Tag = 0x420043
	TagKeyValue                Tag = 0x420045
	TagMaximumItems            Tag = 0x42004f
	TagMaximumResponseSize     Tag = 0x420050
	TagName                    Tag = 0x420053
	TagNameType                Tag = 0x420054
	TagNameValue               Tag = 0x420055
	TagObjectType              Tag = 0x420057
	TagOperation               Tag = 0x42005c
	TagPaddingMethod           Tag = 0x42005f
	TagProtocolVersion         Tag = 0x420069
	TagProtocolVersionMajor    Tag = 0x42006a
	TagProtocolVersionMinor    Tag = 0x42006b
	TagQueryFunction           Tag = 0x420074
	TagRequestHeader           Tag = 0x420077
	TagRequestMessage          Tag = 0x420078
	TagRequestPayload          Tag = 0x420079
	TagResponseHeader          Tag = 0x42007a
	TagResponseMessage         Tag = 0x42007b
	TagResponsePayload         Tag = 0x42007c
	TagResultMessage           Tag = 0x42007d
	TagResultReason            Tag = 0x42007e
	TagResultStatus            Tag = 0x42007f
	TagState                   Tag = 0x42008d
	TagSymmetricKey            Tag = 0x42008f
	TagTemplateAttribute       Tag = 0x420091
	TagUniqueIdentifier        Tag = 0x420094
	TagVendorIdentification    Tag = 0x42009d
	TagData                    Tag = 0x4200c2
	TagTagLength               Tag = 0x4200ce // 1.4
	TagAuthenticatedData       Tag = 0x4200fe // Authenticated Encryption Additional Data, 1.4
	TagAuthenticatedTag        Tag = 0x4200ff // Authenticated Encryption Tag, 1.4
	TagAttributes              Tag = 0x420125 // 2.0
	TagAttributeReference      Tag = 0x42013b // 2.0
)

// An Operation is what a request asks for (9.1.3.2.27).
type Operation uint32

// The operations that are used here.
const (
	OperationCreate           Operation = 0x01
	OperationLocate           Operation = 0x08
	OperationGet              Operation = 0x0a
	OperationGetAttributes    Operation = 0x0b
	OperationActivate         Operation = 0x12
	OperationQuery            Operation = 0x18
	OperationDiscoverVersions Operation = 0x1e
	OperationEncrypt          Operation = 0x1f
	OperationDecrypt          Operation = 0x20
)

func (o Operation) String() string {
	switch o {
	case OperationCreate:
		return "Create"
	case OperationLocate:
		return "Locate"
	case OperationGet:
		return "Get"
	case OperationGetAttributes:
		return "Get Attributes"
	case OperationActivate:
		return "Activate"
	case OperationQuery:
		return "Query"
	case OperationDiscoverVersions:
		return "Discover Versions"
	case OperationEncrypt:
		return "Encrypt"
	case OperationDecrypt:
		return "Decrypt"
	}
	return "unknown operation"
}

// A Reason says why an operation failed (9.1.3.2.29).
type Reason uint32

// The reasons that a caller acts on.
const (
	ReasonItemNotFound                Reason = 0x01
	ReasonAuthenticationNotSuccessful Reason = 0x03
	ReasonInvalidMessage              Reason = 0x04
	ReasonOperationNotSupported       Reason = 0x05
	ReasonInvalidField                Reason = 0x07
	ReasonFeatureNotSupported         Reason = 0x08
	ReasonCryptographicFailure        Reason = 0x0a
	ReasonPermissionDenied            Reason = 0x0c
	ReasonObjectArchived              Reason = 0x0d
	ReasonSensitive                   Reason = 0x16
	ReasonNotExtractable              Reason = 0x17
	ReasonGeneralFailure              Reason = 0x100
	ReasonObjectDestroyed             Reason = 0x37 // 2.0
	ReasonObjectNotFound              Reason = 0x38 // 2.0
	ReasonServerLimitExceeded         Reason = 0x3a // 2.0
	ReasonWrongKeyLifecycleState      Reason = 0x41 // 2.0
)

// A State is that of a key (9.1.3.2.17).
type State uint32

// The states that are used here.
const (
	StatePreActive State = 1
	StateActive    State = 2
)

// Values of enumerations that requests have.
const (
	objectSymmetricKey       = 2    // 9.1.3.2.12
	algorithmAES             = 3    // 9.1.3.2.13
	modeCBC                  = 1    // 9.1.3.2.14
	modeGCM                  = 9    // 9.1.3.2.14
	paddingPKCS5             = 3    // 9.1.3.2.15
	nameText                 = 1    // 9.1.3.2.10, Uninterpreted Text String
	keyFormatRaw             = 1    // 9.1.3.2.3
	queryOperations          = 1    // 9.1.3.2.24
	queryServer              = 3    // 9.1.3.2.24
	usageEncrypt             = 0x04 // 9.1.3.3.1
	usageDecrypt             = 0x08 // 9.1.3.3.1
	statusSuccess            = 0    // 9.1.3.2.28
	aesKeyBits         int32 = 256
)
