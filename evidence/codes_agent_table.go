package evidence

// agentCodes are what comes of asking the agent in a guest (internal/health). What the
// agent says of modules is the guest's word; the other codes are the host's own finding.
var agentCodes = []CodeInfo{
	{
		Code:    "agent.failed",
		Meaning: "The agent answered that it cannot attest.",
		Causes:  []string{"the guest shows the agent no TPM, or not the right to use it", "the endorsement hierarchy of the TPM has an authorization", "the boot log and the lists are longer than the channel takes"},
		Action:  "Read the agent's words and its log in the guest; until it attests, nothing is known of this boot by evidence.",
	},
	{
		Code:    "agent.foreign-tpm",
		Meaning: "The key that the agent attests with is not proven to be in this machine's own TPM.",
		Causes:  []string{"the agent uses another TPM, such as one that is passed through", "the answer comes from elsewhere: something stands between the host and the agent", "the machine's TPM was replaced under a running agent"},
		Action:  "Treat the machine as intercepted until you know why: look at the audit trail of its TPM, at what else has access to its serial port, and start the agent anew.",
	},
	{
		Code:    "agent.host",
		Meaning: "The host itself could not finish the assessment.",
		Causes:  []string{"no randomness", "a fault of the program"},
		Action:  "Read the message. It says nothing about the machine, neither good nor bad.",
	},
	{
		Code:    "agent.module-rejected",
		Meaning: "The agent says that the kernel kept a module from loading because of its signature, while the machine booted.",
		Causes:  []string{"a driver that was built locally or comes from a third party", "a signing key that is not enrolled", "an untrusted module"},
		Action:  "Find out where the module comes from and who tried to load it; sign it with an enrolled key of yours, or remove it.",
	},
	{
		Code:    "agent.module-untrusted",
		Meaning: "The agent says that the kernel runs a module whose signature it does not accept.",
		Causes:  []string{"secure boot or the enforcement of signatures is off", "a module that was loaded by force"},
		Action:  "Find out where the module comes from; turn secure boot on, so that the kernel refuses it.",
	},
	{
		Code:    "agent.silent",
		Meaning: "No agent answered in time.",
		Causes:  []string{"the agent is not installed, or does not run", "the machine hangs or is overloaded", "somebody keeps the agent from answering", "the agent speaks another version of the protocol"},
		Action:  "Look at the machine's console and at assay-agent in it. Silence is no proof of anything, and an attacker's cheapest answer.",
	},
}
