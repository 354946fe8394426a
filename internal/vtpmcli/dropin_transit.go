package vtpmcli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/place"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// State that passes through the hypervisor, as with savevm and migration, is sealed
// under the migration key, or else under the key provider: both ends need the same.
// What is sealed is the name of the TPM's profile, after its length, and the blob.

func dropInTransit(kind frontend.BlobKind) seal.Context {
	return seal.Context{Purpose: "state in transit between drop-ins for swtpm", Name: kind.String()}
}

// exportBlob seals a blob that leaves.
func (k *keptTPM) exportBlob(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	name := k.profileNow().Name
	text := binary.BigEndian.AppendUint16(nil, uint16(len(name))) // a short name of ours
	text = append(append(text, name...), blob...)
	defer clear(text)
	return keyprovider.Seal(context.Background(), k.keys.blobs(), k.env.Rand, dropInTransit(kind), text)
}

// importBlob opens a blob that comes.
func (k *keptTPM) importBlob(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	if err := k.takeLock(); err != nil { // as swtpm: what comes belongs here from now on
		return nil, err
	}
	out, err := k.openBlob(kind, blob)
	if err != nil {
		if looksLikeSWTPM(blob) {
			err = fmt.Errorf("it comes from swtpm itself; assay vtpm import --swtpm moves a TPM while its machine is off: %w", err)
		}
		vtpmLog(k.env).Error("state that came is refused", slog.String("kind", kind.String()), slog.Any("error", err))
	}
	return out, err
}

func (k *keptTPM) openBlob(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	secret, err := keyprovider.Open(context.Background(), k.keys.blobs(), dropInTransit(kind), blob)
	if err != nil {
		return nil, err
	}
	defer secret.Destroy()
	text := secret.Expose()
	if len(text) < 2 || int(binary.BigEndian.Uint16(text)) > len(text)-2 {
		return nil, errors.New("state in transit is cut short")
	}
	n := 2 + int(binary.BigEndian.Uint16(text))
	profile, err := engine.FindProfile(string(text[2:n]), 0)
	if err != nil {
		return nil, err
	}
	if kind == frontend.BlobPermanent {
		k.arriving, k.arrivingSum = profile, sha256.Sum256(text[n:])
	}
	return bytes.Clone(text[n:]), nil
}

// saveArrived keeps permanent state that came, with its own profile in the record.
func (k *keptTPM) saveArrived(permanent []byte) error {
	profile := k.arriving
	k.arriving = nil
	home, err := k.home()
	if err != nil {
		return err
	}
	if k.file == nil {
		err = k.createArrived(home, permanent, profile)
	} else {
		err = k.replaceArrived(home, permanent, profile)
	}
	if err != nil {
		return err
	}
	k.setMade(profile)
	k.look()
	return nil
}

// createArrived makes the file in a place that had none.
func (k *keptTPM) createArrived(home *place.Home, permanent []byte, profile *engine.Profile) error {
	if err := k.place.notTakingOver(); err != nil {
		return err
	}
	id, err := state.NewID(k.env.Rand)
	if err != nil {
		return err
	}
	k.file, err = home.Create(context.Background(), id, permanent, newDropInRecord(profile))
	return err
}

func (k *keptTPM) replaceArrived(home *place.Home, permanent []byte, profile *engine.Profile) error {
	record, err := home.Record(newDropInRecord(profile))
	if err != nil {
		return err
	}
	if err := k.file.Save(context.Background(), state.Content{Permanent: permanent, Meta: record}); err != nil {
		return err
	}
	return home.Arrived(k.file.ID())
}

// unlock gives the locks up, for the process that the state has gone to.
func (k *keptTPM) unlock() error {
	if k.file == nil {
		return nil
	}
	if err := k.file.Release(); err != nil {
		return err
	}
	return k.dropLock()
}

// relock takes the locks back, if no other process has them or has written.
func (k *keptTPM) relock() error {
	if err := k.takeLock(); err != nil {
		return err
	}
	if k.file == nil {
		return nil
	}
	return k.file.Reacquire()
}

// looksLikeSWTPM reports whether a text begins as swtpm's files and blobs do: a
// header of version 1 or 2, readable from version 1 on, of 10 bytes (struct blobheader).
func looksLikeSWTPM(head []byte) bool {
	return len(head) >= 4 && head[0] <= 2 && head[1] == 1 && head[2] == 0 && head[3] == 10
}
