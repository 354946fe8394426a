package vtpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// A Finding is something that the operator of a root should look at.
type Finding struct {
	Code    evidence.Code `json:"code"`
	Message string        `json:"message"`
}

// The codes of findings.
const (
	codeShared     = evidence.Code("vtpm.shared-secrets")
	codeSameID     = evidence.Code("vtpm.same-id")
	codeSameVM     = evidence.Code("vtpm.same-machine")
	codeUnreadable = evidence.Code("vtpm.unreadable")
	codeNotice     = evidence.Code("vtpm.state-notice")
	codeNoAnchor   = evidence.Code("vtpm.rollback-unknown")
	codeTwoKeys    = evidence.Code("vtpm.key-change-unfinished")
)

// A Summary is a TPM of a list. It is read without any key: all of it is a claim.
type Summary struct {
	Name     string    `json:"name"`
	ID       state.ID  `json:"id"`
	VM       string    `json:"vm,omitempty"`
	Profile  string    `json:"profile"`
	Provider string    `json:"provider"`
	Created  time.Time `json:"created"`
	Running  bool      `json:"running"` // in the process that was asked
	Findings []Finding `json:"findings,omitempty"`

	secrets SecretsID
}

// List returns the TPMs of the root, with what is odd about each.
func (r *Root) List(ctx context.Context) ([]Summary, error) {
	names, err := r.Names()
	if err != nil {
		return nil, err
	}
	list := make([]Summary, 0, len(names))
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, r.summary(name))
	}
	compareAll(list)
	return list, nil
}

func (r *Root) summary(name string) Summary {
	c, err := r.readCard(name)
	if err != nil {
		return Summary{Name: name, Findings: []Finding{{codeUnreadable, err.Error()}}}
	}
	s := Summary{Name: name, ID: c.ID, VM: c.VM, Profile: c.Profile, Provider: c.Providers[0], Created: c.Created, secrets: c.Secrets}
	r.mu.Lock()
	_, s.Running = r.running[name]
	r.mu.Unlock()
	if _, err := os.Lstat(r.StatePath(name)); err != nil {
		s.Findings = append(s.Findings, Finding{codeUnreadable, fmt.Sprintf("its state is gone: %v", err)})
	}
	if len(c.Providers) > 1 {
		s.Findings = append(s.Findings, Finding{codeTwoKeys, fmt.Sprintf("a change of its key provider from %q to %q did not end: rotate its key again", c.Providers[0], c.Providers[1])})
	}
	return s
}

// compareAll finds what no TPM of a list shows alone.
func compareAll(list []Summary) {
	secrets, ids, vms := map[SecretsID]int{}, map[state.ID]int{}, map[string]int{}
	for n := range list {
		s := &list[n]
		if s.ID.IsZero() {
			continue
		}
		if first, ok := secrets[s.secrets]; ok {
			both(list, first, n, codeShared, "shares all secrets with TPM %q: either can take the other's place and read what is sealed to it")
		} else {
			secrets[s.secrets] = n
		}
		if first, ok := ids[s.ID]; ok {
			both(list, first, n, codeSameID, "has the id of TPM %q: one folder is a copy of the other")
		} else {
			ids[s.ID] = n
		}
		if first, ok := vms[s.VM]; ok && s.VM != "" {
			both(list, first, n, codeSameVM, "belongs to the same virtual machine as TPM %q")
		} else {
			vms[s.VM] = n
		}
	}
}

// both adds a finding to two TPMs, each naming the other.
func both(list []Summary, a, b int, code evidence.Code, format string) {
	list[a].Findings = append(list[a].Findings, Finding{code, fmt.Sprintf(format, list[b].Name)})
	list[b].Findings = append(list[b].Findings, Finding{code, fmt.Sprintf(format, list[a].Name)})
}

// A Description is all that is known of one TPM.
type Description struct {
	Summary
	// Proved is true when the state was opened: then Record and what follows it are
	// what the holder of its key sealed.
	Proved     bool          `json:"proved"`
	Problem    string        `json:"problem,omitempty"` // why not
	Record     *Record       `json:"record,omitempty"`
	Generation uint64        `json:"generation,omitempty"`
	Saved      time.Time     `json:"saved,omitzero"`
	Journal    *Journal      `json:"journal,omitempty"` // of one that runs in this process, and is not busy
	Contents   *Contents     `json:"contents,omitempty"`
	Needs      []Requirement `json:"requirements,omitempty"` // of its virtual machine
}

// Contents is what a TPM holds that a guest put there or relies on.
type Contents struct {
	Persistent []string `json:"persistent"` // handles of keys
	NV         []string `json:"nv"`         // indices
}

