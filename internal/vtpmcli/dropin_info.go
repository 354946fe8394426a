package vtpmcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// The bits of swtpm --print-info and of CMD_GET_INFO (tpm_ioctl.h).
const (
	infoSpecification = 1 << iota
	infoAttributes
	infoFeatures
	infoAlgorithms
	infoCommands
	infoActiveProfile
	infoProfiles
	infoRestrictions
)

// infoList is what swtpm tells of algorithms, commands or attributes. Which of
// them a guest gets is the profile's choice, and fixed with it.
type infoList struct {
	Implemented   string `json:"Implemented"`
	CanBeDisabled string `json:"CanBeDisabled"`
	Enabled       string `json:"Enabled"`
	Disabled      string `json:"Disabled"`
}

// infoProfile is a profile in swtpm's form.
type infoProfile struct {
	Name             string
	StateFormatLevel int
	Commands         string
	Algorithms       string
	Description      string
}

func infoProfileOf(p *engine.Profile) infoProfile {
	return infoProfile{Name: p.Name, StateFormatLevel: p.Version, Commands: profileCommands(p), Algorithms: profileAlgorithms(p), Description: p.Summary}
}

// swtpmInfo answers for the bits of flags about a TPM of profile p.
func swtpmInfo(p *engine.Profile, flags uint64) []byte {
	answer := map[string]any{}
	put := func(bit uint64, name string, value any) {
		if flags&bit != 0 {
			answer[name] = value
		}
	}
	put(infoSpecification, "TPMSpecification", map[string]any{"family": "2.0", "level": 0, "revision": specificationOf(p)})
	put(infoAttributes, "TPMAttributes", map[string]string{"manufacturer": "id:58595A20", "version": "id:20260001", "model": "assay"})
	put(infoFeatures, "TPMFeatures", map[string]any{"RSAKeySizes": p.RSABits})
	put(infoAlgorithms, "RuntimeAlgorithms", infoList{Implemented: profileAlgorithms(p), Enabled: profileAlgorithms(p)})
	put(infoCommands, "RuntimeCommands", infoList{Implemented: profileCommands(p), Enabled: profileCommands(p)})
	put(infoActiveProfile, "ActiveProfile", infoProfileOf(p))
	put(infoProfiles, "AvailableProfiles", availableProfiles())
	put(infoRestrictions, "RuntimeAttributes", infoList{})
	text, err := json.Marshal(answer)
	if err != nil {
		return []byte("{}") // numbers and texts always marshal
	}
	return text
}

func availableProfiles() []infoProfile {
	var list []infoProfile
	for _, p := range engine.NewestProfiles() {
		list = append(list, infoProfileOf(p))
	}
	return list
}

// specificationOf is the revision of the library that a profile follows.
func specificationOf(p *engine.Profile) int {
	if p.Version185 {
		return 185
	}
	return 183
}

// profileAlgorithms lists algorithms as swtpm does: in lower case, with commas.
func profileAlgorithms(p *engine.Profile) string {
	names := make([]string, 0, len(p.Algorithms)+len(p.Curves))
	for _, a := range p.Algorithms {
		names = append(names, strings.ToLower(algNames[a]))
	}
	for _, c := range p.Curves {
		names = append(names, strings.ToLower(c.String()))
	}
	return strings.Join(names, ",")
}

// profileCommands lists commands as swtpm does: as ranges of codes.
func profileCommands(p *engine.Profile) string {
	var ranges []string
	first, last := tpm2.CC(0), tpm2.CC(0)
	flush := func() {
		switch {
		case first == 0:
		case first == last:
			ranges = append(ranges, fmt.Sprintf("%#x", uint32(first)))
		default:
			ranges = append(ranges, fmt.Sprintf("%#x-%#x", uint32(first), uint32(last)))
		}
	}
	for _, c := range command.All() {
		switch {
		case !p.Has(c.Code):
		case c.Code == last+1:
			last = c.Code
		default:
			flush()
			first, last = c.Code, c.Code
		}
	}
	flush()
	return strings.Join(ranges, ",")
}

