package vtpm

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParseRequest holds that what is read can be written and read again.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"verb":"create","name":"web","vm":{"name":"web-1","firmware":"efi","hardwareVersion":14},"id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8"}`))
	f.Add([]byte(`{"verb":"clear","name":"web","confirm":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		q, err := ParseRequest(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(q)
		if err != nil {
			t.Fatalf("Marshal(%+v) = %v", q, err)
		}
		got, err := ParseRequest(again)
		if err != nil {
			t.Fatalf("ParseRequest(%s) = %v", again, err)
		}
		if diff := cmp.Diff(q, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", again, diff)
		}
	})
}

// FuzzParseVM holds that a machine that is read can be judged.
func FuzzParseVM(f *testing.F) {
	f.Add([]byte(`{"name":"web-1","firmware":"efi","hardwareVersion":14,"guestOS":"windows-server-2022","encryptedHome":true,"manager":"libvirt 9.0.0"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		vm, err := ParseVM(text)
		if err != nil {
			return
		}
		failed := 0
		for _, r := range vm.Requirements("main") {
			if !r.Met {
				failed++
			}
		}
		if err := vm.permit("main"); (err == nil) != (failed == 0) {
			t.Errorf("%+v: %d requirements fail, permit = %v", vm, failed, err)
		}
	})
}

// FuzzIsHeavy holds that no request makes the guard look outside it.
func FuzzIsHeavy(f *testing.F) {
	f.Add([]byte("\x80\x02\x00\x00\x00\x40\x00\x00\x01\x31\x40\x00\x00\x01\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x10\x00\x01"))
	f.Fuzz(func(_ *testing.T, request []byte) { IsHeavy(request) })
}
