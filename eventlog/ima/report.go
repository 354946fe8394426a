package ima

import (
	"bytes"
	"encoding/hex"
	"iter"
	"strings"

	"github.com/assay-project/assay/tpm2"
)

// Len returns the number of entries that are proven, from the start of the list.
func (c *Confirmed) Len() int { return c.n }

// End returns the number of bytes of the list that are proven: where reading
// goes on after the next quote.
func (c *Confirmed) End() int { return c.end }

// Mode returns how the bank was extended.
func (c *Confirmed) Mode() Mode { return c.mode }

// Bank returns the bank of the quoted value.
func (c *Confirmed) Bank() tpm2.Alg { return c.bank }

// Entries yields the proven entries: those of PCR 10 in the confirmed part.
func (c *Confirmed) Entries() iter.Seq2[int, Entry] { return c.entries() }

func (c *Confirmed) entries() iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		if c.list == nil {
			return
		}
		for i, e := range c.list.Entries() {
			if i >= c.n || e.PCR == PCR && !yield(i, e) {
				return
			}
		}
	}
}

// A Key is a key that was added to one of the kernel's keyrings.
type Key struct {
	Entry   int    `json:"entry"`
	Keyring string `json:"keyring"`
	Digest  string `json:"digest"` // of the key, "sha256:…"
}

// A File is a file that was measured.
type File struct {
	Entry  int    `json:"entry"`
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Signed bool   `json:"signed"` // carried a signature; whether it is valid is for appraisal in the kernel
}

// Report is what the proven part of a list says to a person. Lists are cut at
// 1,000 members; the counts are not.
type Report struct {
	Entries       int      `json:"entries"`
	Violations    int      `json:"violations"`
	Undecoded     int      `json:"undecoded"`     // entries whose fields are not known here
	OtherPCRs     int      `json:"otherPCRs"`     // entries of the list that PCR 10 says nothing about
	Unproven      int      `json:"unproven"`      // entries after the quote
	Mode          string   `json:"mode"`          // "template" or "padded" (SHA-1 strength)
	BootAggregate string   `json:"bootAggregate"` // digest of PCR 0-9 when IMA began
	KernelVersion string   `json:"kernelVersion,omitempty"`
	Keys          []Key    `json:"keys"`
	KexecCmdlines []string `json:"kexecCmdlines"`
	Modules       []File   `json:"modules"`
}

const maxReported = 1000

// Report reads the proven entries.
func (c *Confirmed) Report() Report {
	r := Report{Mode: c.mode.String()}
	if c.list == nil {
		return r
	}
	for i, e := range c.entries() {
		r.Entries++
		if e.Violation() {
			r.Violations++
			continue
		}
		f, err := e.Fields()
		if err != nil {
			r.Undecoded++
			continue
		}
		r.add(i, e, f)
	}
	r.OtherPCRs = c.n - r.Entries
	r.Unproven = c.list.n - c.n
	return r
}

func (r *Report) add(i int, e Entry, f Fields) {
	digest := f.HashName + ":" + hex.EncodeToString(f.Digest)
	switch {
	case e.Template == "ima-buf":
		// The buffer is covered by the entry, and so is its digest; both must agree.
		if h, ok := f.Alg.Hash(); ok {
			sum := h.New()
			sum.Write(f.Buffer)
			if !bytes.Equal(sum.Sum(nil), f.Digest) {
				r.Undecoded++
				return
			}
		}
		r.buffer(i, f, digest)
	case f.Name == bootAggregate && i == 0:
		r.BootAggregate = digest
	case isModule(f.Name) && len(r.Modules) < maxReported:
		r.Modules = append(r.Modules, File{i, f.Name, digest, f.Signature != nil})
	}
}

func (r *Report) buffer(i int, f Fields, digest string) {
	switch {
	case f.Name == "kexec-cmdline" && len(r.KexecCmdlines) < maxReported:
		r.KexecCmdlines = append(r.KexecCmdlines, clean(bytes.TrimRight(f.Buffer, "\x00")))
	case f.Name == "kernel_version":
		r.KernelVersion = clean(bytes.TrimRight(f.Buffer, "\x00"))
	case strings.HasPrefix(f.Name, ".") && len(r.Keys) < maxReported:
		r.Keys = append(r.Keys, Key{i, f.Name, digest})
	}
}

// isModule reports whether a path is that of a kernel module. The list does not
// say why a file was measured, so a module under another name is not found.
func isModule(path string) bool {
	for _, suffix := range [...]string{"", ".xz", ".gz", ".zst"} {
		if strings.HasSuffix(path, ".ko"+suffix) {
			return true
		}
	}
	return false
}
