package instances

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/machine"
)

// ByInstance is the part of a path that names a machine. It is exported because the
// library passes over embedded types that are not.
type ByInstance struct {
	Instance string `path:"instance" maxLength:"63"`
}

// OnlyValidate says that a change is to be judged and not made.
type OnlyValidate struct {
	ValidateOnly bool `query:"validateOnly" doc:"Say what the change brings about, and change nothing"`
}

type listInput struct {
	After string `query:"after" maxLength:"63" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"500"`
}

type listBody struct {
	Items []*machine.Status `json:"items" nullable:"false" doc:"By name; those that the caller may see"`
	Next  string            `json:"next,omitempty" doc:"after of the next page; absent on the last"`
}

// shieldedBody is shieldedInstanceConfig; what is absent stays as it is, or is on.
type shieldedBody struct {
	SecureBoot          *bool `json:"enableSecureBoot,omitempty"`
	VTPM                *bool `json:"enableVtpm,omitempty"`
	IntegrityMonitoring *bool `json:"enableIntegrityMonitoring,omitempty"`
}

func (b *shieldedBody) apply(to *fleet.Shielded) {
	for _, f := range []struct {
		from *bool
		to   *bool
	}{{b.SecureBoot, &to.SecureBoot}, {b.VTPM, &to.VTPM}, {b.IntegrityMonitoring, &to.IntegrityMonitoring}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
}

type createInput struct {
	OnlyValidate
	Body struct {
		Profile     string         `json:"profile,omitempty" enum:"off,baseline,hardened,strict" doc:"Sets several options; hardened when absent. Members of instance have the last word"`
		KeyProvider string         `json:"keyProvider,omitempty" maxLength:"64" pattern:"^[a-zA-Z0-9-]*$" doc:"Name of the key provider; the default one when absent"`
		Instance    map[string]any `json:"instance" doc:"The definition: docs/formats/machine.md. cpus is 1, memoryMiB 1024 and guestOS linux when absent"`
	}
}

// IfSeen makes a change one of the definition that its author has seen.
type IfSeen struct {
	Match string `header:"If-Match" maxLength:"128" doc:"ETag of the instance that was read: when its definition has changed since, nothing is done"`
}

// check refuses a change of another definition than the one that was seen (RFC 9110, 13.1.1).
func (s IfSeen) check(d *fleet.Definition) error {
	if s.Match == "" || s.Match == "*" {
		return nil
	}
	if tag, err := etagOf(d); err != nil || tag != s.Match {
		return errors.Join(apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "the definition is another than If-Match names: read the instance again"), err)
	}
	return nil
}

// etagOf names a definition (RFC 9110, 8.8.3).
func etagOf(d *fleet.Definition) (string, error) {
	text, err := json.Marshal(d)
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%q", hex.EncodeToString(sum[:16])), err
}

// A described machine, with the ETag of its definition.
type describedReply struct {
	ETag string `header:"ETag"`
	Body machine.Description
}

type patchInput struct {
	ByInstance
	OnlyValidate
	IfSeen
	Confirm bool           `query:"confirm" doc:"Yes to what destroys secrets"`
	Reason  string         `query:"reason" maxLength:"255" doc:"Kept with the event"`
	Body    map[string]any `doc:"Members of the definition to change; null takes one away (RFC 7396)"`
}

type shieldedInput struct {
	ByInstance
	OnlyValidate
	IfSeen
	Confirm bool   `query:"confirm" doc:"Yes to what destroys secrets"`
	Reason  string `query:"reason" maxLength:"255" doc:"Kept with the event"`
	Body    shieldedBody
}

