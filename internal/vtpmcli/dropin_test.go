package vtpmcli

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

// variables is an environment.
type variables map[string]string

func (v variables) get(name string) string { return v[name] }

// ephemeral is the environment of test suites.
func ephemeral() variables { return variables{keyProviderEnv: ephemeralKeys} }

// keyFileEnv is an environment with a key file of its own.
func keyFileEnv(t *testing.T) variables {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys")
	text := "assay-keys 1\nk " + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return variables{keyProviderEnv: "local:" + name, "ASSAY_VTPM_ROOT": t.TempDir()}
}

// runDropIn runs a drop-in until it is ready; its exit status comes from the channel.
func runDropIn(t *testing.T, vars variables, name string, args ...string) (status <-chan int, errs *programtest.Buffer) {
	t.Helper()
	r, w := io.Pipe()
	errs = new(programtest.Buffer)
	env := programtest.Env(w, errs)
	env.Program = "/somewhere/" + name
	env.Getenv = vars.get
	done := make(chan int, 1)
	go func() {
		done <- assay(env, args)
		w.Close()
	}()
	if line, err := bufio.NewReader(r).ReadString('\n'); line != readyLine {
		t.Fatalf("%s says %q, %v, %s", name, line, err, errs)
	}
	return done, errs
}

// dropInOutput runs a drop-in to its end.
func dropInOutput(vars variables, name string, args ...string) (status int, out, errs string) {
	var o, e strings.Builder
	env := programtest.Env(&o, &e)
	env.Program = name
	env.Getenv = vars.get
	status = assay(env, args)
	return status, o.String(), e.String()
}

func TestSWTPMsPlaceIsTaken(t *testing.T) {
	port := twoPorts(t)
	done, errs := runDropIn(t, ephemeral(), "swtpm", "socket", "--tpm2", "--server", fmt.Sprintf("port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1),
		"--log", "fd=2,level=5", "--flags", "not-need-init", "--tpmstate", "dir=/nowhere", "--locality", "allow-set-locality", "--seccomp", "action=none")
	primaryName(t, startedTPM(t, "tcp", loopback(port)), "")
	if status, _, errs := dropInOutput(nil, "swtpm_ioctl", "--tcp", fmt.Sprintf(":%d", port+1), "-s"); status != program.StatusOK {
		t.Errorf("swtpm_ioctl: status %d, %s", status, errs)
	}
	if status := <-done; status != program.StatusOK {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestSWTPMWaitsForInitAndStartsUpAsItIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		flags string
		want  string // answer to GetRandom
	}{
		"waits for CMD_INIT":  {"", "TPM_RC_FAILURE"},
		"waits for Startup":   {"not-need-init", "TPM_RC_INITIALIZE"},
		"has started by then": {"not-need-init,startup-clear", "TPM_RC_SUCCESS"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			data, control := filepath.Join(dir, "d"), filepath.Join(dir, "c")
			args := []string{"socket", "--tpm2", "--server", "type=unixio,path=" + data, "--ctrl", "type=unixio,path=" + control, "-t"}
			if tc.flags != "" {
				args = append(args, "--flags", tc.flags)
			}
			done, errs := runDropIn(t, ephemeral(), "swtpm", args...)
			c, err := net.Dial("unix", data)
			if err != nil {
				t.Fatal(err)
			}
			b, err := client.NewStream(c).Send([]byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08"))
			if err != nil {
				t.Fatal(err)
			}
			if got := tpm2.RC(binary.BigEndian.Uint32(b[6:])).String(); got != tc.want {
				t.Errorf("GetRandom = %s, want %s", got, tc.want)
			}
			c.Close() // and --terminate ends it
			if status := <-done; status != program.StatusOK {
				t.Errorf("status %d, %s", status, errs)
			}
		})
	}
}

func TestSWTPMEndsWithTheClientOfItsControlChannelWhenToldTo(t *testing.T) {
	control := filepath.Join(shortDir(t), "c")
	done, errs := runDropIn(t, ephemeral(), "swtpm", "socket", "--tpm2", "--ctrl", "type=unixio,terminate,mode=0600,path="+control)
	if info, err := os.Stat(control); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("control channel: %v, %v", info, err)
	}
	c, err := net.Dial("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if status := <-done; status != program.StatusOK {
		t.Errorf("status %d, %s", status, errs)
	}
}

