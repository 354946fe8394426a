package keyprovider_test

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
	"github.com/assay-project/assay/internal/seal"
)

// TestMain lets this binary stand for assay-pkcs11: with FAKE_PKCS11 it is a program
// that speaks the protocol over keys in a file.
func TestMain(m *testing.M) {
	if keys := os.Getenv("FAKE_PKCS11"); keys != "" {
		fakeToken(keys, os.Getenv("FAKE_FAULT"))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type line struct {
	ID     uint64 `json:"id"`
	Op     string `json:"op,omitempty"`
	PIN    []byte `json:"pin,omitempty"`
	Object string `json:"object,omitempty"`
	KeyID  []byte `json:"keyId,omitempty"`
	IV     []byte `json:"iv,omitempty"`
	AAD    []byte `json:"aad,omitempty"`
	Data   []byte `json:"data,omitempty"`
	Error  string `json:"error,omitempty"`
	Kind   string `json:"kind,omitempty"`
}

const pin = "1234-of-the-test"

// fakeToken answers until its input ends.
func fakeToken(file, fault string) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var r line
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			os.Exit(3)
		}
		out := line{ID: r.ID}
		if r.Op != "open" {
			switch fault {
			case "garbage":
				fmt.Println(`{"id": 1, "id": 2}`)
				continue
			case "endless text":
				for {
					if _, err := os.Stdout.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
						os.Exit(0)
					}
				}
			case "dying":
				fmt.Print(`{"id": 1, "da`)
				os.Exit(1)
			case "not ready":
				out.Error, out.Kind = "C_Encrypt: CKR_TOKEN_NOT_PRESENT", "unavailable"
			case "key is gone":
				out.Error, out.Kind = "no such key", "unknown-key"
			case "another key":
				if r.Op == "decrypt" {
					out.Data = fresh()
				}
			}
		}
		if fault == "refusing" || r.Op == "open" && string(r.PIN) != pin {
			out.Error, out.Kind = "C_Login: CKR_PIN_INCORRECT", "refused"
			tries, _ := os.ReadFile(file + ".tries")
			os.WriteFile(file+".tries", append(tries, 'x'), 0o600) //nolint:errcheck // a test
		}
		if out.Error == "" && out.Data == nil {
			answerToken(file, &r, &out)
		}
		text, _ := json.Marshal(out)
		fmt.Println(string(text))
		if fault == "leaves" && r.Op != "open" {
			os.Exit(0)
		}
	}
}

// answerToken does what is asked; lines of the file are a label, an id and a key.
func answerToken(file string, r, out *line) {
	text, _ := os.ReadFile(file)
	var own []string
	for l := range strings.Lines(string(text)) {
		if f := strings.Fields(l); f[0] == r.Object && (r.KeyID == nil || f[1] == hex.EncodeToString(r.KeyID)) {
			own = f
		}
	}
	switch {
	case r.Op == "open":
		return
	case r.Op == "create":
		out.KeyID = fresh()[:8]
		text = fmt.Appendf(text, "%s %x %x\n", r.Object, out.KeyID, fresh())
		os.WriteFile(file, text, 0o600) //nolint:errcheck // a test
		return
	case own == nil:
		out.Error, out.Kind = "no such key", "unknown-key"
		return
	case r.Op == "find":
		out.KeyID, _ = hex.DecodeString(own[1])
		return
	}
	key, _ := hex.DecodeString(own[2])
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	if r.IV == nil {
		r.IV = make([]byte, 12) // key wrap needs none
	}
	if r.Op == "encrypt" {
		out.Data = aead.Seal(nil, r.IV, r.Data, r.AAD)
		return
	}
	var err error
	if out.Data, err = aead.Open(nil, r.IV, r.Data, r.AAD); err != nil {
		out.Error, out.Kind = "C_Decrypt: CKR_ENCRYPTED_DATA_INVALID", "does-not-open"
	}
}

// script writes a program.
func script(tb testing.TB, text string) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		tb.Fatal(err)
	}
	return name
}

