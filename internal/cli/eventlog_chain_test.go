package cli

import (
	"fmt"
	"testing"
)

func TestEventlogChain(t *testing.T) {
	var logs []string
	for i := range 5 {
		logs = append(logs, recordedLog(t, fmt.Sprintf("eventlogs/bios/win-latitude-resume-chain-%d.bin", i)))
	}
	linux := recordedLog(t, "vmboot/good-uki/eventlog.bin")
	for name, tc := range map[string]struct {
		logs    []string
		status  int
		chained bool
		reasons int
	}{
		"cold boot and resumes": {logs, 0, true, 0},
		"the cold boot alone":   {logs[:1], 0, true, 0},
		"without its head":      {logs[1:], 1, false, 1},
		"with a gap":            {[]string{logs[0], logs[2]}, 1, false, 1},
		"one twice":             {[]string{logs[0], logs[1], logs[1]}, 1, false, 1},
		"a log of Linux":        {[]string{logs[0], linux}, 2, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, _ := runEventlog(t, nil, append([]string{"chain", "-o", "json"}, tc.logs...)...)
			got, _ := oneValue(t, []byte(stdout)).(map[string]any)
			reasons, _ := got["reasons"].([]any)
			if status != tc.status || got["chained"] != tc.chained || len(reasons) != tc.reasons {
				t.Errorf("chain: status %d, %v; want %d, chained %v, %d reasons", status, stdout, tc.status, tc.chained, tc.reasons)
			}
			if text, _, _ := runEventlog(t, nil, append([]string{"chain"}, tc.logs...)...); text != tc.status {
				t.Errorf("chain as text: status %d, want %d", text, tc.status)
			}
		})
	}
}
