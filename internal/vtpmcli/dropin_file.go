package vtpmcli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/internal/vtpm/place"
)

// dropInFile is a configuration file: who keeps the keys, where the authority and the
// ledger are, and whether nothing is served without that.
type dropInFile struct {
	keyProvider, root, ledger string
	requireLedger             bool
}

// readDropInFile reads the first configuration file that is there. A user's own one
// that this process may not read is another user's; the one of the system counts for
// all, and may ask for more than the options do.
func readDropInFile(env *program.Env) (dropInFile, error) {
	for _, name := range dropInConfigFiles(env) {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && name != dropInSystemFile {
			continue
		}
		if err != nil {
			return dropInFile{}, err
		}
		c, err := parseDropInFile(text)
		if err != nil {
			return dropInFile{}, fmt.Errorf("%s: %w", name, err)
		}
		return c, nil
	}
	return dropInFile{}, nil
}

// dropInSystemFile is the configuration of all drop-ins of this machine.
const dropInSystemFile = "/etc/assay/dropin.json"

// dropInConfigFiles are where the configuration may be, the user's own first.
func dropInConfigFiles(env *program.Env) []string {
	const name = "assay/dropin.json"
	user := env.Getenv("XDG_CONFIG_HOME")
	if user == "" && env.Getenv("HOME") != "" {
		user = filepath.Join(env.Getenv("HOME"), ".config")
	}
	files := []string{dropInSystemFile}
	if user != "" {
		files = append([]string{filepath.Join(user, name)}, files...)
	}
	return files
}

// dropInConfigRules bound a configuration file.
func dropInConfigRules() strictjson.Rules {
	return strictjson.Rules{Bytes: 4096, Depth: 2, Members: 8, Values: 16, PlainNames: true}
}

// parseDropInFile reads a configuration file: one object with keyProvider, and what is
// not in the user's own folder.
func parseDropInFile(text []byte) (c dropInFile, err error) {
	members, err := strictjson.ParseObject(text, dropInConfigRules())
	if err != nil {
		return c, err
	}
	texts := map[string]*string{"keyProvider": &c.keyProvider, "root": &c.root, "ledger": &c.ledger}
	for _, m := range members {
		to, text := texts[m.Name]
		switch {
		case text:
			*to, err = m.Value.Text()
		case m.Name != "requireLedger":
			err = fmt.Errorf("member %q is not known", m.Name)
		case string(m.Value) != "true" && string(m.Value) != "false":
			err = errors.New("requireLedger: want true or false")
		default:
			c.requireLedger = string(m.Value) == "true"
		}
		if err != nil {
			return dropInFile{}, err
		}
	}
	switch {
	case c.keyProvider == "":
		err = errors.New("keyProvider is missing")
	case c.root != "" && !filepath.IsAbs(c.root):
		err = fmt.Errorf("root %q: want an absolute path", c.root)
	case c.ledger != "" && c.ledger != place.NoLedger && !filepath.IsAbs(c.ledger):
		err = fmt.Errorf("ledger %q: want an absolute path", c.ledger)
	}
	if err != nil {
		return dropInFile{}, err
	}
	return c, nil
}
