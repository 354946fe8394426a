package vtpm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// A Card lies beside a state and says in the clear what is needed before the
// state can be opened, and what a list shows. Whoever can write to the folder can
// alter it: all of it is a claim, and the sealed [Record] decides.
type Card struct {
	Version int      `json:"version"`
	Name    string   `json:"name"`
	ID      state.ID `json:"id"`
	// Providers are the key providers that may open the state, the likely one first;
	// more than one only while a change of provider is under way.
	Providers []string  `json:"providers"`
	VM        string    `json:"vm,omitempty"`
	Profile   string    `json:"profile"`
	Secrets   SecretsID `json:"secrets"`
	Created   time.Time `json:"created"`
}

func (r *Record) card(providers ...string) *Card {
	return &Card{
		Version: recordVersion, Name: r.Name, ID: r.ID, Providers: providers, VM: r.vmName(),
		Profile: r.Profile, Secrets: r.Secrets, Created: r.Created,
	}
}

// maxProviders bounds those that a card names.
const maxProviders = 4

// readCard reads the card of the TPM called name.
func (r *Root) readCard(name string) (*Card, error) {
	text, err := readBounded(r.cardPath(name), recordRules().Bytes)
	if err != nil {
		return nil, err
	}
	c := new(Card)
	if err := decodeStrict(text, c); err != nil {
		return nil, fmt.Errorf("read card of TPM %q: %w", name, err)
	}
	switch {
	case c.Version != recordVersion:
		err = fmt.Errorf("version %d, this program has %d", c.Version, recordVersion)
	case c.Name != name:
		err = fmt.Errorf("it is the card of TPM %q", c.Name)
	case len(c.Providers) == 0 || len(c.Providers) > maxProviders:
		err = fmt.Errorf("%d key providers, want 1 to %d", len(c.Providers), maxProviders)
	}
	if err != nil {
		return nil, fmt.Errorf("read card of TPM %q: %w: %w", name, err, ErrRecord)
	}
	return c, nil
}

func (r *Root) writeCard(c *Card) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(r.cardPath(c.Name), append(text, '\n'), 0o600)
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%q is no regular file", path))
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("%q has more than %d bytes", path, limit)
	}
	return text, err
}
