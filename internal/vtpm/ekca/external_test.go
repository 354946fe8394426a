package ekca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// actEnv makes the test binary an issuing or signing program, which misbehaves as
// its value says.
const actEnv = "EKCA_TEST_ACT"

func TestMain(m *testing.M) {
	if act := os.Getenv(actEnv); act != "" {
		os.Exit(play(act))
	}
	os.Exit(m.Run())
}

// play is the program.
func play(act string) int {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 3
	}
	switch act {
	case "fail":
		fmt.Fprintln(os.Stderr, "the paper is out")
		return 1
	case "garbage":
		fmt.Println("hello")
	case "flood":
		for range maxAnswer / 1024 {
			fmt.Print(strings.Repeat("x", 1025))
		}
	case "echo":
		os.Stdout.Write(in)
	case "hex":
		b, err := hex.DecodeString(os.Getenv(actEnv + "_SAY"))
		if err != nil {
			return 3
		}
		os.Stdout.Write(b)
	case "hang":
		select {}
	default:
		fmt.Print(os.Getenv(actEnv + "_SAY"))
	}
	return 0
}

// program is a command line that runs this binary as a program.
func program(t *testing.T, act, say string) []string {
	t.Helper()
	t.Setenv(actEnv, act)
	t.Setenv(actEnv+"_SAY", say)
	return []string{os.Args[0]}
}

