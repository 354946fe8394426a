// Package vmbackup writes one machine to one file and makes a machine of it again: its
// definition, its firmware's variables, its TPM, its baselines and log, and its disks, all
// of one moment.
//
// A file is encrypted for age recipients, by a passphrase or by a key provider. What
// opens is what somebody wrote who had the key: with recipients that is anybody, since
// their keys are public. That it is the newest state of the machine it does not show; the
// ledger of TPMs does, where it knows the machine's. A file counts once it was opened
// again from the disk and had what was written. Disks are streamed; their holes stay.
//
// Start with [Store.Backup] and [Store.Restore]. The format is
// docs/formats/machine-backup.md; age is age-encryption.org/v1.
package vmbackup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/wire"
)

// The failures that a caller acts on.
var (
	ErrFormat  = errors.New("not a backup of a machine")
	ErrVersion = errors.New("backup is of a newer version of this program")
	ErrCut     = errors.New("backup was cut")
	ErrDamaged = errors.New("backup is damaged or was altered")
	ErrKey     = errors.New("none of the keys that were given opens the backup")
	ErrExists  = errors.New("there is such a file already")
	// ErrShared is a disk that other machines write to, ErrInUse one that something else does.
	ErrShared = errors.New("it is shared: other machines may write to it, and no copy of it is of one moment; leave it out, to be backed up by its own means")
	ErrInUse  = errors.New("a disk of the machine is in use by another program, or was written to while it was read")
	// ErrWithoutTPM is a backup of a machine without a TPM, where a TPM of it is known.
	ErrWithoutTPM = errors.New("the backup has no TPM, and here is one of the machine's name: the backup is of before the machine got it, or the TPM is left of another machine")
	// ErrOfHost is a machine that would get a part of the host which nobody has named.
	ErrOfHost = errors.New("whoever wrote the backup chose it, and it is this host's")
)

// Magic begins every file; Version is the newest format that is written and read.
const (
	Magic   = "ASSAYVMB"
	Version = 1
)

// Limits of a file in bytes.
const (
	maxID        = 36
	maxName      = 63
	maxProvider  = 255
	maxExtra     = 1 << 10
	maxHeader    = 2 << 10 // of all of it
	maxText      = 80 << 20
	maxManifest  = 256 << 10
	maxExtent    = 1 << 20
	maxDiskBytes = 1 << 46 // 64 TiB, as package disk has it
)

// A Method says how a file is encrypted.
type Method uint8

// The methods.
const (
	Recipients Method = 1 // of age
	Passphrase Method = 2
	Provider   Method = 3
)

func (m Method) String() string {
	switch m {
	case Recipients:
		return "recipients"
	case Passphrase:
		return "passphrase"
	case Provider:
		return "provider"
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// header stands in the clear before the encrypted body, which has its digest.
type header struct {
	version, oldest    uint16
	method             Method
	made               int64 // microseconds since 1970
	id, name, provider []byte
	extra              []byte // for later versions
}

// Wire lays out the header (docs/formats/machine-backup.md).
func (h *header) Wire(c *wire.Codec) {
	m := [len(Magic)]byte([]byte(Magic))
	c.Bytes(m[:])
	c.Check(string(m[:]) == Magic, ErrFormat)
	wire.U16(c, &h.version)
	wire.U16(c, &h.oldest)
	c.Check(h.oldest <= Version, ErrVersion)
	c.Check(h.version >= 1 && h.oldest >= 1 && h.oldest <= h.version, wire.ErrRange)
	wire.U8(c, &h.method)
	c.Check(h.method >= Recipients && h.method <= Provider, wire.ErrSelector)
	made := uint64(h.made)
	wire.U64(c, &made)
	h.made = int64(made)
	c.Sized16(&h.id, maxID)
	c.Sized16(&h.name, maxName)
	c.Sized16(&h.provider, maxProvider)
	c.Check((h.method == Provider) == (len(h.provider) > 0), wire.ErrRange)
	c.Sized16(&h.extra, maxExtra)
	c.Check(h.version > 1 || len(h.extra) == 0, wire.ErrRange)
}

// A Card is what a file says of itself in the clear. It is a claim until the file opens.
type Card struct {
	Version  uint16
	Method   Method
	ID, Name string // of the machine
	Made     time.Time
	Provider string // key provider that the file needs; empty for none
}

// parseHeader reads the header that a file begins with, and returns its length.
func parseHeader(b []byte) (*Card, int, error) {
	if n := min(len(b), len(Magic)); n == 0 || string(b[:n]) != Magic[:n] {
		return nil, 0, ErrFormat
	}
	var h header
	rest, err := wire.DecodePrefix(b, &h)
	switch {
	case errors.Is(err, wire.ErrShort):
		return nil, 0, fmt.Errorf("%w: %d bytes are left", ErrCut, len(b))
	case errors.Is(err, ErrVersion):
		return nil, 0, fmt.Errorf("%w: version %d, which needs a reader of version %d", ErrVersion, h.version, h.oldest)
	case err != nil:
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return &Card{h.version, h.method, string(h.id), string(h.name), time.UnixMicro(h.made).UTC(), string(h.provider)}, len(b) - len(rest), nil
}

// A manifest begins the body and says what is in it.
type manifest struct {
	Version     int       `json:"version"`
	Header      string    `json:"header"` // digest of the header
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Made        time.Time `json:"made"`
	By          string    `json:"by"`
	BootCounter uint64    `json:"bootCounter,string"`
	// Torn is a machine whose end nobody saw.
	Torn  bool       `json:"torn,omitempty"`
	TPM   *tpmPart   `json:"tpm,omitempty"`
	Disks []diskPart `json:"disks"`
}

// A tpmPart says which TPM the machine has, and what opens it: an age identity of this
// file alone.
type tpmPart struct {
	ID         string `json:"id"`
	Generation uint64 `json:"generation,string"`
	Identity   string `json:"identity"`
}

// A diskPart is one disk of the definition, by its place in the list there.
type diskPart struct {
	Index int `json:"index"`
	// Size is that of the file, in bytes.
	Size int64 `json:"size"`
	// Left says why the disk is not in the backup; empty when it is.
	Left string `json:"left,omitempty"`
}

var manifestRules = strictjson.Rules{Bytes: maxManifest, Depth: 4, Members: 64, Values: 1024, FoldNames: true}

func parseManifest(text []byte) (*manifest, error) {
	if _, err := strictjson.Parse(text, manifestRules); err != nil {
		return nil, err
	}
	m := new(manifest)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, err
	}
	if m.Version != Version {
		return nil, fmt.Errorf("manifest of version %d", m.Version)
	}
	for i, p := range m.Disks {
		if p.Index != i || p.Size < 0 || p.Size > maxDiskBytes {
			return nil, fmt.Errorf("disk %d, of %d bytes, where disk %d belongs", p.Index, p.Size, i)
		}
	}
	return m, nil
}
