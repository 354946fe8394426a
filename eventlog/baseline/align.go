package baseline

import "slices"

// A pair is one difference between two sequences: old without new was removed,
// new without old was added.
type pair struct{ old, new *event }

// align finds the differences between what a baseline accepts and what a boot
// measured, in order: the fewest additions and removals, then additions and
// removals of the same thing joined to changes.
func align(base, boot []event) []pair {
	start := 0
	for start < len(base) && start < len(boot) && base[start].accepts(boot[start].digests[0]) {
		start++
	}
	a, b := base[start:], boot[start:]
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].accepts(b[len(b)-1].digests[0]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if (len(a)+1)*(len(b)+1) > maxAlignment {
		return join(gap(a, b))
	}
	return join(common(a, b))
}

// gap is a stretch without anything in common.
func gap(a, b []event) []pair {
	out := make([]pair, 0, len(a)+len(b))
	for i := range a {
		out = append(out, pair{old: &a[i]})
	}
	for i := range b {
		out = append(out, pair{new: &b[i]})
	}
	return out
}

// common takes out the longest common subsequence.
func common(a, b []event) []pair {
	width := len(b) + 1
	longest := make([]uint16, (len(a)+1)*width) // both are shorter than 2^16
	for i := len(a) - 1; i >= 0; i-- {
		for k := len(b) - 1; k >= 0; k-- {
			here := &longest[i*width+k]
			if a[i].accepts(b[k].digests[0]) {
				*here = longest[(i+1)*width+k+1] + 1
			} else {
				*here = max(longest[(i+1)*width+k], longest[i*width+k+1])
			}
		}
	}
	var out []pair
	i, k := 0, 0
	for i < len(a) && k < len(b) {
		switch {
		case a[i].accepts(b[k].digests[0]):
			i, k = i+1, k+1
		case longest[(i+1)*width+k] >= longest[i*width+k+1]:
			out = append(out, pair{old: &a[i]})
			i++
		default:
			out = append(out, pair{new: &b[k]})
			k++
		}
	}
	return append(out, gap(a[i:], b[k:])...)
}

// join makes one change of a removal and an addition: of the same digest first
// (it moved), then of the same kind and name, then of the same kind.
func join(pairs []pair) []pair {
	for _, same := range []func(old, new *event) bool{
		func(old, new *event) bool { return old.accepts(new.digests[0]) },
		func(old, new *event) bool { return old.kind == new.kind && old.component == new.component },
		func(old, new *event) bool { return old.kind == new.kind && joinable(old.kind) },
	} {
		pairs = joinBy(pairs, same)
	}
	return pairs
}

// joinable reports whether two things of a kind are one in another version, whatever
// their names: there is one kernel and one boot loader, but many commands.
func joinable(kind string) bool {
	return slices.Contains([]string{"boot-loader", "kernel", "initrd", "command-line", "partition-table", "firmware"}, kind)
}

// maxJoin bounds the pairs that are joined; joining compares each with each.
const maxJoin = 512

func joinBy(pairs []pair, same func(old, new *event) bool) []pair {
	if len(pairs) > maxJoin {
		return pairs
	}
	for i := range pairs {
		if pairs[i].old == nil || pairs[i].new != nil {
			continue
		}
		for k := range pairs {
			if pairs[k].old == nil && pairs[k].new != nil && same(pairs[i].old, pairs[k].new) {
				pairs[i].new, pairs[k].new = pairs[k].new, nil
				break
			}
		}
	}
	return slices.DeleteFunc(pairs, func(p pair) bool { return p.old == nil && p.new == nil })
}
