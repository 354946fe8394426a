package vtpmcli

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/libtpms"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// A machine that moves from swtpm finds the drop-in where swtpm was, and its TPM in
// swtpm's file. At the first start the TPM is taken over: the file gets another name
// and stays, and a new one takes its place. What the TPM would lose by that keeps it
// from starting, and then nothing was changed.
const (
	takingOver = ".importing" // what swtpm wrote, until the new file is there
	takenOver  = ".swtpm"     // and after
)

// An oldKey is the text of --key, as swtpm reads it. The zero value is none.
type oldKey struct {
	text                   seal.Secret
	phrase, binary, hashed bool // a passphrase; a key in binary; kdf=sha512
}

// key makes the key of an encrypted state.
func (o *oldKey) key(bits int) (libtpms.Key, error) {
	switch {
	case bits == 0:
		return nil, nil
	case o.text.Len() == 0:
		return nil, fmt.Errorf("swtpm encrypted it with AES-%d: give --key as for swtpm", bits)
	case o.phrase && o.hashed:
		return libtpms.HashedKey(o.text.Expose(), bits), nil
	case o.phrase:
		return libtpms.PassphraseKey(o.text.Expose(), bits)
	case o.binary:
		return bytes.Clone(o.text.Expose()), nil
	}
	return hex.DecodeString(string(bytes.TrimPrefix(bytes.TrimSpace(o.text.Expose()), []byte("0x"))))
}

// takeOver makes the TPM of a state that swtpm wrote; done is false where there is
// none. A process that ended between two of its steps is made up for by the next.
func (k *keptTPM) takeOver(ctx context.Context) (t *engine.TPM, done bool, err error) {
	source := k.place.permanent + takingOver
	_, err = os.Lstat(source)
	begun := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	here, err := writtenBySWTPM(k.place.permanent)
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !absent:
		return nil, false, err
	case begun && here:
		return nil, false, fmt.Errorf("%q and %q are both of swtpm: remove the one that is not the TPM's", source, k.place.permanent)
	case begun && !absent: // the new file is there
		return nil, false, k.keepOriginal()
	case !begun && !here:
		return nil, false, nil
	case k.profile != nil:
		return nil, false, fmt.Errorf("--profile: the TPM of swtpm in %q has its profile already", k.place.permanent)
	}
	if err := k.mayTakeOver(); err != nil {
		return nil, false, err
	}
	from := k.place.permanent
	if begun {
		from = source
	}
	imported, profile, err := k.readOld(from)
	if err != nil {
		return nil, false, fmt.Errorf("take the TPM of swtpm in %q over: %w; nothing was changed", from, err)
	}
	if t, err = engine.Import(profile, engineConfig(k.env), imported); err != nil {
		return nil, false, fmt.Errorf("take the TPM of swtpm in %q over: %w; nothing was changed", from, err)
	}
	if err := k.replaceOld(ctx, t, profile, begun); err != nil {
		return nil, false, err
	}
	vtpmLog(k.env).Warn("the TPM of swtpm was taken over; its old file is kept, and holds its secrets: remove it once the machine runs",
		slog.String("file", k.place.permanent+takenOver), slog.Int("persistent objects", len(imported.Objects)), slog.Int("NV indices", len(imported.Indices)))
	return t, true, nil
}

// mayTakeOver holds that the place had no TPM of ours: what looks as if swtpm had left
// it may have been put here by somebody, who then knows what is in it.
func (k *keptTPM) mayTakeOver() error {
	home, err := k.home()
	if err != nil {
		return err
	}
	id, known, err := home.Known()
	if err == nil && known {
		err = fmt.Errorf("%q is swtpm's, and the ledger knows TPM %s in this place: it is not taken over unasked; put that TPM's file back, or have swtpm's by assay vtpm import --swtpm %q --name NAME",
			k.place.permanent, id, filepath.Dir(k.place.permanent))
	}
	return err
}

// replaceOld puts the new file into the place of swtpm's.
func (k *keptTPM) replaceOld(ctx context.Context, t *engine.TPM, profile *engine.Profile, begun bool) error {
	if err := k.noOriginal(); err != nil {
		return err
	}
	id, err := state.NewID(k.env.Rand)
	if err != nil {
		return err
	}
	if !begun {
		if err := os.Rename(k.place.permanent, k.place.permanent+takingOver); err != nil {
			return err
		}
	}
	if err := k.keep(ctx, t, id, profile); err != nil {
		return errors.Join(err, k.giveBack())
	}
	return k.keepOriginal()
}

// giveBack gives swtpm's file its name again where no new one came into its place, so
// that swtpm finds its TPM too.
func (k *keptTPM) giveBack() error {
	if _, err := os.Lstat(k.place.permanent); !errors.Is(err, fs.ErrNotExist) {
		return nil //nolint:nilerr // the new file is there, and the next start goes on
	}
	return os.Rename(k.place.permanent+takingOver, k.place.permanent)
}

// notTakingOver holds that no TPM of swtpm is on its way into this place: one that was
// made now would be taken for it.
func (p *swtpmPlace) notTakingOver() error {
	if _, err := os.Lstat(p.permanent + takingOver); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%q: the TPM of swtpm is being taken over here; start swtpm, which goes on with it", p.permanent+takingOver), err)
	}
	return nil
}

// noOriginal holds that there is none of another time.
func (k *keptTPM) noOriginal() error {
	original := k.place.permanent + takenOver
	if _, err := os.Lstat(original); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%q is there already, of another time: it is not written over", original), err)
	}
	return nil
}

// keepOriginal gives what swtpm wrote its last name.
func (k *keptTPM) keepOriginal() error {
	if err := k.noOriginal(); err != nil {
		return err
	}
	return os.Rename(k.place.permanent+takingOver, k.place.permanent+takenOver)
}

// writtenBySWTPM reports whether a file begins as one of swtpm.
func writtenBySWTPM(name string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil {
		return false, nil // too short for any state, which the opening says
	}
	return looksLikeSWTPM(head), nil
}

// readOld reads what swtpm wrote.
func (k *keptTPM) readOld(name string) (*engine.Imported, *engine.Profile, error) {
	if suspended, err := writtenBySWTPM(k.place.volatile); suspended || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.Join(fmt.Errorf("%q is of a machine that runs or was suspended: start it with swtpm and shut it down, or remove the file", filepath.Base(k.place.volatile)), err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, libtpms.MaxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > libtpms.MaxFile {
		return nil, nil, fmt.Errorf("more than %d bytes", libtpms.MaxFile)
	}
	bits, err := libtpms.KeyBits(text)
	if err != nil {
		return nil, nil, err
	}
	key, err := k.keys.old.key(bits)
	if err != nil {
		return nil, nil, err
	}
	defer clear(key)
	old, err := libtpms.Open(text, key)
	if err != nil {
		return nil, nil, err
	}
	profile, err := engine.FindProfile(libtpms.Profile, 0)
	if err != nil {
		return nil, nil, err
	}
	imported, losses := old.Convert(profile)
	for _, l := range losses {
		// A machine starts anew after its TPM: there is nothing to resume.
		if l.What != libtpms.LostResume {
			return nil, nil, fmt.Errorf("it would lose %s: %s (assay vtpm import --swtpm %q --name NAME takes it over without)", l.What, l.Why, filepath.Dir(k.place.permanent))
		}
	}
	return imported, profile, nil
}
