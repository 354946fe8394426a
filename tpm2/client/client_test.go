package client_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/tpm2/tpmtest"
)

func getRandom(t *testing.T, tpm *client.TPM, uses ...client.Use) ([]byte, error) {
	t.Helper()
	var out command.GetRandomOut
	_, err := tpm.Run(&client.Command{Code: tpm2.CCGetRandom, Uses: uses, In: &command.GetRandomIn{BytesRequested: 24}, Out: &out})
	return out.RandomBytes, err
}

// sessionConfigs are the ways of making a session that need no object.
var sessionConfigs = map[string]client.SessionConfig{
	"HMAC":          {},
	"SHA-384":       {Hash: tpm2.AlgSHA384, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgAES, KeyBits: 256, Mode: tpm2.AlgCFB}},
	"XOR":           {Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgXOR, Hash: tpm2.AlgSHA256}},
	"bound":         {Bind: &client.Entity{Handle: tpm2.HandleOwner}},
	"policy":        {Type: tpm2.SessionPolicy},
	"policy, bound": {Type: tpm2.SessionPolicy, Bind: &client.Entity{Handle: tpm2.HandleOwner}},
}

func TestSessionsEncryptAndVouchForAsLongAsTheyLive(t *testing.T) {
	for name, cfg := range sessionConfigs {
		t.Run(name, func(t *testing.T) {
			wire := &tap{Transport: tpmtest.Open(t)}
			tpm := client.New(wire, rand.Reader)
			s, err := tpm.StartSession(cfg)
			if err != nil {
				t.Fatal(err)
			}
			use := client.Use{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionEncrypt}
			for i := range 3 {
				got, err := getRandom(t, tpm, use)
				if err != nil || len(got) != 24 {
					t.Fatalf("command %d: %x, %v", i, got, err)
				}
				if bytes.Contains(wire.response, got) {
					t.Errorf("command %d: %x crossed the wire in the clear", i, got)
				}
			}
			if err := tpm.Flush(s.Handle()); err != nil && !errors.Is(err, tpm2.RCCommandCode) {
				t.Errorf("Flush = %v", err)
			}
		})
	}
}

// tap keeps the last response, and changes it on request.
type tap struct {
	client.Transport
	response []byte
	change   func([]byte) []byte
}

func (w *tap) Send(c []byte) ([]byte, error) {
	b, err := w.Transport.Send(c)
	if w.change != nil {
		b = w.change(b)
	}
	w.response = append([]byte(nil), b...)
	return b, err
}

func TestAResponseThatWasChangedIsRefused(t *testing.T) {
	for name, cfg := range sessionConfigs {
		if !strings.Contains(name, "HMAC") && !strings.Contains(name, "bound") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			wire := &tap{Transport: tpmtest.Open(t)}
			tpm := client.New(wire, rand.Reader)
			for at := 10; ; at++ {
				wire.change = nil
				s, err := tpm.StartSession(cfg)
				if err != nil {
					t.Fatal(err)
				}
				length := 0
				wire.change = func(b []byte) []byte {
					if length = len(b); at < length {
						b[at] ^= 0x10
					}
					return b
				}
				// Without SessionContinue the TPM flushes the session each time.
				got, err := getRandom(t, tpm, client.Use{Session: s, Attributes: tpm2.SessionAudit})
				if at >= length {
					break
				}
				if !errors.Is(err, client.ErrHMAC) && !errors.Is(err, client.ErrResponse) {
					t.Errorf("byte %d changed: %v", at, err)
				}
				if got != nil {
					t.Errorf("byte %d changed: the result %x was used", at, got)
				}
			}
		})
	}
}

func TestAResponseThatIsNoneIsRefused(t *testing.T) {
	good := "\x80\x01\x00\x00\x00\x12\x00\x00\x00\x00\x00\x06abcdef"
	for name, tc := range map[string]struct {
		response string
		want     error
	}{
		"empty":         {"", client.ErrResponse},
		"header cut":    {good[:9], client.ErrResponse},
		"shorter":       {good[:17], client.ErrResponse},
		"longer":        {good + "g", client.ErrResponse},
		"wrong tag":     {"\x80\x02" + good[2:], client.ErrResponse},
		"inner size":    {good[:11] + "\x05" + good[12:], client.ErrResponse},
		"a refusal":     {"\x80\x01\x00\x00\x00\x0a\x00\x00\x09\x22", tpm2.RCRetry},
		"too long":      {"\x80\x01\x00\x01\x00\x00\x00\x00\x00\x00" + strings.Repeat("a", 65526), client.ErrResponse},
		"as it must be": {good, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := getRandom(t, client.New(answer(tc.response), rand.Reader))
			if !errors.Is(err, tc.want) {
				t.Errorf("got %x, %v, want %v", got, err, tc.want)
			}
		})
	}
}

// answer answers every command alike.
type answer string

func (a answer) Send([]byte) ([]byte, error) { return []byte(a), nil }

func TestACommandThatDoesNotFitIsNotSent(t *testing.T) {
	owner := client.Entity{Handle: tpm2.HandleOwner}
	for name, c := range map[string]client.Command{
		"unknown code":     {Code: 0x1ff},
		"too few handles":  {Code: tpm2.CCClear},
		"too many handles": {Code: tpm2.CCGetRandom, Handles: []client.Entity{owner}, In: &command.GetRandomIn{}},
		"too many sessions": {
			Code: tpm2.CCGetRandom, In: &command.GetRandomIn{}, Uses: make([]client.Use, 4),
		},
		"a password for nothing": {Code: tpm2.CCGetRandom, In: &command.GetRandomIn{}, Uses: make([]client.Use, 1)},
		"decrypting a number": {
			Code: tpm2.CCGetRandom, In: &command.GetRandomIn{},
			Uses: []client.Use{{Session: new(client.Session), Attributes: tpm2.SessionDecrypt}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := client.New(unreachable{t}, rand.Reader).Run(&c); !errors.Is(err, client.ErrCommand) {
				t.Errorf("Run = %v, want %v", err, client.ErrCommand)
			}
		})
	}
}

