package instances

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm"
)

// withDisk is the definition of a machine with a disk of its own.
func (f *fixture) withDisk(name, more string) string {
	f.Helper()
	dir := filepath.Join(f.disks, name)
	must(f, os.MkdirAll(dir, 0o700))
	file := filepath.Join(dir, "disk.raw")
	must(f, os.WriteFile(file, bytes.Repeat([]byte("disk of "+name+"\n"), 1<<12), 0o600))
	return `{"profile":"off","instance":{"name":"` + name + `","labels":{"env":"prod"},"disks":[{"file":"` + file + `","format":"raw"` + more + `}]}}`
}

// backedUp makes a machine and a backup of it, for whom body says.
func (f *fixture) backedUp(token, name, body string) *BackupMade {
	f.Helper()
	f.do(token, "POST", "/v1/instances", f.withDisk(name, "")).want("create", 200)
	var op Operation
	f.do(token, "POST", "/v1/instances/"+name+"/backup", body).want("back up", 200).into(&op)
	if op.Backup == nil || op.Backup.Machine != name || op.Backup.Bytes == 0 || strings.Contains(op.Backup.Backup, "/") {
		f.Fatalf("%+v", op.Backup)
	}
	return op.Backup
}

func TestAMachineComesBackFromItsBackup(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	made := f.backedUp(admin, "web-1", `{"keyProvider":"main"}`)
	f.do(admin, "GET", "/v1/backups", "").want("list", 200, made.Backup, `"machine":"web-1"`, `"keyProvider":"main"`, made.ID)
	events := f.do(admin, "GET", "/v1/instances/web-1/events", "").want("events", 200, "a backup was written, and opened again")
	if strings.Contains(string(events.body), f.dir) {
		t.Errorf("%s", events.body)
	}
	restore := "/v1/backups/" + made.Backup + "/restore"
	f.do(admin, "POST", restore, `{}`).want("beside the original", 409)
	f.do(admin, "POST", restore, `{"name":"web-2"}`).want("as a twin", 409, "instance.backup-refused", "twin")
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("delete", 200)
	f.do(admin, "POST", restore+"?validateOnly=true", `{}`).want("look", 200, `"validateOnly":true`, `"restored":{`)
	f.do(admin, "GET", "/v1/instances/web-1", "").want("nothing was made", 404)
	var op Operation
	f.do(admin, "POST", restore, `{}`).want("restore", 200, `"rolledBack":false`).into(&op)
	if op.Restored == nil || op.Restored.ID != made.ID || op.Restored.Machine != "web-1" {
		t.Errorf("%+v", op.Restored)
	}
	d, err := f.root.Describe(t.Context(), "web-1")
	must(t, err)
	text, err := os.ReadFile(d.Definition.Disks[0].File)
	must(t, err)
	if d.ID != made.ID || !bytes.HasPrefix(text, []byte("disk of web-1\n")) || len(text) != 14<<12 {
		t.Errorf("%+v, %d bytes of disk", d, len(text))
	}
	f.do(admin, "POST", restore, `{"name":"web-3","newIdentity":true}`).want("a copy", 200, `"machine":"web-3"`)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.told, "changed web-3") || slices.Contains(f.told, "changed web-2") {
		t.Errorf("told %q", f.told)
	}
}

// The keys of a backup for recipients come with the request and stay nowhere.
func TestIdentitiesAreKeptNowhere(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	made := f.backedUp(admin, "web-1", `{"recipients":["`+id.Recipient().String()+`"]}`)
	restore := "/v1/backups/" + made.Backup + "/restore"
	f.do(admin, "POST", restore, `{"name":"web-2","newIdentity":true}`).want("without a key", 409, "instance.backup-refused")
	other, err := age.GenerateX25519Identity()
	must(t, err)
	f.do(admin, "POST", restore, `{"name":"web-2","newIdentity":true,"identities":["`+other.String()+`"]}`).want("with another", 409, "instance.backup-refused", "none of the keys")
	f.do(admin, "POST", restore, `{"name":"web-2","newIdentity":true,"identities":["`+id.String()+`"]}`).want("with it", 200)
	f.do(admin, "POST", restore, `{"identities":["no"]}`).want("none", 422, "identities")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.trail {
		if strings.Contains(string(e.Detail), "AGE-SECRET-KEY") {
			t.Errorf("the audit chain has %s", e.Detail)
		}
	}
	entries, err := os.ReadDir(filepath.Join(f.dir, "operations"))
	must(t, err)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(f.dir, "operations", e.Name()))
		must(t, err)
		if bytes.Contains(text, []byte("AGE-SECRET-KEY")) {
			t.Errorf("%s has %s", e.Name(), text)
		}
	}
}

