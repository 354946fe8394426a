package instances

import (
	"context"
	"net/http"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

type integrityInput struct {
	ByInstance
	OnlyValidate
	Body struct {
		UpdateAutoLearnPolicy bool   `json:"updateAutoLearnPolicy" doc:"true makes the latest boot the baseline; false changes nothing"`
		BootCounter           uint64 `json:"bootCounter,omitempty,string" doc:"The boot whose changes were reviewed: when the machine has booted again since, nothing is learned"`
		Digest                string `json:"digest,omitempty" maxLength:"64" doc:"The digest of the review: when the boot has measured something else since, as after a snapshot was restored, nothing is learned"`
		Reason                string `json:"reason,omitempty" maxLength:"255" doc:"Kept with the baseline"`
	}
}

type restoreInput struct {
	ByInstance
	Body struct {
		Number int    `json:"number" minimum:"1" doc:"Of the baseline that is to be in force again"`
		Reason string `json:"reason,omitempty" maxLength:"255" doc:"Kept with the baseline"`
	}
}

type baselinesBody struct {
	Items []machine.VersionSummary `json:"items" nullable:"false"`
}

func (a *API) policyRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "set-shielded-instance-integrity-policy", Summary: "Learn the baseline of a machine anew from its latest boot", Tag: "integrity",
		Route: apiserver.Route{
			Pattern: "PATCH /v1/instances/{instance}/setShieldedInstanceIntegrityPolicy", Needs: access.SetIntegrityPolicy, On: "instance", Body: 4 << 10,
		},
	}, a.setIntegrityPolicy)
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-instance-baselines", Summary: "List the baselines of a machine: of which boot each is, and who approved it", Tag: "integrity",
		Route: apiserver.Route{Pattern: "GET /v1/instances/{instance}/baselines", Needs: access.GetInstance, On: "instance"},
	}, func(ctx context.Context, in *ByInstance) (*apiserver.Reply[baselinesBody], error) {
		d, err := a.cfg.Machines.Describe(ctx, in.Instance)
		if err != nil {
			return nil, err
		}
		return apiserver.Answer(baselinesBody{apiserver.OrEmpty(d.Baselines)}), nil
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "restore-instance-baseline", Summary: "Put an earlier baseline of a machine in force again, as a new one", Tag: "integrity",
		Route: apiserver.Route{Pattern: "POST /v1/instances/{instance}/restoreBaseline", Needs: access.SetIntegrityPolicy, On: "instance", Body: 4 << 10},
	}, func(ctx context.Context, in *restoreInput) (*apiserver.Reply[Operation], error) {
		return a.run(ctx, work{"restoreBaseline", in.Instance, in.Body, func(ctx context.Context, actor string, _ *Operation) error {
			_, err := a.cfg.Machines.Restore(ctx, actor, in.Instance, in.Body.Number, in.Body.Reason)
			return err
		}})
	})
}

// setIntegrityPolicy learns the latest boot. The list of what that changes is in the answer,
// also when nothing is learned because it was only to be looked at.
func (a *API) setIntegrityPolicy(ctx context.Context, in *integrityInput) (*apiserver.Reply[Operation], error) {
	const kind = "setShieldedInstanceIntegrityPolicy"
	if !in.Body.UpdateAutoLearnPolicy && !in.ValidateOnly {
		return nil, apiserver.InvalidField("updateAutoLearnPolicy", "must be true: there is nothing else to set")
	}
	if in.ValidateOnly {
		review, err := a.reviewed(ctx, in)
		if err != nil {
			return nil, err
		}
		return a.validated(ctx, kind, in.Instance, Operation{Review: review})
	}
	return a.run(ctx, work{kind, in.Instance, in.Body, func(ctx context.Context, actor string, show *Operation) error {
		review, err := a.reviewed(ctx, in)
		if err != nil {
			return err
		}
		show.Review = review
		// Of a machine that restarts or goes back meanwhile Approve learns nothing.
		_, err = a.cfg.Machines.Approve(ctx, actor, in.Instance, review.Seen, in.Body.Reason)
		return err
	}})
}

// reviewed is what the latest boot would change, if it is the boot that the caller means.
func (a *API) reviewed(ctx context.Context, in *integrityInput) (*machine.Review, error) {
	review, err := a.cfg.Machines.Review(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	if b := in.Body.BootCounter; b != 0 && b != review.Boot {
		return nil, apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "the machine has booted again since the boot that was reviewed: nothing was learned")
	}
	if d := in.Body.Digest; d != "" && d != review.Digest {
		return nil, apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "what the boot measured, or its baseline, is another than what was reviewed: nothing was learned")
	}
	review.Changes = apiserver.OrEmpty(review.Changes)
	return review, nil
}
