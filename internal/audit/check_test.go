package audit

import (
	"context"
	"errors"
	"testing"
)

// stored is a chain as a store keeps it, which a test may alter.
type stored struct {
	entries []Entry
	head    Head
	page    int                    // entries at once at most
	fault   error                  // after the last entry
	grow    func(s *stored, n int) // called before the n-th page
	pages   int
}

func (s *stored) AuditHead(context.Context) (Head, error) { return s.head, nil }

func (s *stored) AuditEntries(_ context.Context, after uint64, limit int) ([]Entry, error) {
	s.pages++
	if s.grow != nil {
		s.grow(s, s.pages)
	}
	var out []Entry
	for _, e := range s.entries {
		if e.Seq > after && len(out) < min(limit, s.page) {
			out = append(out, e)
		}
	}
	if len(out) < min(limit, s.page) && s.fault != nil {
		return out, s.fault
	}
	return out, nil
}

func TestCheckFindsWhatIsWrongWithAStoredChain(t *testing.T) {
	e := chain(6)
	last := e[5].Head()
	for what, tc := range map[string]struct {
		src   stored
		noted []Head
		want  string // "" for whole
		holds uint64
	}{
		"whole":                {stored{entries: e, head: last}, []Head{e[1].Head(), last, {}}, "", 6},
		"empty":                {stored{}, []Head{{}}, "", 0},
		"tail cut":             {stored{entries: e[:4], head: last}, nil, "audit entry 5: missing: the chain once reached entry 6", 4},
		"all cut":              {stored{head: last}, nil, "audit entry 1: missing: the chain once reached entry 6", 0},
		"tail and head cut":    {stored{entries: e[:4], head: e[3].Head()}, []Head{last}, "audit entry 5: missing: the chain once reached entry 6", 4},
		"head of another":      {stored{entries: e, head: Head{6, Hash{1}}}, nil, "audit entry 6: is not the entry that was noted", 6},
		"noted another":        {stored{entries: e, head: last}, []Head{{3, Hash{1}}}, "audit entry 3: is not the entry that was noted", 6},
		"zero with a hash":     {stored{entries: e, head: last}, []Head{{0, Hash{1}}}, "audit entry 0: is not the entry that was noted", 6},
		"appended":             {stored{entries: e, head: e[3].Head()}, nil, "audit entry 5: was put in behind the store's back: its head is entry 4", 6},
		"dropped":              {stored{entries: append(append([]Entry{}, e[:2]...), e[3:]...), head: last}, nil, "audit entry 3: missing: the next entry is 4", 2},
		"unreadable":           {stored{entries: e[:2], head: last, fault: &BreakError{3, "was altered"}}, nil, "audit entry 3: was altered", 2},
		"gap, then unreadable": {stored{entries: e[:2], head: last, fault: &BreakError{5, "was altered"}}, nil, "audit entry 3: missing: the next entry is 5", 2},
	} {
		for _, page := range []int{1, 2, 100} {
			src := tc.src
			src.page = page
			head, err := Check(t.Context(), &src, tc.noted, func(uint64) {})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want || head.Seq != tc.holds {
				t.Errorf("%s, pages of %d: %q, holds to %d, want %q, %d", what, page, got, head.Seq, tc.want, tc.holds)
			}
		}
	}
}

func TestCheckFollowsAChainThatGrows(t *testing.T) {
	e := chain(9)
	src := &stored{entries: e[:3], head: e[2].Head(), page: 2, grow: func(s *stored, n int) {
		if n == 2 {
			s.entries, s.head = e, e[8].Head()
		}
	}}
	var seen []uint64
	head, err := Check(t.Context(), src, nil, func(seq uint64) { seen = append(seen, seq) })
	if err != nil || head != e[8].Head() {
		t.Errorf("Check = %v, %v, want the head of entry 9", head, err)
	}
	if len(seen) != 5 || seen[4] != 9 {
		t.Errorf("progress was %v", seen)
	}
}

func TestCheckReportsAStoreThatFails(t *testing.T) {
	fault := errors.New("disk on fire")
	_, err := Check(t.Context(), &stored{page: 10, fault: fault}, nil, func(uint64) {})
	var broken *BreakError
	if !errors.Is(err, fault) || errors.As(err, &broken) {
		t.Errorf("Check = %v, want the store's error", err)
	}
}
