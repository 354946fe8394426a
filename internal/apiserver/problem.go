package apiserver

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
		if p.Code == CodeRefusedCredential { // RFC 6750, 3.1
			h.Set("WWW-Authenticate", `Bearer realm="assay", error="invalid_token"`)
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable: // RFC 6585, 4
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(p.retryAfter.Seconds())))))
	}
	return h
}

// The codes of the API itself; evidence/codes_httpapi_table.go explains them.
const (
	CodeNoCredential      evidence.Code = "access.no-credential"
	CodeRefusedCredential evidence.Code = "access.credential-refused"
	CodeDenied            evidence.Code = "access.denied"
	CodeCrossOrigin       evidence.Code = "access.cross-origin"
	CodeMalformed         evidence.Code = "request.malformed"
	CodeInvalid           evidence.Code = "request.invalid"
	CodeTooLarge          evidence.Code = "request.too-large"
	CodeTimeout           evidence.Code = "request.timeout"
	CodeMediaType         evidence.Code = "request.media-type"
	CodeNoRoute           evidence.Code = "request.no-route"
	CodeMethod            evidence.Code = "request.method"
	CodeNotFound          evidence.Code = "request.not-found"
	CodeConflict          evidence.Code = "request.conflict"
	CodeRate              evidence.Code = "limit.rate"
	CodeConcurrency       evidence.Code = "limit.concurrency"
	CodeMemory            evidence.Code = "limit.memory"
	CodeOverloaded        evidence.Code = "service.overloaded"
	CodeUnavailable       evidence.Code = "service.unavailable"
	CodeInternal          evidence.Code = "service.internal"
	CodeOther             evidence.Code = "other" // in metrics only
)

// NewProblem makes a problem of a code of the table.
func NewProblem(status int, code evidence.Code, detail string) *Problem {
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

// Fail answers an error on a connection that nothing was sent on yet.
func (s *Server) Fail(ctx context.Context, w http.ResponseWriter, err error) {
	s.problem(ctx, err).Write(w)
}

// Problem is what a client may know of an error.
func (s *Server) Problem(ctx context.Context, err error) *Problem { return s.problem(ctx, err) }

// problem is the one place that turns an error into what a client may know. It
// logs what is our fault.
func (s *Server) problem(ctx context.Context, err error) *Problem {
	gone := errors.Is(err, context.Canceled) // a client that has gone is no fault of the store
	if errors.Is(err, store.ErrUnavailable) && !gone {
		return s.unavailable(ctx, err)
	}
	if p := s.knownProblem(err); p != nil {
		return p
	}
	if errors.Is(err, context.DeadlineExceeded) && !gone {
		return s.unavailable(ctx, err)
	}
	if ctx.Err() != nil {
		return NewProblem(http.StatusServiceUnavailable, CodeUnavailable, "the request ended before its answer was ready")
	}
	p := NewProblem(http.StatusInternalServerError, CodeInternal, "the service could not carry out the request; its log tells why under the request id")
	s.LogAs(ctx, p, err)
	return p
}

// LogAs keeps an error in the log, and gives the problem that is told in its place the id of
// that line.
func (s *Server) LogAs(ctx context.Context, p *Problem, err error) {
	p.RequestID = s.requestID()
	s.log.ErrorContext(ctx, "request failed", slog.String("request", p.RequestID), slog.Any("error", err))
}

// unavailable is a store that could not do its work.
func (s *Server) unavailable(ctx context.Context, err error) *Problem {
	s.log.ErrorContext(ctx, "database is not available", slog.Any("error", err))
	return NewProblem(http.StatusServiceUnavailable, CodeUnavailable, "the database of the service does not answer, or takes no writes: nothing was acknowledged")
}

// knownProblem returns nil for an error that is ours.
func (s *Server) knownProblem(err error) *Problem {
	var problem *Problem
	var denied *access.DeniedError
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &denied):
		return NewProblem(http.StatusForbidden, CodeDenied, denied.Error())
	}
	for _, set := range s.sets {
		if p := set.Explain(err); p != nil {
			return p
		}
	}
	return sentinelProblem(err)
}

func sentinelProblem(err error) *Problem {
	switch {
	case errors.Is(err, access.ErrNotFound):
		return NotFound()
	case errors.Is(err, access.ErrExists):
		return Taken()
	case errors.Is(err, access.ErrUnauthenticated):
		return NewProblem(http.StatusUnauthorized, CodeRefusedCredential, "the credential is unknown, expired or revoked")
	case errors.Is(err, access.ErrInvalid):
		return NewProblem(http.StatusUnprocessableEntity, CodeInvalid, "the principal has an unusable name, role or permission")
	case errors.Is(err, store.ErrInvalid):
		return NewProblem(http.StatusUnprocessableEntity, CodeInvalid, "a value of the request cannot be stored")
	case errors.Is(err, store.ErrOverloaded):
		return overloaded()
	case errors.Is(err, store.ErrClosed):
		return NewProblem(http.StatusServiceUnavailable, CodeUnavailable, "the service is stopping")
	default:
		return nil
	}
}

// NotFound is a name or id that there is nothing of.
func NotFound() *Problem {
	return NewProblem(http.StatusNotFound, CodeNotFound, "there is nothing of that name or id")
}

// Taken is a name or a credential that another has.
func Taken() *Problem {
	return NewProblem(http.StatusConflict, CodeConflict, "the name or the credential is taken")
}

// MissingMember is a request that lacks what it must have.
func MissingMember(field, detail string) *Problem {
	p := Malformed("%s", detail)
	p.Errors = []FieldError{{field, detail}}
	return p
}

// InvalidField is a member of a request whose value cannot be.
func InvalidField(field, detail string) *Problem {
	p := NewProblem(http.StatusUnprocessableEntity, CodeInvalid, field+" "+detail)
	p.Errors = []FieldError{{field, detail}}
	return p
}

func overloaded() *Problem {
	p := NewProblem(http.StatusTooManyRequests, CodeOverloaded, "the service has more work than it can do now; nothing was changed")
	p.retryAfter = time.Second
	return p
}

// requestID is opaque: it says nothing but which line of the log to read.
func (s *Server) requestID() string {
	var b [8]byte
	if _, err := io.ReadFull(s.rand, b[:]); err != nil {
		return "none"
	}
	return hex.EncodeToString(b[:])
}

// fromHuma makes our Problem of the error of the library that checks requests.
// The values that it would repeat to the client are left out: they may be secret.
func fromHuma(m *huma.ErrorModel) *Problem {
	p := NewProblem(m.Status, humaCode(m.Status), m.Detail)
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
		return CodeMalformed
	case http.StatusRequestTimeout:
		return CodeTimeout
	case http.StatusRequestEntityTooLarge:
		return CodeTooLarge
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		return CodeMediaType
	case http.StatusUnprocessableEntity:
		return CodeInvalid
	default:
		return CodeInternal
	}
}

// Write sends p on a connection that nothing was sent on yet.
func (p *Problem) Write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.GetHeaders())
	body, err := json.Marshal(p)
	if err != nil {
		panic("unreachable: problem does not marshal: " + err.Error())
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n')) //nolint:errcheck // the client has gone: nobody is left to tell
}
