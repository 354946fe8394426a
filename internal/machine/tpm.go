package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

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

// talk serves the hypervisor. The TPM of a machine that runs must not end: its control
// channel does when the hypervisor itself ends, and else a while before.
func (s *supervisor) talk(ctx context.Context, c *net.UnixConn) {
	cfg := frontend.Config{Now: s.root.cfg.Now, Log: s.root.cfg.Log}
	err := frontend.ServeControl(ctx, s.tpm.Machine(), c, frontend.SWTPMConfig{FileKey: true, MigrationKey: true}, cfg)
	late := time.NewTimer(cutTime)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return
	case <-late.C:
	}
	if err == nil {
		err = errors.New("the hypervisor closed its channel")
	}
	s.inLoop(ctx, func() { s.lostTPM(err) })
}

// lookAtTPM tells of a TPM that is in failure because its state could not be kept.
func (s *supervisor) lookAtTPM() {
	if s.tpm == nil {
		return
	}
	if err := s.tpm.Machine().Err(); err != nil {
		s.lostTPM(err)
	}
}

// lostTPM tells once that the machine's TPM ended under it.
func (s *supervisor) lostTPM(why error) {
	if s.tpmLost {
		return
	}
	s.tpmLost = true
	n := integrity.Notice{Type: integrity.EventTPMLost, Instance: s.home.Name(), Time: s.root.cfg.Now(), BootCounter: s.monitor.Counter()}
	n.Reasons = append(n.Reasons, reason(codeTPMLost, "the TPM of the machine ended while it ran: "+why.Error()))
	s.tell([]integrity.Notice{n}) //nolint:errcheck // said there
}
