package integrity

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Limits of the texts that a boot has beside its digests, in bytes. A guest writes the
// configuration that gives these names, and may extend a register with one line of it
// hundreds of times: its own record must be read again all the same.
const (
	maxNameText = 256
	maxLongText = 4096
	maxTexts    = 64 << 10
	maxTail     = 64 // of a name when the texts before it have taken all
)

// bound cuts a name to what is left for a boot's texts, and counts it.
func (n Name) bound(left *int) Name {
	n.Name, n.Signer, n.Detail = cut(n.Name, maxNameText), cut(n.Signer, maxNameText), cut(n.Detail, maxLongText)
	if len(n.Name)+len(n.Signer)+len(n.Detail) > *left {
		n.Name, n.Signer, n.Detail = cut(n.Name, maxTail), "", ""
	}
	*left = max(0, *left-len(n.Name)-len(n.Signer)-len(n.Detail))
	return n
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// Encode writes h for [ParseHistory]. What would be too large to be read again loses its
// oldest boots, and then the oldest baselines, but for the last of each.
func (h *History) Encode() ([]byte, error) {
	return h.encode(maxHistory)
}

func (h *History) encode(most int) ([]byte, error) {
	for {
		text, err := json.Marshal(h)
		if err != nil || len(text) <= most {
			return text, err
		}
		switch {
		case len(h.Boots) > 1:
			h.Boots = slices.Delete(h.Boots, 0, (len(h.Boots)+1)/2)
		case len(h.Versions) > 1:
			h.Versions = slices.Delete(h.Versions, 0, 1)
		default:
			return nil, fmt.Errorf("write integrity record of %d bytes: %w", len(text), errLimit)
		}
	}
}
