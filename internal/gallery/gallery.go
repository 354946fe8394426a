// Package gallery keeps the disk images that machines of a host are made from: each under
// a name and a version, with its digest, never changed once it is there.
//
// A machine gets a copy of its own, compared with the digest as it is made; no overlay:
// QEMU, and the reader of boot chains, follow no file that a disk's header names, since
// whoever writes the header could name any. What an image is said to boot is what was
// predicted when it was added. Nothing here proves who made an image.
//
// Start with [Gallery.Add] and [Gallery.Copy]. The format is docs/formats/gallery.md.
package gallery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/strictjson"
)

// The errors that a caller acts on.
var (
	ErrName    = errors.New("not a name for an image: want NAME or NAME@VERSION, of letters, digits, dots, underscores and hyphens")
	ErrUnknown = errors.New("there is no such image")
	ErrExists  = errors.New("there is an image of that name and version")
	ErrDigest  = errors.New("the image is not what was added: its digest is another")
	ErrDamaged = errors.New("the record of the image is damaged")
	ErrBusy    = errors.New("another process changes the images")
)

// An Image is one version of an image.
type Image struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Format  string    `json:"format"` // raw or qcow2
	Size    int64     `json:"size"`   // of the file, bytes
	SHA256  string    `json:"sha256"` // of the file, lower-case hex
	Added   time.Time `json:"added"`
	By      string    `json:"by"`
	// Keyset is what the image was checked against, Boots what that said: yes, no or
	// unknown, with Why in words; empty for an image that was not checked.
	Keyset string            `json:"keyset,omitempty"`
	Boots  string            `json:"boots,omitempty"`
	Why    string            `json:"why,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Ref is how a machine names the image.
func (i *Image) Ref() string { return i.Name + "@" + i.Version }

// A Gallery is a folder of images. Several processes may have it.
type Gallery struct {
	dir string
	now func() time.Time
}

// Open opens a folder, which need not be there.
func Open(dir string, now func() time.Time) *Gallery { return &Gallery{dir, now} }

const (
	recordFile = "image.json"
	diskFile   = "disk"
	maxRecord  = 64 << 10
	maxLabels  = 64
)

var (
	wordRule    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) })
	digestRule  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })
	recordRules = strictjson.Rules{Bytes: maxRecord, Depth: 3, Members: 128, Values: 512, FoldNames: true}
)

func (g *Gallery) versionDir(name, version string) string { return filepath.Join(g.dir, name, version) }

// lock takes the gallery for this process, and removes what a crash left.
func (g *Gallery) lock() (*durable.Lock, error) {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, err
	}
	l, err := durable.LockDir(g.dir)
	if errors.Is(err, durable.ErrLocked) {
		err = ErrBusy
	}
	return l, err
}

// Add copies a disk into the gallery. An empty version is the next number. The record is
// written last: without it there is no image.
func (g *Gallery) Add(ctx context.Context, i Image, file string) (_ *Image, err error) {
	lock, err := g.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if i.Version == "" {
		if i.Version, err = g.nextVersion(i.Name); err != nil {
			return nil, err
		}
	}
	if !wordRule().MatchString(i.Name) || !wordRule().MatchString(i.Version) || len(i.Labels) > maxLabels {
		return nil, fmt.Errorf("image %.80q: %w", i.Ref(), ErrName)
	}
	dir := g.versionDir(i.Name, i.Version)
	if _, err := os.Lstat(filepath.Join(dir, recordFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("image %q: %w", i.Ref(), ErrExists), err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil { // of a crash
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("image %q: %w", i.Ref(), err), os.RemoveAll(dir))
		}
	}()
	if i.Size, i.SHA256, err = copyDisk(ctx, filepath.Join(dir, diskFile), file, disk.Format(i.Format)); err != nil {
		return nil, err
	}
	i.Added = g.now().UTC()
	text, err := json.MarshalIndent(&i, "", "  ")
	if err != nil {
		return nil, err
	}
	return &i, durable.CreateFile(filepath.Join(dir, recordFile), append(text, '\n'), 0o600)
}

// nextVersion is the number after the greatest.
func (g *Gallery) nextVersion(name string) (string, error) {
	images, err := g.List()
	if err != nil {
		return "", err
	}
	next := 1
	for _, i := range images {
		if n, err := strconv.Atoi(i.Version); err == nil && i.Name == name && n >= next {
			next = n + 1
		}
	}
	return strconv.Itoa(next), nil
}

// copyDisk copies a disk, whose holes stay, and returns its size and digest.
func copyDisk(ctx context.Context, to, from string, format disk.Format) (size int64, digest string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, "", err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return 0, "", err
	}
	if !info.Mode().IsRegular() {
		return 0, "", fmt.Errorf("%q is no file", from)
	}
	// An image that leads to another file is refused: it would not be all of the disk.
	if _, err := disk.Open(in, info.Size(), format); err != nil {
		return 0, "", err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sum, buf, zeros := sha256.New(), make([]byte, piece), make([]byte, piece)
	for size < info.Size() {
		n, err := io.ReadFull(in, buf[:min(piece, info.Size()-size)])
		if err = errors.Join(err, ctx.Err()); err != nil {
			return 0, "", fmt.Errorf("read %q at %d: %w", from, size, err)
		}
		sum.Write(buf[:n])
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return 0, "", err
			}
		}
		size += int64(n)
	}
	return size, hex.EncodeToString(sum.Sum(nil)), errors.Join(out.Truncate(size), out.Sync())
}

// piece is how much of a disk is read at once; one that is all zeros is a hole.
const piece = 64 << 10

// List returns all images by name, and the oldest version of each first.
func (g *Gallery) List() ([]*Image, error) {
	records, err := filepath.Glob(filepath.Join(g.dir, "*", "*", recordFile))
	if err != nil {
		return nil, err
	}
	out := []*Image{}
	for _, file := range records {
		version := filepath.Base(filepath.Dir(file))
		i, err := g.read(filepath.Base(filepath.Dir(filepath.Dir(file))), version)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *Image) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), a.Added.Compare(b.Added), strings.Compare(a.Version, b.Version))
	})
	return out, nil
}

func (g *Gallery) read(name, version string) (*Image, error) {
	ref := name + "@" + version
	file := filepath.Join(g.versionDir(name, version), recordFile)
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("image %q: %w", ref, ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecord {
		return nil, fmt.Errorf("image %q: %w", ref, ErrDamaged)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	i, err := parseImage(text)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w: %w", ref, ErrDamaged, err)
	}
	if i.Ref() != ref {
		return nil, fmt.Errorf("image %q: its record is of %q: %w", ref, i.Ref(), ErrDamaged)
	}
	return i, nil
}

func parseImage(text []byte) (*Image, error) {
	if _, err := strictjson.Parse(text, recordRules); err != nil {
		return nil, err
	}
	i := new(Image)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(i); err != nil {
		return nil, err
	}
	if !wordRule().MatchString(i.Name) || !wordRule().MatchString(i.Version) || !digestRule().MatchString(i.SHA256) || i.Size < 0 ||
		!slices.Contains([]string{string(disk.Raw), string(disk.QCOW2)}, i.Format) {
		return nil, errors.New("a member is not what it can be")
	}
	return i, nil
}

// Get returns an image by NAME@VERSION, or the version of NAME that was added last.
func (g *Gallery) Get(ref string) (*Image, error) {
	name, version, exact := strings.Cut(ref, "@")
	if !wordRule().MatchString(name) || exact && !wordRule().MatchString(version) {
		return nil, fmt.Errorf("image %.130q: %w", ref, ErrName)
	}
	if exact {
		return g.read(name, version)
	}
	images, err := g.List()
	if err != nil {
		return nil, err
	}
	for _, i := range slices.Backward(images) {
		if i.Name == name {
			return i, nil
		}
	}
	return nil, fmt.Errorf("image %q: %w", ref, ErrUnknown)
}

// Copy makes a machine's own disk of an image. A copy that has not the image's digest is
// removed, and the error wraps [ErrDigest].
func (g *Gallery) Copy(ctx context.Context, i *Image, to string) error {
	_, digest, err := copyDisk(ctx, to, filepath.Join(g.versionDir(i.Name, i.Version), diskFile), disk.Format(i.Format))
	if err == nil && digest != i.SHA256 {
		err = fmt.Errorf("%w: %s, and not %s", ErrDigest, digest, i.SHA256)
	}
	if err != nil {
		return fmt.Errorf("image %q: %w", i.Ref(), errors.Join(err, os.RemoveAll(to)))
	}
	return nil
}

// Disk is the file of an image's disk, to be read only.
func (g *Gallery) Disk(i *Image) string {
	return filepath.Join(g.versionDir(i.Name, i.Version), diskFile)
}

// Delete removes a version of an image. Its record goes first.
func (g *Gallery) Delete(i *Image) error {
	lock, err := g.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	dir := g.versionDir(i.Name, i.Version)
	if err := durable.Remove(filepath.Join(dir, recordFile)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
