package vm

import (
	"bytes"
	"crypto"
	"crypto/rand"
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
	if m.Guests, err = parts.Guests(func(b []byte) ([]byte, error) { return authenticode.Sign(b, s) }); err != nil {
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
