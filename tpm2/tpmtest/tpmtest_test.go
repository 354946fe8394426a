package tpmtest_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/assay-project/assay/tpm2/tpmtest"
)

// What go-tpm and go-tpm-tools take.
var (
	_ transport.TPMCloser = (*tpmtest.TPM)(nil)
	_ io.ReadWriteCloser  = (*tpmtest.TPM)(nil)
)

func random(t *testing.T, tpm transport.TPM, n uint16) []byte {
	t.Helper()
	r, err := gotpm.GetRandom{BytesRequested: n}.Execute(tpm)
	if err != nil {
		t.Fatalf("GetRandom: %v", err)
	}
	return r.RandomBytes.Buffer
}

func TestManyTPMsRunInParallel(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			tpm := tpmtest.Open(t)
			if a, b := random(t, tpm, 32), random(t, tpm, 32); bytes.Equal(a, b) {
				t.Errorf("two random numbers are both %x", a)
			}
		})
	}
}

func TestASeedMakesTheSameTPM(t *testing.T) {
	cfg := tpmtest.Config{Seed: []byte("seed"), Now: func() time.Duration { return 0 }}
	a, b := tpmtest.OpenConfig(t, cfg), tpmtest.OpenConfig(t, cfg)
	cfg.Seed = []byte("other")
	c := tpmtest.OpenConfig(t, cfg)
	if x, y := random(t, a, 32), random(t, b, 32); !bytes.Equal(x, y) {
		t.Errorf("the same seed gives %x and %x", x, y)
	}
	if x, z := random(t, a, 32), random(t, c, 32); bytes.Equal(x, z) {
		t.Errorf("another seed gives %x too", x)
	}
}

const getRandom4 = "80010000000c0000017b0004"

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCommandsAndResponsesMayComeInParts(t *testing.T) {
	tpm := tpmtest.Open(t)
	for _, b := range unhex(t, getRandom4) {
		if _, err := tpm.Read(make([]byte, 1)); !errors.Is(err, tpmtest.ErrNoResponse) {
			t.Fatalf("Read before the command is whole: %v", err)
		}
		if n, err := tpm.Write([]byte{b}); n != 1 || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	var got []byte
	for part := make([]byte, 3); ; {
		n, err := tpm.Read(part)
		if err != nil {
			break
		}
		got = append(got, part[:n]...)
	}
	if want := "80010000001000000000" + "0004"; len(got) != 16 || !strings.HasPrefix(hex.EncodeToString(got), want) {
		t.Errorf("response is %x, want %s and four bytes", got, want)
	}
}

func TestACommandThatNeverEndsIsRefused(t *testing.T) {
	tpm := tpmtest.Open(t)
	if _, err := tpm.Write(unhex(t, "8001ffffffff")); err != nil {
		t.Fatal(err)
	}
	if n, err := tpm.Write(make([]byte, 16<<10)); err == nil {
		t.Errorf("Write = %d, nil", n)
	}
}

func TestAClosedTPMSaysSo(t *testing.T) {
	tpm, err := tpmtest.New(tpmtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tpm.Close(); err != nil {
		t.Fatal(err)
	}
	_, send := tpm.Send(unhex(t, getRandom4))
	_, write := tpm.Write(unhex(t, getRandom4))
	_, read := tpm.Read(make([]byte, 1))
	for what, err := range map[string]error{"Send": send, "Write": write, "Read": read, "Reset": tpm.Reset(), "Close": tpm.Close()} {
		if !errors.Is(err, tpmtest.ErrClosed) {
			t.Errorf("%s on a closed TPM: %v", what, err)
		}
	}
}

func TestAnUnknownProfileIsAnError(t *testing.T) {
	if _, err := tpmtest.New(tpmtest.Config{Profile: "none"}); err == nil {
		t.Error("a TPM of an unknown profile was made")
	}
}

func TestStartupIsTheTestsWhenItAsks(t *testing.T) {
	const initialize = "80010000000a00000100" // TPM_RC_INITIALIZE
	tpm := tpmtest.OpenConfig(t, tpmtest.Config{NotStarted: true})
	if got, err := tpm.Send(unhex(t, getRandom4)); err != nil || hex.EncodeToString(got) != initialize {
		t.Errorf("before TPM2_Startup: %x, %v", got, err)
	}
	started := tpmtest.Open(t)
	if err := started.Reset(); err != nil {
		t.Fatal(err)
	}
	random(t, started, 8)
	started.PowerCycle()
	if got, err := started.Send(unhex(t, getRandom4)); err != nil || hex.EncodeToString(got) != initialize {
		t.Errorf("after a power cycle: %x, %v", got, err)
	}
}

func TestARecordedConversationPlaysAgain(t *testing.T) {
	cfg := tpmtest.Config{Seed: []byte("seed"), Now: func() time.Duration { return 0 }}
	var text bytes.Buffer
	r := tpmtest.NewRecorder(tpmtest.OpenConfig(t, cfg), &text)
	want := random(t, r, 16)
	random(t, r, 8)
	recording := text.String()

	replay, err := tpmtest.NewReplay(strings.NewReader("# two commands\n\n" + recording))
	if err != nil {
		t.Fatal(err)
	}
	if err := replay.Check(tpmtest.OpenConfig(t, cfg)); err != nil {
		t.Errorf("a TPM of the same seed: %v", err)
	}
	if err := replay.Check(tpmtest.Open(t)); !errors.Is(err, tpmtest.ErrReplay) {
		t.Errorf("another TPM: %v, want %v", err, tpmtest.ErrReplay)
	}
	if got := random(t, replay, 16); !bytes.Equal(got, want) || replay.Rest() != 1 {
		t.Errorf("replay gives %x with %d commands left, want %x with 1", got, replay.Rest(), want)
	}
	if _, err := replay.Send(unhex(t, getRandom4)); !errors.Is(err, tpmtest.ErrReplay) {
		t.Errorf("another command: %v, want %v", err, tpmtest.ErrReplay)
	}
	random(t, replay, 8)
	if _, err := replay.Send(unhex(t, getRandom4)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want EOF", err)
	}
}

func TestARecordingThatIsNoneIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"response first":   "< 00\n",
		"two commands":     "> 00\n> 01\n",
		"no response":      "> 00\n",
		"empty command":    "> \n< 00\n",
		"no hexadecimal":   "> xyz\n< 00\n",
		"unknown mark":     "= 00\n",
		"line without end": "> " + strings.Repeat("00", 9000) + "\n< 00\n",
	} {
		if _, err := tpmtest.NewReplay(strings.NewReader(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzReplay(f *testing.F) {
	f.Add("> 80\n< 00\n# end\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := tpmtest.NewReplay(strings.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if r.Rest() > 0 {
			if err := r.Check(tpmtest.NewRecorder(fixed{}, &again)); err != nil && !errors.Is(err, tpmtest.ErrReplay) {
				t.Fatal(err)
			}
		}
		if _, err := tpmtest.NewReplay(&again); err != nil {
			t.Errorf("what a recorder wrote is refused: %v", err)
		}
	})
}

// fixed answers everything alike.
type fixed struct{}

func (fixed) Send([]byte) ([]byte, error) { return []byte{1}, nil }
