package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// serveTPM takes the machine's TPM and offers it to the hypervisor.
func (s *supervisor) serveTPM(ctx context.Context, actor string) error {
	i, err := s.root.cfg.TPMs.Prepare(ctx, s.home.Name(), actor)
	if errors.Is(err, vtpm.ErrUnknown) {
		return fmt.Errorf("its TPM is gone: assay vtpm import or restore brings it back from a backup; assay vm update --no-vtpm, then --vtpm, makes another, without the secrets: %w", err)
	}
	if err != nil {
		return err
	}
	s.tpm = i
	i.Follow(s.journal.put)
	if err := i.Machine().Load(); err != nil {
		return err
	}
	rec, _ := i.Record()
	if rec.VM == nil || rec.VM.Name != s.home.Name() || rec.VM.UUID != s.home.card.ID {
		return fmt.Errorf("the TPM %q belongs to another machine than %s", s.home.Name(), s.home.card.ID)
	}
	return s.listen(ctx, tpmSocket, s.talk)
}

// talk serves the hypervisor. The TPM of a machine that runs must not end.
func (s *supervisor) talk(ctx context.Context, c *net.UnixConn) {
	cfg := frontend.Config{Now: s.root.cfg.Now, Log: s.root.cfg.Log}
	err := frontend.ServeControl(ctx, s.tpm.Machine(), c, frontend.SWTPMConfig{FileKey: true, MigrationKey: true}, cfg)
	if err == nil || ctx.Err() != nil {
		return
	}
	s.root.cfg.Log.Error("the TPM of a machine ended", slog.String("machine", s.home.Name()), slog.Any("error", err))
	select {
	case s.asked <- asked{request{Verb: verbTPMLost, Reason: err.Error()}, make(chan response, 1)}:
	case <-ctx.Done():
	}
}

// lostTPM tells that the machine's TPM ended under it.
func (s *supervisor) lostTPM(why string) {
	n := integrity.Notice{Type: integrity.EventTPMLost, Instance: s.home.Name(), Time: s.root.cfg.Now(), BootCounter: s.history.BootCounter}
	n.Reasons = append(n.Reasons, reason(codeTPMLost, "the TPM of the machine ended while it ran: "+why))
	s.tell([]integrity.Notice{n})
}
