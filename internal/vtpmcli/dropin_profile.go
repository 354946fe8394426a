package vtpmcli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/tpm2/engine"
)

// profileOfWords is the profile that --profile asks for; nil for none.
func profileOfWords(w words) (*engine.Profile, error) {
	if w == nil {
		return nil, nil
	}
	if w.has("remove-disabled") {
		return nil, errors.New("--profile: remove-disabled: profiles are not altered; the profile \"fips\" has only approved algorithms")
	}
	given := 0
	for _, name := range []string{"name", "profile", "file", "fd"} {
		if w.has(name) {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("--profile: one of name, profile, file and fd must stand, and no two")
	}
	if w.has("name") {
		return namedProfile(w["name"])
	}
	text, err := profileText(w)
	if err != nil {
		return nil, fmt.Errorf("--profile: %w", err)
	}
	return profileOfJSON(text)
}

func profileText(w words) ([]byte, error) {
	var f io.ReadCloser
	var err error
	switch {
	case w.has("profile"):
		return []byte(w["profile"]), nil
	case w.has("file"):
		f, err = os.Open(w["file"])
	default:
		f, err = inherited(w.number("fd", -1))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyText))
}

// profileOfJSON reads a profile in libtpms' form. Its lists of commands and
// algorithms cannot be followed, since profiles here are published as they are:
// one that has lists is refused, never taken without them.
func profileOfJSON(text []byte) (*engine.Profile, error) {
	rules := strictjson.Rules{Bytes: maxKeyText, Depth: 3, Members: 32, Values: 64}
	members, err := strictjson.ParseObject(text, rules)
	if err != nil {
		return nil, fmt.Errorf("--profile: %w", err)
	}
	for _, m := range members {
		switch m.Name {
		case "Commands", "Algorithms", "Attributes":
			return nil, fmt.Errorf("--profile: %s: a profile is chosen by its name, not made of lists; assay tpm profile list shows them", m.Name)
		}
	}
	name, ok, err := members.Text("Name")
	if err != nil || !ok {
		return nil, errors.Join(errors.New("--profile: Name is missing"), err)
	}
	return namedProfile(name)
}

// namedProfile finds a profile by our name or by libtpms'.
func namedProfile(name string) (*engine.Profile, error) {
	switch name {
	case "default-v1", "default-v2", "null", "custom":
		name = compatibleProfile
	}
	p, err := engine.FindProfile(name, 0)
	if err != nil {
		return nil, fmt.Errorf("--profile: %w", err)
	}
	return p, nil
}
