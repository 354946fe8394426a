package vtpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/backup"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// KeysFor open a backup.
type KeysFor struct {
	// Identities are the contents of files of age identities; secret.
	Identities [][]byte
	// Provider replaces the key provider that a backup names, as at a site where it is
	// called otherwise.
	Provider string
}

// A source is a backup or a bare state file that was opened.
type source struct {
	bundle *backup.Bundle
	record *Record
	report *BackupReport
}

func (s *source) destroy() { s.bundle.Content.Destroy() }

// Verify opens a backup, a .nvram file or the folder of a machine's backup, and says
// of each TPM in it what it is and whether the ledger of this root knows a newer
// generation. A folder without the state of a TPM is [backup.ErrNoState].
func (r *Root) Verify(ctx context.Context, path string, k KeysFor) ([]*BackupReport, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		report, err := r.verifyOne(ctx, path, k)
		return []*BackupReport{report}, err
	}
	found, err := backup.Look(path)
	if err != nil && len(found) == 0 {
		return nil, err
	}
	var reports []*BackupReport
	var errs []error
	for _, f := range found {
		report, err := r.verifyOne(ctx, f.Path, k)
		reports = append(reports, report)
		errs = append(errs, err)
	}
	return reports, errors.Join(append(errs, err)...)
}

// verifyOne reports a file as far as it can be read; the error says what is wrong.
func (r *Root) verifyOne(ctx context.Context, path string, k KeysFor) (*BackupReport, error) {
	s, err := r.openSource(ctx, path, k)
	if err != nil {
		return &BackupReport{File: path, Warnings: []string{err.Error()}}, err
	}
	defer s.destroy()
	return s.report, nil
}

// openSource opens a backup or a state file: keys first, then all of it.
func (r *Root) openSource(ctx context.Context, path string, k KeysFor) (*source, error) {
	begin, err := firstBytes(path, len(state.Magic))
	if err != nil {
		return nil, err
	}
	open := r.openBackup
	if begin == state.Magic || begin != backup.Magic && strings.HasSuffix(path, ".nvram") {
		open = r.openNVRAM
	}
	s, err := open(ctx, path, k)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	if err := r.judgeSource(s); err != nil {
		s.destroy()
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	return s, nil
}

// judgeSource reads the record, starts the TPM, and asks the ledger.
func (r *Root) judgeSource(s *source) (err error) {
	b := s.bundle
	if s.record, err = parseRecord(b.Content.Meta); err != nil {
		return err
	}
	if b.Name == "" {
		b.Name = s.record.Name
	}
	if s.record.ID != b.ID {
		return fmt.Errorf("its record is of TPM %s: %w", s.record.ID, ErrRecord)
	}
	if err := r.tryStart(b.Content); err != nil {
		return err
	}
	report := reportOf(s.report.File, b, s.record)
	report.Method, report.Provider, report.Warnings = s.report.Method, s.report.Provider, s.report.Warnings
	if s.report.Kind != "" {
		report.Kind = s.report.Kind
	}
	s.report = report
	mark, known, err := r.anchor.Last(b.ID)
	switch {
	case errors.Is(err, state.ErrLedgerEntry):
		report.Warnings = append(report.Warnings, err.Error())
	case err != nil:
		return err
	case known:
		report.Known = mark.Generation
		report.Older = mark.Generation > b.Generation || mark.Generation == b.Generation && mark.Digest != b.Digest
	}
	return nil
}

func firstBytes(path string, n int) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, n)
	n, err = f.Read(b)
	if n == 0 && err != nil {
		return "", fmt.Errorf("%q: %w", path, backup.ErrFormat)
	}
	return string(b[:n]), nil
}

func (r *Root) openBackup(ctx context.Context, path string, k KeysFor) (*source, error) {
	f, err := backup.Read(path)
	if err != nil {
		return nil, err
	}
	s := &source{report: &BackupReport{File: path, Method: f.Method.String(), Provider: f.Provider}}
	if f.Method == backup.Provider {
		spec := cmpOr(k.Provider, f.Provider)
		s.report.Provider = spec
		err = r.withProvider(ctx, spec, func(p keyprovider.Provider) (err error) {
			s.bundle, err = f.Open(ctx, backup.Keys{Provider: p})
			return err
		})
		return s, err
	}
	var keys backup.Keys
	for _, text := range k.Identities {
		ids, err := backup.ParseIdentities(text)
		if err != nil {
			return nil, err
		}
		keys.Identities = append(keys.Identities, ids...)
	}
	s.bundle, err = f.Open(ctx, keys)
	return s, err
}

// openNVRAM reads a state file that was copied as it is, as by a backup of the whole
// disk.
func (r *Root) openNVRAM(ctx context.Context, path string, k KeysFor) (*source, error) {
	info, err := state.Inspect(path)
	if err != nil {
		return nil, err
	}
	spec := cmpOr(k.Provider, info.Provider)
	s := &source{report: &BackupReport{File: path, Kind: "nvram", Method: "provider", Provider: spec}}
	if spec == "" {
		return nil, errors.New("the file does not say which key provider it needs: name it")
	}
	var snap *state.Snapshot
	err = r.withProvider(ctx, spec, func(p keyprovider.Provider) (err error) {
		cfg := r.stateConfig(p, spec, state.ID{})
		cfg.Anchor = nil // an old copy is what a backup is; judgeSource compares
		snap, err = state.Peek(ctx, path, cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, n := range snap.Notices {
		s.report.Warnings = append(s.report.Warnings, n.Text)
	}
	s.bundle = &backup.Bundle{
		Kind: backup.Backup, ID: snap.ID, Generation: snap.Mark.Generation, Digest: snap.Mark.Digest, Made: snap.Saved, Home: spec, Content: snap.Content,
	}
	return s, nil
}
