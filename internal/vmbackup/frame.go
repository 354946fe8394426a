package vmbackup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/uefi/varstore"
)

// The kinds of frame of the body, in their order. The extents of a disk are followed by
// its end.
const (
	frameManifest = iota + 1
	frameDefinition
	frameVariables
	frameHistory
	frameEvents
	frameTPM
	frameExtent
	frameDiskEnd
	frameEnd
)

// limitOf bounds the content of a frame in bytes.
func limitOf(kind byte) int {
	switch kind {
	case frameManifest:
		return maxManifest
	case frameExtent:
		return 8 + maxExtent
	case frameDiskEnd:
		return 8
	case frameEnd:
		return sha256.Size
	}
	return maxText
}

// contents are what a backup has before its disks.
type contents struct {
	manifest   *manifest
	definition *fleet.Definition
	variables  []byte
	history    *integrity.History
	events     []integrity.Notice
	tpm        []byte
}

// A frameWriter writes the body: frames of a kind, a length and a content.
type frameWriter struct {
	w   io.Writer
	sum hash.Hash
}

func newFrameWriter(w io.Writer) *frameWriter { return &frameWriter{w, sha256.New()} }

func (f *frameWriter) put(kind byte, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > limitOf(kind) {
		return fmt.Errorf("a part of %d bytes is more than %d", n, limitOf(kind))
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(n))
	for _, p := range append([][]byte{head}, parts...) {
		f.sum.Write(p)
		if _, err := f.w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

func (f *frameWriter) putContents(c *contents) error {
	for _, part := range []struct {
		kind  byte
		value any
	}{
		{frameManifest, c.manifest},
		{frameDefinition, c.definition},
		{frameVariables, c.variables},
		{frameHistory, c.history},
		{frameEvents, c.events},
		{frameTPM, c.tpm},
	} {
		text, ok := part.value.([]byte)
		if !ok {
			var err error
			if text, err = json.Marshal(part.value); err != nil {
				return err
			}
		}
		if err := f.put(part.kind, text); err != nil {
			return err
		}
	}
	return nil
}

func (f *frameWriter) extent(at int64, b []byte) error {
	return f.put(frameExtent, binary.BigEndian.AppendUint64(nil, uint64(at)), b)
}

func (f *frameWriter) diskEnd(size int64) error {
	return f.put(frameDiskEnd, binary.BigEndian.AppendUint64(nil, uint64(size)))
}

// end closes the body with the digest of all of it.
func (f *frameWriter) end() ([]byte, error) {
	sum := f.sum.Sum(nil)
	return sum, f.put(frameEnd, sum)
}

// A frameReader reads the body again.
type frameReader struct {
	r    io.Reader
	sum  hash.Hash
	buf  bytes.Buffer
	disk []diskPart // those that are there
}

func newFrameReader(r io.Reader) *frameReader { return &frameReader{r: r, sum: sha256.New()} }

// next returns the content of the next frame, until the next call. The content grows with
// the bytes that come, and never by the length alone.
func (f *frameReader) next() (kind byte, content []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, nil, readFault(err)
	}
	kind = head[0]
	n := int64(binary.BigEndian.Uint32(head[1:]))
	if kind < frameManifest || kind > frameEnd || n > int64(limitOf(kind)) {
		return 0, nil, fmt.Errorf("%w: a part of kind %d with %d bytes", ErrDamaged, kind, n)
	}
	f.buf.Reset()
	if _, err := io.CopyN(&f.buf, f.r, n); err != nil {
		return 0, nil, readFault(err)
	}
	if kind != frameEnd {
		f.sum.Write(head[:])
		f.sum.Write(f.buf.Bytes())
	}
	return kind, f.buf.Bytes(), nil
}

// want returns the content of the next frame, which is of a kind.
func (f *frameReader) want(kind byte) ([]byte, error) {
	got, content, err := f.next()
	if err == nil && got != kind {
		err = fmt.Errorf("%w: a part of kind %d where %d belongs", ErrDamaged, got, kind)
	}
	return content, err
}

// readFault says what a failed read means: the end where there should be more is a cut,
// what does not decrypt was altered.
func readFault(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// contents reads what stands before the disks, of a file whose header has a digest.
func (f *frameReader) contents(digest [sha256.Size]byte) (*contents, error) {
	c := new(contents)
	for _, part := range []struct {
		kind byte
		read func([]byte) error
	}{
		{frameManifest, func(b []byte) (err error) { c.manifest, err = parseManifest(b); return err }},
		{frameDefinition, func(b []byte) (err error) { c.definition, err = fleet.ParseDefinition(b); return err }},
		{frameVariables, func(b []byte) (err error) {
			c.variables = bytes.Clone(b)
			_, err = varstore.Parse(c.variables)
			return err
		}},
		{frameHistory, func(b []byte) (err error) { c.history, err = integrity.ParseHistory(b); return err }},
		{frameEvents, func(b []byte) error { return json.Unmarshal(b, &c.events) }},
		{frameTPM, func(b []byte) error { c.tpm = bytes.Clone(b); return nil }},
	} {
		text, err := f.want(part.kind)
		if err != nil {
			return nil, err
		}
		if err := part.read(text); err != nil {
			return nil, fmt.Errorf("%w: part %d: %w", ErrDamaged, part.kind, err)
		}
	}
	if err := c.check(digest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, p := range c.manifest.Disks {
		if p.Left == "" {
			f.disk = append(f.disk, p)
		}
	}
	return c, nil
}

// check sees that the parts belong together.
func (c *contents) check(digest [sha256.Size]byte) error {
	m, d := c.manifest, c.definition
	switch {
	case m.Header != hex.EncodeToString(digest[:]):
		return errors.New("its header is not the one that it was made with")
	case m.Name != d.Name:
		return fmt.Errorf("its definition is of machine %q", d.Name)
	case d.Shielded.VTPM != (m.TPM != nil) || (m.TPM != nil) != (len(c.tpm) > 0):
		return errors.New("the TPM is missing, or there is one that the machine does not have")
	case len(m.Disks) != len(d.Disks):
		return fmt.Errorf("%d disks of %d", len(m.Disks), len(d.Disks))
	}
	for i, p := range m.Disks {
		if (p.Left != "") != d.Disks[i].Shared {
			return fmt.Errorf("disk %d: the shared disks of the definition, and no others, are left out", i)
		}
	}
	return nil
}

// A sink takes the disks of a backup.
type sink interface {
	begin(p diskPart) error
	extent(at int64, b []byte) error
	end() error
}

// disks reads all disks and the end of the body, after which there is nothing. It returns
// the digest of the body.
func (f *frameReader) disks(ctx context.Context, to sink, progress func(n int)) ([]byte, error) {
	for _, p := range f.disk {
		if err := f.oneDisk(ctx, p, to, progress); err != nil {
			return nil, fmt.Errorf("disk %d: %w", p.Index, err)
		}
	}
	sum := f.sum.Sum(nil)
	end, err := f.want(frameEnd)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(end, sum) {
		return nil, fmt.Errorf("%w: its digest is another", ErrDamaged)
	}
	switch n, err := io.Copy(io.Discard, io.LimitReader(f.r, 1)); {
	case err != nil:
		return nil, readFault(err)
	case n != 0:
		return nil, fmt.Errorf("%w: there is more after its end", ErrDamaged)
	}
	return sum, nil
}

// oneDisk reads the extents of a disk, which ascend and do not overlap.
func (f *frameReader) oneDisk(ctx context.Context, p diskPart, to sink, progress func(n int)) error {
	if err := to.begin(p); err != nil {
		return err
	}
	for done := int64(0); ; {
		kind, content, err := f.next()
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if len(content) < 8 || kind != frameExtent && kind != frameDiskEnd {
			return fmt.Errorf("%w: a part of kind %d with %d bytes", ErrDamaged, kind, len(content))
		}
		at, b := int64(binary.BigEndian.Uint64(content)), content[8:]
		if kind == frameDiskEnd {
			if at != p.Size {
				return fmt.Errorf("%w: it ends at %d of %d", ErrDamaged, at, p.Size)
			}
			return to.end()
		}
		if at < done || at > p.Size-int64(len(b)) || len(b) == 0 {
			return fmt.Errorf("%w: %d bytes at %d", ErrDamaged, len(b), at)
		}
		if err := to.extent(at, b); err != nil {
			return err
		}
		done = at + int64(len(b))
		progress(len(b))
	}
}
