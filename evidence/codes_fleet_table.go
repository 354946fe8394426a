package evidence

// fleetCodes are why a machine cannot be made as it was asked for (internal/fleet).
var fleetCodes = []CodeInfo{
	{
		Code:    "fleet.unsupported",
		Meaning: "The support matrix has no row for this combination of operating system, board, accelerator, size and features.",
		Causes:  []string{"a feature that the guest's operating system cannot use", "a host without the accelerator", "an edited matrix"},
		Action:  "Change the named member, or add a row to the matrix if you have tried the combination.",
	},
}
