package vmcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/program"
)

// placeFile, in the root, says which host and site this is.
const placeFile = "place.json"

// place is where this root's machines run. The host is called as its system calls it,
// unless somebody has said another name.
func (h *hostFlags) place() (fleet.Place, error) {
	dir, err := h.Dir(h.env)
	if err != nil {
		return fleet.Place{}, err
	}
	var p fleet.Place
	text, err := os.ReadFile(filepath.Join(dir, placeFile))
	switch {
	case err == nil:
		if p, err = fleet.ParsePlace(text); err != nil {
			return p, fmt.Errorf("%s: %w", placeFile, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return p, err
	}
	if p.Host == "" {
		p.Host, err = os.Hostname()
	} else {
		err = nil
	}
	return p, err
}

func newPlaceCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "place",
		Short: "Say which host and site this is, for machines that are bound to one",
		Long: `Show or say which host this is and which site it stands at. A machine that was made with
--host or --site starts there only. The host is called as its system calls it, unless
another name is said here.`,
		Example: "  assay vm place --site north",
		Args:    cobra.NoArgs,
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var given fleet.Place
	f := cmd.Flags()
	f.StringVar(&given.Host, "host", "", "`NAME` of this host")
	f.StringVar(&given.Site, "site", "", "`NAME` of its site")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := h.place()
		if err != nil {
			return err
		}
		if f.Changed("host") || f.Changed("site") {
			if f.Changed("host") {
				p.Host = given.Host
			}
			if f.Changed("site") {
				p.Site = given.Site
			}
			if err := h.setPlace(p); err != nil {
				return err
			}
		}
		return emit(env, *format, p, func(w io.Writer) error {
			site := p.Site
			if site == "" {
				site = "not said"
			}
			_, err := fmt.Fprintf(w, "host %s, site %s\n", p.Host, site)
			return err
		})
	}
	return cmd
}

func (h *hostFlags) setPlace(p fleet.Place) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if _, err := fleet.ParsePlace(text); err != nil {
		return err
	}
	dir, err := h.Dir(h.env)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, placeFile), append(text, '\n'), 0o600)
}