type unreachable struct{ t *testing.T }

func (u unreachable) Send(c []byte) ([]byte, error) {
	u.t.Errorf("%x was sent", c)
	return nil, io.ErrClosedPipe
}

func TestATransportsErrorIsTheCallers(t *testing.T) {
	if _, err := getRandom(t, client.New(broken{}, rand.Reader)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Run = %v", err)
	}
	if _, err := client.New(broken{}, strings.NewReader("")).StartSession(client.SessionConfig{}); !errors.Is(err, io.EOF) {
		t.Errorf("StartSession without randomness = %v", err)
	}
}

type broken struct{}

func (broken) Send([]byte) ([]byte, error) { return nil, io.ErrClosedPipe }

func TestStartupTwiceIsNoError(t *testing.T) {
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Manufacture(p, engine.Config{Random: rand.Reader, Now: func() time.Duration { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	e.PowerOn()
	tpm := client.New(client.InProcess(e, 0), rand.Reader)
	for range 2 {
		if err := tpm.Startup(tpm2.StartupClear); err != nil {
			t.Errorf("Startup = %v", err)
		}
	}
	if err := tpm.Shutdown(tpm2.StartupClear); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if err := tpm.Startup(9); err == nil || errors.As(err, new(tpm2.RC)) {
		t.Errorf("Startup(9) = %v, want an error of the layout", err)
	}
}

const command10 = "\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x81"

func TestStreamsCarryCommandsAsTheyAre(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   error
	}{
		"a response":   {"\x80\x01\x00\x00\x00\x0c\x00\x00\x00\x00ab", nil},
		"short size":   {"\x80\x01\x00\x00\x00\x09\x00\x00\x00\x00", client.ErrTransport},
		"long size":    {"\x80\x01\x00\x00\x20\x01\x00\x00\x00\x00", client.ErrTransport},
		"header cut":   {"\x80\x01\x00\x00", io.ErrUnexpectedEOF},
		"response cut": {"\x80\x01\x00\x00\x00\x0c\x00\x00\x00\x00a", io.ErrUnexpectedEOF},
		"nothing":      {"", io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c := &conn{in: strings.NewReader(tc.answer)}
			got, err := client.NewStream(c).Send([]byte(command10))
			if !errors.Is(err, tc.want) || err == nil && string(got) != tc.answer {
				t.Errorf("Send = %x, %v, want %v", got, err, tc.want)
			}
			if c.out.String() != command10 {
				t.Errorf("sent %x", c.out.Bytes())
			}
		})
	}
}

type conn struct {
	in  io.Reader
	out bytes.Buffer
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.Write(b) }

func TestTheSimulatorProtocolFramesCommands(t *testing.T) {
	response := "\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00"
	for name, tc := range map[string]struct {
		answer string
		want   error
	}{
		"a response":   {"\x00\x00\x00\x0a" + response + "\x00\x00\x00\x00", nil},
		"no power":     {"\x00\x00\x00\x00" + "\x00\x00\x00\x00", client.ErrTransport},
		"no end":       {"\x00\x00\x00\x0a" + response + "\x00\x00\x00\x01", client.ErrTransport},
		"too long":     {"\x00\x00\x20\x01", client.ErrTransport},
		"response cut": {"\x00\x00\x00\x0a" + response, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			c := &conn{in: strings.NewReader(tc.answer)}
			got, err := client.NewSimulator(c, 3).Send([]byte(command10))
			if !errors.Is(err, tc.want) || err == nil && string(got) != response {
				t.Errorf("Send = %x, %v, want %v", got, err, tc.want)
			}
			if want := "\x00\x00\x00\x08\x03\x00\x00\x00\x0a" + command10; c.out.String() != want {
				t.Errorf("sent %x, want %x", c.out.Bytes(), want)
			}
		})
	}
}

func TestADeviceIsAFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tpm")
	if _, err := client.Open(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open = %v", err)
	}
	if err := os.WriteFile(name, []byte(command10+"response"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := client.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Send([]byte(command10)); err != nil || string(got) != "response" {
		t.Errorf("Send = %q, %v", got, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("\x80\x01\x00\x00\x00\x12\x00\x00\x00\x00\x00\x06abcdef"), uint32(tpm2.CCGetRandom))
	for _, info := range command.All() {
		f.Add(binary.BigEndian.AppendUint32([]byte("\x80\x02\x00\x00\x00\x0e\x00\x00\x00\x00"), uint32(info.Code)), uint32(info.Code))
	}
	f.Fuzz(func(t *testing.T, response []byte, code uint32) {
		info, ok := command.Lookup(tpm2.CC(code))
		if !ok {
			return
		}
		in, out := info.New()
		c := &client.Command{Code: info.Code, Handles: make([]client.Entity, len(info.Handles)), In: in, Out: out}
		if _, err := client.New(answer(response), rand.Reader).Run(c); err == nil && len(response) < 10 {
			t.Errorf("%x was taken for a response", response)
		}
	})
}
