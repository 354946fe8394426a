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
	ReadPrincipals  Permission = "principals.read"   // who may do what, and custom roles
	SetPrincipals   Permission = "principals.write"  // add and remove principals, grant and revoke, custom roles
	ReadAudit       Permission = "audit.read"        // the audit chain
	ReadMeasurement Permission = "measurements.read" // metrics of the service
)

// The permissions about machines, named as Compute Engine names its own; instances.clearTPM
// has none there. They can be given for some instances only.
const (
	ListInstances       Permission = "instances.list"
	GetInstance         Permission = "instances.get" // also its events, boots, and why one was judged as it was
	CreateInstance      Permission = "instances.create"
	DeleteInstance      Permission = "instances.delete"
	StartInstance       Permission = "instances.start"
	StopInstance        Permission = "instances.stop"
	ResetInstance       Permission = "instances.reset"
	UpdateInstance      Permission = "instances.update"                       // all but the next two
	UpdateShielded      Permission = "instances.updateShieldedVmConfig"       // the three options, key set and integrity policy with what follows from it
	SetIntegrityPolicy  Permission = "instances.setShieldedVmIntegrityPolicy" // learn the baseline anew
	GetShieldedIdentity Permission = "instances.getShieldedInstanceIdentity"  // the public keys of its TPM
	GetSerialPortOutput Permission = "instances.getSerialPortOutput"          // what the guest prints, which may be secret
	ClearTPM            Permission = "instances.clearTPM"                     // destroys what the TPM protects
	CreateSnapshot      Permission = "instances.createSnapshot"
	DeleteSnapshot      Permission = "instances.deleteSnapshot"
	RestoreSnapshot     Permission = "instances.restoreSnapshot" // sets disks, variables and TPM back, also to what was mended since
	CreateBackup        Permission = "instances.createBackup"    // write all of it to a file, for keys that the caller names
	SetLabels           Permission = "instances.setLabels"       // which decide what others may do; no role by label gives it
)

// The permissions about the images that machines are made from. They are given everywhere.
const (
	ReadImages  Permission = "images.get"         // also the list of them
	UseImage    Permission = "images.useReadOnly" // make a machine of one
	CreateImage Permission = "images.create"      // of a disk in the folders for disks
	DeleteImage Permission = "images.delete"
)

// The permissions about backups of machines. They are given everywhere.
const (
	ReadBackups   Permission = "backups.get"     // also the list of them
	RestoreBackup Permission = "backups.restore" // make a machine of one, which may be older than what is known of it
)

// The permissions about findings, named as Security Command Center names its own. They
// can be given for some instances only.
const (
	ListFindings    Permission = "findings.list"     // also one of them
	SetFindingState Permission = "findings.setState" // acknowledge
	MuteFinding     Permission = "findings.setMute"  // suppress, with reason and end
	narrowInstances            = "instances."
	narrowFindings             = "findings."
)

// Permissions lists all permissions.
func Permissions() []Permission {
	return []Permission{
		Attest, ReadAppraisals, ReadAttesters, SetAttesters, ReadPolicies, SetPolicies, ReadAnchors, SetAnchors,
		ReadReferences, SetReferences, RotateKeys, ReadPrincipals, SetPrincipals, ReadAudit, ReadMeasurement,
		ListInstances, GetInstance, CreateInstance, DeleteInstance, StartInstance, StopInstance, ResetInstance,
		UpdateInstance, UpdateShielded, SetIntegrityPolicy, GetShieldedIdentity, GetSerialPortOutput, ClearTPM,
		CreateSnapshot, DeleteSnapshot, RestoreSnapshot, CreateBackup, SetLabels,
		ListFindings, SetFindingState, MuteFinding, ReadImages, UseImage, CreateImage, DeleteImage, ReadBackups, RestoreBackup,
	}
}

// A Role is a named set of permissions.
type Role string

// The predefined roles. Others are custom roles.
const (
	Attester      Role = "attester"       // a machine that proves its boot, or what speaks for it
	Viewer        Role = "viewer"         // sees verdicts and what they rest on
	Operator      Role = "operator"       // runs the fleet: enrols machines, keeps their baselines
	InstanceAdmin Role = "instance-admin" // all about machines and their findings
	SecurityAdmin Role = "security-admin" // says what is trusted: policies, anchors, keys, baselines
	Auditor       Role = "auditor"        // sees everything, changes nothing
	Admin         Role = "admin"          // all permissions
)

// Roles lists the predefined roles.
func Roles() []Role {
	return []Role{Attester, Viewer, Operator, InstanceAdmin, SecurityAdmin, Auditor, Admin}
}

// Permissions returns what a predefined role gives; nil for any other.
func (r Role) Permissions() []Permission {
	switch r {
	case Attester:
		return []Permission{Attest}
	case Viewer:
		return []Permission{
			ReadAppraisals, ReadAttesters, ReadPolicies, ReadAnchors, ReadReferences, ReadMeasurement,
			ListInstances, GetInstance, GetShieldedIdentity, ListFindings, ReadImages,
		}
	case Operator:
		return []Permission{
			Attest, ReadAppraisals, ReadAttesters, SetAttesters, ReadPolicies, ReadAnchors,
			ReadReferences, SetReferences, ReadMeasurement,
			ListInstances, GetInstance, StartInstance, StopInstance, ResetInstance, GetShieldedIdentity, ListFindings, SetFindingState, ReadImages,
		}
	case InstanceAdmin:
		return []Permission{
			ListInstances, GetInstance, CreateInstance, DeleteInstance, StartInstance, StopInstance, ResetInstance,
			UpdateInstance, UpdateShielded, SetIntegrityPolicy, GetShieldedIdentity, GetSerialPortOutput, ClearTPM,
			CreateSnapshot, DeleteSnapshot, RestoreSnapshot, CreateBackup, SetLabels,
			ListFindings, SetFindingState, MuteFinding, ReadImages, UseImage, CreateImage, DeleteImage, ReadBackups, RestoreBackup,
		}
	case SecurityAdmin:
		return []Permission{
			ReadAppraisals, ReadAttesters, ReadPolicies, SetPolicies, ReadAnchors, SetAnchors,
			ReadReferences, SetReferences, RotateKeys, ReadAudit, ReadMeasurement,
			ListInstances, GetInstance, UpdateShielded, SetIntegrityPolicy, GetShieldedIdentity, ListFindings, SetFindingState, MuteFinding, ReadImages,
		}
	case Auditor:
		return []Permission{
			ReadAppraisals, ReadAttesters, ReadPolicies, ReadAnchors, ReadReferences,
			ReadPrincipals, ReadAudit, ReadMeasurement, ListInstances, GetInstance, GetShieldedIdentity, ListFindings, ReadImages, ReadBackups,
		}
	case Admin:
		return Permissions()
	default:
		return nil
	}
}
