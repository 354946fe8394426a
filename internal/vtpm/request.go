package vtpm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// A Request is one operation on a root, asked for on the command line: carried
// out in that process, or by the daemon that has the root.
type Request struct {
	Verb     string   `json:"verb"`
	Name     string   `json:"name,omitempty"`
	To       string   `json:"to,omitempty"` // name of a clone
	Profile  string   `json:"profile,omitempty"`
	Provider string   `json:"provider,omitempty"`
	Mode     string   `json:"mode,omitempty"`
	VM       *VM      `json:"vm,omitempty"`
	ID       state.ID `json:"id,omitzero"`
	// Confirm is the operator's yes to what destroys.
	Confirm bool `json:"confirm,omitempty"`
	// DeviceIdentity and PlatformCertificate are of a TPM to be made.
	DeviceIdentity      bool `json:"deviceIdentity,omitempty"`
	PlatformCertificate bool `json:"platformCertificate,omitempty"`
	// Kind is that of an endorsement key, Certificate one in PEM to be installed.
	Kind        string `json:"kind,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	// Delete removes the TPM after it was detached.
	Delete bool `json:"delete,omitempty"`
}

// The verbs of requests. VerbStart, VerbStop and VerbReload are for a daemon only.
const (
	VerbList      = "list"
	VerbDescribe  = "describe"
	VerbCreate    = "create"
	VerbAttach    = "attach"
	VerbDetach    = "detach"
	VerbClear     = "clear"
	VerbClone     = "clone"
	VerbDelete    = "delete"
	VerbRotateKey = "rotate-key"
	VerbStart     = "start"
	VerbStop      = "stop"
	VerbReload    = "reload"
)

// maxRequest bounds a request or reply on the admin socket in bytes.
const (
	maxRequest = 64 << 10
	maxReply   = 64 << 20
)

// ParseRequest reads a request from JSON. Unknown members are refused.
func ParseRequest(text []byte) (*Request, error) {
	rules := strictjson.Rules{Bytes: maxRequest, Depth: 3, Members: 32, Values: 64}
	q := new(Request)
	texts := map[string]*string{
		"verb": &q.Verb, "name": &q.Name, "to": &q.To, "profile": &q.Profile, "provider": &q.Provider, "mode": &q.Mode,
		"kind": &q.Kind, "certificate": &q.Certificate,
	}
	flags := map[string]*bool{"confirm": &q.Confirm, "delete": &q.Delete, "deviceIdentity": &q.DeviceIdentity, "platformCertificate": &q.PlatformCertificate}
	err := strictjson.Object(text, rules, func(name string, v strictjson.Value) (err error) {
		if to, ok := texts[name]; ok {
			*to, err = v.Text()
			return err
		}
		if to, ok := flags[name]; ok {
			s, err := yesOrNo(v)
			*to = s == yes
			return err
		}
		switch name {
		case "vm":
			var vm VM
			vm, err = ParseVM(v)
			q.VM = &vm
		case "id":
			var s string
			if s, err = v.Text(); err == nil {
				q.ID, err = state.ParseID(s)
			}
		default:
			return strictjson.Unknown()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	return q, nil
}

// A ConfirmError asks the operator whether to lose what it names.
type ConfirmError struct{ Loss *Loss }

func (e *ConfirmError) Error() string {
	who := fmt.Sprintf("TPM %q", e.Loss.TPM)
	if e.Loss.VM != "" {
		who += fmt.Sprintf(" of virtual machine %q", e.Loss.VM)
	}
	what := strings.Join(e.Loss.What, "; ")
	if e.Loss.Unknown != "" {
		what += "; what else is in it cannot be read: " + e.Loss.Unknown
	}
	return who + " would lose " + what
}

// Handle carries out a request for actor, who may make it. The result marshals
// to JSON.
func (r *Root) Handle(ctx context.Context, actor string, q *Request) (any, error) {
	if err := r.confirm(ctx, q); err != nil {
		return nil, err
	}
	switch q.Verb {
	case VerbList:
		return r.List(ctx)
	case VerbDescribe:
		return r.Describe(ctx, q.Name)
	case VerbCreate:
		return r.Create(ctx, actor, CreateOptions{
			Name: q.Name, Profile: q.Profile, Provider: q.Provider, VM: q.VM, ID: q.ID,
			DeviceIdentity: q.DeviceIdentity, PlatformCertificate: q.PlatformCertificate,
		})
	case VerbClear:
		return r.Clear(ctx, actor, q.Name)
	case VerbClone:
		return r.Clone(ctx, actor, CloneOptions{From: q.Name, To: q.To, Mode: q.Mode, Provider: q.Provider, VM: q.VM})
	case VerbIdentity, VerbRequest, VerbInstall:
		return r.handleIdentity(ctx, actor, q)
	}
	if err := r.handleChange(ctx, actor, q); err != nil {
		return nil, err
	}
	if q.Verb == VerbDelete || q.Delete {
		return struct {
			Deleted string `json:"deleted"`
		}{q.Name}, nil
	}
	return r.Describe(ctx, q.Name)
}

// handleChange are the verbs whose result is how the TPM is afterwards.
func (r *Root) handleChange(ctx context.Context, actor string, q *Request) error {
	switch q.Verb {
	case VerbAttach:
		if q.VM == nil {
			return errors.New("attach: which virtual machine?")
		}
		return r.Attach(ctx, actor, q.Name, *q.VM)
	case VerbDetach:
		err := r.Detach(ctx, actor, q.Name)
		if err == nil && q.Delete {
			err = r.Delete(ctx, actor, q.Name)
		}
		return err
	case VerbDelete:
		return r.Delete(ctx, actor, q.Name)
	case VerbRotateKey:
		return r.RotateKey(ctx, actor, q.Name, q.Provider)
	}
	return fmt.Errorf("verb %q is not known here", q.Verb)
}

// confirm is a [*ConfirmError] for what destroys and was not confirmed.
func (r *Root) confirm(ctx context.Context, q *Request) error {
	switch q.Verb {
	case VerbDetach, VerbClear, VerbDelete:
	default:
		return nil
	}
	if q.Confirm {
		return nil
	}
	l, err := r.Loss(ctx, q.Name)
	if err != nil {
		return err
	}
	return &ConfirmError{l}
}

// A reply answers a request on the admin socket: one of its members is there.
type reply struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *problem        `json:"error,omitempty"`
}

// A problem is an error that crosses the admin socket.
type problem struct {
	Message string            `json:"message"`
	Kind    string            `json:"kind,omitempty"`
	Loss    *Loss             `json:"loss,omitempty"`
	Needs   *RequirementError `json:"needs,omitempty"`
}

// kinds are the errors that keep their meaning across the socket.
func kinds() map[string]error {
	return map[string]error{
		"name": ErrName, "exists": ErrExists, "unknown": ErrUnknown, "busy": ErrBusy, "attached": ErrAttached,
		"provider": ErrNoProvider, "denied": ErrDenied, "record": ErrRecord,
		"locked": state.Locked, "provider-down": state.ProviderDown, "wrong-key": state.WrongKey, "rolled-back": state.RolledBack,
		"other-key": ekca.ErrOtherKey, "usage": ekca.ErrUsage, "expired": ekca.ErrExpired, "chain": ekca.ErrChain, "no-request": ekca.ErrNoRequest,
		"suspended": ErrSuspended,
	}
}

func problemOf(err error) *problem {
	p := &problem{Message: err.Error()}
	for kind, sentinel := range kinds() {
		if errors.Is(err, sentinel) {
			p.Kind = kind
		}
	}
	var confirm *ConfirmError
	if errors.As(err, &confirm) {
		p.Loss = confirm.Loss
	}
	errors.As(err, &p.Needs)
	return p
}

// A remoteError is an error of the daemon.
type remoteError struct {
	message string
	cause   error
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.cause }

func (p *problem) err() error {
	e := &remoteError{message: p.Message, cause: kinds()[p.Kind]}
	switch {
	case p.Loss != nil:
		e.cause = &ConfirmError{p.Loss}
	case p.Needs != nil:
		e.cause = p.Needs
	}
	return e
}
