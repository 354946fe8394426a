package instances

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/finding"
)

// FindingsQuery says which findings are wanted.
type FindingsQuery struct {
	All bool `query:"all" doc:"Also those that have ended"`
}

type findingsInput struct {
	FindingsQuery
	Instance string `query:"instance" maxLength:"63" doc:"Only those of this machine"`
}

type instanceFindingsInput struct {
	ByInstance
	FindingsQuery
}

type findingsBody struct {
	Items []finding.Finding `json:"items" nullable:"false" doc:"Those that last first, the severest of them first; of machines that the caller may see"`
}

// ByFinding is the part of a path that names a finding.
type ByFinding struct {
	ID int `path:"finding" minimum:"1"`
}

type acknowledgeInput struct {
	ByFinding
	Body struct {
		Note string `json:"note,omitempty" maxLength:"1024"`
	}
}

type suppressInput struct {
	ByFinding
	Body struct {
		Reason string    `json:"reason" minLength:"1" maxLength:"1024" doc:"Why it may be so"`
		Until  time.Time `json:"until" doc:"When it is told again, if it lasts; 366 days away at most"`
	}
}

type suppressionInput struct {
	ByInstance
	Body struct {
		Kind      evidence.Code `json:"kind" maxLength:"64" doc:"Such as finding.secure-boot-off"`
		Component string        `json:"component,omitempty" maxLength:"128" doc:"Only this one, such as a kernel module"`
		Reason    string        `json:"reason" minLength:"1" maxLength:"1024" doc:"Why it may be so"`
		Until     time.Time     `json:"until" doc:"When it is told again, if it lasts; 366 days away at most"`
	}
}

func (a *API) findingRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-findings", Summary: "List what there is to know and to do about machines", Tag: "findings",
		Route: apiserver.Route{Pattern: "GET /v1/findings", Needs: access.ListFindings, Somewhere: true},
	}, func(ctx context.Context, in *findingsInput) (*apiserver.Reply[findingsBody], error) {
		return a.findings(ctx, in.All, in.Instance)
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-instance-findings", Summary: "List the findings of a machine", Tag: "findings",
		Route: apiserver.Route{Pattern: "GET /v1/instances/{instance}/findings", Needs: access.ListFindings, On: "instance"},
	}, func(ctx context.Context, in *instanceFindingsInput) (*apiserver.Reply[findingsBody], error) {
		if _, err := a.cfg.Machines.Card(in.Instance); err != nil {
			return nil, err
		}
		return a.findings(ctx, in.All, in.Instance)
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-finding", Summary: "Read a finding: why, what to do, and what became of it", Tag: "findings",
		Route: apiserver.Route{Pattern: "GET /v1/findings/{finding}", Needs: access.ListFindings, Somewhere: true},
	}, a.finding)
	apiserver.Serve(s, apiserver.Operation{
		ID: "acknowledge-finding", Summary: "Say that you look after a finding", Tag: "findings",
		Route: apiserver.Route{Pattern: "POST /v1/findings/{finding}/acknowledge", Needs: access.SetFindingState, Somewhere: true, Body: 8 << 10},
	}, func(ctx context.Context, in *acknowledgeInput) (*apiserver.Reply[finding.Finding], error) {
		return a.changeFinding(ctx, in.ID, access.SetFindingState, "acknowledge", func(b *finding.Book, _ finding.Finding, who string, now time.Time) error {
			return b.Acknowledge(in.ID, finding.Note{Author: who, Time: now, Text: in.Body.Note})
		})
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "suppress-finding", Summary: "Keep a finding silent for a time, and say why", Tag: "findings",
		Route: apiserver.Route{Pattern: "POST /v1/findings/{finding}/suppress", Needs: access.MuteFinding, Somewhere: true, Body: 8 << 10},
	}, func(ctx context.Context, in *suppressInput) (*apiserver.Reply[finding.Finding], error) {
		return a.changeFinding(ctx, in.ID, access.MuteFinding, "suppress", func(b *finding.Book, f finding.Finding, who string, now time.Time) error {
			return b.Suppress(finding.Suppression{
				Kind: f.Kind, Machine: f.Machine, Component: f.Component, Reason: in.Body.Reason, Author: who, Made: now, Until: in.Body.Until,
			})
		})
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "unsuppress-finding", Summary: "End the suppression of a finding before its time", Tag: "findings",
		Route: apiserver.Route{Pattern: "POST /v1/findings/{finding}/unsuppress", Needs: access.MuteFinding, Somewhere: true},
	}, func(ctx context.Context, in *ByFinding) (*apiserver.Reply[finding.Finding], error) {
		return a.changeFinding(ctx, in.ID, access.MuteFinding, "unsuppress", func(b *finding.Book, f finding.Finding, _ string, now time.Time) error {
			if b.Unsuppress(finding.Suppression{Kind: f.Kind, Machine: f.Machine}, now) == 0 {
				return errNotSuppressed
			}
			return nil
		})
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "suppress-instance-findings", Summary: "Keep a kind of finding of a machine silent for a time, also before it is there", Tag: "findings", Status: http.StatusNoContent,
		Route: apiserver.Route{Pattern: "POST /v1/instances/{instance}/suppressFindings", Needs: access.MuteFinding, On: "instance", Body: 8 << 10},
	}, a.suppressKind)
}