func TestDropInsRefuseWhatTheyDoNotDo(t *testing.T) {
	for name, tc := range map[string]struct{ program, args, want string }{
		"simulator, no number":      {"tpm_server", "-port", "a number must follow"},
		"simulator, odd flag":       {"tpm_server", "-x", "no port"},
		"simulator, last port":      {"tpm2-simulator", "65535", "no port"},
		"swtpm, no device":          {"swtpm", "chardev --tpm2", "which device"},
		"swtpm, no such device":     {"swtpm", "chardev --tpm2 --fd 250", "bad file descriptor"},
		"swtpm, proxy of Linux":     {"swtpm", "chardev --tpm2 --vtpm-proxy", "makes no device files"},
		"swtpm, device and port":    {"swtpm", "chardev --tpm2 --fd 250 -p 1", "go with swtpm socket"},
		"swtpm, cuse":               {"swtpm", "cuse --tpm2", "Unsupported TPM interface"},
		"swtpm, nothing":            {"swtpm", "", "socket"},
		"swtpm, TPM 1.2":            {"swtpm", "socket -p 1", "--tpm2"},
		"swtpm, no channel":         {"swtpm", "socket --tpm2", "--server"},
		"swtpm, unknown flag":       {"swtpm", "socket --tpm2 -p 1 --tpm3", "unknown flag"},
		"swtpm, unknown --flag":     {"swtpm", "socket --tpm2 -p 1 --flags magic", "magic"},
		"swtpm, TPM 1.2's --flag":   {"swtpm", "socket --tpm2 -p 1 --flags startup-deactivated", "1.2"},
		"swtpm, stray word":         {"swtpm", "socket --tpm2 -p 1 more", "more"},
		"swtpm, whole network":      {"swtpm", "socket --tpm2 --server type=tcp,port=1,bindaddr=0.0.0.0", "loopback"},
		"swtpm, odd type":           {"swtpm", "socket --tpm2 --server type=fd,path=1", "neither"},
		"swtpm, odd mode":           {"swtpm", "socket --tpm2 --ctrl type=unixio,path=x,mode=999", "octal"},
		"swtpm, seccomp":            {"swtpm", "socket --tpm2 -p 1 --seccomp action=dance", "action"},
		"swtpm, standard files":     {"swtpm", "socket --tpm2 --fd 1", "standard files"},
		"swtpm, closed file":        {"swtpm", "socket --tpm2 --fd 250", "bad file descriptor"},
		"swtpm, place twice":        {"swtpm", "socket --tpm2 -p 1 --tpmstate dir=a,dir=b", "twice"},
		"swtpm, no place":           {"swtpm", "socket --tpm2 -p 1 --tpmstate mode=0600", "dir or backend-uri"},
		"swtpm, odd uri":            {"swtpm", "socket --tpm2 -p 1 --tpmstate backend-uri=http://x", "dir://"},
		"swtpm, block device":       {"swtpm", "socket --tpm2 -p 1 --tpmstate backend-uri=file:///dev/null", "block device"},
		"swtpm, unknown profile":    {"swtpm", "socket --tpm2 -p 1 --profile name=none", "unknown TPM profile"},
		"swtpm, listed profile":     {"swtpm", `socket --tpm2 -p 1 --profile profile={"Name":"custom","Algorithms":"rsa"}`, "not made of lists"},
		"swtpm, altered profile":    {"swtpm", "socket --tpm2 -p 1 --profile name=null,remove-disabled=check", "remove-disabled"},
		"swtpm, no key":             {"swtpm", "socket --tpm2 -p 1 --key mode=aes-cbc", "missing"},
		"swtpm, odd key mode":       {"swtpm", "socket --tpm2 -p 1 --key file=x,mode=ecb", "ecb"},
		"swtpm, no user":            {"swtpm", "socket --tpm2 -p 1 --runas nobody-of-this-name", "--runas"},
		"ioctl, nothing":            {"swtpm_ioctl", "--tcp :1", "no command"},
		"ioctl, no channel":         {"swtpm_ioctl", "-i", "--tcp or --unix"},
		"ioctl, device file":        {"swtpm_ioctl", "-i /dev/tpm0", "character devices"},
		"ioctl, two commands":       {"swtpm_ioctl", "--tcp :1 -i -s", "Only one command"},
		"ioctl, no such option":     {"swtpm_ioctl", "--tcp :1 -x", "not an option"},
		"ioctl, not the only one":   {"swtpm_ioctl", "--tcp :1 --lo", "not an option"},
		"ioctl, missing argument":   {"swtpm_ioctl", "--tcp :1 --save volatile", "2 arguments"},
		"ioctl, argument too much":  {"swtpm_ioctl", "--tcp :1 -i=1", "0 arguments"},
		"ioctl, locality out there": {"swtpm_ioctl", "--tcp :1 -l 5", "outside valid range"},
	} {
		t.Run(name, func(t *testing.T) {
			if status, _, errs := dropInOutput(ephemeral(), tc.program, strings.Fields(tc.args)...); status != 1 || !strings.Contains(errs, tc.want) {
				t.Errorf("status %d, %q, want 1 and %q", status, errs, tc.want)
			}
		})
	}
}

