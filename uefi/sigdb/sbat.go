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
