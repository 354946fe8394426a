package integrity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
)

// MaxNotice bounds the JSON of a notice, in bytes: sealed and in base64 it fits a line of its
// log, which has a MiB.
const MaxNotice = 640 << 10

// maxShown is how many differences and reasons a notice has: a guest can make thousands,
// and the event must fit its log. The boot's record has all.
const maxShown = 48

// Bound makes a notice fit its log, whatever a guest or a person wrote into it. It leaves the
// differences that decide, then others, and says how many more there are; it is for whoever
// makes a notice, or adds reasons to one.
func (n *Notice) Bound() {
	all := digestOfJudged(n.Differences) // before anything is cut
	n.Actor, n.Instance = short(n.Actor), short(n.Instance)
	reasons, hidden := cutReasons(n.Reasons)
	differences, more := cutDifferences(n.Differences), n.More
	for most := maxShown; most > 0; most /= 2 {
		n.Reasons, n.Differences, n.More = reasons, differences, more
		if extra := len(differences) - most; extra > 0 {
			n.Differences, n.More = judgedFirst(differences)[:most], more+extra
		}
		if n.More > 0 && n.Digest == "" {
			n.Digest = all
		}
		if extra := max(len(reasons)-most, 0) + hidden; extra > 0 {
			n.Reasons = append(slices.Clone(reasons[:min(len(reasons), most)]), evidence.Reason{Code: codeMore, Message: fmt.Sprintf("and %d more: assay vm why has all", extra)})
		}
		if text, err := json.Marshal(n); err == nil && len(text) <= MaxNotice {
			return
		}
	}
}

// cutReasons shortens each reason; hidden is how many there were beside them.
func cutReasons(all []evidence.Reason) (out []evidence.Reason, hidden int) {
	for _, r := range all {
		said := 0
		if _, err := fmt.Sscanf(r.Message, "and %d more", &said); err == nil && r.Code == codeMore && said > 0 {
			hidden += said
			continue
		}
		out = append(out, evidence.Reason{Code: evidence.Code(short(string(r.Code))), Message: short(r.Message), Component: named(r.Component)})
	}
	return out, hidden
}

// cutDifferences shortens each difference, in a copy.
func cutDifferences(all []baseline.Difference) []baseline.Difference {
	out := slices.Clone(all)
	for i := range out {
		d := &out[i]
		d.Words, d.Component, d.Cause, d.Action = short(d.Words), named(d.Component), short(d.Cause), short(d.Action)
		for _, s := range []**baseline.Side{&d.Old, &d.New} {
			if *s != nil {
				(*s) = &baseline.Side{Digest: short((*s).Digest), Detail: short((*s).Detail), Signer: named((*s).Signer)}
			}
		}
	}
	return out
}

// judgedFirst has those that decide before the others.
func judgedFirst(all []baseline.Difference) []baseline.Difference {
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b baseline.Difference) int {
		switch {
		case a.Judged == b.Judged:
			return 0
		case a.Judged:
			return -1
		}
		return 1
	})
	return out
}

func digestOfJudged(all []baseline.Difference) string {
	h := sha256.New()
	for _, d := range all {
		if d.Judged {
			text, err := json.Marshal(d)
			if err != nil {
				text = []byte(err.Error()) // unreachable: texts and numbers
			}
			h.Write(append(text, 0))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// maxDetail is how much of a text a notice has, in bytes.
const maxDetail = 1024

func short(text string) string { return ended(text, "…") }

// named is short for a name, by which things are told apart.
func named(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return ended(text, fmt.Sprintf("… (SHA-256 %x)", sha256.Sum256([]byte(text))))
}

func ended(text, end string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail-len(end)], "") + end
}
