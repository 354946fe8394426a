package instances

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
)

// A Snapshot is a set of disks, variables, TPM and memory of a machine.
type Snapshot struct {
	Name   string    `json:"name"`
	Made   time.Time `json:"made"`
	By     string    `json:"actor"`
	Boot   uint64    `json:"bootCounter,string" doc:"The boot that the machine was in; 0 before its first"`
	Memory bool      `json:"memory" doc:"Whether the machine ran: restored, it goes on where it was"`
	Disks  []string  `json:"disks" nullable:"false"`
	TPM    uint64    `json:"tpmGeneration,omitempty" doc:"Of its state; absent without a TPM"`
	Tag    string    `json:"tag" doc:"What it is called inside the images of the disks"`
}

// snapshotOf leaves out what the hypervisor was told of the machine, which names files of the
// host.
func snapshotOf(s *machine.Snapshot) *Snapshot {
	if s == nil {
		return nil
	}
	return &Snapshot{s.Name, s.Made, s.By, s.Boot, s.Memory, apiserver.OrEmpty(s.Disks), s.TPM, s.Tag}
}

type snapshotsBody struct {
	Items []Snapshot `json:"items" nullable:"false" doc:"The oldest first"`
}

type snapshotInput struct {
	ByInstance
	Body struct {
		Name string `json:"name" minLength:"1" maxLength:"63" doc:"1 to 63 letters, digits, dots, underscores and hyphens"`
	}
}

// BySnapshot is the part of a path that names a snapshot of a machine.
type BySnapshot struct {
	ByInstance
	Snapshot string `path:"snapshot" maxLength:"63"`
}

type goBackInput struct {
	BySnapshot
	WithoutMemory bool `query:"withoutMemory" doc:"Leave the memory of the snapshot: the machine is off, as after a loss of power in that moment"`
}

func (a *API) snapshotRoutes(s *apiserver.Server) {
	op := func(id, summary, pattern string, needs access.Permission) apiserver.Operation {
		return apiserver.Operation{ID: id, Summary: summary, Tag: "snapshots", Route: apiserver.Route{Pattern: pattern, Needs: needs, On: "instance"}}
	}
	apiserver.Serve(s, op("list-instance-snapshots", "List the snapshots of a machine", "GET /v1/instances/{instance}/snapshots", access.GetInstance),
		func(ctx context.Context, in *ByInstance) (*apiserver.Reply[snapshotsBody], error) {
			all, err := a.cfg.Machines.Snapshots(ctx, in.Instance)
			if err != nil {
				return nil, err
			}
			out := snapshotsBody{[]Snapshot{}}
			for i := range all {
				out.Items = append(out.Items, *snapshotOf(&all[i]))
			}
			return apiserver.Answer(out), nil
		})
	create := op("create-instance-snapshot", "Make a snapshot of a machine, with its memory while it runs", "POST /v1/instances/{instance}/snapshots", access.CreateSnapshot)
	create.Body = 4 << 10
	apiserver.Serve(s, create, func(ctx context.Context, in *snapshotInput) (*apiserver.Reply[Operation], error) {
		return a.run(ctx, work{"createSnapshot", in.Instance, in.Body, func(ctx context.Context, actor string, show *Operation) error {
			made, err := a.cfg.Machines.Snapshot(ctx, actor, in.Instance, in.Body.Name)
			show.Snapshot = snapshotOf(made)
			return err
		}})
	})
	apiserver.Serve(s, op("delete-instance-snapshot", "Delete a snapshot; the machine stays as it is", "DELETE /v1/instances/{instance}/snapshots/{snapshot}", access.DeleteSnapshot),
		func(ctx context.Context, in *BySnapshot) (*apiserver.Reply[Operation], error) {
			return a.run(ctx, work{"deleteSnapshot", in.Instance, map[string]string{"snapshot": in.Snapshot}, func(ctx context.Context, actor string, _ *Operation) error {
				return a.cfg.Machines.DropSnapshot(ctx, actor, in.Instance, in.Snapshot)
			}})
		})
	apiserver.Serve(s, op("restore-instance-snapshot", "Set a machine back to a snapshot; what it did since is lost", "POST /v1/instances/{instance}/snapshots/{snapshot}/restore", access.RestoreSnapshot),
		func(ctx context.Context, in *goBackInput) (*apiserver.Reply[Operation], error) {
			detail := map[string]any{"snapshot": in.Snapshot, "withoutMemory": in.WithoutMemory}
			return a.run(ctx, work{"restoreSnapshot", in.Instance, detail, func(ctx context.Context, actor string, _ *Operation) error {
				return a.goBack(ctx, actor, in)
			}})
		})
}

// goBack sets a machine back, and has one with a memory go on, as assay vm snapshot restore
// does. A machine that runs loses its power first, once nothing refuses that.
func (a *API) goBack(ctx context.Context, actor string, in *goBackInput) error {
	all, err := a.cfg.Machines.Snapshots(ctx, in.Instance)
	if err != nil {
		return err
	}
	memory, there := false, false
	for _, s := range all {
		if s.Name == in.Snapshot {
			memory, there = s.Memory && !in.WithoutMemory, true
		}
	}
	if !there {
		return machine.ErrNoSnapshot
	}
	if err := a.cfg.Machines.SetBack(ctx, actor, in.Instance, in.Snapshot, memory); err != nil || !memory {
		return err
	}
	err = a.launch(ctx, actor, in.Instance)
	var p *apiserver.Problem
	if errors.As(err, &p) {
		p.Detail = fmt.Sprintf("the machine is what it was in %q; %s", in.Snapshot, p.Detail)
	}
	return err
}