func TestSWTPMSaysWhatItCanDo(t *testing.T) {
	status, out, errs := dropInOutput(nil, "swtpm", "socket", "--tpm2", "--print-capabilities")
	var capabilities struct {
		Type     string
		Features []string
		Version  string
	}
	if err := json.Unmarshal([]byte(out), &capabilities); err != nil || status != program.StatusOK {
		t.Fatalf("status %d, %s, %v", status, errs, err)
	}
	if capabilities.Type != "swtpm" || capabilities.Version == "" || !cmp.Equal(capabilities.Features, swtpmFeatures()) {
		t.Errorf("%+v", capabilities)
	}
	for _, args := range [][]string{{"socket", "--help"}, {"--help"}, {"--version"}, {"socket", "--tpm2", "--print-profiles"}, {"socket", "--tpm2", "--print-info", "0xff"}} {
		if status, out, errs := dropInOutput(ephemeral(), "swtpm", args...); status != program.StatusOK || out == "" {
			t.Errorf("%v: status %d, %q, %s", args, status, out, errs)
		}
	}
}

func TestWordsAreReadAsSWTPMDoes(t *testing.T) {
	known := map[string]wordKind{"dir": wordText, "fd": wordNumber, "lock": wordFlag, "mode": wordMode, "uid": wordUser, "gid": wordGroup, "profile": wordText}
	for text, want := range map[string]words{
		"dir=a,lock":                         {"dir": "a", "lock": "true"},
		"lock=false,dir=a=b":                 {"dir": "a=b", "lock": ""},
		"lock=TRUE,fd=17":                    {"fd": "17", "lock": "true"},
		"mode=0640,uid=0,gid=root":           {"mode": "0640", "uid": "0", "gid": "0"},
		`profile={"a":{"b":1},"c":"d"},fd=1`: {"profile": `{"a":{"b":1},"c":"d"}`, "fd": "1"},
	} {
		if got, err := parseWords("--x", text, known); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"dir", "dir=", "fd=x", "fd=-1", "lock=maybe", "mode=0800", "mode=01000", "uid=nobody-of-this-name", "gid=nobody-of-this-name", "other=1", "dir=a,dir=b", "profile={", `profile={"a":1}x`, ",", "dir=a,,fd=1"} {
		if got, err := parseWords("--x", text, known); err == nil {
			t.Errorf("%s = %v, want an error", text, got)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("type=unixio,path=/x,mode=0600,terminate")
	f.Add(`profile={"Name":"custom","a":{}},fd=3`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, known := range []map[string]wordKind{swtpmCtrlWords(), swtpmProfileWords(), swtpmStateWords()} {
			w, err := parseWords("--x", text, known)
			for name := range w {
				if _, ok := known[name]; !ok || err != nil {
					t.Errorf("%q gives %q, %v", text, name, err)
				}
			}
		}
	})
}

func TestOptionsMayBeCutShort(t *testing.T) {
	f := new(setupOptions).flagSet()
	for arg, want := range map[string]string{
		"--logf": "--logfile", "--log=x": "--logfile=x", "--tpm2": "--tpm2", "--tpm": "--tpm", "--profile": "--profile",
		"--prof": "--prof", "--pwd=1": "--pwd=1", "-h": "-h", "--": "--", "word": "word",
	} {
		if got := wholeNames(f, []string{arg}); !cmp.Equal(got, []string{want}) {
			t.Errorf("%s = %v, want %s", arg, got, want)
		}
	}
}