// quoted lists texts as swtpm writes JSON: readers of it look for its spaces.
func quoted(texts []string) string {
	if len(texts) == 0 {
		return "[]"
	}
	return "[ \"" + strings.Join(texts, "\", \"") + "\" ]"
}

func profileNames() []string {
	var names []string
	for _, p := range engine.NewestProfiles() {
		names = append(names, p.Name)
	}
	return append(names, "default-v1", "null", "custom")
}

// printSWTPMCapabilities is swtpm --print-capabilities. The names of profiles are
// ours and the ones of swtpm that stand for "compatible".
func printSWTPMCapabilities(env *program.Env) error {
	p, err := engine.FindProfile(dropInProfile(), 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "{ \"type\": \"swtpm\", \"features\": %s, \"profiles\": { \"names\": %s, "+
		"\"algorithms\": { \"canbedisabled\": \"\", \"implemented\": %q }, \"commands\": { \"canbedisabled\": \"\", \"implemented\": %q } }, \"version\": %q }\n",
		quoted(swtpmFeatures()), quoted(profileNames()), profileAlgorithms(p), profileCommands(p), swtpmVersion)
	return err
}

// printSWTPMProfiles is swtpm --print-profiles.
func printSWTPMProfiles(env *program.Env) error {
	text, err := json.Marshal(map[string]any{"AvailableProfiles": availableProfiles()})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "%s\n", text)
	return err
}

// printStates is swtpm --print-states: what files there are, unopened.
func (o *swtpmOptions) printStates(env *program.Env) error {
	place, err := o.place(env)
	if err != nil {
		return err
	}
	if place == nil {
		return errors.New("--tpmstate is required for --print-states")
	}
	var found []string
	for _, f := range []struct{ name, path string }{{"permall", place.permanent}, {"volatile", place.volatile}} {
		info, err := os.Stat(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		found = append(found, fmt.Sprintf("{\"name\": %q, \"size\": %d}", f.name, info.Size()))
	}
	list := "[]"
	if len(found) > 0 {
		list = "[ " + strings.Join(found, ", ") + " ]"
	}
	_, err = fmt.Fprintf(env.Stdout, "{ \"type\": \"swtpm\", \"states\": %s }\n", list)
	return err
}

// printInfo is swtpm --print-info: about the TPM of --tpmstate, which is opened but
// not made, or about one that --profile would make.
func (o *swtpmOptions) printInfo(env *program.Env) error {
	flags, err := strconv.ParseUint(o.info, 0, 32)
	if err != nil {
		return err
	}
	p, err := o.profileAsked(env)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "%s\n", swtpmInfo(p, flags))
	return err
}

func (o *swtpmOptions) profileAsked(env *program.Env) (*engine.Profile, error) {
	place, err := o.place(env)
	if err != nil {
		return nil, err
	}
	if place != nil {
		if _, err := os.Stat(place.permanent); err == nil {
			return o.profileKept(env, place)
		}
	}
	p, err := profileOfWords(o.profile)
	if p != nil || err != nil {
		return p, err
	}
	return engine.FindProfile(dropInProfile(), 0)
}

// profileKept is the profile of a TPM that is kept.
func (o *swtpmOptions) profileKept(env *program.Env, place *swtpmPlace) (_ *engine.Profile, err error) {
	keys, err := o.keys(env)
	if err != nil {
		return nil, err
	}
	defer keys.Close()
	if keys.ephemeral() {
		return nil, fmt.Errorf("%q holds a TPM, and %s=%s opens none", place.permanent, keyProviderEnv, ephemeralKeys)
	}
	if err := o.ledger.chooseDropIn(env); err != nil {
		return nil, err
	}
	k := &keptTPM{env: env, place: place, keys: keys, ledger: o.ledger.open()}
	defer func() { err = errors.Join(err, k.close()) }()
	if _, err := k.open(context.Background()); err != nil {
		return nil, err
	}
	return k.profileNow(), nil
}
