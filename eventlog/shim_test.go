package eventlog

import (
	"slices"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

// GCE's COS 85 was refused: its shim logged one byte more than it measured, and
// not only for variables of its own.
func TestAuthorityWithOneByteMoreThanWasHashedIsNoLie(t *testing.T) {
	for name, tc := range map[string]struct {
		vendor  uefi.GUID
		missing int
		want    evidence.Code
	}{
		"db, one byte":    {uefi.ImageSecurityDatabase, 1, ""},
		"shim, one byte":  {uefi.ShimLock, 1, ""},
		"db, two bytes":   {uefi.ImageSecurityDatabase, 2, "eventlog.data-mismatch"},
		"shim, two bytes": {uefi.ShimLock, 2, "eventlog.data-mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			au := made{pcr: 7, typ: EFIVariableAuthority, data: variable(tc.vendor, "db", keyList).data, other: true}
			au.hashed = au.data[:len(au.data)-tc.missing]
			c, err := confirmOwn(t, makeLog(t, append(secureBootEvents(), au)...), tpm2.AlgSHA256)
			if tc.want != "" {
				if !slices.ContainsFunc(evidence.Reasons(err), func(r evidence.Reason) bool { return r.Code == tc.want }) {
					t.Errorf("Confirm = %v, want %s", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if on := c.Claims()["secureBoot"]; !on.Value.IsTrue() {
				t.Errorf("secureBoot = %+v, want true: the variables are proven", on)
			}
		})
	}
}