// fakeProgram is this binary as a token with a fault.
func fakeProgram(tb testing.TB, keys string, fault keyprovidertest.Fault) string {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return script(tb, fmt.Sprintf("FAKE_PKCS11='%s' FAKE_FAULT='%s' exec '%s'", keys, fault, self))
}

func TestTokensPassTheSuite(t *testing.T) {
	for _, mechanism := range []string{"gcm", "key-wrap"} {
		t.Run(mechanism, func(t *testing.T) {
			keys := filepath.Join(t.TempDir(), "keys")
			env := environ(map[string]string{"PIN": pin})
			env.PKCS11 = fakeProgram(t, keys, "")
			options := "?module-path=/lib/token.so&pin-env=PIN&mechanism=" + mechanism
			spec := create(t, "pkcs11:token=hsm;object=assay"+options, env)
			other := create(t, "pkcs11:token=hsm;object=other"+options, env)
			faulty := map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened{
				keyprovidertest.Down: func(t testing.TB) *keyprovider.Opened {
					bad := env
					bad.PKCS11 = "/nowhere/assay-pkcs11"
					return opener(spec, bad)(t)
				},
				keyprovidertest.Slow: func(t testing.TB) *keyprovider.Opened {
					bad := env
					bad.PKCS11 = script(t, "exec sleep 1000")
					return opener(spec+"&timeout=300ms", bad)(t)
				},
			}
			for _, f := range []keyprovidertest.Fault{
				keyprovidertest.Garbage, keyprovidertest.TooMuch, keyprovidertest.Dying, keyprovidertest.NotReady,
				keyprovidertest.Refusing, keyprovidertest.Dropped, keyprovidertest.AnotherKey,
			} {
				faulty[f] = func(t testing.TB) *keyprovider.Opened {
					bad := env
					bad.PKCS11 = fakeProgram(t, keys, f)
					return opener(spec, bad)(t)
				}
			}
			keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: spec, Other: other, Faulty: faulty, Secrets: []string{pin}, Slow: mechanism != "gcm"})
		})
	}
}

// A token locks itself after a few wrong PINs: one that was refused is not offered again.
func TestAWrongPINIsOfferedOnce(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	env := environ(map[string]string{"PIN": pin, "WRONG": "0000"})
	env.PKCS11 = fakeProgram(t, keys, "")
	spec := create(t, "pkcs11:token=hsm;object=assay?module-path=/lib/token.so&pin-env=PIN", env)
	p := opener(strings.Replace(spec, "pin-env=PIN", "pin-env=WRONG", 1), env)(t)
	defer p.Close()
	for range 5 {
		if _, err := p.Wrap(t.Context(), seal.Context{}, seal.NewSecret(make([]byte, 32))); !errors.Is(err, keyprovider.ErrRefused) {
			t.Errorf("Wrap = %v", err)
		}
	}
	if tries, err := os.ReadFile(keys + ".tries"); err != nil || len(tries) != 1 {
		t.Errorf("the PIN was offered %d times, %v, want once", len(tries), err)
	}
}

// A program that ended between two requests, as one whose token was pulled, is
// started again without the caller's noticing.
func TestAProgramThatEndedIsStartedAgain(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	env := environ(map[string]string{"PIN": pin})
	env.PKCS11 = fakeProgram(t, keys, "leaves") // after it was opened and asked once
	spec := create(t, "pkcs11:token=hsm;object=assay?module-path=/lib/token.so&pin-env=PIN", env)
	p := opener(spec, env)(t)
	defer p.Close()
	k := seal.NewSecret(bytes.Repeat([]byte{1}, 32))
	for range 3 { // each Wrap asks twice
		w, err := p.Wrap(t.Context(), seal.Context{}, k)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Unwrap(t.Context(), seal.Context{}, w); err != nil || !got.Equal(k) {
			t.Errorf("Unwrap = %v", err)
		}
	}
}

