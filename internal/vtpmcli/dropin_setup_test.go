package vtpmcli

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/program"
)

// setUp is a call of swtpm_setup.
func setUp(vars variables, args ...string) (status int, text string) {
	status, out, errs := dropInOutput(vars, "swtpm_setup", args...)
	return status, out + errs
}

// The call of libvirt 9.0 (qemu_tpm.c) makes keys and certificates, and the TPM
// that swtpm then serves has them.
func TestLibvirtSetsATPMUp(t *testing.T) {
	vars, dir, certs := keyFileEnv(t), t.TempDir(), t.TempDir()
	log := filepath.Join(t.TempDir(), "log")
	vars["HOME"] = t.TempDir()
	conf := filepath.Join(t.TempDir(), "swtpm_setup.conf")
	if err := os.WriteFile(conf, []byte("# by hand\nactive_pcr_banks = sha256,sha384\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call := []string{
		"--tpm2", "--tpm-state", dir, "--vmid", "guest:6c3e7a52-9d3c-4a8e-8f5b-0f6d0a1b2c3d", "--logfile", log, "--config", conf,
		"--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite",
	}
	if status, text := setUp(vars, append(call, "--write-ek-cert-files", certs)...); status != program.StatusOK {
		said, _ := os.ReadFile(log)
		t.Fatalf("status %d, %s\n%s", status, text, said)
	}
	var names []string
	files, err := os.ReadDir(certs)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
		der, err := os.ReadFile(filepath.Join(certs, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x509.ParseCertificate(der); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
	if want := []string{"ek-rsa2048.crt", "ek-secp384r1.crt"}; !cmp.Equal(names, want) {
		t.Errorf("certificates %v, want %v", names, want)
	}
	before := filesOf(t, dir)
	if status, text := setUp(vars, call...); status != program.StatusOK || filesOf(t, dir) != before {
		t.Errorf("second call: status %d, %s; it must leave the TPM as it is", status, text)
	}
	k := startSWTPM(t, vars, dir, "--flags", "not-need-init,startup-clear")
	if got := banksOf(t, k.data); !cmp.Equal(got, []byte{0, 0x0b, 0, 0x0c}) {
		t.Errorf("active banks %x, want those of the configuration", got)
	}
	k.stop()
	// Every start with active_pcr_banks in the domain.
	if status, text := setUp(vars, "--tpm2", "--tpm-state", dir, "--logfile", log, "--config", conf, "--pcr-banks", "sha512", "--reconfigure"); status != program.StatusOK {
		t.Errorf("--reconfigure: status %d, %s", status, text)
	}
	k = startSWTPM(t, vars, dir, "--flags", "not-need-init,startup-clear")
	if got := banksOf(t, k.data); !cmp.Equal(got, []byte{0, 0x0d}) {
		t.Errorf("active banks %x, want SHA-512", got)
	}
	k.stop()
}

// banksOf lists the algorithms of active banks (TPM2_GetCapability, TPM_CAP_PCRS).
func banksOf(t *testing.T, data string) []byte {
	t.Helper()
	b := exchange(t, data, "\x80\x01\x00\x00\x00\x16\x00\x00\x01\x7a\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01")
	var algs []byte
	for n, at := int(b[18]), 19; n > 0; n, at = n-1, at+6 {
		if b[at+3] != 0 {
			algs = append(algs, b[at], b[at+1])
		}
	}
	return algs
}

func TestSetupRefusesWhatItCannotDo(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	vars["HOME"] = t.TempDir()
	kept := t.TempDir()
	if err := os.WriteFile(filepath.Join(kept, swtpmPermanent), []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(tool, []byte("create_certs_tool = /nowhere/tool\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		vars variables
		args string
		want string
	}{
		"TPM 1.2":               {vars, "--tpm-state " + dir, "--tpm2"},
		"nowhere":               {vars, "--tpm2", "--tpm-state"},
		"signing key":           {vars, "--tpm2 --tpm-state " + dir + " --allow-signing", "--allow-signing"},
		"ownership":             {vars, "--tpm2 --tpm-state " + dir + " --take-ownership", "1.2"},
		"odd cipher":            {vars, "--tpm2 --tpm-state " + dir + " --cipher aes-192-cbc", "--cipher"},
		"odd key size":          {vars, "--tpm2 --tpm-state " + dir + " --rsa-keysize 2222", "2222"},
		"odd bank":              {vars, "--tpm2 --tpm-state " + dir + " --pcr-banks md5", "md5"},
		"bank of no profile":    {vars, "--tpm2 --tpm-state " + dir + " --pcr-banks sha3_256", "sha3"},
		"keys when changing":    {vars, "--tpm2 --tpm-state " + dir + " --reconfigure --createek", "--reconfigure"},
		"nothing to change":     {vars, "--tpm2 --tpm-state " + dir + " --reconfigure --pcr-banks sha256", "no such file"},
		"changing to nothing":   {vars, "--tpm2 --tpm-state " + dir + " --reconfigure --config /dev/null", "--pcr-banks"},
		"a TPM is there":        {vars, "--tpm2 --tpm-state " + kept, "holds a TPM already"},
		"ephemeral":             {ephemeral(), "--tpm2 --tpm-state " + dir, "nothing to set up"},
		"no key provider":       {nil, "--tpm2 --tpm-state " + dir, "no key provider"},
		"no configuration":      {vars, "--tpm2 --tpm-state " + dir + " --config /nowhere/conf", "--config"},
		"no certificate tool":   {vars, "--tpm2 --tpm-state " + dir + " --create-ek-cert --config " + tool, "create_certs_tool"},
		"profile twice":         {vars, "--tpm2 --tpm-state " + dir + " --profile-name null --profile-file x", "--profile"},
		"odd word of creation":  {vars, "--create-config-files sometimes", "sometimes"},
		"a word that is no use": {vars, "--tpm2 more", "more"},
	} {
		t.Run(name, func(t *testing.T) {
			if status, text := setUp(tc.vars, strings.Fields(tc.args)...); status != 1 || !strings.Contains(text, tc.want) {
				t.Errorf("status %d, %q, want 1 and %q", status, text, tc.want)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) > 1 { // the lock may stand
				t.Errorf("%d files, %v", len(files), err)
			}
		})
	}
}

func TestSetupOverwritesOnlyWhenToldTo(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	vars["HOME"] = t.TempDir()
	call := []string{"--tpm2", "--tpm-state", "dir://" + dir, "--pwdfile", filepath.Join(t.TempDir(), "phrase")}
	if err := os.WriteFile(call[4], []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, text := setUp(vars, call...); status != program.StatusOK {
		t.Fatalf("status %d, %s", status, text)
	}
	before := filesOf(t, dir)
	if status, text := setUp(vars, call...); status != 1 || filesOf(t, dir) != before {
		t.Errorf("status %d, %s", status, text)
	}
	if status, text := setUp(vars, append(call, "--overwrite")...); status != program.StatusOK || filesOf(t, dir) == before {
		t.Errorf("--overwrite: status %d, %s", status, text)
	}
	// The passphrase is the key provider, as it is for swtpm --key pwdfile.
	startSWTPM(t, vars, dir, "--flags", "not-need-init", "--key", "pwdfile="+call[4]).stop()
}

func TestSetupAsksTheSitesOwnCertificateTool(t *testing.T) {
	vars, dir, site := keyFileEnv(t), t.TempDir(), t.TempDir()
	script := filepath.Join(site, "tool")
	said := filepath.Join(site, "said")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\" >>"+said+"\necho no certificate >\"$6/$2.cert\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(site, "conf")
	if err := os.WriteFile(conf, []byte("create_certs_tool = "+script+"\ncreate_certs_tool_config = ${SITE}/ca.conf\ncreate_certs_tool_options = /opts\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	vars["SITE"] = site
	status, text := setUp(vars, "--tpm2", "--tpm-state", dir, "--create-ek-cert", "--ecc", "--vmid", "guest", "--config", conf)
	if status != 1 || !strings.Contains(text, "certificate of key p384") {
		t.Errorf("status %d, %s; what the tool writes must be checked", status, text)
	}
	call, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--type ek --ek x=", ",id=secp384r1 --dir ", "--vmid guest", "--tpm2", "--configfile " + site + "/ca.conf", "--optsfile /opts"} {
		if !strings.Contains(string(call), want) {
			t.Errorf("the tool is called with %s; want %q", call, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, swtpmPermanent)); err == nil {
		t.Error("a TPM was kept although its certificate is none")
	}
}

func TestSetupMakesAKeyProviderForASession(t *testing.T) {
	home := t.TempDir()
	vars := variables{"HOME": home, "ASSAY_VTPM_ROOT": t.TempDir()}
	word := "skip-if-exist"
	if os.Geteuid() == 0 {
		word += ",root"
	}
	if status, text := setUp(vars, "--create-config-files", word); status != program.StatusOK {
		t.Fatalf("status %d, %s", status, text)
	}
	dir := t.TempDir()
	if status, text := setUp(vars, "--tpm2", "--tpm-state", dir, "--create-ek-cert"); status != program.StatusOK {
		t.Fatalf("status %d, %s", status, text)
	}
	if status, text := setUp(vars, "--create-config-files", word+",overwrite"); status != program.StatusOK {
		t.Errorf("status %d, %s", status, text)
	}
	startSWTPM(t, vars, dir, "--flags", "not-need-init").stop() // its key is still there
}

// The authority of the root keeps its keys where it was told to, whatever keeps those
// of the TPM.
func TestSetupAsksTheKeyProviderOfTheAuthority(t *testing.T) {
	vars := keyFileEnv(t)
	other := "local:" + filepath.Join(t.TempDir(), "other")
	for _, args := range [][]string{{"key-provider", "add", "other", other, "--create"}, {"vtpm", "ca", "init", "--key-provider", "other"}} {
		if status, _, errs := assayOutput(vars, args...); status != program.StatusOK {
			t.Fatalf("%v: status %d, %s", args, status, errs)
		}
	}
	dir, certs, conf := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "swtpm_setup.conf")
	write(t, conf, []byte("active_pcr_banks = sha256\n")) // and not the machine's own
	if status, text := setUp(vars, "--tpm2", "--tpm-state", dir, "--config", conf, "--ecc", "--createek", "--create-ek-cert", "--write-ek-cert-files", certs); status != program.StatusOK {
		t.Fatalf("status %d, %s", status, text)
	}
	if _, err := os.Stat(filepath.Join(certs, "ek-secp384r1.crt")); err != nil {
		t.Error(err)
	}
	status, out, errs := assayOutput(vars, "vtpm", "ca", "show", "-o", "json")
	if status != program.StatusOK || !strings.Contains(out, `"issued": 1`) && !strings.Contains(out, `"issued":1`) {
		t.Errorf("ca show: status %d, %s, %s", status, out, errs)
	}
}
