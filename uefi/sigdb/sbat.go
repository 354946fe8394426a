package sigdb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSBAT is a text that is no SBAT revocation list.
var ErrSBAT = errors.New("SBAT text is malformed")

// maxSBAT bounds an SBAT text. Those in use have under 200 bytes.
const maxSBAT = 4096

// SBATLevel is an SBAT revocation list: the generation that each component of
// the boot chain must have at least.
type SBATLevel struct {
	Date       string // YYYYMMDDNN, "" when the list gives none
	Components []SBATComponent
}

// SBATComponent is one line of a revocation list.
type SBATComponent struct {
	Name       string
	Generation uint64
}

// ParseSBATLevel reads lines "component,generation[,date]", of which the first is
// the version of the format, "sbat,1".
func ParseSBATLevel(b []byte) (*SBATLevel, error) {
	text := strings.TrimRight(string(b), "\x00\n\r ")
	if len(b) > maxSBAT || text == "" {
		return nil, ErrSBAT
	}
	out := &SBATLevel{}
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Split(strings.TrimRight(line, "\r"), ",")
		if len(fields) < 2 || fields[0] == "" {
			return nil, fmt.Errorf("%w: line %d", ErrSBAT, i+1)
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d", ErrSBAT, i+1)
		}
		if i == 0 {
			if fields[0] != "sbat" {
				return nil, fmt.Errorf("%w: first line is for %q", ErrSBAT, fields[0])
			}
			if len(fields) > 2 {
				out.Date = fields[2]
			}
		}
		out.Components = append(out.Components, SBATComponent{fields[0], n})
	}
	return out, nil
}

// ParseSBAT reads the .sbat section of an image: lines
// "component,generation,vendor,package,version,url", of which the first is the
// format's own. Nothing but the first two fields decides.
func ParseSBAT(b []byte) ([]SBATComponent, error) {
	text := strings.TrimRight(string(b), "\x00\n\r ")
	text = strings.TrimPrefix(text, "\uFEFF")
	if len(b) > maxSBATSection || text == "" {
		return nil, ErrSBAT
	}
	var out []SBATComponent
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Split(strings.TrimRight(line, "\r"), ",")
		if len(fields) < 6 || fields[0] == "" {
			return nil, fmt.Errorf("%w: line %d", ErrSBAT, i+1)
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil || i == 0 && fields[0] != "sbat" {
			return nil, fmt.Errorf("%w: line %d", ErrSBAT, i+1)
		}
		out = append(out, SBATComponent{fields[0], n})
	}
	return out, nil
}

// maxSBATSection bounds a .sbat section. Those in use have under 1 KB.
const maxSBATSection = 64 << 10

// An SBATRevocation is a component of an image that is older than a level allows.
type SBATRevocation struct {
	Component string
	Got, Want uint64
}

// Revoked returns the first component of an image that the level revokes, or nil. An
// image without components is for the caller to refuse: shim does.
func (l *SBATLevel) Revoked(image []SBATComponent) *SBATRevocation {
	for _, c := range image {
		for _, least := range l.Components {
			if c.Name == least.Name && c.Generation < least.Generation {
				return &SBATRevocation{c.Name, c.Generation, least.Generation}
			}
		}
	}
	return nil
}

// Newer reports whether l is of a later date than other: shim keeps the newer of
// what the machine has and what it brings. A level without a date is the oldest.
func (l *SBATLevel) Newer(other *SBATLevel) bool { return other == nil || l.Date > other.Date }