func TestPKCS11SpecsAreReadStrictly(t *testing.T) {
	const module = "module-path=/lib/token.so"
	for spec, want := range map[string]string{
		"pkcs11:object=a?" + module:                                              "which token",
		"pkcs11:token=a?" + module:                                               "which key",
		"pkcs11:token=a;object=b":                                                "module-path",
		"pkcs11:token=a;object=b?module-path=token.so":                           "module-path",
		"pkcs11:token=a;object=b?" + module:                                      "wants the id",
		"pkcs11:token=a;token=b;object=b?" + module:                              "each once",
		"pkcs11:token=a;object=b;type=cert?" + module:                            "secret-key",
		"pkcs11:token=a;object=b;slot-id=1?" + module:                            `"slot-id"`,
		"pkcs11:token=a;object=b?pin-value=hunter2&" + module:                    "does not stand in a spec",
		"pkcs11:token=a;object=b?pin-source=|prog&" + module:                     "file:/PATH",
		"pkcs11:token=a;object=b?pin-source=file:/p&pin-env=A&" + module:         "no other option",
		"pkcs11:token=a;object=b;id=" + strings.Repeat("%01", 25) + "?" + module: "24 bytes",
		"pkcs11:token=a;object=b?mechanism=ecb&" + module:                        "none of gcm, key-wrap",
	} {
		p, err := keyprovider.OpenSpec(t.Context(), spec, environ(nil))
		if err == nil {
			p.Close()
			t.Errorf("OpenSpec(%q) opened", spec)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("OpenSpec(%q) = %v, want %q", spec, err, want)
		}
	}
}

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// startSoftHSM makes a token of SoftHSM and builds assay-pkcs11. Where either cannot be
// had the test is skipped, unless ASSAY_REQUIRE_SOFTHSM is 1.
func startSoftHSM(t *testing.T) (program string) {
	t.Helper()
	missing := func(why error) {
		if os.Getenv("ASSAY_REQUIRE_SOFTHSM") == "1" {
			t.Fatalf("SoftHSM is required: %v", why)
		}
		t.Skipf("no SoftHSM and C compiler (Debian: softhsm2, gcc): %v", why)
	}
	if _, err := os.Stat(softHSM); err != nil {
		missing(err)
	}
	dir := t.TempDir()
	program = filepath.Join(dir, "assay-pkcs11")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "cmd", "assay-pkcs11")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		missing(fmt.Errorf("build assay-pkcs11: %w\n%s", err, out))
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700), os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "assay test", "--so-pin", "4321", "--pin", pin).CombinedOutput(); err != nil {
		t.Fatalf("make token: %v\n%s", err, out)
	}
	return program
}

func TestSoftHSMPassesTheSuite(t *testing.T) {
	env := environ(nil)
	env.PKCS11 = startSoftHSM(t)
	right, wrong := private(t, pin+"\n"), private(t, "0000")
	options := "?module-path=" + softHSM + "&pin-source=file:" + right
	for _, mechanism := range []string{"gcm", "key-wrap"} {
		t.Run(mechanism, func(t *testing.T) {
			at := "pkcs11:token=assay%20test;object=assay-" + mechanism
			spec := create(t, at+options+"&mechanism="+mechanism, env)
			other := create(t, at+"-other"+options+"&mechanism="+mechanism, env)
			keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: spec, Other: other, Secrets: []string{pin}, Faulty: map[keyprovidertest.Fault]func(testing.TB) *keyprovider.Opened{
				keyprovidertest.Down:     opener(strings.Replace(spec, "assay%20test", "pulled", 1), env),
				keyprovidertest.Refusing: opener(strings.Replace(spec, right, wrong, 1), env),
			}})
			found, err := keyprovider.Find(t.Context(), parseSpec(t, at+"-other"+options+"&mechanism="+mechanism), env)
			if err != nil || found.String() != other {
				t.Errorf("Find = %s, %v, want %s", found, err, other)
			}
		})
	}
}
