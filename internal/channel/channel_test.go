package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const bootID = "01234567-89ab-cdef-0123-456789abcdef"

// samples are one message of each type, as it may be.
func samples() []Message {
	nonce := bytes.Repeat([]byte{7}, 32)
	return []Message{
		new(Greet),
		&Enrol{Head{ID: 1}},
		&Activate{Head{ID: 2}, "L-2", nonce, nonce},
		&Challenge{Head{ID: 3}, nonce, 4096},
		&PowerOff{Head{ID: 4}},
		&Hello{Head{}, "1.2.3 go1.26", bootID},
		&Key{Head{ID: 1}, nonce},
		&Secret{Head{ID: 2}, nonce},
		&Evidence{Head{ID: 3}, json.RawMessage(`{"type":"tpm"}`), true},
		&Heartbeat{Head{}, bootID, []Module{{"evil", true, "no key", "modprobe", "audit"}}, &Kernel{4096, "integrity", "Y"}},
		&Failure{Head{ID: 3}, "there is no TPM"},
	}
}

// sideOf is who says m.
func sideOf(m Message) Side { side, _ := m.about(); return side }

type pipe struct {
	io.Reader
	bytes.Buffer
}

func (p *pipe) Read(b []byte) (int, error) { return p.Reader.Read(b) }

func connFrom(side Side, text string) *Conn {
	p := &pipe{Reader: strings.NewReader(text)}
	if side == Host {
		return NewAgent(p)
	}
	return NewHost(p)
}

func TestMessagesComeAsTheyWent(t *testing.T) {
	for _, m := range samples() {
		line, err := Encode(m)
		if err != nil {
			t.Errorf("Encode(%T) = %v", m, err)
			continue
		}
		r, err := connFrom(sideOf(m), string(line)).Next()
		if err != nil || r.Err != nil || r.Size != len(line) {
			t.Errorf("Next(%s) = %+v, %v", line, r, err)
		}
		if diff := cmp.Diff(m, r.Message); diff != "" {
			t.Errorf("%T (-sent +received)\n%s", m, diff)
		}
	}
}

func TestNoPartOfAMessageIsOne(t *testing.T) {
	for _, m := range samples() {
		line, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		body := line[1 : len(line)-1]
		for n := range body {
			if got, err := Parse(body[:n], sideOf(m)); err == nil {
				t.Fatalf("Parse(%s) = %+v", body[:n], got)
			}
		}
		if _, err := Parse(append(slices.Clone(body), '}'), sideOf(m)); !errors.Is(err, ErrMessage) {
			t.Errorf("%T with a byte more: %v", m, err)
		}
		if _, err := Parse(body, 3-sideOf(m)); !errors.Is(err, ErrMessage) {
			t.Errorf("%T from the wrong side: %v", m, err)
		}
	}
}

func TestWhatIsNoMessageIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		side Side
		text string
		want error
	}{
		"no JSON":              {Agent, `hello`, ErrMessage},
		"a list":               {Agent, `[]`, ErrMessage},
		"no version":           {Agent, `{"type":"hello"}`, ErrVersion},
		"another version":      {Agent, `{"v":2,"type":"hello","agent":"a","boot":"` + bootID + `"}`, ErrVersion},
		"version as a text":    {Agent, `{"v":"1","type":"hello","agent":"a","boot":"` + bootID + `"}`, ErrVersion},
		"no type":              {Agent, `{"v":1}`, ErrMessage},
		"type of another kind": {Agent, `{"v":1,"type":7}`, ErrMessage},
		"unknown type":         {Agent, `{"v":1,"type":"boo"}`, ErrMessage},
		"unknown member":       {Host, `{"v":1,"type":"greet","x":1}`, ErrMessage},
		"member twice":         {Host, `{"v":1,"type":"greet","type":"enrol","id":1}`, ErrMessage},
		"member twice by case": {Host, `{"v":1,"type":"challenge","id":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","Nonce":"BBBBBBBBBBBBBBBBBBBBBA==","limit":9}`, ErrMessage},
		"no id":                {Host, `{"v":1,"type":"enrol"}`, ErrMessage},
		"an id too many":       {Host, `{"v":1,"type":"greet","id":1}`, ErrMessage},
		"negative id":          {Host, `{"v":1,"type":"enrol","id":-1}`, ErrMessage},
		"short nonce":          {Host, `{"v":1,"type":"challenge","id":1,"nonce":"AAAA","limit":9}`, ErrMessage},
		"long nonce":           {Host, `{"v":1,"type":"challenge","id":1,"nonce":"` + strings.Repeat("A", 88) + `","limit":9}`, ErrMessage},
		"no limit":             {Host, `{"v":1,"type":"challenge","id":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}`, ErrMessage},
		"a limit too high":     {Host, `{"v":1,"type":"challenge","id":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","limit":999999999}`, ErrMessage},
		"empty secret":         {Agent, `{"v":1,"type":"secret","id":1}`, ErrMessage},
		"boot is no UUID":      {Agent, `{"v":1,"type":"hello","agent":"a","boot":"x"}`, ErrMessage},
		"words with escapes":   {Agent, `{"v":1,"type":"failure","id":1,"message":"a\u001b[2Jb"}`, ErrMessage},
		"long words":           {Agent, `{"v":1,"type":"failure","id":1,"message":"` + strings.Repeat("a", MaxText+1) + `"}`, ErrMessage},
		"bundle is a text":     {Agent, `{"v":1,"type":"evidence","id":1,"bundle":"x"}`, ErrMessage},
		"no bundle":            {Agent, `{"v":1,"type":"evidence","id":1}`, ErrMessage},
		"deep bundle":          {Agent, `{"v":1,"type":"evidence","id":1,"bundle":{"a":{"b":{"c":{"d":{"e":{}}}}}}}`, ErrMessage},
		"a module's escapes":   {Agent, `{"v":1,"type":"heartbeat","boot":"` + bootID + `","modules":[{"name":"\n","loaded":true,"reason":"","source":""}]}`, ErrMessage},
		"many modules":         {Agent, `{"v":1,"type":"heartbeat","boot":"` + bootID + `","modules":[` + strings.Repeat(`{"loaded":true,"reason":"","source":""},`, MaxModules) + `{"loaded":true,"reason":"","source":""}]}`, ErrMessage},
		"the kernel's escapes": {Agent, `{"v":1,"type":"heartbeat","boot":"` + bootID + `","kernel":{"tainted":0,"lockdown":"\u0007"}}`, ErrMessage},
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := Parse([]byte(tc.text), tc.side); !errors.Is(err, tc.want) || m != nil {
				t.Errorf("Parse = %+v, %v, want %v", m, err, tc.want)
			}
		})
	}
}

