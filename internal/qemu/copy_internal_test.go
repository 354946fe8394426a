package qemu

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// What QEMU says of a copy; one that has failed is no copy, whatever else it says.
func TestACopyThatFailedIsNone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		job, why string // empty: all is well
	}{
		"it runs":             {`{"device": "copy1", "status": "running", "io-status": "ok", "ready": false, "paused": false}`, ""},
		"it is ready":         {`{"device": "copy1", "status": "ready", "io-status": "ok", "ready": true, "paused": false}`, ""},
		"it is at its end":    {`{"device": "copy1", "status": "ready", "io-status": "ok", "ready": true, "paused": true}`, ""}, // while QEMU has the disk stand still
		"it has ended":        {`{"device": "copy1", "status": "concluded", "io-status": "ok", "ready": true, "paused": false}`, ""},
		"QEMU ended it":       {`{"device": "copy1", "status": "concluded", "io-status": "ok", "error": "Input/output error"}`, "Input/output error"},
		"a disk failed":       {`{"device": "copy1", "status": "paused", "io-status": "failed", "paused": true}`, "cannot be read here"},
		"a disk is full":      {`{"device": "copy1", "status": "standby", "io-status": "nospace", "ready": true, "paused": true}`, "no room"},
		"the guest went on":   {`{"device": "copy1", "status": "standby", "io-status": "ok", "ready": true, "paused": true}`, "cannot be read here"},
		"no word of the disk": {`{"device": "copy1", "status": "running"}`, "cannot be read here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j blockJob
			if err := json.Unmarshal([]byte(tc.job), &j); err != nil {
				t.Fatal(err)
			}
			c, ok := j.copyState()
			if !ok || c.Disk != 1 {
				t.Fatalf("copyState = %+v, %v", c, ok)
			}
			if (tc.why == "") != (c.why == nil) || c.why != nil && (!errors.Is(c.why, ErrCopy) || !strings.Contains(c.why.Error(), tc.why)) {
				t.Errorf("why = %v, want %q", c.why, tc.why)
			}
		})
	}
	for _, id := range []string{"", "other", "copy", "copy1x", "copy01"} {
		j := blockJob{ID: id}
		if c, ok := j.copyState(); ok {
			t.Errorf("job %q is a copy: %+v", id, c)
		}
	}
}
