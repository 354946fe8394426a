package launch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/sigdb"
)

const (
	// sbatOriginal is the level that shim sets where Secure Boot is off.
	sbatOriginal = "sbat,1,2021030218\n"
	// sbatAttributes are those of the variable SbatLevel.
	sbatAttributes = uefi.NonVolatile | uefi.BootServiceAccess
	maxVendor      = 1 << 20
	defaultLoader  = "grubx64.efi"
)

// A shim is one that runs: what it decides by, and what it has measured.
type shim struct {
	b        *boot
	level    *sigdb.SBATLevel // nil where Secure Boot is off
	revoked  *sigdb.Database  // dbx, the vendor's, MokListX
	sources  []source         // in the order in which shim asks them
	measured map[string]bool
}

// A source is a database that shim allows images by.
type source struct {
	name   string
	vendor uefi.GUID
	lists  *sigdb.Database
}

// shim is the first loader of distributions: it verifies the next by keys of its own.
func (b *boot) shim(i *image, o option) error {
	if err := b.shimState(i, o); err != nil {
		return err
	}
	s := &shim{b: b, measured: map[string]bool{}}
	if err := s.vendor(i); err != nil {
		return err
	}
	if err := s.setLevel(i); err != nil {
		return err
	}
	next, err := b.load(i.volume, folderOf(i.c.Path)+defaultLoader)
	if errors.Is(err, fs.ErrNotExist) {
		return evidence.Refuse(codeFileMissing, "shim starts it, and it is not there").About(folderOf(i.c.Path) + defaultLoader)
	}
	if err != nil {
		return err
	}
	if err := s.verify(next, false); err != nil {
		return err
	}
	b.p.extend(4, next.c.Digests, next.c.name())
	if next.c.Kind != GRUB {
		return &undecided{evidence.Refuse(codeLoader, "shim starts a program that is not GRUB").About(next.c.Path)}
	}
	return b.grub(next, s)
}

// shimState looks for what has shim go another way.
func (b *boot) shimState(i *image, o option) error {
	if len(bytes.Trim(o.data, "\x00 \n")) > 0 {
		return &undecided{evidence.Refuse(codeState, "the boot option tells shim what to start").About(i.c.Path)}
	}
	if b.m.Store != nil {
		for v := range b.m.Store.All() {
			if v.Vendor == uefi.ShimLock && !plainShimVariable(v.Name) {
				return &undecided{evidence.Refuse(codeState, "the variable %s changes what shim does", v.Name).About(i.c.Path)}
			}
		}
	}
	folder := folderOf(i.c.Path)
	all, err := i.volume.list(folder)
	if err != nil {
		return err
	}
	for _, e := range all {
		name := strings.ToLower(e.Name)
		switch {
		case strings.HasPrefix(name, "shim_certificate"), strings.HasPrefix(name, "revocations"):
			return &undecided{evidence.Refuse(codeExtras, "shim takes further keys or revocations from it").About(folder + e.Name)}
		case name == "fbx64.efi" && strings.EqualFold(folder, folderOf(removable)):
			// Where there is a TPM it sets boot options and starts the machine again.
			return &undecided{evidence.Refuse(codeLoader, "shim starts this program, which sets boot options and restarts the machine").About(folder + e.Name)}
		}
	}
	return nil
}

// plainShimVariable reports whether shim's variable is one that is followed here, or
// one that shim only writes.
func plainShimVariable(name string) bool {
	switch name {
	case "MokList", "MokListX", "SbatLevel", "SHIM_VERBOSE":
		return true
	}
	return strings.HasSuffix(name, "RT")
}

