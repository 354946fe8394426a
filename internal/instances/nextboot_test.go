package instances

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
)

// stub is the smallest program that firmware and package guestimage take for systemd's
// stub: code, and the section by which it is known.
func stub() []byte {
	const at, optional, sections, headers = 0x80, 0x80 + 24, 0x80 + 24 + 240, 0x400
	const magic = "#### LoaderInfo: systemd-stub "
	b, le := make([]byte, headers), binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], at)
	copy(b[at:], "PE\x00\x00")
	le.PutUint16(b[at+4:], 0x8664) // AMD64
	le.PutUint16(b[at+6:], 2)
	le.PutUint16(b[at+20:], 240)
	le.PutUint16(b[optional:], 0x20B)
	for offset, value := range map[int]uint32{32: 0x200, 36: 0x200, 56: 0x2200, 60: headers, 108: 16} {
		le.PutUint32(b[optional+offset:], value)
	}
	le.PutUint16(b[optional+68:], 10) // an application of EFI
	for i, name := range []string{".text", ".sdmagic"} {
		h := b[sections+40*i:]
		copy(h, name)
		for offset, value := range map[int]uint32{8: 0x40, 12: uint32(0x1000 * (i + 1)), 16: 0x200, 20: uint32(headers + 0x200*i)} {
			le.PutUint32(h[offset:], value)
		}
	}
	b = append(b, bytes.Repeat([]byte{0xCC}, 0x200)...)
	b = append(b, magic+"252 ####"...)
	return append(b, make([]byte, headers+0x400-len(b))...)
}

// bootable makes a disk with a unified kernel image, and returns its name.
func (f *fixture) bootable(name, cmdline string) string {
	f.Helper()
	image, err := guestimage.UKI(stub(), guestimage.Section{Name: ".osrel", Data: []byte("ID=test\n")},
		guestimage.Section{Name: ".cmdline", Data: []byte(cmdline)}, guestimage.Section{Name: ".linux", Data: stub()})
	must(f, err)
	file := filepath.Join(f.disks, name)
	must(f, os.RemoveAll(file))
	out, err := os.Create(file)
	must(f, err)
	d := guestimage.Disk{Time: time.Unix(1e9, 0).UTC(), Size: guestimage.MinPartition, Files: []guestimage.File{{Name: "EFI/BOOT/BOOTX64.EFI", Data: image}}}
	size, err := d.Write(out)
	must(f, err)
	must(f, out.Truncate(size))
	must(f, out.Close())
	return file
}

// baselined gives a machine the baseline of a boot that was recorded elsewhere.
func (f *fixture) baselined(name string) {
	f.Helper()
	log, err := eventlog.Parse(evidencetest.File(f, "good-uki/eventlog.bin"))
	must(f, err)
	seen, err := log.Inspect(integrity.Bank)
	must(f, err)
	home, err := f.root.Open(f.Context(), name)
	must(f, err)
	must(f, home.SetHistory(&integrity.History{BootCounter: 1, Versions: []integrity.Version{{
		Number: 1, Made: time.Now().UTC(), Actor: "operator", Boot: 1, Baseline: baseline.From(seen, baseline.Shape{}),
	}}}))
	must(f, home.Close())
}

func TestAnUpdateIsApprovedBeforeItsBoot(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	file := f.bootable("web-1.raw", "quiet")
	f.do(admin, "POST", "/v1/instances", `{"profile":"baseline","instance":{"name":"web-1","disks":[{"file":"`+file+`","format":"raw","boot":true}]}}`).want("create", 200)
	f.baselined("web-1")
	const path = "/v1/instances/web-1/approveNextBoot"
	look := func() (body struct {
		Changes bool
		Digest  string
		Check   struct{ Boots *bool }
	},
	) {
		f.do(admin, "GET", "/v1/instances/web-1/nextBoot", "").want("look", 200, `"registers":[{`, `"state":"changes"`).into(&body)
		if !body.Changes || len(body.Digest) != 64 || body.Check.Boots == nil || !*body.Check.Boots {
			t.Errorf("%+v", body)
		}
		return body
	}
	plan := func() *integrity.Plan {
		h, err := f.root.History(t.Context(), "web-1")
		must(t, err)
		return h.Plan
	}
	seen := look()
	f.bootable("web-1.raw", "quiet init=/bin/sh")
	f.do(admin, "POST", path, `{"digest":"`+seen.Digest+`"}`).want("what is there no more", 409, "look again")
	if p := plan(); p != nil {
		t.Errorf("approved all the same: %+v", p)
	}
	seen = look()
	operator := f.principal(access.Principal{Name: "operator", Roles: []access.Role{access.Operator}})
	f.do(operator, "POST", path, `{"digest":"`+seen.Digest+`"}`).want("an operator", 403, "instances.setShieldedVmIntegrityPolicy")
	f.do(admin, "POST", path, `{"digest":"`+seen.Digest+`","hours":2,"reason":"kernel 6.1.9"}`).want("approve", 200, `"operationType":"approveNextBoot"`)
	p := plan()
	if p == nil || p.Actor != "principal admin" || p.Reason != "kernel 6.1.9" || p.Expires.Sub(p.Made) != 2*time.Hour || len(p.Registers) == 0 {
		t.Errorf("the plan is %+v", p)
	}
	f.do(admin, "GET", "/v1/instances/web-1/events", "").want("events", 200, "the next boot was approved before it", "kernel 6.1.9")
	f.do(admin, "DELETE", path, "").want("take it back", 200)
	if p := plan(); p != nil {
		t.Errorf("after it was taken back: %+v", p)
	}
	if got := strings.Join(f.actions("admin"), ","); !strings.Contains(got, "instance.approveNextBoot web-1 done") || !strings.Contains(got, "instance.dropNextBoot web-1 done") {
		t.Errorf("audit chain: %s", got)
	}
}

