package token

import (
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// threadTime is the processor time that this thread has used: unlike the clock, it
// does not run while others have the processor.
func threadTime(tb testing.TB) time.Duration {
	tb.Helper()
	const rusageThread = 1 // RUSAGE_THREAD, which package syscall does not name
	var u syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// DESIGN §6: a mebibyte of hostile text costs little.
func TestHostileTextIsCheap(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const size = maxJWKS - 64
	for name, in := range map[string]string{
		"brackets":   strings.Repeat("[", size),
		"objects":    `{"a":` + strings.Repeat(`{"a":`, size/5),
		"members":    `{` + strings.Repeat(`"a":1,`, size/6),
		"escapes":    `{"` + strings.Repeat(`\u0061`, size/6),
		"numbers":    `{"a":` + strings.Repeat("1", size),
		"small ones": `{"a":[` + strings.Repeat(`{},`, size/3),
		"values":     `{"a":[` + strings.Repeat("0,", size/2),
	} {
		data := []byte(in)
		start := threadTime(t)
		if _, err := parseObject(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
		// The budget is 5 ms; the race detector and a busy machine take their share.
		took := threadTime(t) - start
		t.Logf("%s: %v", name, took)
		if took > 300*time.Millisecond {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// A key set is read in passes, and has a lower limit for it.
func TestHostileKeySetIsCheap(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	values := strings.Repeat("0,", maxJWKS/2-20) + "0"
	for name, in := range map[string]string{"many keys": `{"keys":[` + values + `]}`, "a large key": `{"keys":[{"a":[` + values + `]}]}`} {
		data := []byte(in)
		start := threadTime(t)
		keys, err := ParseKeys(issuerURL, data)
		took := threadTime(t) - start
		t.Logf("%s: %v", name, took)
		if err == nil && len(keys.All()) != 0 {
			t.Errorf("%s: has a key", name)
		}
		if took > 300*time.Millisecond {
			t.Errorf("%s: %v", name, took)
		}
	}
}