// vendor reads the keys that a shim was built with, and measures them as lists of its
// own (README.tpm, PCR 14).
func (s *shim) vendor(i *image) error {
	table, ok := i.section(".vendor_cert")
	if !ok || table.Size > maxVendor {
		return &undecided{evidence.Refuse(codeLoader, "the keys that shim was built with cannot be read").About(i.c.Path)}
	}
	t, err := io.ReadAll(i.Open(table))
	if err != nil {
		return err
	}
	allowed, forbidden, ok := vendorTable(t)
	db, err1 := sigdb.Parse(allowed)
	_, err2 := sigdb.Parse(forbidden)
	if !ok || err2 != nil {
		return &undecided{evidence.Refuse(codeLoader, "the keys that shim was built with cannot be read").About(i.c.Path)}
	}
	s.sources = []source{{sigdb.DB.String(), sigdb.DB.Vendor(), s.b.m.Variables.Database(sigdb.DB)}}
	if err1 == nil && len(allowed) > 0 {
		s.sources = append(s.sources, source{"vendor_db", sigdb.DB.Vendor(), db})
	} else if len(allowed) > 0 { // one certificate
		allowed = sigdb.Encode([]sigdb.Signature{{Type: sigdb.X509, Owner: uefi.ShimLock, Data: allowed}})
	}
	mok, mokX := s.lists("MokList"), s.lists("MokListX")
	own, err := sigdb.Parse(append(bytes.Clone(mok), allowed...))
	if err != nil {
		return &undecided{evidence.Refuse(codeState, "MokList cannot be read").About(i.c.Path)}
	}
	s.sources = append(s.sources, source{"MokListRT", uefi.ShimLock, own})
	all := append(append(bytes.Clone(s.b.m.Variables[sigdb.DBX].Data), forbidden...), mokX...)
	if s.revoked, err = sigdb.Parse(all); err != nil {
		return &undecided{evidence.Refuse(codeState, "dbx or MokListX cannot be read").About(i.c.Path)}
	}
	switch {
	case len(mok)+len(mokX) > 0:
		s.b.p.leave(unknown(codeState, "the owner of the machine has enrolled keys of shim's (MokList)"), 14)
		return nil
	case len(allowed) == 0 || len(forbidden) == 0:
		s.b.p.leave(unknown(codeVersion, "what a shim without keys or revocations of its vendor measures was not compared with a TPM"), 14)
		return nil
	}
	s.b.p.extend(14, digestOf(allowed), Name{Kind: eventlog.KindMOK, Name: "MokList"})
	s.b.p.extend(14, digestOf(forbidden), Name{Kind: eventlog.KindMOK, Name: "MokListX"})
	s.b.p.extend(14, digestOf([]byte{1}), Name{Kind: eventlog.KindMOK, Name: "MokListTrusted"})
	return nil
}

// vendorTable splits what .vendor_cert holds: two lengths, two offsets, two contents.
func vendorTable(t []byte) (allowed, forbidden []byte, ok bool) {
	if len(t) < 16 {
		return nil, nil, false
	}
	part := func(n int) ([]byte, bool) {
		size, at := uint64(binary.LittleEndian.Uint32(t[4*n:])), uint64(binary.LittleEndian.Uint32(t[8+4*n:]))
		if size == 0 {
			return nil, true
		}
		if at+size > uint64(len(t)) {
			return nil, false
		}
		return t[at : at+size], true
	}
	allowed, ok1 := part(0)
	forbidden, ok2 := part(1)
	return allowed, forbidden, ok1 && ok2
}

// lists are those of a variable of shim's, nil when there are none.
func (s *shim) lists(name string) []byte {
	if s.b.m.Store == nil {
		return nil
	}
	v, _ := s.b.m.Store.Get(uefi.ShimLock, name)
	return v.Data
}

// setLevel finds the SBAT level in force: the newer of the machine's and of what shim
// brings along, and shim's first one where Secure Boot is off.
func (s *shim) setLevel(i *image) error {
	text, err := s.levelText(i)
	if err != nil {
		return err
	}
	s.b.variable(uefi.ShimLock, "SbatLevel", text, Name{Kind: eventlog.KindVariable, Name: "SbatLevel", Detail: strings.TrimSpace(string(text))})
	if !s.b.secure {
		return nil
	}
	if s.level, err = sigdb.ParseSBATLevel(text); err != nil {
		return &undecided{evidence.Refuse(codeState, "the SBAT level in force cannot be read").About(i.c.Path)}
	}
	return s.checkSBAT(i, false) // shim stops when it is revoked itself
}

func (s *shim) levelText(i *image) ([]byte, error) {
	if !s.b.secure {
		return []byte(sbatOriginal), nil
	}
	brought, err := i.text(".sbatlevel")
	if err != nil {
		return nil, err
	}
	// A version, two offsets from behind it, two texts that end with NUL: what is set
	// by itself, and the newest there is.
	at := 4
	if len(brought) >= 8 {
		at += int(binary.LittleEndian.Uint32([]byte(brought[4:])))
	}
	if len(brought) < 12 || at > len(brought) || !strings.HasPrefix(brought, "\x00\x00\x00\x00") {
		return nil, &undecided{evidence.Refuse(codeVersion, "shim does not say in .sbatlevel what it revokes").About(i.c.Path)}
	}
	text, _, _ := strings.Cut(brought[at:], "\x00")
	own, err := sigdb.ParseSBATLevel([]byte(text))
	if err != nil {
		return nil, &undecided{evidence.Refuse(codeVersion, "shim's SBAT level cannot be read").About(i.c.Path)}
	}
	if s.b.m.Store == nil {
		return []byte(text), nil
	}
	v, ok := s.b.m.Store.Get(uefi.ShimLock, "SbatLevel")
	there, err := sigdb.ParseSBATLevel(v.Data)
	if ok && err == nil && v.Attributes == sbatAttributes && there.Date >= own.Date {
		return v.Data, nil
	}
	return []byte(text), nil
}