func (a *API) machineRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-instances", Summary: "List machines, and how each is", Tag: "instances",
		Route: apiserver.Route{Pattern: "GET /v1/instances", Needs: access.ListInstances, Somewhere: true},
	}, a.list)
	apiserver.Serve(s, apiserver.Operation{
		ID: "create-instance", Summary: "Make a machine: its encrypted home, its keys of secure boot, its TPM", Tag: "instances",
		Route: apiserver.Route{Pattern: "POST /v1/instances", Needs: access.CreateInstance, Somewhere: true, Body: 64 << 10},
	}, a.create)
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-instance", Summary: "Tell all that is known of a machine", Tag: "instances",
		Route: apiserver.Route{Pattern: "GET /v1/instances/{instance}", Needs: access.GetInstance, On: "instance"},
	}, a.describe)
	apiserver.Serve(s, apiserver.Operation{
		ID: "update-instance", Summary: "Change the definition of a machine that is off", Tag: "instances",
		Route: apiserver.Route{Pattern: "PATCH /v1/instances/{instance}", Needs: access.UpdateInstance, On: "instance", Body: 64 << 10},
	}, a.patch)
	apiserver.Serve(s, apiserver.Operation{
		ID: "update-shielded-instance-config", Summary: "Change the three options of a machine that is off", Tag: "instances",
		Route: apiserver.Route{Pattern: "PATCH /v1/instances/{instance}/updateShieldedInstanceConfig", Needs: access.UpdateShielded, On: "instance", Body: 4 << 10},
	}, func(ctx context.Context, in *shieldedInput) (*apiserver.Reply[Operation], error) {
		return a.update(ctx, "updateShieldedInstanceConfig", in.Instance, in.Body, machine.UpdateOptions{
			DryRun: in.ValidateOnly, Confirm: in.Confirm, Reason: in.Reason, Change: func(d *fleet.Definition) error {
				if err := in.check(d); err != nil {
					return err
				}
				in.Body.apply(&d.Shielded)
				return checked(d)
			},
		})
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "delete-instance", Summary: "Delete a machine that is off, with its TPM and all that it protects; its disks stay", Tag: "instances",
		Route: apiserver.Route{Pattern: "DELETE /v1/instances/{instance}", Needs: access.DeleteInstance, On: "instance"},
	}, a.remove)
}

// list asks the machines of one page, and no other.
func (a *API) list(ctx context.Context, in *listInput) (*apiserver.Reply[listBody], error) {
	names, err := a.cfg.Machines.Names()
	if err != nil {
		return nil, err
	}
	who := apiserver.Caller(ctx)
	names = slices.DeleteFunc(names, func(name string) bool { return name <= in.After || !who.MayOn(access.ListInstances, name) })
	var out listBody
	if len(names) > in.Limit {
		names = names[:in.Limit]
		out.Next = names[in.Limit-1]
	}
	out.Items = apiserver.OrEmpty(a.cfg.Machines.StatusesOf(ctx, names))
	for _, s := range out.Items {
		toTell(s)
	}
	return apiserver.Answer(out), ctx.Err()
}

// toTell leaves of how a machine is what who may look at it may know: nothing that names a
// file of the host, and no token, with which he would speak for the machine.
func toTell(s *machine.Status) {
	s.Detail = ""
	if s.Health == nil {
		return
	}
	h := *s.Health
	if h.TokenProblem != "" {
		h.TokenProblem = cmp.Or(h.TokenRefusal, "no token could be had of the attestation service; assay vm describe -o json says why on the host")
	}
	h.Token, h.TokenRefusal = "", ""
	s.Health = &h
}

// definition completes what a caller says of a new machine.
func (in *createInput) definition() (*fleet.Definition, error) {
	profile := in.Body.Profile
	if profile == "" {
		profile = "hardened"
	}
	preset, err := fleet.PresetNamed(profile)
	if err != nil {
		return nil, &definitionError{err}
	}
	base := &fleet.Definition{GuestOS: "linux", CPUs: 1, MemoryMiB: 1024}
	preset.Apply(base)
	return merged(base, in.Body.Instance)
}

// merged is a definition with members of it replaced (RFC 7396).
func merged(d *fleet.Definition, patch map[string]any) (*fleet.Definition, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var have map[string]any
	if err := json.Unmarshal(text, &have); err != nil {
		return nil, err
	}
	return parsed(mergePatch(have, patch))
}

// mergePatch is the function of RFC 7396, 2.
func mergePatch(target, patch map[string]any) map[string]any {
	out := maps.Clone(target)
	if out == nil {
		out = map[string]any{}
	}
	for name, value := range patch {
		switch v := value.(type) {
		case nil:
			delete(out, name)
		case map[string]any:
			inner, _ := out[name].(map[string]any)
			out[name] = mergePatch(inner, v)
		default:
			out[name] = v
		}
	}
	return out
}

func (a *API) create(ctx context.Context, in *createInput) (*apiserver.Reply[Operation], error) {
	d, err := in.definition()
	if err != nil {
		return nil, err
	}
	if err := a.server.Allow(ctx, access.CreateInstance, d.Name); err != nil {
		return nil, err
	}
	if err := a.mayName(ctx, access.CreateInstance, &fleet.Definition{}, d); err != nil {
		return nil, err
	}
	if err := a.mayLabel(ctx, d.Name, nil, d.Labels); err != nil {
		return nil, err
	}
	if d.Image != "" {
		if err := a.server.Allow(ctx, access.UseImage, ""); err != nil {
			return nil, err
		}
		if _, err := a.cfg.Images.Get(d.Image); err != nil {
			return nil, err
		}
	}
	if in.ValidateOnly {
		return a.validateNew(ctx, d)
	}
	return a.run(ctx, work{"create", d.Name, d, func(ctx context.Context, actor string, _ *Operation) error {
		if err := a.cfg.Host.Create(ctx, actor, in.Body.KeyProvider, d); err != nil {
			return err
		}
		a.cfg.Host.Changed(ctx, d.Name)
		return nil
	}})
}

