package tpm2

// An EKTemplate is a standard template for endorsement keys of the TCG EK
// Credential Profile, 2.5, appendix B.
type EKTemplate struct {
	Name   string // "L-1"
	NVCert uint32 // NV index of the key's certificate
	Public Public // Unique is what TPM2_CreatePrimary takes
}

// Attributes of endorsement keys: those of the high range also allow authValue.
const (
	ekLowAttributes  = AttrFixedTPM | AttrFixedParent | AttrSensitiveDataOrigin | AttrAdminWithPolicy | AttrRestricted | AttrDecrypt
	ekHighAttributes = ekLowAttributes | AttrUserWithAuth
)

// Policies of endorsement keys (EK Credential Profile, B.6): A is
// PolicySecret(TPM_RH_ENDORSEMENT), B is A or a policy kept in an NV index.
const (
	ekPolicyA256 = "\x83\x71\x97\x67\x44\x84\xb3\xf8\x1a\x90\xcc\x8d\x46\xa5\xd7\x24\xfd\x52\xd7\x6e\x06\x52\x0b\x64\xf2\xa1\xda\x1b\x33\x14\x69\xaa"
	ekPolicyB256 = "\xca\x3d\x0a\x99\xa2\xb9\x39\x06\xf7\xa3\x34\x24\x14\xef\xcf\xb3\xa3\x85\xd4\x4c\xd1\xfd\x45\x90\x89\xd1\x9b\x50\x71\xc0\xb7\xa0"
	ekPolicyB384 = "\xb2\x6e\x7d\x28\xd1\x1a\x50\xbc\x53\xd8\x82\xbc\xf5\xfd\x3a\x1a\x07\x41\x48\xbb\x35\xd3\xb4\xe4\xcb\x1c\x0a\xd9\xbd\xe4\x19\xca\xcb\x47\xba\x09\x69\x96\x46\x15\x0f\x9f\xc0\x00\xf3\xf8\x0e\x12"
	ekPolicyB512 = "\xb8\x22\x1c\xa6\x9e\x85\x50\xa4\x91\x4d\xe3\xfa\xa6\xa1\x8c\x07\x2c\xc0\x12\x08\x07\x3a\x92\x8d\x5d\x66\xd5\x9e\xf7\x9e\x49\xa4\x29\xc4\x1a\x6b\x26\x95\x71\xd5\x7e\xdb\x25\xfb\xdb\x18\x38\x42\x56\x08\xb4\x13\xcd\x61\x6a\x5f\x6d\xb5\xb6\x07\x1a\xf9\x9b\xea"
)

// EKTemplates returns the standard templates for the algorithms known here.
func EKTemplates() []EKTemplate {
	return []EKTemplate{
		{"L-1", 0x01c00002, rsaEK(ekLowAttributes, AlgSHA256, ekPolicyA256, 2048, 128, make([]byte, 256))},
		{"L-2", 0x01c0000a, eccEK(ekLowAttributes, AlgSHA256, ekPolicyA256, CurveNISTP256, 128)},
		{"H-1", 0x01c00012, rsaEK(ekHighAttributes, AlgSHA256, ekPolicyB256, 2048, 128, nil)},
		{"H-2", 0x01c00014, eccEK(ekHighAttributes, AlgSHA256, ekPolicyB256, CurveNISTP256, 128)},
		{"H-3", 0x01c00016, eccEK(ekHighAttributes, AlgSHA384, ekPolicyB384, CurveNISTP384, 256)},
		{"H-4", 0x01c00018, eccEK(ekHighAttributes, AlgSHA512, ekPolicyB512, CurveNISTP521, 256)},
		{"H-6", 0x01c0001c, rsaEK(ekHighAttributes, AlgSHA384, ekPolicyB384, 3072, 256, nil)},
	}
}

func rsaEK(attr ObjectAttributes, nameAlg Alg, policy string, bits, aesBits uint16, unique []byte) Public {
	p := Public{Type: AlgRSA, NameAlg: nameAlg, Attributes: attr, AuthPolicy: []byte(policy)}
	p.Parameters.RSA = RSAParms{
		Symmetric: SymDefObject{Algorithm: AlgAES, KeyBits: aesBits, Mode: AlgCFB},
		Scheme:    RSAScheme{Scheme: AlgNull},
		KeyBits:   bits,
	}
	p.Unique.RSA = unique
	return p
}

func eccEK(attr ObjectAttributes, nameAlg Alg, policy string, curve ECCCurve, aesBits uint16) Public {
	p := Public{Type: AlgECC, NameAlg: nameAlg, Attributes: attr, AuthPolicy: []byte(policy)}
	p.Parameters.ECC = ECCParms{
		Symmetric: SymDefObject{Algorithm: AlgAES, KeyBits: aesBits, Mode: AlgCFB},
		Scheme:    ECCScheme{Scheme: AlgNull},
		CurveID:   curve,
		KDF:       KDFScheme{Scheme: AlgNull},
	}
	if attr == ekLowAttributes {
		p.Unique.ECC = ECCPoint{X: make([]byte, 32), Y: make([]byte, 32)}
	}
	return p
}

// EKTemplateOf returns the template that p was made from: same algorithms, sizes,
// attributes and policy. ok is false when p follows none of them.
func EKTemplateOf(p *Public) (t EKTemplate, ok bool) {
	for _, t := range EKTemplates() {
		if t.matches(p) {
			return t, true
		}
	}
	return EKTemplate{}, false
}

func (t *EKTemplate) matches(p *Public) bool {
	if p.Type != t.Public.Type || p.NameAlg != t.Public.NameAlg || p.Attributes != t.Public.Attributes || string(p.AuthPolicy) != string(t.Public.AuthPolicy) {
		return false
	}
	if p.Type == AlgRSA {
		got := p.Parameters.RSA
		if got.Exponent == 65537 {
			got.Exponent = 0 // the same exponent in its other spelling
		}
		return got == t.Public.Parameters.RSA
	}
	return p.Parameters.ECC == t.Public.Parameters.ECC
}
