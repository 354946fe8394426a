package ekca

import "encoding/asn1"

// Object identifiers of the TCG (EK Credential Profile 2.5, 4; Platform
// Certificate Profile 1.1, 5; TPM 2.0 Keys for Device Identity and Attestation
// 1.0, 8) and of X.509.
var (
	oidTPM20 = asn1.ObjectIdentifier{2, 23, 133, 1, 2} // tcg-sv-tpm20

	oidTPMManufacturer       = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel              = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion            = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidTPMSpecification      = asn1.ObjectIdentifier{2, 23, 133, 2, 16}
	oidPlatformSpecification = asn1.ObjectIdentifier{2, 23, 133, 2, 17}
	oidTPMAssertions         = asn1.ObjectIdentifier{2, 23, 133, 2, 18}
	oidTBBAssertions         = asn1.ObjectIdentifier{2, 23, 133, 2, 19}
	oidCredentialSpec        = asn1.ObjectIdentifier{2, 23, 133, 2, 23}
	oidCredentialType        = asn1.ObjectIdentifier{2, 23, 133, 2, 25}

	oidPlatformManufacturer = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 1}
	oidPlatformModel        = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 4}
	oidPlatformVersion      = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 5}
	oidPlatformSerial       = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 6}

	oidEKUsage       = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidPlatformUsage = asn1.ObjectIdentifier{2, 23, 133, 8, 2} // tcg-kp-PlatformAttributeCertificate
	oidAIKUsage      = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate

	oidVerifiedResidency  = asn1.ObjectIdentifier{2, 23, 133, 11, 1, 1} // tcg-cap-verifiedTPMResidency
	oidVerifiedFixed      = asn1.ObjectIdentifier{2, 23, 133, 11, 1, 2}
	oidVerifiedRestricted = asn1.ObjectIdentifier{2, 23, 133, 11, 1, 3}

	oidHardwareModuleName = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4} // RFC 4108, 5
	oidCAIssuers          = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
	oidCPS                = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 1}
	oidUserNotice         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 2, 2}

	oidSubjectDirectory = asn1.ObjectIdentifier{2, 5, 29, 9}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCRLPoints        = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidPolicies         = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKey     = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidAuthorityInfo    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}

	oidECDSASHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSASHA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
)
