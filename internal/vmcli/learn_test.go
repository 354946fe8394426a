package vmcli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
)

// A learner has one latest boot, and takes a baseline of that alone.
type learner struct {
	latest   uint64
	approved []uint64
}

func (l *learner) Review(context.Context, string) (*machine.Review, error) {
	return &machine.Review{Seen: l.seen()}, nil
}

func (l *learner) seen() integrity.Seen {
	return integrity.Seen{Boot: l.latest, Digest: fmt.Sprintf("a%d", l.latest)}
}

func (l *learner) Approve(_ context.Context, _, _ string, seen integrity.Seen, _ string) ([]integrity.Notice, error) {
	if seen != l.seen() {
		return nil, integrity.ErrNotSeen
	}
	l.approved = append(l.approved, seen.Boot)
	return []integrity.Notice{}, nil
}

func TestOnlyABootThatWasSeenIsLearned(t *testing.T) {
	const command = "assay vm update web-1 --learn-integrity-policy --boot 42 --seen a42 --yes --root '/a b'"
	for name, tc := range map[string]struct {
		l        learning
		status   int
		approved []uint64
		words    string
	}{
		"a list is asked for":          {learning{}, 1, nil, "nothing was learned; this accepts the list above: " + command},
		"a yes without a boot":         {learning{yes: true}, 1, nil, command},
		"a yes to an older boot":       {learning{yes: true, boot: 41}, 1, nil, "the list that was seen is of boot 41, and the latest boot is 42; this accepts the list above: " + command},
		"a yes to another list":        {learning{yes: true, boot: 42, seen: "a41"}, 1, nil, "boot 42 has measured something else since the list was seen"},
		"a yes to the list that is":    {learning{yes: true, boot: 42, seen: "a42"}, 0, []uint64{42}, "boot 42 of web-1 is the baseline now"},
		"a boot that is to come":       {learning{yes: true, boot: 43}, 1, nil, command},
		"a boot without a yes":         {learning{boot: 42}, 1, nil, command},
		"a dry run":                    {learning{yes: true, boot: 42, dry: true}, 0, nil, "boot 42 of web-1 would become the baseline"},
		"a yes to the boot that is":    {learning{yes: true, boot: 42}, 0, []uint64{42}, "boot 42 of web-1 is the baseline now"},
		"the same, for another format": {learning{yes: true, boot: 42, format: "json"}, 0, []uint64{42}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs programtest.Buffer
			machines := &learner{latest: 42}
			cmd := new(cobra.Command)
			cmd.Flags().String("root", "", "")
			if err := cmd.Flags().Set("root", "/a b"); err != nil {
				t.Fatal(err)
			}
			l := tc.l
			l.env, l.root, l.cmd, l.name = programtest.Env(&out, &errs), machines, cmd, "web-1"
			err := l.run(t.Context())
			text := out.String()
			if err != nil {
				text += err.Error()
			}
			if ends(err) != tc.status || !slices.Equal(machines.approved, tc.approved) || !strings.Contains(text, tc.words) {
				t.Errorf("status %d, learned %v: %s", ends(err), machines.approved, text)
			}
		})
	}
}

// A racer boots again between the list and the yes.
type racer struct{ learner }

func (r *racer) Review(ctx context.Context, name string) (*machine.Review, error) {
	review, err := r.learner.Review(ctx, name)
	r.latest++
	return review, err
}

func TestARestartAfterTheListLearnsNothing(t *testing.T) {
	var out, errs programtest.Buffer
	r := &racer{learner{latest: 42}}
	l := learning{env: programtest.Env(&out, &errs), root: r, cmd: new(cobra.Command), name: "web-1", yes: true, boot: 42}
	if err := l.run(t.Context()); ends(err) == program.StatusOK || len(r.approved) > 0 {
		t.Errorf("it ends with %v, and %v was learned", err, r.approved)
	}
}

func TestAShellWordIsOneWord(t *testing.T) {
	for in, want := range map[string]string{"/a/b-1.x": "/a/b-1.x", "a b": "'a b'", "it's $x": `'it'\''s $x'`, "": "''"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
