package access

// A Permission lets its holder do one kind of thing. Reading and changing are
// apart, so that who judges a boot need not be who defines a good one.
type Permission string

// The permissions. None implies another.
const (
	Attest          Permission = "attest"            // ask for challenges and have evidence appraised
	ReadAppraisals  Permission = "appraisals.read"   // appraisals, evidence and the metadata of tokens
	ReadAttesters   Permission = "attesters.read"    // enrolled attestation keys
	SetAttesters    Permission = "attesters.write"   // enrol, register, remove attestation keys
	ReadPolicies    Permission = "policies.read"     // appraisal policies and their history
	SetPolicies     Permission = "policies.write"    // new revisions of policies, rollback
	ReadAnchors     Permission = "anchors.read"      // trusted certificate authorities
	SetAnchors      Permission = "anchors.write"     // add and remove trusted certificate authorities
	ReadReferences  Permission = "references.read"   // reference values: baselines
	SetReferences   Permission = "references.write"  // new revisions of baselines
	RotateKeys      Permission = "keys.rotate"       // make the service use a new signing key
	ReadPrincipals  Permission = "principals.read"   // who may do what
	SetPrincipals   Permission = "principals.write"  // add and remove principals
	ReadAudit       Permission = "audit.read"        // the audit chain
	ReadMeasurement Permission = "measurements.read" // metrics of the service
)

// Permissions lists all permissions.
func Permissions() []Permission {
	return []Permission{
		Attest, ReadAppraisals, ReadAttesters, SetAttesters, ReadPolicies, SetPolicies, ReadAnchors, SetAnchors,
		ReadReferences, SetReferences, RotateKeys, ReadPrincipals, SetPrincipals, ReadAudit, ReadMeasurement,
	}
}

// A Role is a named set of permissions.
type Role string

// The predefined roles. Others are made of a principal's own Permissions.
const (
	Attester      Role = "attester"       // a machine that proves its boot, or what speaks for it
	Viewer        Role = "viewer"         // sees verdicts and what they rest on
	Operator      Role = "operator"       // runs the fleet: enrols machines, keeps their baselines
	SecurityAdmin Role = "security-admin" // says what is trusted: policies, anchors, keys
	Auditor       Role = "auditor"        // sees everything, changes nothing
	Admin         Role = "admin"          // all permissions
)

// Roles lists the predefined roles.
func Roles() []Role { return []Role{Attester, Viewer, Operator, SecurityAdmin, Auditor, Admin} }

// Permissions returns what r gives; nil for a role that does not exist.
func (r Role) Permissions() []Permission {
	switch r {
	case Attester:
		return []Permission{Attest}
	case Viewer:
		return []Permission{ReadAppraisals, ReadAttesters, ReadPolicies, ReadAnchors, ReadReferences, ReadMeasurement}
	case Operator:
		return []Permission{
			Attest, ReadAppraisals, ReadAttesters, SetAttesters, ReadPolicies, ReadAnchors,
			ReadReferences, SetReferences, ReadMeasurement,
		}
	case SecurityAdmin:
		return []Permission{
			ReadAppraisals, ReadAttesters, ReadPolicies, SetPolicies, ReadAnchors, SetAnchors,
			ReadReferences, SetReferences, RotateKeys, ReadAudit, ReadMeasurement,
		}
	case Auditor:
		return []Permission{
			ReadAppraisals, ReadAttesters, ReadPolicies, ReadAnchors, ReadReferences,
			ReadPrincipals, ReadAudit, ReadMeasurement,
		}
	case Admin:
		return Permissions()
	default:
		return nil
	}
}