func TestABackupThatCannotBeIsRefusedWithItsReason(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", f.withDisk("shared", `,"shared":true`)).want("create", 200)
	f.do(admin, "POST", "/v1/instances/shared/backup", `{"keyProvider":"main"}`).want("of a shared disk", 409, "instance.backup-refused", "withoutShared")
	f.do(admin, "POST", "/v1/instances/shared/backup", `{"keyProvider":"main","withoutShared":true}`).want("without it", 200)
	f.do(admin, "POST", "/v1/instances", plain("other")).want("create", 200)
	for body, words := range map[string]string{
		`{}`: "keyProvider", `{"recipients":["age1no"]}`: "recipients", `{"keyProvider":"local:/etc/passwd"}`: "keyProvider", `{"keyProvider":"none"}`: "no key provider",
		`{"keyProvider":"main","recipients":["age1"]}`: "one of the two", `{"keyProvider":"main","to":"/etc"}`: "to",
	} {
		f.do(admin, "POST", "/v1/instances/other/backup", body).want(body, 422, words)
	}
	f.do(admin, "POST", "/v1/instances/none/backup", `{"keyProvider":"main"}`).want("of none", 404)
	made := f.backedUp(admin, "web-1", `{"keyProvider":"main"}`)
	dir := filepath.Join(f.dir, "backups")
	text, err := os.ReadFile(filepath.Join(dir, made.Backup))
	must(t, err)
	flipped := bytes.Clone(text)
	flipped[len(flipped)-40] ^= 1
	for name, b := range map[string][]byte{"cut": text[:len(text)-100], "altered": flipped, "garbage": []byte("hello"), "empty": {}} {
		must(t, os.WriteFile(filepath.Join(dir, name+".assayvm"), b, 0o600))
		got := f.do(admin, "POST", "/v1/backups/"+name+".assayvm/restore", `{"name":"web-2","newIdentity":true}`).want(name, 409, "instance.backup-refused")
		if strings.Contains(string(got.body), f.dir) {
			t.Errorf("%s: %s", name, got.body)
		}
	}
	list := f.do(admin, "GET", "/v1/backups", "").want("with damaged ones", 200, `"backup":"garbage.assayvm"`, `"problem":"not a backup of a machine"`, made.ID)
	if strings.Contains(string(list.body), f.dir) {
		t.Errorf("%s", list.body)
	}
	must(t, os.Symlink(filepath.Join(dir, made.Backup), filepath.Join(dir, "link.assayvm")))
	must(t, os.Mkdir(filepath.Join(dir, "folder.assayvm"), 0o700))
	list = f.do(admin, "GET", "/v1/backups", "").want("with what is none", 200, made.Backup)
	if bytes.Contains(list.body, []byte("link.assayvm")) || bytes.Contains(list.body, []byte("folder.assayvm")) {
		t.Errorf("%s", list.body)
	}
	for _, name := range []string{"..%2Fvms%2Fweb-1%2Fmachine.json", "none.assayvm", "link.assayvm", "folder.assayvm", ".assayvm", "a%00.assayvm", "..assayvm"} {
		f.do(admin, "POST", "/v1/backups/"+name+"/restore", `{}`).want(name, 404)
	}
	f.do(admin, "GET", "/v1/instances/web-2", "").want("nothing was made", 404)
}

// A URI in the header of a file would have this host speak to whoever made the file.
func TestTheKeyProviderOfABackupIsNoURI(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", f.withDisk("web-1", "")).want("create", 200)
	elsewhere, err := vmbackup.New(vmbackup.Config{
		Machines: f.root, Random: rand.Reader, Now: time.Now,
		Provider: func(ctx context.Context, _ string) (vtpm.Provider, error) { return f.provider(ctx, "main") },
	})
	must(t, err)
	made, err := elsewhere.Backup(t.Context(), "operator", vmbackup.Options{
		Name: "web-1", To: filepath.Join(f.dir, "backups", "uri.assayvm"), Protection: vmbackup.Protection{Provider: "kmip://203.0.113.1"},
	})
	must(t, err)
	restore := "/v1/backups/" + filepath.Base(made.File) + "/restore"
	f.do(admin, "POST", restore, `{"name":"web-2","newIdentity":true}`).want("by the URI", 422, "backupKeyProvider")
	f.do(admin, "POST", restore, `{"name":"web-2","newIdentity":true,"backupKeyProvider":"main"}`).want("by a name", 200)
}

