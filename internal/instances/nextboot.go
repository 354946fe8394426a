package instances

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

// A nextBootBody is what the next boot of a machine that is off will show otherwise.
type nextBootBody struct {
	machine.Foreseen
	Changes bool      `json:"changes" doc:"Whether a register that decides will have another value"`
	Digest  string    `json:"digest" doc:"Of the registers and the baseline above: what approveNextBoot approves"`
	Check   checkBody `json:"check"`
}

type approveNextInput struct {
	ByInstance
	Body struct {
		Digest string `json:"digest" minLength:"64" maxLength:"64" doc:"That of nextBoot: when the disk, the variables or the baseline have changed since, nothing is approved"`
		Hours  int    `json:"hours,omitempty" minimum:"1" maximum:"720" doc:"How long the approval waits for its boot; 24 when absent"`
		Reason string `json:"reason,omitempty" maxLength:"255" doc:"Kept with the event"`
	}
}

func (a *API) nextBootRoutes(s *apiserver.Server) {
	op := func(id, summary, pattern string, needs access.Permission) apiserver.Operation {
		return apiserver.Operation{ID: id, Summary: summary, Tag: "integrity", Route: apiserver.Route{Pattern: pattern, Needs: needs, On: "instance"}}
	}
	apiserver.Serve(s, op("foresee-next-boot", "Say what the next boot of a machine that is off will show otherwise than its baseline", "GET /v1/instances/{instance}/nextBoot", access.GetInstance),
		func(ctx context.Context, in *ByInstance) (*apiserver.Reply[nextBootBody], error) {
			f, seen, err := a.cfg.Machines.Foresee(ctx, in.Instance)
			if err != nil {
				return nil, unreadable(err)
			}
			digest, err := digestOf(seen)
			if err != nil {
				return nil, err
			}
			return apiserver.Answer(nextBootBody{*seen, seen.Changes(), digest, checkOf(f)}), nil
		})
	approve := op("approve-next-boot", "Approve what the next boot will show otherwise, for that one boot", "POST /v1/instances/{instance}/approveNextBoot", access.SetIntegrityPolicy)
	approve.Body = 4 << 10
	apiserver.Serve(s, approve, func(ctx context.Context, in *approveNextInput) (*apiserver.Reply[Operation], error) {
		return a.run(ctx, work{"approveNextBoot", in.Instance, in.Body, func(ctx context.Context, actor string, _ *Operation) error {
			return a.approveNext(ctx, actor, in)
		}})
	})
	apiserver.Serve(s, op("drop-next-boot", "Take the approval of a next boot back", "DELETE /v1/instances/{instance}/approveNextBoot", access.SetIntegrityPolicy),
		func(ctx context.Context, in *ByInstance) (*apiserver.Reply[Operation], error) {
			return a.run(ctx, work{"dropNextBoot", in.Instance, nil, func(ctx context.Context, actor string, _ *Operation) error {
				return a.cfg.Machines.DropPlan(ctx, actor, in.Instance)
			}})
		})
}

// approveNext approves what its caller has seen. What changes between the two looks of it
// PlanNext refuses.
func (a *API) approveNext(ctx context.Context, actor string, in *approveNextInput) error {
	_, seen, err := a.cfg.Machines.Foresee(ctx, in.Instance)
	if err != nil {
		return err
	}
	digest, err := digestOf(seen)
	if err != nil {
		return err
	}
	if digest != in.Body.Digest {
		return machine.ErrNotAsSeen
	}
	hours := in.Body.Hours
	if hours == 0 {
		hours = 24
	}
	return a.cfg.Machines.PlanNext(ctx, actor, in.Instance, machine.PlanOptions{Reason: in.Body.Reason, For: time.Duration(hours) * time.Hour, Seen: seen})
}

// digestOf names what is foreseen.
func digestOf(f *machine.Foreseen) (string, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
