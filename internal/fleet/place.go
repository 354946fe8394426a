package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/assay-project/assay/internal/strictjson"
)

// A Place is where machines run: a host, and the site that it stands at. A site that
// nobody has named is empty.
type Place struct {
	Host string `json:"host,omitempty"`
	Site string `json:"site,omitempty"`
}

// ErrElsewhere is a machine that is bound to another host or site.
var ErrElsewhere = errors.New("the machine is bound to another place")

// Check says where a machine may not run: the error wraps [ErrElsewhere] and names both
// places. A place that is not known is not the one that a machine is bound to.
func (p Place) Check(d *Definition) error {
	var words []string
	for _, bound := range []struct{ what, want, is string }{{"host", d.Host, p.Host}, {"site", d.Site, p.Site}} {
		switch {
		case bound.want == "" || bound.want == bound.is:
		case bound.is == "":
			words = append(words, fmt.Sprintf("it may run at %s %q only, and which one this is nobody has said: assay vm place --%s says it", bound.what, bound.want, bound.what))
		default:
			words = append(words, fmt.Sprintf("it may run at %s %q only, and this is %s %q", bound.what, bound.want, bound.what, bound.is))
		}
	}
	if len(words) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s; assay vm update --host and --site bind it anew", ErrElsewhere, strings.Join(words, "; "))
}

var placeRules = strictjson.Rules{Bytes: 4 << 10, Depth: 2, Members: 4, Values: 8, FoldNames: true}

// ParsePlace reads a place as JSON.
func ParsePlace(text []byte) (Place, error) {
	var p Place
	if _, err := strictjson.Parse(text, placeRules); err != nil {
		return p, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, err
	}
	for what, name := range map[string]string{"host": p.Host, "site": p.Site} {
		if name != "" && !wordRule().MatchString(name) {
			return p, fmt.Errorf("%s: %q is no name", what, name)
		}
	}
	return p, nil
}
