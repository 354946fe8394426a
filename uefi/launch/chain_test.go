package launch_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/launch"
	"github.com/assay-project/assay/uefi/launch/launchtest"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// A signer has a certificate of its own.
type signer struct {
	key  *rsa.PrivateKey
	cert *cms.Certificate
}

// signers are made once: the platform's, the vendor's, and one that nobody knows.
var signers = sync.OnceValue(func() []*signer {
	var out []*signer
	for i := range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			panic(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprintf("signer %d", i)}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC),
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			panic(err)
		}
		cert, err := cms.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		out = append(out, &signer{key, cert})
	}
	return out
})

func platform() *signer { return signers()[0] }
func vendor() *signer   { return signers()[1] }
func stranger() *signer { return signers()[2] }

func (s *signer) sign(t testing.TB, image []byte) []byte {
	t.Helper()
	out, err := authenticode.Sign(image, cms.Signing{Random: rand.Reader, Key: s.key, Certificate: s.cert})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *signer) entry() sigdb.Signature { return sigdb.Signature{Type: sigdb.X509, Data: s.cert.Raw} }

// entryOf is the digest of an image.
func entryOf(t testing.TB, image []byte) sigdb.Signature {
	t.Helper()
	i, err := authenticode.Parse(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	h, _ := tpm2.AlgSHA256.Hash()
	d, err := i.Digest(h)
	if err != nil {
		t.Fatal(err)
	}
	return sigdb.Signature{Type: sigdb.SHA256, Data: d}
}

const (
	level  = "sbat,1,2025021800\nshim,4\ngrub,5\n"
	script = "set timeout=0\nlinux /vmlinuz quiet\ninitrd /initrd\nboot\n"
	first  = "EFI/BOOT/BOOTX64.EFI"
	second = "EFI/BOOT/grubx64.efi"
	kernel = "vmlinuz"
)

// A chain is a disk with small programs in the form of shim, GRUB and a kernel, and the
// machine that it is for.
type chain struct {
	t     testing.TB
	files folder
	m     *launch.Machine
}

func newChain(t testing.TB) *chain {
	dbx := sigdb.Encode([]sigdb.Signature{{Type: sigdb.SHA256, Data: make([]byte, 32)}})
	shim := launchtest.Shim(vendor().cert.Raw, dbx, level, launchtest.SBAT("shim,4"))
	c := &chain{t, folder{
		first:  platform().sign(t, shim),
		second: vendor().sign(t, launchtest.GRUB("source $prefix/grub.cfg\n", launchtest.SBAT("grub,5", "grub.debian,5"))),
		kernel: vendor().sign(t, launchtest.Kernel("6.1.0")), "initrd": []byte("initrd"), "EFI/debian/grub.cfg": []byte(script),
	}, &launch.Machine{SecureBoot: true, Variables: sigdb.Variables{}}}
	c.variable(sigdb.PK, platform().entry())
	c.variable(sigdb.KEK, platform().entry())
	c.variable(sigdb.DB, platform().entry())
	return c
}

func (c *chain) variable(r sigdb.Role, all ...sigdb.Signature) {
	c.m.Variables[r] = sigdb.Value{Data: sigdb.Encode(all)}
}

// keep puts a variable into the machine's store.
func (c *chain) keep(vendor uefi.GUID, name string, attributes uint32, data []byte) {
	c.t.Helper()
	if c.m.Store == nil {
		c.m.Store = varstore.New(varstore.OVMF4M)
	}
	if err := c.m.Store.Set(varstore.Variable{Vendor: vendor, Name: name, Attributes: attributes, Data: data}); err != nil {
		c.t.Fatal(err)
	}
}

var partition = uefi.MustGUID("66666666-7777-8888-9999-aaaaaaaaaaaa")

// option makes a boot option of a file of the partition; more is what the program gets.
func (c *chain) option(number int, path string, more ...byte) {
	c.entry(number, 1, onDrive(partition, path), more...)
}

// entry makes a boot option of a device path.
func (c *chain) entry(number int, attributes uint32, path []byte, more ...byte) {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = append(append(b, byte(len(path)), 0, 'x', 0, 0, 0), path...)
	c.keep(uefi.GlobalVariable, fmt.Sprintf("Boot%04X", number), 7, append(b, more...))
	order, _ := c.m.Store.Get(uefi.GlobalVariable, "BootOrder")
	c.keep(uefi.GlobalVariable, "BootOrder", 7, binary.LittleEndian.AppendUint16(slices.Clone(order.Data), uint16(number)))
}

// onDrive is the path of a file of a partition.
func onDrive(id uefi.GUID, path string) []byte {
	drive := make([]byte, 42)
	copy(drive, "\x04\x01\x2a\x00")
	copy(drive[24:], id[:])
	drive[40], drive[41] = 2, 2
	var text []byte
	for _, u := range append(utf16.Encode([]rune(path)), 0) {
		text = binary.LittleEndian.AppendUint16(text, u)
	}
	drive = append(drive, 4, 4, byte(4+len(text)), 0)
	return append(append(drive, text...), 0x7F, 0xFF, 4, 0)
}

func (c *chain) predict() *launch.Prediction {
	c.t.Helper()
	return predict(c.t, c.m, &launch.Disk{Volumes: []launch.Volume{{Files: c.files, ID: partition, Number: 1}}, Table: []byte("table")})
}

func (c *chain) menu(text string) { c.files["EFI/debian/grub.cfg"] = []byte(text) }

func TestWhatIsRefusedAndWhy(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*chain)
		code   evidence.Code // "" for one that starts
		at     string        // the component
	}{
		"nothing changed":           {func(*chain) {}, "", ""},
		"no loader":                 {func(c *chain) { delete(c.files, first) }, "launch.no-loader", `\EFI\BOOT\BOOTX64.EFI`},
		"a loader of noise":         {func(c *chain) { c.files[first] = bytes.Repeat([]byte("x"), 999) }, "image.malformed", `\EFI\BOOT\BOOTX64.EFI`},
		"a loader for ARM":          {func(c *chain) { c.files[first][132] = 1 }, "launch.not-a-program", `\EFI\BOOT\BOOTX64.EFI`},
		"a loader that is a driver": {func(c *chain) { c.files[first][128+24+68] = 11 }, "launch.not-a-program", `\EFI\BOOT\BOOTX64.EFI`},
		"an unsigned shim": {func(c *chain) {
			c.files[first] = launchtest.Shim(vendor().cert.Raw, nil, level, launchtest.SBAT("shim,4"))
		}, "image.unsigned", `\EFI\BOOT\BOOTX64.EFI`},
		"a shim of a stranger": {func(c *chain) {
			c.files[first] = stranger().sign(t, launchtest.Shim(vendor().cert.Raw, nil, level, launchtest.SBAT("shim,4")))
		}, "image.no-anchor", `\EFI\BOOT\BOOTX64.EFI`},
		"a changed shim":     {func(c *chain) { c.files[first][1030]++ }, "image.digest-mismatch", `\EFI\BOOT\BOOTX64.EFI`},
		"a revoked shim":     {func(c *chain) { c.variable(sigdb.DBX, entryOf(t, c.files[first])) }, "image.revoked-hash", `\EFI\BOOT\BOOTX64.EFI`},
		"a revoked platform": {func(c *chain) { c.variable(sigdb.DBX, platform().entry()) }, "image.revoked-certificate", `\EFI\BOOT\BOOTX64.EFI`},
		"an unsigned shim whose digest is in db": {func(c *chain) {
			c.files[first] = launchtest.Shim(vendor().cert.Raw, sigdb.Encode([]sigdb.Signature{{Type: sigdb.SHA256, Data: make([]byte, 32)}}), level, launchtest.SBAT("shim,4"))
			c.variable(sigdb.DB, entryOf(t, c.files[first]))
		}, "", ""},
		"a shim that its own level revokes": {func(c *chain) {
			c.files[first] = platform().sign(t, launchtest.Shim(vendor().cert.Raw, nil, level, launchtest.SBAT("shim,3")))
		}, "launch.sbat-revoked", `\EFI\BOOT\BOOTX64.EFI`},
		"no GRUB":               {func(c *chain) { delete(c.files, second) }, "launch.file-missing", `\EFI\BOOT\grubx64.efi`},
		"a GRUB of a stranger":  {func(c *chain) { c.files[second] = stranger().sign(t, grubOf("grub,5")) }, "image.no-anchor", `\EFI\BOOT\grubx64.efi`},
		"an unsigned GRUB":      {func(c *chain) { c.files[second] = grubOf("grub,5") }, "image.unsigned", `\EFI\BOOT\grubx64.efi`},
		"a GRUB of db's signer": {func(c *chain) { c.files[second] = platform().sign(t, grubOf("grub,5")) }, "", ""},
		"a GRUB in dbx":         {func(c *chain) { c.variable(sigdb.DBX, entryOf(t, c.files[second])) }, "image.revoked-hash", `\EFI\BOOT\grubx64.efi`},
		"a GRUB in the vendor's dbx": {func(c *chain) {
			dbx := sigdb.Encode([]sigdb.Signature{entryOf(t, c.files[second])})
			c.files[first] = platform().sign(t, launchtest.Shim(vendor().cert.Raw, dbx, level, launchtest.SBAT("shim,4")))
		}, "image.revoked-hash", `\EFI\BOOT\grubx64.efi`},
		"a vendor in dbx":     {func(c *chain) { c.variable(sigdb.DBX, vendor().entry()) }, "image.revoked-certificate", `\EFI\BOOT\grubx64.efi`},
		"a GRUB without SBAT": {func(c *chain) { c.files[second] = vendor().sign(t, launchtest.GRUB("boot\n")) }, "launch.sbat-missing", `\EFI\BOOT\grubx64.efi`},
		"an old GRUB":         {func(c *chain) { c.files[second] = vendor().sign(t, grubOf("grub,4")) }, "launch.sbat-revoked", `\EFI\BOOT\grubx64.efi`},
		"a newer level of the machine": {func(c *chain) {
			c.keep(uefi.ShimLock, "SbatLevel", 3, []byte("sbat,1,2026010100\ngrub,6\n"))
		}, "launch.sbat-revoked", `\EFI\BOOT\grubx64.efi`},
		"an older level of the machine": {func(c *chain) {
			c.keep(uefi.ShimLock, "SbatLevel", 3, []byte("sbat,1,2021030218\ngrub,6\n"))
		}, "", ""},
		"another level of the same date": {func(c *chain) {
			c.keep(uefi.ShimLock, "SbatLevel", 3, []byte("sbat,1,2025021800\ngrub,6\n"))
		}, "launch.sbat-revoked", `\EFI\BOOT\grubx64.efi`},
		"a newer level that the guest could write": {func(c *chain) {
			c.keep(uefi.ShimLock, "SbatLevel", 7, []byte("sbat,1,2026010100\ngrub,6\n"))
		}, "", ""},
		"no kernel":              {func(c *chain) { delete(c.files, kernel) }, "launch.file-missing", "/vmlinuz"},
		"an unsigned kernel":     {func(c *chain) { c.files[kernel] = launchtest.Kernel("6.1.0") }, "image.unsigned", "/vmlinuz"},
		"a kernel of a stranger": {func(c *chain) { c.files[kernel] = stranger().sign(t, launchtest.Kernel("6.1.0")) }, "image.no-anchor", "/vmlinuz"},
		"an old kernel with SBAT": {func(c *chain) {
			c.files[kernel] = vendor().sign(t, launchtest.PE(launchtest.SBAT("grub,1")))
		}, "launch.sbat-revoked", "/vmlinuz"},
		"a second kernel in place of a refused one": {func(c *chain) {
			c.files["bad"] = launchtest.Kernel("6.1.0")
			c.menu("linux /bad\nlinux /vmlinuz\nboot\n")
		}, "", ""},
		"a script without boot":   {func(c *chain) { c.menu("linux /vmlinuz\n") }, "launch.grub-prompt", `\EFI\BOOT\grubx64.efi`},
		"a script without kernel": {func(c *chain) { c.menu("boot\n") }, "launch.grub-prompt", `\EFI\BOOT\grubx64.efi`},
		"all unsigned, Secure Boot off": {func(c *chain) {
			c.m.SecureBoot = false
			c.files[kernel], c.files[second] = launchtest.Kernel("6.1.0"), grubOf("grub,1")
		}, "", ""},
		"all unsigned, no platform key": {func(c *chain) {
			delete(c.m.Variables, sigdb.PK)
			c.files[kernel], c.files[second] = launchtest.Kernel("6.1.0"), grubOf("grub,1")
		}, "", ""},
		"a GRUB of a key that the owner enrolled": {func(c *chain) {
			c.keep(uefi.ShimLock, "MokList", 3, sigdb.Encode([]sigdb.Signature{stranger().entry()}))
			c.files[second] = stranger().sign(t, grubOf("grub,5"))
		}, "", ""},
		"a GRUB that the owner forbids": {func(c *chain) {
			c.keep(uefi.ShimLock, "MokListX", 3, sigdb.Encode([]sigdb.Signature{entryOf(t, c.files[second])}))
		}, "image.revoked-hash", `\EFI\BOOT\grubx64.efi`},
		"shim elsewhere, with its fallback beside it": {func(c *chain) {
			c.files["EFI/debian/shimx64.efi"], c.files["EFI/debian/grubx64.efi"] = c.files[first], c.files[second]
			c.files["EFI/debian/fbx64.efi"] = []byte("x")
			c.option(3, `\EFI\debian\shimx64.efi`)
		}, "", ""},
		"a boot option without its file, then the disk": {func(c *chain) { c.option(3, `\EFI\gone.efi`) }, "", ""},
		"a boot option of a stranger's, then the disk": {func(c *chain) {
			c.files["EFI/x.efi"] = stranger().sign(t, launchtest.Kernel("6.1.0"))
			c.option(3, `\EFI\x.efi`)
		}, "", ""},
	} {
		c := newChain(t)
		tc.change(c)
		p := c.predict()
		want, verdict := []evidence.Code{}, launch.Starts
		if tc.code != "" {
			want, verdict = []evidence.Code{tc.code}, launch.Refused
		}
		if got := codes(p.Reasons); p.Verdict != verdict || !slices.Equal(got, want) {
			t.Errorf("%s: %v %+v, want %v %v", name, p.Verdict, p.Reasons, verdict, want)
		} else if len(got) > 0 && p.Reasons[0].Component != tc.at {
			t.Errorf("%s: the component is %q, want %q", name, p.Reasons[0].Component, tc.at)
		}
		for pcr := range launch.Registers {
			if _, ok := p.PCR(tpm2.AlgSHA256, pcr); ok && verdict != launch.Starts {
				t.Errorf("%s: PCR %d is known", name, pcr)
			}
		}
	}
}