// While one backup is written or read nobody waits for the next, with a machine held.
func TestABackupBesideAnotherIsRefused(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	made := f.backedUp(admin, "web-1", `{"keyProvider":"main"}`)
	leave, err := f.api.copyNow()
	must(t, err)
	eve := f.principal(access.Principal{
		Name: "eve", Custom: []access.CustomRole{{Name: "backer", Permissions: []access.Permission{access.CreateBackup}}}, Bindings: []access.Binding{{Role: "backer", Instances: "eve-*"}},
	})
	for i := range mostRunning + 1 {
		f.do(eve, "POST", fmt.Sprintf("/v1/instances/eve-%d/backup", i), `{"keyProvider":"main"}`).want("of a machine that may be none", 409, "instance.busy", "ask again")
	}
	f.do(admin, "POST", "/v1/instances/web-1/backup", `{"keyProvider":"main"}`).want("another backup", 409, "instance.busy")
	f.do(admin, "POST", "/v1/backups/"+made.Backup+"/restore?validateOnly=true", `{"name":"web-2","newIdentity":true}`).want("a restore", 409, "instance.busy")
	f.do(admin, "POST", "/v1/instances/web-1/start", "").want("the machine meanwhile", 200)
	leave()
	f.do(admin, "POST", "/v1/backups/"+made.Backup+"/restore?validateOnly=true", `{"name":"web-2","newIdentity":true}`).want("afterwards", 200)
}

func TestAFolderForBackupsHasItsBounds(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", f.withDisk("web-1", "")).want("create", 200)
	dir := filepath.Join(f.dir, "backups")
	for _, name := range []string{"web-1-20260101T000000Z.assayvm", "web-1-20260102T000000Z.assayvm", "web-1-b-20260102T000000Z.assayvm", "web-1.assayvm"} {
		must(t, os.WriteFile(filepath.Join(dir, name), make([]byte, 1<<20), 0o600))
	}
	again := func(what string, status int, words ...string) {
		t.Helper()
		f.do(admin, "POST", "/v1/instances/web-1/backup", `{"keyProvider":"main"}`).want(what, status, words...)
	}
	f.api.cfg.BackupsOfOne = 2
	again("two of it", 409, "instance.backup-refused", "there are 2 backups of the machine")
	f.api.cfg.BackupsOfOne, f.api.cfg.BackupBytes = 3, 20<<20
	again("4 MiB, and some 17 to come", 409, "instance.backup-refused", "they may have")
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 4 {
		t.Errorf("%d files after two that were refused", len(entries))
	}
	f.api.cfg.BackupBytes = 0
	if err := f.api.backupRoom(t.Context(), "web-1", 1<<60); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("more than any file system has: %v", err)
	}
	f.api.cfg.BackupBytes = 24 << 20
	again("with room", 200)
}

// Who restores a machine gets nothing by its labels, and needs the right to make one of its name.
func TestARestoreGivesNobodyMoreThanACreate(t *testing.T) {
	f := newFixture(t)
	made := f.backedUp(f.admin(), "web-1", `{"keyProvider":"main"}`)
	restore, body := "/v1/backups/"+made.Backup+"/restore", `{"name":"web-2","newIdentity":true}`
	custom := []access.CustomRole{
		{Name: "restorer", Permissions: []access.Permission{access.RestoreBackup}},
		{Name: "maker", Permissions: []access.Permission{access.CreateInstance, access.SetLabels}},
	}
	who := func(name string, bindings ...access.Binding) string {
		return f.principal(access.Principal{Name: name, Roles: []access.Role{"restorer"}, Bindings: bindings, Custom: custom})
	}
	maker := access.Binding{Role: "maker", Instances: "web-*"}
	f.do(who("a"), "POST", restore, body).want("who may not make machines", 403, "instances.create")
	f.do(who("b", access.Binding{Role: "maker", Instances: "db-*"}), "POST", restore, body).want("who may make others", 403, "instances.create")
	f.do(who("c", maker, access.Binding{Role: access.InstanceAdmin, Label: "env=prod"}), "POST", restore, body).want("who gains by the label", 403, "somebody else must set them")
	f.do(f.principal(access.Principal{Name: "d", Bindings: []access.Binding{maker}, Custom: custom}), "POST", restore, body).want("who may not restore", 403, "backups.restore")
	f.do(f.principal(access.Principal{Name: "e", Roles: []access.Role{access.Operator}}), "POST", "/v1/instances/web-1/backup", `{"keyProvider":"main"}`).want("who may not write it", 403, "instances.createBackup")
	f.do(f.admin(), "GET", "/v1/instances/web-2", "").want("nothing was made", 404)
	f.do(who("f", maker), "POST", restore, body).want("who may", 200)
}

