package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func testFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/uki", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kernel is the file system of the machine that testdata was recorded on.
func kernel(t *testing.T) fstest.MapFS {
	t.Helper()
	fsys := fstest.MapFS{
		bootLogPath: {Data: testFile(t, "eventlog.bin")},
		imaPath:     {Data: testFile(t, "ima.bin")},
	}
	var pcrs map[string]map[string]string
	if err := json.Unmarshal(testFile(t, "pcrs.json"), &pcrs); err != nil {
		t.Fatal(err)
	}
	for i, v := range pcrs["sha256"] {
		fsys["sys/class/tpm/tpm0/pcr-sha256/"+i] = &fstest.MapFile{Data: []byte(strings.ToUpper(v) + "\n")}
	}
	return fsys
}

var ukiFiles = Files{
	Quote: "testdata/uki/quote-ecc-sha256.attest", Signature: "testdata/uki/quote-ecc-sha256.sig", AKPublic: "testdata/uki/ak-ecc.tpmt_public",
}

func process(t *testing.T, out, errs *bytes.Buffer) Process {
	t.Helper()
	return Process{Root: kernel(t), Open: os.Open, WriteFile: os.WriteFile, Stdout: out, Stderr: errs}
}

func TestCollectGathersWhatTheQuoteSelects(t *testing.T) {
	b, err := Collect(kernel(t), os.DirFS("."), ukiFiles)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(b.PCRs["sha256"]); got != 15 || b.PCRs["sha256"]["7"] == "" {
		t.Errorf("Collect read %d registers, want the 15 of the quote", got)
	}
	if !bytes.Equal(b.EventLog, testFile(t, "eventlog.bin")) || b.IMALog != nil {
		t.Error("Collect must send the boot log whole, and the IMA list only when asked")
	}
	sized := append(binary.BigEndian.AppendUint16(nil, uint16(len(b.AKPublic))), b.AKPublic...)
	if !bytes.Equal(unwrap(sized), b.AKPublic) || !bytes.Equal(unwrap(b.AKPublic), b.AKPublic) {
		t.Error("a key with and without its TPM2B size must give the same public area")
	}
}

func TestCollectNamesWhatItCannotRead(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(fstest.MapFS, *Files)
		want  string
	}{
		"no quote":           {func(_ fstest.MapFS, f *Files) { f.Quote = "nowhere" }, "read quote"},
		"quote is no quote":  {func(_ fstest.MapFS, f *Files) { f.Quote = f.AKPublic }, "quote"},
		"register missing":   {func(k fstest.MapFS, _ *Files) { delete(k, "sys/class/tpm/tpm0/pcr-sha256/7") }, "read PCR 7 of bank sha256"},
		"register is no hex": {func(k fstest.MapFS, _ *Files) { k["sys/class/tpm/tpm0/pcr-sha256/7"].Data = []byte("zz") }, "PCR 7"},
		"log too long":       {func(k fstest.MapFS, _ *Files) { k[bootLogPath].Data = make([]byte, maxBootLog+1) }, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			k, f := kernel(t), ukiFiles
			tc.spoil(k, &f)
			if _, err := Collect(k, os.DirFS("."), f); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Collect = %v, want an error that names %q", err, tc.want)
			}
		})
	}
}

func TestCollectGoesOnWithoutABootLog(t *testing.T) {
	k := kernel(t)
	delete(k, bootLogPath)
	b, err := Collect(k, os.DirFS("."), ukiFiles)
	if err != nil || b.EventLog != nil {
		t.Errorf("Collect = %v, %v, want a bundle without a log", b, err)
	}
}

// service answers as the attestation service does.
func service(t *testing.T, verdict string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/challenges", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer assay_secret" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"title":"Unauthorized","code":"access.unauthenticated","detail":"show a token"}`)
			return
		}
		fmt.Fprintf(w, `{"challenge":"opaque","nonce":%q,"expires":"2026-11-22T12:05:00Z"}`, base64.StdEncoding.EncodeToString([]byte("nonce")))
	})
	mux.HandleFunc("POST /v1/attest", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Challenge string `json:"challenge"`
			Policy    string `json:"policy"`
			Evidence  Bundle `json:"evidence"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Challenge != "opaque" || body.Policy != "strict" || len(body.Evidence.PCRs["sha256"]) != 15 {
			t.Errorf("attest was sent %+v, %v", body, err)
		}
		fmt.Fprintf(w, `{"id":"1","verdict":%q,"reasons":[{"code":"quote.nonce-mismatch","message":"stale"}],"token":"t"}`, verdict)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestAgentAnswersAChallenge(t *testing.T) {
	for verdict, status := range map[string]int{"trusted": 0, "refused": 1} {
		t.Run(verdict, func(t *testing.T) {
			s, dir := service(t, verdict), t.TempDir()
			tokenFile, nonceFile, challengeFile := filepath.Join(dir, "token"), filepath.Join(dir, "nonce"), filepath.Join(dir, "challenge.json")
			if err := os.WriteFile(tokenFile, []byte("assay_secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			p := process(t, &out, &errs)
			if got := Main(context.Background(), p, []string{"challenge", "--server", s.URL, "--token-file", tokenFile, "--policy", "strict", "--nonce-file", nonceFile}); got != 0 {
				t.Fatalf("challenge: status %d, %s", got, errs.String())
			}
			if nonce, err := os.ReadFile(nonceFile); err != nil || string(nonce) != "nonce" {
				t.Errorf("nonce file = %q, %v", nonce, err)
			}
			if err := os.WriteFile(challengeFile, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			out.Reset()
			args := []string{"attest", "--server", s.URL + "/", "--token-file", tokenFile, "--challenge", challengeFile, "--quote", ukiFiles.Quote, "--signature", ukiFiles.Signature, "--ak", ukiFiles.AKPublic}
			if got := Main(context.Background(), p, args); got != status || !strings.Contains(out.String(), verdict) {
				t.Errorf("attest: status %d, want %d; printed %s%s", got, status, out.String(), errs.String())
			}
		})
	}
}

func TestAgentRepeatsTheServicesReason(t *testing.T) {
	s := service(t, "trusted")
	var out, errs bytes.Buffer
	got := Main(context.Background(), process(t, &out, &errs), []string{"challenge", "--server", s.URL})
	if got != 2 || !strings.Contains(errs.String(), "access.unauthenticated: show a token") {
		t.Errorf("status %d, %q, want 2 and the problem's words", got, errs.String())
	}
}