func grubOf(sbat string) []byte {
	return launchtest.GRUB("source $prefix/grub.cfg\n", launchtest.SBAT(sbat, "grub.debian,5"))
}

func TestWhatCannotBeKnownIsSaidToBeUnknown(t *testing.T) {
	menu := func(text string) func(*chain) { return func(c *chain) { c.menu(text) } }
	loader := func(b []byte) func(*chain) {
		return func(c *chain) { c.files[first] = platform().sign(t, b) }
	}
	for name, tc := range map[string]struct {
		change func(*chain)
		code   evidence.Code
	}{
		"a menu":                         {menu("menuentry x { boot; }\n"), "launch.grub-script"},
		"a search":                       {menu("search --file /x\nboot\n"), "launch.grub-script"},
		"a variable that GRUB has":       {menu("linux /vmlinuz $x\nboot\n"), "launch.grub-script"},
		"a file of another partition":    {menu("linux (hd1,gpt1)/vmlinuz\nboot\n"), "launch.grub-script"},
		"another root":                   {menu("set root=hd1\nlinux /vmlinuz\nboot\n"), "launch.grub-script"},
		"a pattern":                      {menu("linux /vm*\nboot\n"), "launch.grub-script"},
		"a block":                        {menu("{ boot; }\n"), "launch.grub-script"},
		"an open quote":                  {menu("echo \"x\n"), "launch.grub-script"},
		"an if without end":              {menu("if true; then boot\n"), "launch.grub-script"},
		"conditions too deep":            {menu(strings.Repeat("if true; then ", 20) + "true" + strings.Repeat("; fi", 20)), "launch.grub-script"},
		"a script that calls itself":     {menu("source /EFI/debian/grub.cfg\n"), "launch.grub-script"},
		"a condition of another form":    {menu("if [ a -nt b ]; then boot; fi\n"), "launch.grub-script"},
		"an initrd that is missing":      {menu("linux /vmlinuz\ninitrd /gone\nboot\n"), "launch.file-missing"},
		"a script that is missing":       {menu("source /gone\n"), "launch.file-missing"},
		"shim's fallback":                {func(c *chain) { c.files["EFI/BOOT/fbx64.efi"] = []byte("x") }, "launch.loader-unknown"},
		"certificates for shim":          {func(c *chain) { c.files["EFI/BOOT/shim_certificate_0.efi"] = []byte("x") }, "launch.extra-files"},
		"revocations for shim":           {func(c *chain) { c.files["EFI/BOOT/revocations_sbat.efi"] = []byte("x") }, "launch.extra-files"},
		"shim's verification turned off": {func(c *chain) { c.keep(uefi.ShimLock, "MokSBState", 3, []byte{1}) }, "launch.firmware-state"},
		"a write that firmware finishes": {func(c *chain) {
			b, err := varstore.New(varstore.OVMF4M).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			b[0x41000+32] = 0xFC // the first header of the queue
			if c.m.Store, err = varstore.Parse(b); err != nil {
				t.Fatal(err)
			}
		}, "launch.firmware-state"},
		"arguments for shim":             {func(c *chain) { c.option(1, `\EFI\BOOT\BOOTX64.EFI`, 'x', 0) }, "launch.firmware-state"},
		"a shim without a level":         {loader(launchtest.PE(launchtest.SBAT("shim,4"), launchtest.Section{Name: ".vendor_cert", Data: make([]byte, 16)})), "launch.version-unknown"},
		"a shim with keys out of bounds": {loader(launchtest.PE(launchtest.SBAT("shim,4"), launchtest.Section{Name: ".vendor_cert", Data: bytes.Repeat([]byte{0xFF}, 16)})), "launch.loader-unknown"},
		"systemd-boot":                   {loader(launchtest.PE(launchtest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: systemd-boot 252 ####")})), "launch.loader-unknown"},
		"GRUB without shim":              {loader(grubOf("grub,5")), "launch.loader-unknown"},
		"a GRUB that carries another script": {func(c *chain) {
			b := launchtest.GRUB("boot\n", launchtest.SBAT("grub,5"))
			c.files[second] = vendor().sign(t, bytes.Replace(b, []byte("normal (memdisk)"), []byte("normal (memdiks)"), 1))
		}, "launch.loader-unknown"},
		"a program behind shim": {func(c *chain) { c.files[second] = vendor().sign(t, launchtest.PE(launchtest.SBAT("x,1"))) }, "launch.loader-unknown"},
		"a GRUB that carries nothing": {func(c *chain) {
			c.files[second] = vendor().sign(t, launchtest.PE(launchtest.SBAT("grub,5"), launchtest.Section{Name: "mods", Data: []byte("mimg")}))
		}, "launch.loader-unknown"},
		"two signatures, one revoked": {func(c *chain) {
			c.files[second] = stranger().sign(t, c.files[second])
			c.variable(sigdb.DBX, stranger().entry())
		}, "launch.loader-unknown"},
		"a UKI with a section that begins as another": {loader(launchtest.UKI("252.39", launchtest.Section{Name: ".linux", Data: []byte("a")}, launchtest.Section{Name: ".dtbauto", Data: []byte("b")})), "launch.loader-unknown"},
		"a UKI with two kernels":                      {loader(launchtest.UKI("252.39", launchtest.Section{Name: ".linux", Data: []byte("a")}, launchtest.Section{Name: ".linux", Data: []byte("b")})), "launch.loader-unknown"},
	} {
		c := newChain(t)
		tc.change(c)
		p := c.predict()
		if got := codes(p.Reasons); p.Verdict != launch.Undecided || !slices.Equal(got, []evidence.Code{tc.code}) {
			t.Errorf("%s: %v %+v, want %v", name, p.Verdict, p.Reasons, tc.code)
		}
	}
}

// What starts is known; what it measures is not always.
func TestUnknownRegistersHaveTheirReason(t *testing.T) {
	kernel := launchtest.Section{Name: ".linux", Data: launchtest.Kernel("6.1.0")}
	command := launchtest.Section{Name: ".cmdline", Data: []byte("quiet")}
	loader := func(b []byte) func(*chain) {
		return func(c *chain) { c.files[first] = platform().sign(t, b) }
	}
	for name, tc := range map[string]struct {
		change func(*chain)
		code   evidence.Code
		pcrs   []int
	}{
		"a UKI": {loader(launchtest.UKI("252.39", kernel, command)), "", nil},
		"a UKI that gets a command line, Secure Boot on": {func(c *chain) {
			loader(launchtest.UKI("252.39", kernel, command))(c)
			c.option(1, `\EFI\BOOT\BOOTX64.EFI`, 'x', 0, 'y', 0)
		}, "", nil},
		"a stub of another version":     {loader(launchtest.UKI("257.1", kernel, command)), "launch.version-unknown", []int{4, 8, 9, 11, 12, 13}},
		"an older kernel":               {loader(launchtest.UKI("252.39", launchtest.Section{Name: ".linux", Data: launchtest.Kernel("5.10.0")}, command)), "launch.version-unknown", []int{9}},
		"a kernel without a header":     {loader(launchtest.UKI("252.39", launchtest.Section{Name: ".linux", Data: []byte("x")}, command)), "launch.version-unknown", []int{9}},
		"a UKI without a command line":  {loader(launchtest.UKI("252.39", kernel)), "launch.version-unknown", []int{9}},
		"a command line of other bytes": {loader(launchtest.UKI("252.39", kernel, launchtest.Section{Name: ".cmdline", Data: []byte("a\n")})), "launch.version-unknown", []int{9}},
		"a bare kernel":                 {loader(launchtest.Kernel("6.1.0")), "launch.version-unknown", []int{8, 9}},
		"another program":               {loader(launchtest.PE()), "launch.loader-unknown", []int{4, 5, 7, 8, 9, 11, 12, 13, 14}},
		"another GRUB": {func(c *chain) {
			c.files[second] = vendor().sign(t, launchtest.GRUB("source $prefix/grub.cfg\n", launchtest.SBAT("grub,5")))
		}, "launch.version-unknown", []int{4, 5, 7, 8, 9}},
		"a command line that is quoted": {func(c *chain) { c.menu("linux /vmlinuz 'a b'\nboot\n") }, "launch.grub-script", []int{8}},
		"a second kernel":               {func(c *chain) { c.menu("linux /gone\nlinux /vmlinuz\nboot\n") }, "launch.grub-script", []int{4, 8, 9}},
		"a variable dbt":                {func(c *chain) { c.keep(uefi.ImageSecurityDatabase, "dbt", 0x27, []byte{1}) }, "launch.firmware-state", []int{7}},
		"keys that the owner enrolled": {func(c *chain) {
			c.keep(uefi.ShimLock, "MokList", 3, sigdb.Encode([]sigdb.Signature{stranger().entry()}))
		}, "launch.firmware-state", []int{14}},
		"two signatures":             {func(c *chain) { c.files[second] = stranger().sign(t, c.files[second]) }, "launch.version-unknown", []int{7}},
		"a shim without revocations": {loader(launchtest.Shim(vendor().cert.Raw, nil, level, launchtest.SBAT("shim,4"))), "launch.version-unknown", []int{14}},
		"a credential beside the image": {func(c *chain) {
			loader(launchtest.UKI("252.39", kernel, command))(c)
			c.files[first+".extra.d/a.cred"] = []byte("x")
		}, "launch.extra-files", []int{9, 12, 13}},
		"a command line of the boot option": {func(c *chain) {
			c.m.SecureBoot = false
			c.files[first] = launchtest.UKI("252.39", kernel, command)
			c.option(1, `\EFI\BOOT\BOOTX64.EFI`, 'x', 0, 'y', 0)
		}, "launch.firmware-state", []int{9, 12}},
	} {
		c := newChain(t)
		tc.change(c)
		p := c.predict()
		if p.Verdict != launch.Starts {
			t.Errorf("%s: %v %+v", name, p.Verdict, p.Reasons)
			continue
		}
		for pcr := range launch.Registers {
			var want []evidence.Code
			switch {
			case pcr <= 3 || pcr == 6:
				want = []evidence.Code{"launch.by-firmware"}
			case pcr == 10 || pcr == 15:
				want = []evidence.Code{"launch.by-system"}
			case slices.Contains(tc.pcrs, pcr):
				want = []evidence.Code{tc.code}
			}
			if got := codes(p.Unknown(pcr)); !slices.Equal(got, want) {
				t.Errorf("%s: PCR %d is unknown for %v, want %v", name, pcr, p.Unknown(pcr), want)
			}
			if _, ok := p.PCR(tpm2.AlgSHA256, pcr); ok != (want == nil) {
				t.Errorf("%s: PCR %d is known: %t", name, pcr, ok)
			}
		}
	}
}

// texts are the names of what extends a register.
func texts(p *launch.Prediction, pcr int) []string {
	var out []string
	for _, e := range p.Events {
		if e.PCR == pcr {
			out = append(out, e.Name.Name)
		}
	}
	return out
}

func TestFailedAttemptsAreMeasured(t *testing.T) {
	c := newChain(t)
	c.option(1, `\EFI\gone.efi`)
	got := texts(c.predict(), 4)
	want := []string{
		"Calling EFI Application from Boot Option", "separator", "Returning from EFI Application from Boot Option",
		"Calling EFI Application from Boot Option", `boot loader (\EFI\BOOT\BOOTX64.EFI)`, `boot loader (\EFI\BOOT\grubx64.efi)`,
		"kernel (/vmlinuz)", "kernel (/vmlinuz)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("PCR 4 is extended by %q", got)
	}
}

// What firmware starts is the first option of this disk that it can; the disk as such is
// tried last, and once.
func TestBootOptionsAreTriedInOrder(t *testing.T) {
	const other = `\EFI\x.efi`
	autoCreated := uefi.MustGUID("8108ac4e-9f11-4d59-850e-e21a522c59b2")
	end := []byte{0x7F, 0xFF, 4, 0}
	pci := append([]byte{2, 1, 12, 0, 0xD0, 0x41, 3, 0x0A, 0, 0, 0, 0, 1, 1, 6, 0, 0, 1}, end...)
	network := append(slices.Clone(pci[:len(pci)-4]), append(append([]byte{3, 11, 37, 0}, make([]byte, 33)...), end...)...)
	firmware := append(append([]byte{4, 7, 20, 0}, make([]byte, 16)...), end...)
	for name, tc := range map[string]struct {
		change func(*chain)
		want   []string // what is opened first
	}{
		"none":                   {func(*chain) {}, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"a file":                 {func(c *chain) { c.option(1, other) }, []string{other}},
		"one that is not active": {func(c *chain) { c.entry(1, 0, onDrive(partition, other)) }, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"an application":         {func(c *chain) { c.entry(1, 0x101, onDrive(partition, other)) }, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"of another disk":        {func(c *chain) { c.entry(1, 1, onDrive(uefi.GlobalVariable, other)) }, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"a network":              {func(c *chain) { c.entry(1, 1, network); c.option(2, other) }, []string{other}},
		"of the firmware":        {func(c *chain) { c.entry(1, 1, firmware); c.option(2, other) }, []string{other}},
		"the disk, then a file":  {func(c *chain) { c.entry(1, 1, pci, autoCreated[:]...); c.option(2, other) }, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"BootNext": {func(c *chain) {
			c.entry(1, 1, pci)
			c.option(2, other)
			c.keep(uefi.GlobalVariable, "BootNext", 7, []byte{2, 0})
		}, []string{other}},
		"made by the firmware": {func(c *chain) { c.option(1, `\EFI\BOOT\BOOTX64.EFI`, autoCreated[:]...) }, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"a path of noise":      {func(c *chain) { c.entry(1, 1, []byte{4, 4, 1}) }, []string{`\EFI\BOOT\BOOTX64.EFI`}},
		"refused, then the disk": {func(c *chain) {
			c.entry(1, 1, pci)
			c.keep(uefi.GlobalVariable, "BootNext", 7, []byte{2, 0})
			c.option(2, other)
			c.files["EFI/x.efi"] = launchtest.Kernel("6.1.0")
		}, []string{other, `\EFI\BOOT\BOOTX64.EFI`}},
	} {
		c := newChain(t)
		c.files["EFI/x.efi"] = platform().sign(t, launchtest.Kernel("6.1.0"))
		tc.change(c)
		p := c.predict()
		var got []string
		for _, part := range p.Chain[:min(len(p.Chain), len(tc.want))] {
			got = append(got, part.Path)
		}
		if p.Verdict != launch.Starts || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v %v: %q is opened, want %q", name, p.Verdict, p.Reasons, got, tc.want)
		}
	}
}

// Each database has its own name in PCR 7, and shim measures an entry once.
func TestAuthoritiesAreThoseThatAllow(t *testing.T) {
	c := newChain(t)
	if got := texts(c.predict(), 7)[6:]; !slices.Equal(got, []string{"db: signer 0", "SbatLevel", "MokListRT: signer 1"}) {
		t.Errorf("PCR 7 ends with %q", got)
	}
	c.files[second] = platform().sign(t, grubOf("grub,5"))
	if got := texts(c.predict(), 7)[6:]; !slices.Equal(got, []string{"db: signer 0", "SbatLevel", "db: signer 0", "MokListRT: signer 1"}) {
		t.Errorf("PCR 7 with a GRUB of db's signer ends with %q", got)
	}
	list := sigdb.Encode([]sigdb.Signature{vendor().entry()})
	dbx := sigdb.Encode([]sigdb.Signature{{Type: sigdb.SHA256, Data: make([]byte, 32)}})
	c = newChain(t)
	c.files[first] = platform().sign(t, launchtest.Shim(list, dbx, level, launchtest.SBAT("shim,4")))
	if got := texts(c.predict(), 7)[6:]; !slices.Equal(got, []string{"db: signer 0", "SbatLevel", "vendor_db: signer 1"}) {
		t.Errorf("PCR 7 with a vendor's list ends with %q", got)
	}
	c = newChain(t)
	c.variable(sigdb.DB, platform().entry(), entryOf(t, c.files[second]))
	if got := texts(c.predict(), 7)[6:]; len(got) != 4 || !strings.HasPrefix(got[2], "db: digest") {
		t.Errorf("PCR 7 with GRUB's digest in db ends with %q", got)
	}
	c = newChain(t)
	c.m.SecureBoot = false
	if got := texts(c.predict(), 7)[6:]; !slices.Equal(got, []string{"SbatLevel"}) {
		t.Errorf("PCR 7 with Secure Boot off ends with %q", got)
	}
}

func TestScriptsAreFollowed(t *testing.T) {
	for script, want := range map[string][]string{
		"linux /vmlinuz; boot": {"linux /vmlinuz", "/vmlinuz", "boot"},
		"# comment\nset a=\"x $root\" \nlinux /vmlinuz \"${a}y\" \\\n z\nboot": {"set a=x hd0,gpt1", `linux /vmlinuz x hd0,gpt1y z`, `/vmlinuz x hd0,gpt1y z`, "boot"},
		"if [ -e /gone ]; then\nboot\nelif [ -f /initrd -a ! -z x ]\nthen\nlinux /vmlinuz\nboot\nelse\necho no\nfi": {
			"[ -e /gone ]", "[ -f /initrd -a ! -z x ]", "linux /vmlinuz", "/vmlinuz", "boot",
		},
		"if true; then true; fi; if [ a = b -o -d /EFI ]; then linux ($root)/vmlinuz; fi\nboot": {
			"true", "true", "[ a = b -o -d /EFI ]", "linux (hd0,gpt1)/vmlinuz", "(hd0,gpt1)/vmlinuz", "boot",
		},
		`linux /vmlinuz a=\$x 'b$'; boot`: {"linux /vmlinuz a=$x b$", "/vmlinuz a=$x b$", "boot"},
	} {
		c := newChain(t)
		c.menu(script)
		p := c.predict()
		var got []string
		for _, e := range p.Events {
			if e.PCR == 8 {
				got = append(got, e.Detail)
			}
		}
		if p.Verdict != launch.Starts || len(got) == 0 || !slices.Equal(got[1:], want) {
			t.Errorf("%q: %v %v: PCR 8 is extended by %q", script, p.Verdict, p.Reasons, got)
		}
	}
}

func TestWhatIsMeasuredHasItsName(t *testing.T) {
	p := newChain(t).predict()
	for _, e := range p.Events {
		n, ok := p.Find(tpm2.AlgSHA256, e.PCR, e.Digests[tpm2.AlgSHA256])
		if !ok || n.Name == "" || n.Kind == "" {
			t.Errorf("Find() of an event of PCR %d = %+v, %t", e.PCR, n, ok)
		}
	}
	if n, ok := p.Find(tpm2.AlgSHA256, 4, make([]byte, 32)); ok {
		t.Errorf("Find() of another digest = %+v", n)
	}
	kernel := p.Chain[len(p.Chain)-2]
	if n, _ := p.Find(tpm2.AlgSHA384, 4, kernel.Digests[tpm2.AlgSHA384]); n.Kind != eventlog.KindKernel || n.Signer != "signer 1" {
		t.Errorf("the kernel is called %+v", n)
	}
}

// broken is a file system that fails.
type broken struct{ err error }

func (b broken) Open(string) (*io.SectionReader, error) { return nil, b.err }
func (b broken) List(string) ([]disk.Entry, error)      { return nil, b.err }

func TestDiskThatCannotBeReadIsNoAnswer(t *testing.T) {
	for _, kind := range []error{disk.ErrMalformed, disk.ErrUnsupported} {
		p := predict(t, &launch.Machine{}, &launch.Disk{Volumes: []launch.Volume{{Files: broken{kind}}}})
		if got := codes(p.Reasons); p.Verdict != launch.Undecided || !slices.Equal(got, []evidence.Code{"launch.disk-unreadable"}) {
			t.Errorf("%v: %v %v", kind, p.Verdict, p.Reasons)
		}
	}
	if p, err := launch.Predict(t.Context(), &launch.Machine{}, &launch.Disk{Volumes: []launch.Volume{{Files: broken{io.ErrUnexpectedEOF}}}}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Predict() = %v, %v", p, err)
	}
	if p := predict(t, &launch.Machine{}, &launch.Disk{}); p.Verdict != launch.Refused {
		t.Errorf("without a volume: %v", p.Verdict)
	}
	var zero launch.Prediction
	if _, ok := zero.PCR(tpm2.AlgSHA256, 4); ok || zero.Verdict == launch.Starts {
		t.Error("the zero prediction says something")
	}
}

func TestTableThatIsNotKnownLeavesItsRegister(t *testing.T) {
	c := newChain(t)
	p := predict(t, c.m, &launch.Disk{Volumes: []launch.Volume{{Files: c.files}}})
	if got := codes(p.Unknown(5)); !slices.Equal(got, []evidence.Code{"launch.disk-unreadable"}) {
		t.Errorf("PCR 5 is unknown for %v", got)
	}
}

// A line of a script that doubles a variable, thirty times, must not become gigabytes.
func TestVariablesOfAScriptAreBounded(t *testing.T) {
	c := newChain(t)
	c.menu("set a=x\n" + strings.Repeat("set a=$a$a\n", 30) + script)
	p := c.predict()
	if got := codes(p.Reasons); p.Verdict != launch.Undecided || !slices.Equal(got, []evidence.Code{"launch.grub-script"}) {
		t.Errorf("%v %v", p.Verdict, p.Reasons)
	}
	total := 0
	for _, e := range p.Events {
		total += len(e.Detail)
	}
	if total > 1<<20 {
		t.Errorf("%d bytes of details", total)
	}
}

// large is a file system on which a name is a file of a gigabyte, which costs no memory.
type large struct {
	folder
	reads *int64
}

func (l large) Open(path string) (*io.SectionReader, error) {
	if !strings.HasPrefix(path, "/big") {
		return l.folder.Open(path)
	}
	return io.NewSectionReader(zeros{l.reads}, 0, 1<<30), nil
}

type zeros struct{ reads *int64 }

func (z zeros) ReadAt(b []byte, _ int64) (int, error) {
	*z.reads += int64(len(b))
	clear(b)
	return len(b), nil
}

func TestWhatIsReadOfADiskIsBounded(t *testing.T) {
	c := newChain(t)
	reads := new(int64)
	disk := &launch.Disk{Volumes: []launch.Volume{{Files: large{c.files, reads}, ID: partition, Number: 1}}, Table: []byte("table")}
	c.files["small"] = []byte("small")
	t.Run("words of a command", func(t *testing.T) {
		c.menu("linux /" + kernel + "\ninitrd" + strings.Repeat(" /small", 5000) + "\nboot\n")
		if p := predict(t, c.m, disk); p.Verdict != launch.Undecided || !slices.Equal(codes(p.Reasons), []evidence.Code{"launch.grub-script"}) {
			t.Errorf("%v %v", p.Verdict, p.Reasons)
		}
	})
	t.Run("files together", func(t *testing.T) {
		c.menu("linux /" + kernel + "\ninitrd /big1 /big2\nboot\n")
		p, err := launch.PredictWithin(t.Context(), 8<<20, c.m, disk)
		if err != nil || p.Verdict != launch.Undecided || !slices.Equal(codes(p.Reasons), []evidence.Code{"launch.too-much-to-read"}) {
			t.Errorf("%v, %v", p, err)
		}
		if _, ok := p.PCR(tpm2.AlgSHA256, 9); ok || *reads == 0 || *reads > 8<<20 {
			t.Errorf("PCR 9 is known: %v; %d bytes were read", ok, *reads)
		}
		*reads = 0
	})
	t.Run("ended", func(t *testing.T) {
		c.menu("linux /" + kernel + "\ninitrd /big1\nboot\n")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(io.ErrClosedPipe)
		if p, err := launch.Predict(ctx, c.m, disk); !errors.Is(err, context.Canceled) || *reads != 0 {
			t.Errorf("%v, %v, having read %d bytes", p, err, *reads)
		}
	})
}

// Whatever the files are, there is an answer, and no register of a boot that is not
// known to start.
func FuzzPredict(f *testing.F) {
	good := newChain(f)
	good.m.SecureBoot = false
	f.Add(script, uint8(0), uint16(0), []byte(nil))
	f.Add("if [ -e $prefix ]; then source \"/a\"; elif true; then set x='y'; else boot; fi", uint8(1), uint16(1024), []byte("mimg"))
	f.Fuzz(func(t *testing.T, script string, which uint8, at uint16, patch []byte) {
		c := &chain{t, folder{}, good.m}
		for name, b := range good.files {
			c.files[name] = bytes.Clone(b)
		}
		c.menu(script)
		file := c.files[[]string{first, second, kernel}[which%3]]
		copy(file[min(int(at), len(file)):], patch)
		p := c.predict()
		if _, ok := p.PCR(tpm2.AlgSHA256, 4); ok && p.Verdict != launch.Starts {
			t.Errorf("PCR 4 is known, and the boot is %v", p.Verdict)
		}
	})
}