// Describe opens the state of a TPM, if it can, and tells what is in it.
func (r *Root) Describe(ctx context.Context, name string) (*Description, error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	list, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	d := &Description{Summary: Summary{Name: name}}
	for _, s := range list {
		if s.Name == name {
			d.Summary = s
		}
	}
	if err := r.prove(ctx, d); err != nil {
		d.Problem = err.Error()
	}
	return d, nil
}

// prove fills in what only an opened state tells.
func (r *Root) prove(ctx context.Context, d *Description) error {
	r.mu.Lock()
	running := r.running[d.Name]
	r.mu.Unlock()
	if running != nil {
		rec, ok := running.Record()
		if !ok {
			return fmt.Errorf("TPM %q: it is starting: %w", d.Name, ErrBusy)
		}
		d.Proved, d.Record, d.Generation, d.Saved = true, &rec, running.file.Generation(), running.file.Saved()
		d.Journal = running.journal(ctx)
		d.judge()
		return nil
	}
	release, err := r.claim(d.Name, "it is being looked at")
	if err != nil {
		return err
	}
	defer release()
	s, err := r.openState(ctx, d.Name)
	if err != nil {
		return err
	}
	defer s.content.Destroy()
	d.Proved, d.Record, d.Generation, d.Saved = true, s.record, s.file.Generation(), s.file.Saved()
	d.judge()
	for _, n := range s.file.Notices() {
		d.Findings = append(d.Findings, Finding{codeNotice, n.String()})
	}
	if !s.file.Anchored() {
		d.Findings = append(d.Findings, Finding{codeNoAnchor, "no ledger knew this TPM: an old copy of its state would look the same"})
	}
	d.Contents, err = r.contents(s.content.Permanent)
	return errors.Join(err, s.file.Close())
}

// Owned returns the record of a TPM as it was sealed with the state, which it opens: of
// what a [Card] says nothing is believed. It wraps [ErrBusy] while another process has
// the TPM.
func (r *Root) Owned(ctx context.Context, name string) (*Record, error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	release, err := r.claim(name, "it is being looked at")
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := r.openState(ctx, name)
	if errors.Is(err, state.Locked) {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return nil, err
	}
	s.content.Destroy()
	return s.record, s.file.Close()
}

// judge compares the requirements with what the record says of the machine.
func (d *Description) judge() {
	if d.Record.VM != nil {
		d.Needs = d.Record.VM.Requirements(d.Provider)
	}
}

// contents asks a copy of the TPM, of which nothing is kept.
func (r *Root) contents(permanent []byte) (*Contents, error) {
	t, err := engine.Restore(r.engineConfig(nil), permanent, nil)
	if err != nil {
		return nil, err
	}
	t.PowerOn()
	c := client.New(client.InProcess(t, 0), r.cfg.Random)
	if err := c.Startup(tpm2.StartupClear); err != nil {
		return nil, err
	}
	out := &Contents{}
	if out.Persistent, err = handlesFrom(c, tpm2.KindPersistent); err != nil {
		return nil, err
	}
	out.NV, err = handlesFrom(c, tpm2.KindNVIndex)
	return out, err
}

// handlesFrom lists the handles of a kind (Part 3, 30.2: TPM_CAP_HANDLES).
func handlesFrom(c *client.TPM, kind tpm2.HandleKind) ([]string, error) {
	out := []string{}
	next := uint32(kind) << 24
	for {
		var answer command.GetCapabilityOut
		_, err := c.Run(&client.Command{
			Code: tpm2.CCGetCapability,
			In:   &command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: next, PropertyCount: 64},
			Out:  &answer,
		})
		if err != nil {
			return nil, err
		}
		for _, h := range answer.CapabilityData.Handles {
			out = append(out, fmt.Sprintf("%08x", uint32(h)))
			next = uint32(h) + 1
		}
		if !answer.MoreData {
			return out, nil
		}
	}
}

// A Loss names what an operation takes from a virtual machine.
type Loss struct {
	TPM      string    `json:"tpm"`
	VM       string    `json:"vm,omitempty"`
	What     []string  `json:"what"`
	Contents *Contents `json:"contents,omitempty"`
	Unknown  string    `json:"unknown,omitempty"` // why the contents could not be read
}

// Loss says what clearing, detaching or deleting a TPM takes away.
func (r *Root) Loss(ctx context.Context, name string) (*Loss, error) {
	d, err := r.Describe(ctx, name)
	if err != nil {
		return nil, err
	}
	l := &Loss{TPM: name, VM: d.VM, Contents: d.Contents, Unknown: d.Problem}
	l.What = []string{
		"all that the guest sealed to this TPM: disk keys (BitLocker, LUKS), credentials, keys of workloads",
		"its identity: endorsement keys and certificates, and every attestation key that was enrolled with them",
	}
	if d.Contents != nil {
		l.What = append(l.What, fmt.Sprintf("%d persistent keys and %d NV indices", len(d.Contents.Persistent), len(d.Contents.NV)))
	}
	return l, nil
}
