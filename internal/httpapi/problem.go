package httpapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/store"
)

// A Problem is an error as a client sees it (RFC 9457, 3). It holds nothing
// internal: what it says comes from the request or from the table of codes.
type Problem struct {
	Type   string        `json:"type" format:"uri" doc:"urn:assay:reason: and the code"`
	Title  string        `json:"title" doc:"What the code means; the same each time"`
	Status int           `json:"status"`
	Detail string        `json:"detail,omitempty" doc:"What is wrong this time"`
	Code   evidence.Code `json:"code" doc:"Reason code of docs/reasons.md"`
	// RequestID names an error of ours in the service's own log.
	RequestID string       `json:"requestId,omitempty" doc:"Names this failure in the log of the service"`
	Errors    []FieldError `json:"errors,omitempty" doc:"What is wrong, member by member"`

	retryAfter time.Duration
}

// A FieldError is the member of a request that is at fault.
type FieldError struct {
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457, whatever was asked for.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders are the fields that the status calls for.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized: // RFC 9110, 15.5.2
		h.Set("WWW-Authenticate", `Bearer realm="assay"`)
		if p.Code == codeRefusedCredential { // RFC 6750, 3.1
			h.Set("WWW-Authenticate", `Bearer realm="assay", error="invalid_token"`)
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable: // RFC 6585, 4
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.retryAfter.Seconds())))))
	}
	return h
}

// The codes of the API itself; evidence/codes_httpapi_table.go explains them.
const (
	codeNoCredential      evidence.Code = "access.no-credential"
	codeRefusedCredential evidence.Code = "access.credential-refused"
	codeDenied            evidence.Code = "access.denied"
	codeCrossOrigin       evidence.Code = "access.cross-origin"
	codeMalformed         evidence.Code = "request.malformed"
	codeInvalid           evidence.Code = "request.invalid"
	codeTooLarge          evidence.Code = "request.too-large"
	codeTimeout           evidence.Code = "request.timeout"
	codeMediaType         evidence.Code = "request.media-type"
	codeNoRoute           evidence.Code = "request.no-route"
	codeMethod            evidence.Code = "request.method"
	codeNotFound          evidence.Code = "request.not-found"
	codeConflict          evidence.Code = "request.conflict"
	codeRate              evidence.Code = "limit.rate"
	codeConcurrency       evidence.Code = "limit.concurrency"
	codeMemory            evidence.Code = "limit.memory"
	codeOverloaded        evidence.Code = "service.overloaded"
	codeUnavailable       evidence.Code = "service.unavailable"
	codeInternal          evidence.Code = "service.internal"
	codeOther             evidence.Code = "other" // in metrics only
)

func newProblem(status int, code evidence.Code, detail string) *Problem {
	return &Problem{
		Type: "urn:assay:reason:" + string(code), Title: titleOf(code, status), Status: status, Detail: detail, Code: code,
	}
}

// titleOf is the meaning of a code, which does not change (RFC 9457, 3.1.4).
func titleOf(code evidence.Code, status int) string {
	if info, ok := codeInfo(code); ok {
		return info.Meaning
	}
	return http.StatusText(status)
}

// problem is the one place that turns an error into what a client may know. It
// logs what is our fault.
func (a *API) problem(ctx context.Context, err error) *Problem {
	if isUnavailable(err) {
		a.log.ErrorContext(ctx, "database is not available", slog.Any("error", err))
		return newProblem(http.StatusServiceUnavailable, codeUnavailable, "the database of the service does not answer, or takes no writes: nothing was acknowledged")
	}
	if p := knownProblem(err); p != nil {
		return p
	}
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, codeUnavailable, "the request ended before its answer was ready")
	}
	id := a.requestID()
	a.log.ErrorContext(ctx, "request failed", slog.String("request", id), slog.Any("error", err))
	p := newProblem(http.StatusInternalServerError, codeInternal, "the service could not carry out the request; its log tells why under the request id")
	p.RequestID = id
	return p
}

// isUnavailable reports whether the store could not do its work, or not in time. A
// client that has gone is no fault of the store.
func isUnavailable(err error) bool {
	return (errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, context.Canceled)
}