// checkSBAT refuses an image that is older than the level allows. One that comes
// through shim's protocol need not have a section.
func (s *shim) checkSBAT(i *image, protocol bool) error {
	count := 0
	for _, section := range i.Sections {
		if section.Name == ".sbat" {
			count++
		}
	}
	switch {
	case count == 0 && protocol:
		return nil
	case count != 1 || i.c.SBAT == nil:
		return i.c.refuse(evidence.Refuse(codeSBATMissing, "it has no .sbat section that shim can read"))
	}
	if r := s.level.Revoked(i.c.SBAT); r != nil {
		return i.c.refuse(evidence.Refuse(codeSBATRevoked, "its component %q is of generation %d, and %d is the least that the SBAT level %s allows", r.Component, r.Got, r.Want, s.level.Date))
	}
	return nil
}

// verify is shim's verify_buffer: no revocation, and an entry of one of its sources.
func (s *shim) verify(i *image, protocol bool) error {
	if !s.b.secure {
		return nil
	}
	if err := s.allow(i); err != nil {
		return err
	}
	return s.checkSBAT(i, protocol)
}

func (s *shim) allow(i *image) error {
	all, err := i.Signatures()
	if err != nil {
		return i.c.refuse(err)
	}
	if _, ok := find(s.revoked, i); ok {
		return i.c.refuse(evidence.Refuse(codeRevokedHash, "dbx, MokListX or shim's own list has the image's digest"))
	}
	if from, entry, ok := s.byDigest(i); ok {
		if _, err := i.Verify(authenticode.NewKeys(from.lists, s.revoked)); err == nil {
			s.take(i, from, entry)
			return nil
		}
	}
	var last error
	for _, from := range s.sources {
		v, err := i.Verify(authenticode.NewKeys(from.lists, s.revoked))
		if err == nil {
			s.take(i, from, v.Entry)
			if len(all) > 1 {
				s.b.p.leave(unknown(codeVersion, "%s has %d signatures, and which of them shim measures was not compared with a TPM", i.c.Path, len(all)), 7)
			}
			return nil
		}
		last = err
	}
	if len(all) > 1 && revoked(last) {
		// Firmware refuses an image for one signature that is revoked; shim takes
		// another that is not.
		return &undecided{evidence.Refuse(codeLoader, "one of its %d signatures is revoked, and shim may take another", len(all)).About(i.c.Path)}
	}
	return i.c.refuse(last)
}

func revoked(err error) bool {
	for _, r := range evidence.Reasons(err) {
		if r.Code == codeRevokedCertificate {
			return true
		}
	}
	return false
}

// byDigest finds the image's own digest, which shim looks for before signatures.
func (s *shim) byDigest(i *image) (source, sigdb.Signature, bool) {
	for _, from := range s.sources {
		if e, ok := find(from.lists, i); ok {
			return from, e, true
		}
	}
	return source{}, sigdb.Signature{}, false
}

// find looks for an image's digest, by the two algorithms that shim uses.
func find(d *sigdb.Database, i *image) (sigdb.Signature, bool) {
	if d == nil {
		return sigdb.Signature{}, false
	}
	for e := range d.All() {
		if e.Type == sigdb.SHA256 && bytes.Equal(e.Data, i.c.Digests[tpm2.AlgSHA256]) || e.Type == sigdb.SHA1 && bytes.Equal(e.Data, i.c.Digests[tpm2.AlgSHA1]) {
			return e, true
		}
	}
	return sigdb.Signature{}, false
}

// take notes what allowed an image; shim measures each entry once.
func (s *shim) take(i *image, from source, entry sigdb.Signature) {
	i.c.Authority = authority(from.name, entry)
	key := from.name + string(entry.Owner[:]) + string(entry.Data)
	if !s.measured[key] {
		s.measured[key] = true
		s.b.authority(from.vendor, from.name, entry)
	}
}
