package instances

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/launch"
)

// EventsQuery says which events of a machine are wanted, and in which shape.
type EventsQuery struct {
	Format string `query:"format" enum:"json,gce" default:"json" doc:"gce gives the events that Google's Shielded VMs have, in the shape of their log"`
	Boot   uint64 `query:"boot" doc:"Only those of this boot"`
	Limit  int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"The newest of them"`
}

type eventsInput struct {
	ByInstance
	EventsQuery
}

// An eventsBody has one of two kinds of entries.
type eventsBody struct {
	Items any  `json:"items"`
	Older bool `json:"older,omitempty"`
}

// Schema describes an eventsBody.
func (eventsBody) Schema(r huma.Registry) *huma.Schema {
	entry := func(t reflect.Type) *huma.Schema {
		return &huma.Schema{Type: huma.TypeArray, Items: r.Schema(t, true, "")}
	}
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{"items"}, Properties: map[string]*huma.Schema{
			"items": {
				Description: "The oldest first, by format",
				OneOf:       []*huma.Schema{entry(reflect.TypeFor[integrity.Notice]()), entry(reflect.TypeFor[integrity.GCEEntry]())},
			},
			"older": {Type: huma.TypeBoolean, Description: "There are older ones than limit lets through"},
		},
	}
}

type bootsBody struct {
	Items []machine.BootSummary `json:"items" nullable:"false" doc:"Those that are kept, the oldest first"`
}

type diffInput struct {
	ByInstance
	From   uint64 `query:"from" doc:"Boot to compare with; the last but one when absent"`
	To     uint64 `query:"to" doc:"Boot that is compared; the last when absent"`
	Policy string `query:"integrityPolicy" enum:"default,gce" default:"default" doc:"What decides"`
}

type diffBody struct {
	From       uint64               `json:"from,string"`
	To         uint64               `json:"to,string"`
	Passed     bool                 `json:"passed"`
	Comparison *baseline.Comparison `json:"comparison"`
}

type whyInput struct {
	ByInstance
	Boot uint64 `query:"boot" doc:"The last when absent"`
}

// A checkBody says whether a machine that is off will boot, and what that will measure.
type checkBody struct {
	Disk       string              `json:"disk"`
	Format     disk.Format         `json:"format"`
	Verdict    string              `json:"verdict" doc:"boots, refused, or that it cannot be known"`
	Boots      *bool               `json:"boots" nullable:"true" doc:"null when it cannot be known"`
	SecureBoot bool                `json:"secureBoot" doc:"Whether the firmware will enforce it"`
	Reasons    []evidence.Reason   `json:"reasons" nullable:"false"`
	Chain      []*launch.Component `json:"chain" nullable:"false"`
	Events     []launch.Event      `json:"events" nullable:"false" doc:"What will be measured, in the order of each register"`
	// PCRs are values by bank and register.
	PCRs    map[string]map[string]*string `json:"pcrs" doc:"Values by bank and register when the operating system takes over; null is one that is not known"`
	Unknown map[string][]evidence.Reason  `json:"unknown" doc:"Why registers are not known"`
}

func checkOf(f *machine.Forecast) checkBody {
	p := f.Prediction
	out := checkBody{
		Disk: f.File, Format: f.Format, Verdict: p.Verdict.String(), SecureBoot: f.Machine.SecureBoot && !f.Machine.Variables.SetupMode(),
		Reasons: apiserver.OrEmpty(p.Reasons), Chain: apiserver.OrEmpty(p.Chain), Events: apiserver.OrEmpty(p.Events), PCRs: p.Values(), Unknown: p.Unknowns(),
	}
	if p.Verdict != launch.Undecided {
		boots := p.Verdict == launch.Starts
		out.Boots = &boots
	}
	return out
}

func (a *API) judgeRoutes(s *apiserver.Server) {
	read := func(id, summary, path string) apiserver.Operation {
		return apiserver.Operation{ID: id, Summary: summary, Tag: "integrity", Route: apiserver.Route{
			Pattern: "GET /v1/instances/{instance}/" + path, Needs: access.GetInstance, On: "instance",
		}}
	}
	apiserver.Serve(s, read("list-instance-events", "Read what happened to a machine: starts, reports, changes", "events"), func(ctx context.Context, in *eventsInput) (*apiserver.Reply[eventsBody], error) {
		return a.events(ctx, in, func(*integrity.Notice) bool { return true })
	})
	apiserver.Serve(s, read("list-instance-reports", "Read the early and late reports of a machine's boots", "reports"), func(ctx context.Context, in *eventsInput) (*apiserver.Reply[eventsBody], error) {
		return a.events(ctx, in, func(n *integrity.Notice) bool {
			return n.Type == integrity.EventEarlyReport || n.Type == integrity.EventLateReport
		})
	})
	apiserver.Serve(s, read("list-instance-boots", "List the boots of a machine that are kept", "boots"), func(ctx context.Context, in *ByInstance) (*apiserver.Reply[bootsBody], error) {
		ctx, leave, err := a.heavily(ctx, in.Instance)
		if err != nil {
			return nil, err
		}
		defer leave()
		h, err := a.cfg.Machines.History(ctx, in.Instance)
		if err != nil {
			return nil, err
		}
		return apiserver.Answer(bootsBody{apiserver.OrEmpty(machine.BootsOf(h))}), nil
	})
	apiserver.Serve(s, read("diff-instance-boots", "Say what a boot measured otherwise than another, by component", "diff"), a.diff)
	apiserver.Serve(s, read("why-instance", "Say why a boot passed or failed: each component that changed, and what to do", "why"), func(ctx context.Context, in *whyInput) (*apiserver.Reply[machine.Reasoned], error) {
		ctx, leave, err := a.heavily(ctx, in.Instance)
		if err != nil {
			return nil, err
		}
		defer leave()
		r, err := a.cfg.Machines.Reason(ctx, in.Instance, in.Boot)
		if err != nil {
			return nil, err
		}
		return apiserver.Answer(*r), nil
	})
	apiserver.Serve(s, read("get-instance-key-set", "Say which certificates of a machine's key set expire, what is to be done, and whether its firmware has them", "keyset"), a.keys)
	apiserver.Serve(s, read("check-instance", "Say without booting whether a machine that is off will boot", "check"), a.check)
}

func (a *API) events(ctx context.Context, in *eventsInput, wanted func(*integrity.Notice) bool) (*apiserver.Reply[eventsBody], error) {
	ctx, leave, err := a.heavily(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	defer leave()
	all, err := a.cfg.Machines.Events(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n integrity.Notice) bool { return in.Boot != 0 && n.BootCounter != in.Boot || !wanted(&n) })
	older := len(all) > in.Limit
	all = all[max(0, len(all)-in.Limit):]
	for i := range all {
		all[i].Reasons = publicReasons(all[i].Reasons)
	}
	if in.Format == "gce" {
		card, err := a.cfg.Machines.Card(in.Instance)
		if err != nil {
			return nil, err
		}
		return apiserver.Answer(eventsBody{integrity.GCELog(card.ID, all), older}), nil
	}
	return apiserver.Answer(eventsBody{apiserver.OrEmpty(all), older}), nil
}

// publicReasons are reasons without what names files of the host: the words of errors of its
// own and of another host's, and where a backup is.
func publicReasons(all []evidence.Reason) []evidence.Reason {
	out := slices.Clone(all)
	for i, r := range out {
		switch r.Code {
		case "machine.hypervisor-failed":
			out[i].Message = "the hypervisor failed; assay vm events has its words on the host"
		case "machine.tpm-lost":
			out[i].Message = "the TPM of the machine ended while it ran; assay vm events says why on the host"
		case "machine.migration-failed":
			out[i].Message = "the machine did not go to another host, or was taken back from it; assay vm events says why on the host"
		case "machine.backed-up":
			out[i].Message = "a backup was written, and opened again"
		case finding.DeliveryFailed:
			if r.Component != "" { // of a route
				out[i].Message = "a change was given up; assay finding show says why on the host"
			}
		}
	}
	return out
}

func (a *API) diff(ctx context.Context, in *diffInput) (*apiserver.Reply[diffBody], error) {
	ctx, leave, err := a.heavily(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	defer leave()
	h, err := a.cfg.Machines.History(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	if in.To == 0 {
		in.To = h.BootCounter
	}
	if in.From == 0 && in.To > 0 {
		in.From = in.To - 1
	}
	c, err := machine.Compare(h, in.From, in.To, in.Policy)
	if err != nil {
		return nil, err
	}
	return apiserver.Answer(diffBody{in.From, in.To, c.Passed(), c}), nil
}

// A keysBody is the key set of a machine.
type keysBody struct {
	Name         string               `json:"name"`
	Kind         keyset.Kind          `json:"kind"`
	Lacks        []string             `json:"lacks" nullable:"true" doc:"What of it the firmware's variables lack, none where secure boot is off; null where they do not tell"`
	Certificates []keyset.Certificate `json:"certificates" nullable:"false"`
	Attention    []string             `json:"attention" nullable:"false" doc:"What is to be done"`
}

func (a *API) keys(ctx context.Context, in *ByInstance) (*apiserver.Reply[keysBody], error) {
	lag, err := a.cfg.Machines.KeysetLag(ctx, in.Instance)
	if err != nil {
		return nil, err
	}
	set, err := a.cfg.Machines.Keyset(lag.Keyset)
	if err != nil {
		return nil, err
	}
	s := keysets.StatusOf(set, a.cfg.Now())
	out := keysBody{Name: s.Name, Kind: set.Kind, Certificates: s.Certificates, Attention: s.Attention}
	if lag.Known {
		out.Lacks = apiserver.OrEmpty(lag.Lacks)
	}
	if len(lag.Lacks) > 0 {
		out.Attention = append(out.Attention, "the firmware's variables lack something of the key set: an update of the machine while it is off enrols it")
	}
	return apiserver.Answer(out), nil
}

func (a *API) check(ctx context.Context, in *ByInstance) (*apiserver.Reply[checkBody], error) {
	f, err := a.cfg.Machines.Check(ctx, in.Instance)
	if err != nil {
		return nil, unreadable(err)
	}
	return apiserver.Answer(checkOf(f)), nil
}

// unreadable names what is wrong with a disk that cannot be read, which its machine's
// definition names.
func unreadable(err error) error {
	for _, known := range []error{disk.ErrMalformed, disk.ErrUnsupported, fs.ErrNotExist} {
		if errors.Is(err, known) {
			return apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, fmt.Sprintf("the disk cannot be read: %v", known))
		}
	}
	return err
}