// knownProblem returns nil for an error that is ours.
func knownProblem(err error) *Problem {
	var (
		problem  *Problem
		input    *attest.InputError
		conflict *attest.ConflictError
		denied   *access.DeniedError
		refusal  *evidence.Refusal
	)
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &input):
		p := newProblem(http.StatusUnprocessableEntity, input.Code, input.Error())
		p.Errors = []FieldError{{input.Field, input.Detail}}
		return p
	case errors.As(err, &conflict):
		return newProblem(http.StatusConflict, conflict.Code, conflict.Detail)
	case errors.As(err, &denied):
		return newProblem(http.StatusForbidden, codeDenied, denied.Error())
	case errors.As(err, &refusal):
		return refusalProblem(refusal)
	default:
		return sentinelProblem(err)
	}
}

// refusalProblem answers a challenge that is not accepted.
func refusalProblem(r *evidence.Refusal) *Problem {
	status := http.StatusBadRequest
	if r.Code == "challenge.used" {
		status = http.StatusConflict
	}
	p := newProblem(status, r.Code, r.Message)
	if strings.HasPrefix(string(r.Code), "challenge.") {
		p.Errors = []FieldError{{"challenge", r.Message}}
	}
	return p
}

func sentinelProblem(err error) *Problem {
	switch {
	case errors.Is(err, attest.ErrNotFound), errors.Is(err, access.ErrNotFound):
		return newProblem(http.StatusNotFound, codeNotFound, "there is nothing of that name or id")
	case errors.Is(err, attest.ErrExists), errors.Is(err, access.ErrExists):
		return newProblem(http.StatusConflict, codeConflict, "the name or the credential is taken")
	case errors.Is(err, attest.ErrStale):
		return newProblem(http.StatusConflict, codeConflict, "it was changed meanwhile: read it again")
	case errors.Is(err, access.ErrUnauthenticated):
		return newProblem(http.StatusUnauthorized, codeRefusedCredential, "the credential is unknown, expired or revoked")
	case errors.Is(err, access.ErrInvalid):
		return newProblem(http.StatusUnprocessableEntity, codeInvalid, "the principal has an unusable name, role or permission")
	case errors.Is(err, store.ErrInvalid):
		return newProblem(http.StatusUnprocessableEntity, codeInvalid, "a value of the request cannot be stored")
	case errors.Is(err, store.ErrOverloaded):
		return overloaded()
	case errors.Is(err, store.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, codeUnavailable, "the service is stopping")
	default:
		return nil
	}
}

func overloaded() *Problem {
	p := newProblem(http.StatusTooManyRequests, codeOverloaded, "the service has more work than it can do now; nothing was changed")
	p.retryAfter = time.Second
	return p
}

// requestID is opaque: it says nothing but which line of the log to read.
func (a *API) requestID() string {
	var b [8]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return "none"
	}
	return hex.EncodeToString(b[:])
}

// fromHuma makes our Problem of the error of the library that checks requests.
// The values that it would repeat to the client are left out: they may be secret.
func fromHuma(m *huma.ErrorModel) *Problem {
	p := newProblem(m.Status, humaCode(m.Status), m.Detail)
	for _, e := range m.Errors {
		if e != nil {
			p.Errors = append(p.Errors, FieldError{strings.TrimPrefix(e.Location, "body."), e.Message})
		}
	}
	if p.Status >= http.StatusInternalServerError {
		p.Errors = nil
	}
	return p
}

func humaCode(status int) evidence.Code {
	switch status {
	case http.StatusBadRequest:
		return codeMalformed
	case http.StatusRequestTimeout:
		return codeTimeout
	case http.StatusRequestEntityTooLarge:
		return codeTooLarge
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		return codeMediaType
	case http.StatusUnprocessableEntity:
		return codeInvalid
	default:
		return codeInternal
	}
}

// write sends p on a connection that nothing was sent on yet.
func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.GetHeaders())
	body, err := json.Marshal(p)
	if err != nil {
		panic("unreachable: problem does not marshal: " + err.Error())
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n')) //nolint:errcheck // the client has gone: nobody is left to tell
}
