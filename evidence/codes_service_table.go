package evidence

// serviceCodes are those of the service itself: challenges, enrolment, limits.
var serviceCodes = []CodeInfo{
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
}
