package vm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/binary"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

// The key sets of the cases. All but the first two have the platform key of KeysOwn.
const (
	KeysOwn       = "own"
	KeysMicrosoft = "microsoft"
	KeysRogue     = "own-and-rogue" // another key's images start, too
	KeysSigner    = "own-revoked"   // dbx has the certificate that signs
	KeysImage     = "own-revoked-image"
)

// Media are the disks of the cases and the keys that sign what is on them.
type Media struct {
	Parts  *demovm.Parts
	Guests *demovm.Guests
	Sets   []*keyset.Set

	cache       string
	rogueSigned []byte
	sign        func(image []byte) ([]byte, error) // by the key of KeysOwn
}

// NewMedia makes keys, and signs the guests with them.
func NewMedia(parts *demovm.Parts) (*Media, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	m := &Media{Parts: parts, cache: filepath.Join(cache, demovm.CacheFolder)}
	own, keys, err := keyset.New(KeysOwn, keyset.Options{Kind: keyset.Own, Random: rand.Reader, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	s, err := own.Signing(sigdb.DB, keys, rand.Reader)
	if err != nil {
		return nil, err
	}
	m.sign = func(b []byte) ([]byte, error) { return authenticode.Sign(b, s) }
	if m.Guests, err = parts.Guests(m.sign); err != nil {
		return nil, err
	}
	if err := m.signRogue(own); err != nil {
		return nil, err
	}
	microsoft, _, err := keyset.New(KeysMicrosoft, keyset.Options{Kind: keyset.Microsoft, Random: rand.Reader, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	m.Sets = append(m.Sets, own, microsoft)
	return m, m.revoke(own)
}

// signRogue signs the good guest with a key of somebody else, and adds the set that
// takes it.
func (m *Media) signRogue(own *keyset.Set) error {
	rogue, keys, err := keyset.New("rogue", keyset.Options{Kind: keyset.Own, Random: rand.Reader, Now: time.Now()})
	if err != nil {
		return err
	}
	s, err := rogue.Signing(sigdb.DB, keys, rand.Reader)
	if err != nil {
		return err
	}
	if m.rogueSigned, err = authenticode.Sign(m.Guests.Unsigned, s); err != nil {
		return err
	}
	return m.derive(own, KeysRogue, sigdb.DB, rogue.Entries(sigdb.DB)...)
}

// revoke adds the sets that take the good guest's signer or digest back.
func (m *Media) revoke(own *keyset.Set) error {
	signer := own.Entries(sigdb.DB)[0]
	if err := m.derive(own, KeysSigner, sigdb.DBX, signer); err != nil {
		return err
	}
	image, err := authenticode.Parse(bytes.NewReader(m.Guests.Good), int64(len(m.Guests.Good)))
	if err != nil {
		return err
	}
	digest, err := image.Digest(crypto.SHA256)
	if err != nil {
		return err
	}
	return m.derive(own, KeysImage, sigdb.DBX, sigdb.Signature{Type: sigdb.SHA256, Owner: own.Owner, Data: digest})
}

// derive makes a set with the keys of another and more.
func (m *Media) derive(from *keyset.Set, name string, r sigdb.Role, more ...sigdb.Signature) error {
	given := map[sigdb.Role][]sigdb.Signature{}
	for _, role := range sigdb.Roles() {
		given[role] = from.Entries(role)
	}
	given[r] = append(given[r][:len(given[r]):len(given[r])], more...)
	set, _, err := keyset.New(name, keyset.Options{Kind: keyset.Own, Random: rand.Reader, Now: time.Now(), Given: given})
	m.Sets = append(m.Sets, set)
	return err
}

// Returning is a signed program that comes back to the firmware at once, with
// EFI_NOT_FOUND, so that this tries the next boot option (UEFI 3.1.1). Versions differ in a
// byte that is not run.
func (m *Media) Returning(version byte) ([]File, error) {
	const at, optional, header, file = 0x80, 0x80 + 24, 0x80 + 24 + 240, 0x200
	code := []byte{
		0x48, 0xB8, 0x0E, 0, 0, 0, 0, 0, 0, 0x80, // mov rax, 0x800000000000000E
		0xC3, // ret
		version,
	}
	b, le := make([]byte, 2*file), binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], at)
	copy(b[at:], "PE\x00\x00")
	le.PutUint16(b[at+4:], 0x8664) // AMD64
	le.PutUint16(b[at+6:], 1)
	le.PutUint16(b[at+20:], 240)
	le.PutUint16(b[at+22:], 0x22) // executable, with large addresses
	le.PutUint16(b[optional:], 0x20B)
	// Sizes of code and of the image, entry point, alignments, headers, directories.
	for offset, value := range map[int]uint32{4: file, 16: 0x1000, 20: 0x1000, 32: 0x1000, 36: file, 56: 0x2000, 60: file, 108: 16} {
		le.PutUint32(b[optional+offset:], value)
	}
	le.PutUint16(b[optional+68:], 10) // an application of EFI
	copy(b[header:], ".text")
	for offset, value := range map[int]uint32{8: file, 12: 0x1000, 16: file, 20: file, 36: 0x60000020} {
		le.PutUint32(b[header+offset:], value)
	}
	copy(b[file:], code)
	signed, err := m.sign(b)
	if err != nil {
		return nil, err
	}
	return image(signed)
}

// image is a disk with one that firmware starts.
func image(b []byte) ([]File, error) {
	return []File{{Name: demovm.BootFile, Data: b}}, nil
}

// menu is what GRUB does.
const menu = "linux /vmlinuz " + demovm.CommandLine + "\ninitrd /initrd\nboot\n"

// chain is a disk with shim, GRUB and a kernel, as Debian signed them.
func (m *Media) chain(menu string, kernel, initrd []byte) ([]File, error) {
	shim, err := demovm.ReadPart(m.cache, demovm.ShimFile)
	if err != nil {
		return nil, err
	}
	grub, err := demovm.ReadPart(m.cache, demovm.GRUBFile)
	return []File{
		{Name: demovm.BootFile, Data: shim},
		{Name: "EFI/BOOT/grubx64.efi", Data: grub},
		{Name: "EFI/debian/grub.cfg", Data: []byte(menu)},
		{Name: "vmlinuz", Data: kernel},
		{Name: "initrd", Data: initrd},
	}, err
}

// flipped is b with one bit changed in the middle.
func flipped(b []byte) []byte {
	out := bytes.Clone(b)
	out[len(out)/2] ^= 1
	return out
}