func TestAnImageThatBootsIsSaidTo(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	file := f.bootable("uki.raw", "quiet")
	f.do(admin, "POST", "/v1/images", `{"name":"uki","file":"`+file+`","format":"raw"}`).want("add", 200)
	const check = "/v1/images/uki/check?keyset=" + fleet.DefaultKeyset
	f.do(admin, "GET", check, "").want("unsigned", 200, `"boots":false`, `"secureBoot":true`, `"disk":"uki@1"`)
	f.do(admin, "GET", check+"&secureBoot=false", "").want("without secure boot", 200, `"boots":true`, `"secureBoot":false`, `"kind":"uki"`)
	f.do(admin, "POST", "/v1/images/check", `{"file":"`+file+`","format":"raw","keyset":"`+fleet.DefaultKeyset+`","noSecureBoot":true}`).want("of a file", 200, `"boots":true`)
}

// The shape is Compute Engine's, for a TPM with a device identity as for one without.
func TestTheIdentityOfATPMHasItsSigningKey(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	type shape struct {
		SigningKey, EncryptionKey, ECCP256EncryptionKey *keyBody
		Identity                                        struct{ Keys []struct{ Kind string } }
	}
	identity := func(name string) (out shape) {
		f.do(admin, "GET", "/v1/instances/"+name+"/getShieldedInstanceIdentity", "").want(name, 200).into(&out)
		for what, k := range map[string]*keyBody{"encryptionKey": out.EncryptionKey, "eccP256EncryptionKey": out.ECCP256EncryptionKey, "signingKey": out.SigningKey} {
			if k == nil {
				continue
			}
			block, rest := pem.Decode([]byte(k.EKPub))
			if block == nil || len(rest) > 0 {
				t.Fatalf("%s of %s is %q", what, name, k.EKPub)
			}
			if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				t.Errorf("%s of %s: %v", what, name, err)
			}
		}
		return out
	}
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	f.do(admin, "GET", "/v1/instances/web-1/getShieldedInstanceIdentity", "").want("without a TPM", 409, "no TPM")
	card, err := f.root.Card("web-1")
	must(t, err)
	vm := &vtpm.VM{Name: "web-1", UUID: card.ID, Firmware: "efi", HardwareVersion: 19, GuestOS: "linux", EncryptedHome: "yes"}
	_, err = f.tpms.Create(t.Context(), "operator", vtpm.CreateOptions{Name: "web-1", Provider: "main", VM: vm, DeviceIdentity: true})
	must(t, err)
	on := `{"enableVtpm":true}`
	f.do(admin, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", on).want("take it", 200)
	if got := identity("web-1"); got.SigningKey == nil || got.EncryptionKey == nil || got.ECCP256EncryptionKey == nil || got.SigningKey.EKPub == got.ECCP256EncryptionKey.EKPub {
		t.Errorf("with a device identity: %+v", got)
	}
	f.do(admin, "POST", "/v1/instances", plain("web-2")).want("create", 200)
	f.do(admin, "PATCH", "/v1/instances/web-2/updateShieldedInstanceConfig", on).want("make one", 200)
	if got := identity("web-2"); got.SigningKey != nil || got.EncryptionKey == nil || got.ECCP256EncryptionKey == nil {
		t.Errorf("without one: %+v", got)
	}
}