// errNotSuppressed is a finding that nothing suppresses.
var errNotSuppressed = errors.New("nothing suppresses the finding")

func (a *API) findings(ctx context.Context, all bool, instance string) (*apiserver.Reply[findingsBody], error) {
	b, err := a.cfg.Findings.Load()
	if err != nil {
		return nil, err
	}
	who := apiserver.Caller(ctx)
	found := slices.DeleteFunc(b.Findings(a.cfg.Now()), func(f finding.Finding) bool {
		return !all && f.State == finding.Resolved || instance != "" && f.Machine != instance || !who.MayOn(access.ListFindings, f.Machine)
	})
	for i := range found {
		found[i].Reasons = publicReasons(found[i].Reasons)
	}
	return apiserver.Answer(findingsBody{apiserver.OrEmpty(found)}), nil
}

func (a *API) finding(ctx context.Context, in *ByFinding) (*apiserver.Reply[finding.Finding], error) {
	b, err := a.cfg.Findings.Load()
	if err != nil {
		return nil, err
	}
	f, err := b.Finding(in.ID, a.cfg.Now())
	if err != nil {
		return nil, err
	}
	if !apiserver.Caller(ctx).MayOn(access.ListFindings, f.Machine) {
		return nil, hidden(in.ID)
	}
	f.Reasons = publicReasons(f.Reasons)
	return apiserver.Answer(f), nil
}

// hidden is the answer for a finding of a machine that the caller may not see: that of one
// that is not there.
func hidden(id int) error { return fmt.Errorf("finding %d: %w", id, finding.ErrNone) }

// changeFinding changes one finding that its caller may change, and shows it.
func (a *API) changeFinding(ctx context.Context, id int, needs access.Permission, verb string, change func(b *finding.Book, f finding.Finding, who string, now time.Time) error) (*apiserver.Reply[finding.Finding], error) {
	b, err := a.cfg.Findings.Load()
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now().UTC()
	f, err := b.Finding(id, now)
	if err != nil {
		return nil, err
	}
	denied := a.server.Allow(ctx, needs, f.Machine)
	if !apiserver.Caller(ctx).MayOn(access.ListFindings, f.Machine) {
		return nil, hidden(id)
	}
	if denied != nil {
		return nil, denied
	}
	if err := a.recordFinding(ctx, verb, f.Machine, map[string]any{"finding": id, "kind": f.Kind}); err != nil {
		return nil, err
	}
	err = a.cfg.Findings.Update(ctx, now, func(b *finding.Book) error {
		if f, err = b.Finding(id, now); err != nil {
			return err
		}
		if err := change(b, f, actorOf(ctx), now); err != nil {
			return err
		}
		f, err = b.Finding(id, now)
		return err
	})
	if errors.Is(err, errNotSuppressed) {
		return nil, apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, errNotSuppressed.Error())
	}
	if err != nil {
		return nil, err
	}
	f.Reasons = publicReasons(f.Reasons)
	return apiserver.Answer(f), nil
}

func (a *API) recordFinding(ctx context.Context, verb, instance string, detail any) error {
	return a.record(ctx, "instance."+verb+"Finding", instance, apiserver.Actor(ctx), "begun", detail)
}

func (a *API) suppressKind(ctx context.Context, in *suppressionInput) (*struct{}, error) {
	if _, err := a.cfg.Machines.Card(in.Instance); err != nil {
		return nil, err
	}
	now := a.cfg.Now().UTC()
	if err := a.recordFinding(ctx, "suppress", in.Instance, in.Body); err != nil {
		return nil, err
	}
	return nil, a.cfg.Findings.Update(ctx, now, func(b *finding.Book) error {
		return b.Suppress(finding.Suppression{
			Kind: in.Body.Kind, Machine: in.Instance, Component: in.Body.Component,
			Reason: in.Body.Reason, Author: actorOf(ctx), Made: now, Until: in.Body.Until,
		})
	})
}