func TestAServiceWithoutAFolderForBackupsSaysSo(t *testing.T) {
	f := newFixture(t)
	f.api.cfg.BackupDir = ""
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	for _, call := range [][3]string{{"POST", "/v1/instances/web-1/backup", `{"keyProvider":"main"}`}, {"GET", "/v1/backups", ""}, {"POST", "/v1/backups/a.assayvm/restore", "{}"}} {
		f.do(admin, call[0], call[1], call[2]).want(call[1], 409, "--machine-backups")
	}
}

func TestTheKeySetOfAMachineIsShown(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	_, err := f.root.Create(t.Context(), "operator", machine.CreateOptions{Definition: &fleet.Definition{
		Name: "web-1", GuestOS: "linux", CPUs: 1, MemoryMiB: 1024, Keyset: fleet.DefaultKeyset, Policy: "default", MachineType: "q35", TPM: "crb",
		Shielded: fleet.Shielded{SecureBoot: true},
	}})
	must(t, err)
	f.instead("web-1", func(string) string { return "?" }) // also while it runs, and nobody answers
	f.do(admin, "GET", "/v1/instances/web-1/keyset", "").want("its keys", 200, `"lacks":[]`, `"kind":"own"`, `"role":"PK"`, `"attention":[]`)
	h, err := os.ReadFile(filepath.Join(f.dir, "vars.fd"))
	must(t, err)
	must(t, os.Remove(filepath.Join(f.dir, "vms", "web-1", "run", "control")))
	home, err := f.root.Open(t.Context(), "web-1")
	must(t, err)
	must(t, home.SetVariables(h)) // without keys
	must(t, home.Close())
	f.do(admin, "GET", "/v1/instances/web-1/keyset", "").want("without its keys", 200, `"lacks":["`, "an update of the machine while it is off enrols it")
	f.do(admin, "GET", "/v1/instances/none/keyset", "").want("of none", 404)
}

func TestAnImageIsCheckedUnderAKeySet(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	file := f.disk("disks/empty.raw")
	f.do(admin, "POST", "/v1/images", `{"name":"empty","file":"`+file+`","format":"raw"}`).want("add", 200)
	f.do(admin, "GET", "/v1/images/empty/check", "").want("without a key set", 422, "keyset")
	f.do(admin, "GET", "/v1/images/empty/check?keyset=none", "").want("under none", 422, "no key set")
	for _, got := range []answer{
		f.do(admin, "GET", "/v1/images/empty/check?keyset="+fleet.DefaultKeyset, ""),
		f.do(admin, "POST", "/v1/images/check", `{"file":"`+file+`","format":"raw","keyset":"`+fleet.DefaultKeyset+`"}`),
	} {
		got.want("an empty disk", 409, "the disk cannot be read")
		if strings.Contains(string(got.body), f.dir) {
			t.Errorf("%s", got.body)
		}
	}
	f.do(admin, "POST", "/v1/images/check", `{"file":"/etc/passwd","format":"raw","keyset":"`+fleet.DefaultKeyset+`"}`).want("another file", 403, "instance.disk-not-allowed")
	viewer := f.principal(access.Principal{Name: "viewer", Roles: []access.Role{access.Viewer}})
	f.do(viewer, "POST", "/v1/images/check", `{"file":"`+file+`","format":"raw","keyset":"`+fleet.DefaultKeyset+`"}`).want("a viewer", 403, "images.create")
}
