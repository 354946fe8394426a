package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// apiVersion is that of the description; the routes say /v1.
const apiVersion = "1.0.0"

// newHuma sets the library up without what it would add on its own: links to
// schemas, pages that load from elsewhere, and routes beside ours.
func newHuma(a *API) huma.API {
	cfg := huma.DefaultConfig("Assay", apiVersion)
	cfg.CreateHooks = nil
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.RejectUnknownQueryParameters = true
	format := huma.Format{Marshal: marshal, Unmarshal: unmarshalStrict}
	cfg.Formats = map[string]huma.Format{"application/json": format, "json": format} // the second is application/problem+json
	cfg.Transformers = []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
		if m, ok := v.(*huma.ErrorModel); ok {
			return fromHuma(m), nil
		}
		return v, nil
	}}
	cfg.Info.Description = "Attestation service: challenges, appraisal of evidence, and what appraisals rest on. Errors are RFC 9457 problems whose code is explained in docs/reasons.md."
	cfg.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", Description: "API token of a principal"},
		"certificate": {Type: "mutualTLS", Description: "Client certificate of a principal"},
	}
	aliases(cfg.Components.Schemas)
	return huma.NewAPI(cfg, &adapter{a})
}

// aliases describes the types that write themselves.
func aliases(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[evidence.Value](), reflect.TypeFor[valueSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[evidence.Verdict](), reflect.TypeFor[verdictSchema]())
	r.RegisterTypeAlias(reflect.TypeFor[audit.Hash](), reflect.TypeFor[string]())
	r.RegisterTypeAlias(reflect.TypeFor[access.Digest](), reflect.TypeFor[string]())
}

type valueSchema struct{}

// Schema describes [evidence.Value].
func (valueSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Description: "true, false, a text, or null for unknown", OneOf: []*huma.Schema{
		{Type: huma.TypeBoolean}, {Type: huma.TypeString}, {Type: "null"},
	}}
}

type verdictSchema struct{}

// Schema describes [evidence.Verdict].
func (verdictSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{"trusted", "refused", "unusable"}}
}

// An adapter has each operation of the library served behind the guard.
type adapter struct{ api *API }

// Handle registers an operation whose route is in its metadata.
func (d *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	rt, ok := op.Metadata[routeKey].(route)
	if !ok {
		panic("unreachable: operation without a route: " + op.OperationID)
	}
	d.api.handle(rt, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(humago.NewContext(op, r, w))
	}))
}

// ServeHTTP serves the whole API.
func (d *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.api.mux.ServeHTTP(w, r) }

const routeKey = "route"

// handle serves a route behind the guard.
func (a *API) handle(rt route, h http.Handler) {
	method, path, _ := strings.Cut(rt.pattern, " ")
	a.methods[path] = append(a.methods[path], method)
	a.mux.Handle(rt.pattern, a.guard(rt, h))
}

// An operation is a route with what its description says.
type operation struct {
	id, summary, tag string
	status           int // of success; 0 means 200
	route
}

// describe makes the library's form of an operation.
func (a *API) describe(o operation) huma.Operation {
	method, path, _ := strings.Cut(o.pattern, " ")
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	op := huma.Operation{
		OperationID: o.id, Summary: o.summary, Tags: []string{o.tag}, Method: method, Path: path,
		DefaultStatus: o.status, MaxBodyBytes: o.body + 1, BodyReadTimeout: -1, // the guard has read it
		Metadata: map[string]any{routeKey: o.route},
		Responses: map[string]*huma.Response{"default": {
			Description: "Problem", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}},
	}
	if o.public {
		return op
	}
	if o.needs != "" {
		op.Extensions = map[string]any{"x-permission": string(o.needs)}
	}
	op.Security = []map[string][]string{{"token": {}}, {"certificate": {}}}
	return op
}

// serve registers an operation whose input and output the library describes,
// reads and checks.
func serve[I, O any](a *API, o operation, do func(context.Context, *I) (*O, error)) {
	huma.Register(a.huma, a.describe(o), func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// A reply is an answer with a body only.
type reply[T any] struct{ Body T }

// finishRoutes describes what was registered and answers everything else.
func (a *API) finishRoutes() error {
	a.loosenAnswers()
	text, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("describe API: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return fmt.Errorf("describe API: %w", err)
	}
	indented.WriteByte('\n')
	a.openAPI = indented.Bytes()
	a.handle(route{pattern: "GET /openapi.json", public: true}, static("application/openapi+json", a.openAPI))
	a.mux.Handle("/", a.guard(route{pattern: "/", public: true}, a.elsewhere()))
	return nil
}

// loosenAnswers lets answers grow: what clients are generated from this description
// must not refuse a member that they do not know. Requests stay strict. Lists in
// answers are never null.
func (a *API) loosenAnswers() {
	api := a.huma.OpenAPI()
	schemas := api.Components.Schemas.Map()
	delete(schemas, "ErrorModel") // the library's own form of a Problem
	delete(schemas, "ErrorDetail")
	requests := map[string]bool{}
	for _, item := range api.Paths {
		for _, op := range []*huma.Operation{item.Post, item.Put} {
			if op != nil && op.RequestBody != nil {
				requests[path.Base(op.RequestBody.Content["application/json"].Schema.Ref)] = true
			}
		}
	}
	for name, s := range schemas {
		if requests[name] {
			continue
		}
		s.AdditionalProperties = nil
		for _, p := range s.Properties {
			p.Nullable = p.Nullable && p.Type != huma.TypeArray
		}
	}
}

func static(kind string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Write(body) //nolint:errcheck // the client has gone
	})
}

// elsewhere answers what no route matches.
func (a *API) elsewhere() http.Handler {
	paths := http.NewServeMux()
	for _, known := range slices.Sorted(maps.Keys(a.methods)) {
		paths.Handle(known, http.NotFoundHandler())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, known := paths.Handler(r); known != "" {
			w.Header().Set("Allow", strings.Join(a.methods[known], ", "))
			newProblem(http.StatusMethodNotAllowed, codeMethod, "the path does not know this method").write(w)
			return
		}
		newProblem(http.StatusNotFound, codeNoRoute, "there is no such path; /openapi.json lists all").write(w)
	})
}

// marshal writes an answer in one piece. A client that has gone is no error.
func marshal(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	w.Write(buf.Bytes()) //nolint:errcheck // as said above
	return nil
}

// unmarshalStrict reads a body: one JSON value, no member twice, each name as it
// is spelled. Which members there must be is for the schema to say.
func unmarshalStrict(data []byte, v any) error {
	if err := checkJSON(data); err != nil {
		return err
	}
	if err := exactNames(data, reflect.TypeOf(v)); err != nil {
		return err
	}
	err := json.Unmarshal(data, v)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) { // its text names our types
		return fmt.Errorf("member %q cannot be a %s", kind.Field, kind.Value)
	}
	return err
}