func TestExternalIssuerCertifies(t *testing.T) {
	site := newSite(t)
	tpm := newEngine(t)
	// What the program would be given, and what it answers.
	template, _ := Template(P256)
	public, err := tpm.EndorsementKey(template)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := public.Key()
	leaf := site.endorse(t, key)
	answer, err := json.Marshal(map[string]any{
		"certificates": map[string]string{"p256": string(encodePEM(leaf.Raw))},
		"chain":        []string{string(encodePEM(site.issuing.cert.Raw)), string(encodePEM(site.middle.cert.Raw))},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := mustManufacture(t, tpm, &External{program(t, "say", string(answer))}, Options{Keys: []Kind{RSA2048, P256}})
	if got.Keys[0].Certificate != nil || !bytes.Equal(got.Keys[1].Certificate, leaf.Raw) || len(got.Chain) != 2 {
		t.Errorf("%d chain, %x", len(got.Chain), got.Keys[0].Certificate)
	}
	m := restart(t, tpm)
	if in, err := m.readIndex(0x01c0000a); err != nil || !bytes.Equal(in, leaf.Raw) {
		t.Errorf("index: %d bytes, %v", len(in), err)
	}
}

// endorse certifies an endorsement key.
func (s *site) endorse(t *testing.T, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	c := endorsementTemplate(&Batch{Device: Device{Manufacturer: "id:58595A20", Model: "m", Version: "id:00000001", Family: "2.0"}}, &BatchKey{Kind: P256}, key)
	c.SerialNumber, c.NotBefore = big.NewInt(5), noon
	der, err := x509.CreateCertificate(rand.Reader, c, s.issuing.cert, key, s.issuing.key)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, der)
}

func TestExternalIssuerIsGivenTheKeys(t *testing.T) {
	b := &Batch{TPM: testTPM, CommonName: "web-1", Device: Device{Model: "m"}, Platform: testPlatform()}
	k := mustManufacture(t, newEngine(t), None{}, Options{Keys: []Kind{P256}}).Keys[0]
	b.Keys = []BatchKey{{P256, k.Public}}
	_, err := (&External{program(t, "echo", "")}).Issue(context.Background(), b)
	if err == nil || !strings.Contains(err.Error(), "version") && !strings.Contains(err.Error(), "unknown") {
		t.Errorf("its question is no answer: %v", err)
	}
	q, err := externalKeyOf(&b.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(q.PublicKey))
	spki, err := x509.ParsePKIXPublicKey(block.Bytes)
	want, _ := k.Public.Key()
	if err != nil || !sameKey(spki, want) {
		t.Errorf("key %v, %v", spki, err)
	}
}

func TestExternalIssuerIsNotBelieved(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	other := mustManufacture(t, newEngine(t), ca, Options{Keys: []Kind{P256}}).Keys[0].Certificate
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	certs := func(kind, pem string) string {
		return text(map[string]any{"certificates": map[string]string{kind: pem}})
	}
	for name, tc := range map[string]struct{ act, say, says string }{
		"fails":                    {"fail", "", "the paper is out"},
		"garbage":                  {"garbage", "", "answer of"},
		"too much":                 {"flood", "", "more than"},
		"another key's":            {"say", certs("p256", string(encodePEM(other))), "another key"},
		"no certificate":           {"say", certs("p256", "x"), "PEM"},
		"a key that was not asked": {"say", certs("p384", string(encodePEM(other))), "not asked"},
		"two in one":               {"say", certs("p256", strings.Repeat(string(encodePEM(other)), 2)), "one PEM block"},
		"a chain of words":         {"say", text(map[string]any{"chain": []string{"x"}}), "chain"},
		"a chain of no authority":  {"say", text(map[string]any{"chain": []string{string(encodePEM([]byte{1}))}}), "chain"},
		"a platform of words":      {"say", text(map[string]any{"platformCertificate": "x"}), "PEM"},
		"an unknown member":        {"say", `{"certs":{}}`, "unknown"},
		"a member twice":           {"say", `{"chain":[],"chain":[]}`, "answer of"},
	} {
		t.Run(name, func(t *testing.T) {
			issuer := &External{program(t, tc.act, tc.say)}
			_, err := Manufacture(context.Background(), transport(newEngine(t)), issuer, Options{Keys: []Kind{P256}, Random: rand.Reader})
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Manufacture = %v, want %q", err, tc.says)
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := (&External{program(t, "hang", "")}).Issue(ctx, &Batch{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that hangs: %v", err)
	}
	for _, command := range [][]string{nil, {""}, {"/nonexistent/issuer"}} {
		if _, err := (&External{command}).Issue(context.Background(), &Batch{}); err == nil {
			t.Errorf("command %q issues", command)
		}
	}
}

func TestSigningProgramIsNotBelieved(t *testing.T) {
	f := newForeign(t, "Site", nil, noon, noon.AddDate(1, 0, 0))
	digest := sha256.Sum256([]byte("x"))
	other := sha256.Sum256([]byte("y"))
	sig, err := f.key.Sign(rand.Reader, other[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ act, say string }{
		"fails": {"fail", ""}, "garbage": {"garbage", ""}, "another text's": {"hex", hex.EncodeToString(sig)}, "nothing": {"say", ""},
	} {
		s := &ProgramSigner{program(t, tc.act, tc.say), f.cert.PublicKey}
		if got, err := s.Sign(nil, digest[:], crypto.SHA256); err == nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func TestProgramIsKeptInTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if p, err := ReadProgram(dir); p != nil || err != nil {
		t.Errorf("without a folder: %v, %v", p, err)
	}
	if err := WriteProgram(dir, []string{"issuer"}); err == nil {
		t.Error("a relative path is kept")
	}
	if err := WriteProgram(dir, []string{"/usr/bin/issuer", "-x"}); err != nil {
		t.Fatal(err)
	}
	if p, err := ReadProgram(dir); err != nil || len(p.Command) != 2 || p.Command[1] != "-x" {
		t.Errorf("%v, %v", p, err)
	}
	if err := WriteProgram(dir, []string{"/usr/bin/other"}); err == nil {
		t.Error("it is replaced")
	}
	for _, text := range []string{"x", `{"version":2,"command":["/x"]}`, `{"version":1,"command":[]}`, `{"version":1,"command":["/x"],"more":1}`} {
		if err := os.WriteFile(filepath.Join(dir, programFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadProgram(dir); !errors.Is(err, ErrAuthority) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"certificates":{"p256":"x"},"chain":["y"],"platformCertificate":"z"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := parseAnswer(in)
		if err != nil {
			return
		}
		if c, err := a.certificates(&Batch{}); err == nil && len(c.Keys) != 0 {
			t.Errorf("%d certificates for no keys", len(c.Keys))
		}
	})
}
