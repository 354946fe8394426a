package command_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2/command"
)

// named lists the commands for which has is true, by their names without TPM2_.
func named(has func(*command.Info) bool) []string {
	var out []string
	for _, i := range command.All() {
		if has(i) {
			out = append(out, strings.TrimPrefix(i.Name, "TPM2_"))
		}
	}
	slices.Sort(out)
	return out
}

func TestFlagsAreThoseOfPart3(t *testing.T) {
	for name, tc := range map[string]struct {
		has  func(*command.Info) bool
		want string
	}{
		"no sessions": {
			func(i *command.Info) bool { return i.NoSessions },
			"ContextLoad ContextSave FlushContext Startup",
		},
		// Part 3, 26.2: those for which TPM2_PP_Commands may ask for physical presence.
		"physical presence": {
			func(i *command.Info) bool { return i.Presence == command.PPSettable },
			`ChangeEPS ChangePPS Clear ClearControl ClockRateAdjust ClockSet CreateLoaded CreatePrimary EvictControl HierarchyChangeAuth
			HierarchyControl NV_DefineSpace NV_DefineSpace2 NV_GlobalWriteLock NV_UndefineSpace NV_UndefineSpaceSpecial PCR_Allocate PCR_SetAuthPolicy
			ReadOnlyControl SetCommandCodeAuditStatus SetPrimaryPolicy`,
		},
		"physical presence always": {func(i *command.Info) bool { return i.Presence == command.PPAlways }, "PP_Commands"},
		"refused when read only": {
			(*command.Info).ChangesState,
			`ChangeEPS ChangePPS Clear ClearControl ClockRateAdjust ClockSet Create CreateLoaded CreatePrimary DictionaryAttackParameters EvictControl
			HierarchyChangeAuth HierarchyControl NV_ChangeAuth NV_DefineSpace NV_DefineSpace2 NV_GlobalWriteLock NV_Increment NV_UndefineSpace
			NV_UndefineSpaceSpecial ObjectChangeAuth PCR_Allocate PCR_SetAuthPolicy PCR_SetAuthValue PP_Commands SetAlgorithmSet SetCommandCodeAuditStatus SetPrimaryPolicy`,
		},
		"write NV": {(*command.Info).WritesNV, "NV_Extend NV_Increment NV_SetBits NV_Write NV_WriteLock"},
		"of version 1.85": {
			func(i *command.Info) bool { return i.Version185 },
			"Decapsulate Encapsulate SignDigest SignSequenceComplete SignSequenceStart VerifyDigestSignature VerifySequenceComplete VerifySequenceStart",
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := strings.Fields(tc.want)
			slices.Sort(want)
			if diff := cmp.Diff(want, named(tc.has)); diff != "" {
				t.Errorf("commands differ (-want +got):\n%s", diff)
			}
		})
	}
}
