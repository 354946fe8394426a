package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestRequestsThatCannotBeDoneAreAnswered(t *testing.T) {
	for name, tc := range map[string]struct{ in, kind string }{
		"an unknown operation":     {`{"id": 7, "op": "sing"}`, kindGarbage},
		"no operation":             {`{"id": 7}`, kindGarbage},
		"a key before the token":   {`{"id": 7, "op": "encrypt", "keyId": "AQ=="}`, kindGarbage},
		"find before the token":    {`{"id": 7, "op": "find"}`, kindGarbage},
		"create before the token":  {`{"id": 7, "op": "create"}`, kindGarbage},
		"decrypt before the token": {`{"id": 7, "op": "decrypt", "keyId": "AQ=="}`, kindGarbage},
		"no id of a key":           {`{"id": 7, "op": "decrypt"}`, kindGarbage},
		"no library":               {`{"id": 7, "op": "open", "module": "/nowhere.so"}`, kindUnavailable},
	} {
		var out bytes.Buffer
		if err := serve(strings.NewReader(tc.in+"\n"), &out); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var a response
		if err := json.Unmarshal(out.Bytes(), &a); err != nil || a.ID != 7 || a.Kind != tc.kind || a.Error == "" {
			t.Errorf("%s: %s, %v, want kind %s", name, &out, err, tc.kind)
		}
	}
}

func TestWhatIsNoRequestEndsTheProgram(t *testing.T) {
	for name, in := range map[string]string{
		"no JSON":      "hello\n",
		"half a line":  `{"id": 1`,
		"a long line":  strings.Repeat("x", maxLine+1) + "\n",
		"wrong base64": `{"id": 1, "pin": "***"}` + "\n",
	} {
		if err := serve(strings.NewReader(in), new(bytes.Buffer)); err == nil || strings.Contains(err.Error(), "***") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := serve(strings.NewReader(""), new(bytes.Buffer)); err != nil {
		t.Errorf("no input: %v", err)
	}
}
