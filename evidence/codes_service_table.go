package evidence

// serviceCodes are those of the service itself: challenges, enrolment, limits.
var serviceCodes = []CodeInfo{
	{
		Code:    "ak.removed",
		Meaning: "An administrator removed this attestation key; nothing that it signs is trusted, whoever certifies it.",
		Causes:  []string{"the machine was taken out of the fleet", "the record was removed by mistake"},
		Action:  "Find out why the key was removed; then register or enrol it again.",
	},
	{
		Code:    "appraisal.damaged",
		Meaning: "The stored record of this appraisal is not what was put there; its verdict is not told.",
		Causes:  []string{"the disk or the database lost or altered bytes", "somebody changed the database behind the service"},
		Action:  "Compare the audit chain with a head noted elsewhere (assay audit verify), and restore the database from a backup.",
	},
	{
		Code:    "bundle.unreadable",
		Meaning: "The file with the evidence cannot be read, or is longer than any bundle.",
		Causes:  []string{"the name is wrong", "this user may not read it"},
		Action:  "Look at the message and at the file.",
	},
	{
		Code:    "challenge.malformed",
		Meaning: "The challenge is not one that this service made.",
		Causes:  []string{"it was cut or altered on the way", "it was issued by another service or before its key was replaced"},
		Action:  "Ask for a new challenge and quote over its nonce.",
	},
	{
		Code:    "challenge.expired",
		Meaning: "The challenge was issued by this service but its time is over.",
		Causes:  []string{"the attester took longer than the challenge lives", "old evidence is being replayed"},
		Action:  "Ask for a new challenge; if this repeats, compare the clocks and look at how long a quote takes.",
	},
	{
		Code:    "challenge.used",
		Meaning: "The challenge has answered an attestation before; each serves once.",
		Causes:  []string{"the client sent the same request twice", "evidence is being replayed"},
		Action:  "Ask for a new challenge for every attestation.",
	},
	{
		Code:    "challenge.other-purpose",
		Meaning: "The challenge was issued for another kind of evidence or another policy.",
		Causes:  []string{"the client mixed up two attestations"},
		Action:  "Use a challenge only for what it was asked for.",
	},
	{
		Code:    "attester.taken",
		Meaning: "The machine or the attestation key is enrolled already.",
		Causes:  []string{"the machine was enrolled before", "somebody enrols another TPM under a machine's name"},
		Action:  "Remove the old record first, if the machine really got another TPM or key.",
	},
	{
		Code:    "bundle.type-mismatch",
		Meaning: "The bundle is of another type than its challenge.",
		Causes:  []string{"the client mixed up two attestations"},
		Action:  "Ask for a challenge for the type of evidence that is sent.",
	},
	{
		Code:    "enrolment.expired",
		Meaning: "The enrolment's credential was not answered in time.",
		Causes:  []string{"the TPM or the client took too long"},
		Action:  "Begin the enrolment again.",
	},
	{
		Code:    "enrolment.secret-mismatch",
		Meaning: "The answer is not the secret of the credential.",
		Causes:  []string{"the attestation key is not in the TPM of that endorsement key", "the client answered another enrolment"},
		Action:  "Begin again with the keys of one TPM; if that fails too, treat the attester as hostile.",
	},
	{
		Code:    "evidence.type-unknown",
		Meaning: "This service does not appraise evidence of that type.",
		Causes:  []string{"the client is newer than the service", "the type is misspelt"},
		Action:  "Send evidence of a type that the service lists.",
	},
	{
		Code:    "policy.invalid",
		Meaning: "The text is not a policy.",
		Causes:  []string{"a mistake in the text"},
		Action:  "Correct it at the line and column that the message names; assay policy check finds the same.",
	},
	{
		Code:    "policy.unknown",
		Meaning: "There is no policy of that name.",
		Causes:  []string{"the name is misspelt", "the policy was never uploaded"},
		Action:  "Use the name of a policy that exists, or upload it.",
	},
	{
		Code:    "policy.vacuous",
		Meaning: "The policy would permit attesters without looking at anything.",
		Causes:  []string{"a permit rule has no condition"},
		Action:  "Add conditions; if it is meant so, upload it with allowVacuous.",
	},
	{
		Code:    "request.conflict",
		Meaning: "Something else changed what this request was about to change.",
		Causes:  []string{"two administrators worked at the same time"},
		Action:  "Read it again and repeat the change if it is still right.",
	},
}