func TestReadingGoesOnAfterGarbage(t *testing.T) {
	good, err := Encode(&Enrol{Head{ID: 9}})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		before string
		want   error
	}{
		"a line of garbage":         {"\x00\xff garbage\n", ErrMessage},
		"the end of a cut message":  {`ce":"AAAA"}` + "\n", ErrMessage},
		"a cut message, no line":    {"\x1e" + `{"v":1,"type":"chal`, nil},
		"a line that is too long":   {strings.Repeat("a", MaxRequest+1) + "\n", ErrLong},
		"long, and cut":             {strings.Repeat("a", MaxRequest+1), ErrLong},
		"an empty line":             {"\n", ErrMessage},
		"a message without a mark":  {`{"v":1,"type":"greet"}` + "\n", nil},
		"a console's line feed too": {"\r\n", ErrMessage},
	} {
		t.Run(name, func(t *testing.T) {
			c := connFrom(Host, tc.before+string(good)+string(good))
			var errs []error
			var last Message
			for {
				r, err := c.Next()
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("Next = %v", err)
					}
					break
				}
				if r.Err != nil {
					errs = append(errs, r.Err)
				}
				last = r.Message
			}
			if e, ok := last.(*Enrol); !ok || e.ID != 9 {
				t.Errorf("the last message is %+v", last)
			}
			if tc.want == nil && len(errs) != 0 || tc.want != nil && (len(errs) != 1 || !errors.Is(errs[0], tc.want)) {
				t.Errorf("found wrong: %v, want %v", errs, tc.want)
			}
		})
	}
}

func TestWhatTheOtherSideWouldRefuseIsNotSent(t *testing.T) {
	for name, m := range map[string]Message{
		"no id":          new(Enrol),
		"short nonce":    &Challenge{Head{ID: 1}, nil, 1},
		"bundle is none": &Evidence{Head: Head{ID: 1}},
		"long evidence":  &Evidence{Head: Head{ID: 1}, Bundle: json.RawMessage(`{"a":"` + strings.Repeat("a", MaxEvidence) + `"}`)},
	} {
		var out bytes.Buffer
		c := NewHost(struct {
			io.Reader
			io.Writer
		}{nil, &out})
		if err := c.Write(m); err == nil || out.Len() > 0 {
			t.Errorf("%s: Write = %v, and %d bytes were sent", name, err, out.Len())
		}
	}
}

func TestCleanIsWhatTextAllows(t *testing.T) {
	for _, s := range []string{"", "plain", "a\x1b[31mb", "höhe", strings.Repeat("ä", 300), "\xff\xfe", strings.Repeat("x", 1000)} {
		if got := Clean(s, 40); text("it", got, 40) != nil {
			t.Errorf("Clean(%q) = %q, which is refused", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		line, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line[1:len(line)-1], sideOf(m) == Host)
	}
	f.Fuzz(func(t *testing.T, in []byte, host bool) {
		side := Agent
		if host {
			side = Host
		}
		m, err := Parse(in, side)
		if err != nil {
			return
		}
		line, err := Encode(m)
		if err != nil {
			t.Fatalf("Parse takes %q, and Encode refuses it: %v", in, err)
		}
		again, err := Parse(line[1:len(line)-1], side)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(*Evidence); ok {
			return // its bundle may be spaced otherwise
		}
		if diff := cmp.Diff(m, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q is not the same again\n%s", in, diff)
		}
	})
}

// FuzzConn has both ends read the same bytes: they never fail but at their end, and
// find the message that stands on a line of its own at the end.
func FuzzConn(f *testing.F) {
	f.Add([]byte("\x1e{\"v\":1,\"type\":\"greet\"}\n"), true)
	f.Add([]byte("\x1e{\"v\":1,\x1e\x00\n\n"), false)
	f.Fuzz(func(t *testing.T, in []byte, host bool) {
		side, last := Agent, Message(&Hello{Agent: "a", Boot: bootID})
		if host {
			side, last = Host, new(Greet)
		}
		line, err := Encode(last)
		if err != nil {
			t.Fatal(err)
		}
		c := connFrom(side, string(in)+"\n"+string(line))
		var got Message
		for {
			r, err := c.Next()
			if err != nil {
				break
			}
			if (r.Message == nil) == (r.Err == nil) {
				t.Fatalf("Next = %+v", r)
			}
			got = r.Message
		}
		if diff := cmp.Diff(last, got); diff != "" {
			t.Errorf("after %q\n%s", in, diff)
		}
	})
}
