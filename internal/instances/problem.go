package instances

import (
	"errors"
	"net/http"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm"
)

const (
	codeNoAnswer    evidence.Code = "instance.no-answer"
	codeBusy        evidence.Code = "instance.busy"
	codeConfirm     evidence.Code = "instance.confirm"
	codeDamaged     evidence.Code = "instance.damaged"
	codeDisk        evidence.Code = "instance.disk-not-allowed"
	codeNotRunning  evidence.Code = "instance.not-running"
	codeOutcome     evidence.Code = "instance.outcome-unknown"
	codeStart       evidence.Code = "instance.start-failed"
	codeUnsupported evidence.Code = "instance.unsupported"
)

// A definitionError is a definition that cannot be, with what is wrong and where.
type definitionError struct{ error }

func (e *definitionError) Unwrap() error { return e.error }

// Explain says what a client may know of an error of a machine.
func (a *API) Explain(err error) *apiserver.Problem { return explain(err) }

// Told is what may be told to anybody of an error of a machine, in a line; "" for nothing:
// its words may name files of the host.
func Told(err error) string {
	p := explain(err)
	if p == nil {
		return ""
	}
	words := []string{p.Detail}
	for _, e := range p.Errors {
		words = append(words, e.Detail)
	}
	return strings.Join(words, "; ")
}

func explain(err error) *apiserver.Problem {
	var (
		refused    *machine.RefusedError
		start      *StartError
		definition *definitionError
		member     *fleet.DefinitionError
		state      *machine.StateError
		back       *vtpm.RollbackError
	)
	switch {
	case errors.As(err, &refused):
		p := apiserver.NewProblem(http.StatusUnprocessableEntity, codeUnsupported, "this host does not support the machine")
		for _, r := range refused.Reasons {
			p.Errors = append(p.Errors, apiserver.FieldError{Field: string(r.Code), Detail: r.Message})
		}
		return p
	case errors.As(err, &start):
		words := start.Error()
		if start.Words == "" {
			words = "the machine did not start; the log of the service tells why under the request id"
		}
		return apiserver.NewProblem(http.StatusConflict, codeStart, words)
	case errors.As(err, &state):
		return apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, state.Words)
	case errors.As(err, &back):
		return apiserver.NewProblem(http.StatusConflict, codeBackup, back.Error()+"; allowRollback takes it")
	case errors.As(err, &member):
		return apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, member.Error())
	case errors.As(err, &definition):
		return apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, definition.Error())
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return k.problem(err)
		}
	}
	return nil
}

// A knownError is an error that a caller can act on.
type knownError struct {
	err    error
	status int
	code   evidence.Code
	words  string // what to say; empty for the error's own
}

// whole has all that is said of an error told: words of boots, baselines and machines, which
// whoever may ask for them knows.
const whole = "whole"

// problem is what to say of err, which is a k.
func (k *knownError) problem(err error) *apiserver.Problem {
	words := k.words
	switch words {
	case "":
		words = k.err.Error()
	case whole:
		words = machine.WordsOf(err, k.err)
	}
	return apiserver.NewProblem(k.status, k.code, words)
}

var known = [...]knownError{
	{machine.ErrNoAnswer, http.StatusServiceUnavailable, codeNoAnswer, ""},
	{machine.ErrGarbled, http.StatusServiceUnavailable, codeNoAnswer, ""},
	{fleet.ErrElsewhere, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrLong, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrName, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{machine.ErrUnknown, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{machine.ErrExists, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrConfirm, http.StatusConflict, codeConfirm, "the change destroys secrets for good: send confirm=true, after you have seen the effects with validateOnly=true"},
	{machine.ErrNotRunning, http.StatusConflict, codeNotRunning, ""},
	{machine.ErrBusy, http.StatusConflict, codeBusy, "the machine is in use: it runs, or is being changed by another process; a change needs it to be off"},
	{machine.ErrGiven, http.StatusConflict, apiserver.CodeConflict, "the machine was given to another host: assay vm migrate --settle finds out on the host whether it is there"},
	{machine.ErrDamaged, http.StatusConflict, codeDamaged, "what is stored of the machine is damaged: assay vm describe says more on the host"},
	{machine.ErrProvider, http.StatusConflict, apiserver.CodeConflict, ""},
	{keysets.ErrNone, http.StatusUnprocessableEntity, apiserver.CodeInvalid, "there is no key set of that name on this host"},
	{keyprovider.ErrNoProvider, http.StatusUnprocessableEntity, apiserver.CodeInvalid, "there is no key provider of that name on this host"},
	{machine.ErrNoDisk, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNotJudged, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrSnapshotName, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{machine.ErrSnapshotThere, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNoSnapshot, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{machine.ErrHardware, http.StatusConflict, apiserver.CodeConflict, "the machine has been changed since the snapshot, and its memory fits only what it was: withoutMemory=true leaves the memory"},
	{qemu.ErrNoSnapshot, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNoBaseline, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrNothingToPlan, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrNotAsSeen, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNotReached, http.StatusConflict, apiserver.CodeConflict, whole},
	{integrity.ErrPlan, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{integrity.ErrNoBoot, http.StatusConflict, apiserver.CodeConflict, whole},
	{integrity.ErrNotSeen, http.StatusConflict, apiserver.CodeConflict, whole},
	{integrity.ErrNotKept, http.StatusNotFound, apiserver.CodeNotFound, whole},
	{vtpm.ErrUnknown, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrOriginal, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrExists, http.StatusConflict, apiserver.CodeConflict, "a backup of the machine was written in this second: ask again"},
	{vmbackup.ErrShared, http.StatusConflict, codeBackup, "a disk of the machine is shared, and no copy of it is of one moment: withoutShared leaves it out"},
	{vmbackup.ErrInUse, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrFormat, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrVersion, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrCut, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrDamaged, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrKey, http.StatusConflict, codeBackup, ""},
	{vmbackup.ErrWithoutTPM, http.StatusConflict, codeBackup, "the backup has no TPM, and here is one of the machine's name: allowRollback takes it"},
	{vmbackup.ErrOfHost, http.StatusConflict, codeBackup, "the machine of the backup would get a disk or a network device of this host: assay vm restore on the host permits one by name"},
	{gallery.ErrName, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{gallery.ErrUnknown, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{gallery.ErrExists, http.StatusConflict, apiserver.CodeConflict, ""},
	{gallery.ErrDigest, http.StatusConflict, codeDamaged, ""},
	{gallery.ErrDamaged, http.StatusConflict, codeDamaged, ""},
	{gallery.ErrBusy, http.StatusConflict, codeBusy, ""},
	{disk.ErrMalformed, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{disk.ErrUnsupported, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{finding.ErrNone, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{finding.ErrOver, http.StatusConflict, apiserver.CodeConflict, ""},
	{finding.ErrFull, http.StatusConflict, apiserver.CodeConflict, ""},
	{finding.ErrMust, http.StatusUnprocessableEntity, apiserver.CodeInvalid, "a member is missing or not fit: author, reason, kind, machine or the end, which is 366 days away at most"},
}