// validateNew says whether a machine could be made.
func (a *API) validateNew(ctx context.Context, d *fleet.Definition) (*apiserver.Reply[Operation], error) {
	if _, err := a.cfg.Machines.Card(d.Name); err == nil {
		return nil, machine.ErrExists
	}
	if err := a.cfg.Machines.Supports(d); err != nil {
		return nil, err
	}
	return a.validated(ctx, "create", d.Name, Operation{Effects: []fleet.Effect{}})
}

// validated is the answer to a change that is not made.
func (a *API) validated(ctx context.Context, kind, instance string, show Operation) (*apiserver.Reply[Operation], error) {
	now := a.cfg.Now().UTC()
	show.Kind, show.OperationType, show.Instance, show.User = "operation", kind, instance, apiserver.Actor(ctx)
	show.Status, show.InsertTime, show.EndTime, show.ValidateOnly = statusDone, now, &now, true
	return apiserver.Answer(show), nil
}

func (a *API) describe(ctx context.Context, in *ByInstance) (*describedReply, error) {
	d, err := a.cfg.Machines.Describe(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	d.Baselines = apiserver.OrEmpty(d.Baselines)
	toTell(&d.Status)
	out := &describedReply{Body: *d}
	if d.Definition != nil {
		out.ETag, err = etagOf(d.Definition)
	}
	return out, err
}

func (a *API) patch(ctx context.Context, in *patchInput) (*apiserver.Reply[Operation], error) {
	return a.update(ctx, "update", in.Instance, in.Body, machine.UpdateOptions{
		DryRun: in.ValidateOnly, Confirm: in.Confirm, Reason: in.Reason, Change: func(d *fleet.Definition) error {
			if err := in.check(d); err != nil {
				return err
			}
			after, err := merged(d, in.Body)
			if err != nil {
				return err
			}
			if after.Name != d.Name {
				return &definitionError{errName}
			}
			if guardedOf(after) != guardedOf(d) {
				if err := a.server.Allow(ctx, access.UpdateShielded, in.Instance); err != nil {
					return err
				}
			}
			if err := a.mayName(ctx, access.UpdateInstance, d, after); err != nil {
				return err
			}
			if err := a.mayLabel(ctx, d.Name, d.Labels, after.Labels); err != nil {
				return err
			}
			*d = *after
			return nil
		},
	})
}

// guarded is what a machine has of integrity policy: how its boots are judged, what
// follows from that, and who is told.
type guarded struct {
	shielded                      fleet.Shielded
	keyset, policy                string
	approve, stopOnFailure, agent bool
	deadline                      int
}

func guardedOf(d *fleet.Definition) guarded {
	return guarded{d.Shielded, d.Keyset, d.Policy, d.ApproveFirst, d.StopOnFailure, d.Agent, d.BootDeadline}
}

// update changes a definition, or says what that would bring about.
func (a *API) update(ctx context.Context, kind, instance string, body any, o machine.UpdateOptions) (*apiserver.Reply[Operation], error) {
	change := o.Change
	o.Change = func(d *fleet.Definition) error { // whose home is held
		if err := a.server.RecheckBy(ctx, d.Labels); err != nil {
			return err
		}
		return change(d)
	}
	if o.DryRun {
		effects, err := a.cfg.Machines.Update(ctx, actorOf(ctx), instance, o)
		if err != nil {
			return nil, err
		}
		return a.validated(ctx, kind, instance, Operation{Effects: apiserver.OrEmpty(effects)})
	}
	return a.run(ctx, work{kind, instance, body, func(ctx context.Context, actor string, show *Operation) error {
		effects, err := a.cfg.Machines.Update(ctx, actor, instance, o)
		if err != nil {
			return err
		}
		show.Effects = apiserver.OrEmpty(effects)
		a.cfg.Host.Changed(ctx, instance)
		return nil
	}})
}

func (a *API) remove(ctx context.Context, in *ByInstance) (*apiserver.Reply[Operation], error) {
	return a.run(ctx, work{"delete", in.Instance, nil, func(ctx context.Context, actor string, _ *Operation) error {
		if err := a.cfg.Machines.Delete(ctx, actor, in.Instance); err != nil {
			return err
		}
		a.cfg.Host.Deleted(ctx, in.Instance)
		return nil
	}})
}
