package instances

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

type stopInput struct {
	ByInstance
	Force bool `query:"force" doc:"Take the power at once; also ends a hypervisor whose supervisor died"`
}

type serialInput struct {
	ByInstance
	Port  int   `query:"port" minimum:"1" maximum:"1" default:"1"`
	Start int64 `query:"start" minimum:"0" doc:"First byte that is wanted: next of the answer before"`
}

// A serialBody has the names of Compute Engine's SerialPortOutput.
type serialBody struct {
	Contents string `json:"contents" doc:"Words of the guest, which prove nothing"`
	Start    int64  `json:"start,string"`
	Next     int64  `json:"next,string" doc:"start of the next request"`
}

// maxSerial is how much of a console one answer has, as Compute Engine's.
const maxSerial = 1 << 20

// An identityBody has the names of Compute Engine's ShieldedInstanceIdentity. A signing key
// is there of a TPM with a device identity; other attestation keys are made by guests, and
// proved by activation (POST /v1/enrolments), not told.
type identityBody struct {
	SigningKey           *keyBody       `json:"signingKey,omitempty" doc:"Initial attestation key, where the TPM was made with one"`
	EncryptionKey        *keyBody       `json:"encryptionKey,omitempty" doc:"RSA-2048 endorsement key"`
	ECCP256EncryptionKey *keyBody       `json:"eccP256EncryptionKey,omitempty" doc:"P-256 endorsement key"`
	Identity             *vtpm.Identity `json:"identity" doc:"All keys, with their names and certificates: docs/vtpm-identity.md"`
}

type keyBody struct {
	EKPub  string `json:"ekPub" doc:"PEM"`
	EKCert string `json:"ekCert,omitempty" doc:"PEM; absent when there is none that fits the key"`
}

func (a *API) powerRoutes(s *apiserver.Server) {
	change := func(verb, summary string, needs access.Permission, do func(ctx context.Context, actor, name string) error) {
		apiserver.Serve(s, apiserver.Operation{
			ID: verb + "-instance", Summary: summary, Tag: "instances",
			Route: apiserver.Route{Pattern: "POST /v1/instances/{instance}/" + verb, Needs: needs, On: "instance"},
		}, func(ctx context.Context, in *ByInstance) (*apiserver.Reply[Operation], error) {
			return a.run(ctx, work{verb, in.Instance, nil, func(ctx context.Context, actor string, _ *Operation) error { return do(ctx, actor, in.Instance) }})
		})
	}
	change("start", "Start a machine; done when it runs, not when it has booted", access.StartInstance, a.start)
	change("reset", "Press the reset button of a machine", access.ResetInstance, func(ctx context.Context, actor, name string) error {
		return a.cfg.Machines.Reset(ctx, actor, name)
	})
	change("clearTPM", "Make the TPM of a machine that is off anew; all that it protects is lost", access.ClearTPM, func(ctx context.Context, actor, name string) error {
		return a.cfg.Machines.ClearTPM(ctx, actor, name)
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "stop-instance", Summary: "Shut a machine down; a guest that does not end in 20 seconds loses its power", Tag: "instances",
		Route: apiserver.Route{Pattern: "POST /v1/instances/{instance}/stop", Needs: access.StopInstance, On: "instance"},
	}, func(ctx context.Context, in *stopInput) (*apiserver.Reply[Operation], error) {
		return a.run(ctx, work{"stop", in.Instance, map[string]bool{"force": in.Force}, func(ctx context.Context, actor string, _ *Operation) error {
			return a.cfg.Machines.Stop(ctx, actor, in.Instance, in.Force)
		}})
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-serial-port-output", Summary: "Read what a machine printed in its last boot", Tag: "instances",
		Route: apiserver.Route{Pattern: "GET /v1/instances/{instance}/serialPort", Needs: access.GetSerialPortOutput, On: "instance"},
	}, a.serialPort)
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-shielded-instance-identity", Summary: "Read the public keys of a machine's TPM", Tag: "instances",
		Route: apiserver.Route{Pattern: "GET /v1/instances/{instance}/getShieldedInstanceIdentity", Needs: access.GetShieldedIdentity, On: "instance"},
	}, a.identity)
}

func (a *API) start(ctx context.Context, actor, name string) error {
	s, err := a.cfg.Machines.Status(ctx, name)
	if err != nil {
		return err
	}
	if s.State == machine.StateRunning {
		return apiserver.NewProblem(http.StatusConflict, codeBusy, "it runs already")
	}
	return a.launch(ctx, actor, name)
}

// launch starts a machine. What may not be told of why it does not start is in the log.
func (a *API) launch(ctx context.Context, actor, name string) error {
	err := a.cfg.Host.Start(ctx, actor, name)
	var start *StartError
	if !errors.As(err, &start) {
		return err
	}
	p := explain(start)
	if start.Words == "" {
		a.server.LogAs(ctx, p, start.Cause)
	}
	return p
}

func (a *API) serialPort(ctx context.Context, in *serialInput) (*apiserver.Reply[serialBody], error) {
	text, err := a.cfg.Machines.ConsoleText(ctx, in.Instance)
	if errors.Is(err, fs.ErrNotExist) {
		if _, cerr := a.cfg.Machines.Card(in.Instance); cerr == nil {
			return apiserver.Answer(serialBody{}), nil // it has not run yet
		}
	}
	if err != nil {
		return nil, err
	}
	from := min(in.Start, int64(len(text)))
	to := min(from+maxSerial, int64(len(text)))
	return apiserver.Answer(serialBody{text[from:to], from, to}), nil
}

func (a *API) identity(ctx context.Context, in *ByInstance) (*apiserver.Reply[identityBody], error) {
	d, err := a.cfg.Machines.Describe(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	if d.Definition == nil {
		return nil, machine.ErrDamaged
	}
	if !d.Definition.Shielded.VTPM {
		return nil, apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "the machine has no TPM")
	}
	found, err := a.cfg.Machines.Identity(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	body := identityBody{Identity: found}
	for _, k := range found.Keys {
		key := &keyBody{EKPub: k.PublicKey}
		if k.Matches {
			key.EKCert = k.Certificate
		}
		switch k.Kind {
		case ekca.RSA2048:
			body.EncryptionKey = key
		case ekca.P256:
			body.ECCP256EncryptionKey = key
		case ekca.IAK:
			body.SigningKey = key
		}
	}
	return apiserver.Answer(body), nil
}
