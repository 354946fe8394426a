package apiserver

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
func newHuma(s *Server, description string) huma.API {
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
	cfg.Info.Description = description
	cfg.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", Description: "API token of a principal"},
		"certificate": {Type: "mutualTLS", Description: "Client certificate of a principal"},
	}
	cfg.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaNames())
	aliases(cfg.Components.Schemas)
	return huma.NewAPI(cfg, &adapter{s})
}

// schemaNames names schemas by their types; of two types of one name the second has its
// package before it.
func schemaNames() func(reflect.Type, string) string {
	taken := map[string]reflect.Type{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		name := huma.DefaultSchemaNamer(t, hint)
		if have, ok := taken[name]; ok && have != t && t.PkgPath() != "" {
			pkg := path.Base(t.PkgPath())
			name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
		}
		taken[name] = t
		return name
	}
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
type adapter struct{ server *Server }

// Handle registers an operation whose route is in its metadata.
func (d *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	rt, ok := op.Metadata[routeKey].(Route)
	if !ok {
		panic("unreachable: operation without a route: " + op.OperationID)
	}
	d.server.Handle(rt, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler(humago.NewContext(op, r, w))
	}))
}

// ServeHTTP serves the whole API.
func (d *adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.server.mux.ServeHTTP(w, r) }

const routeKey = "route"

// Handle serves a route behind the guard, without a description.
func (s *Server) Handle(rt Route, h http.Handler) {
	method, path, _ := strings.Cut(rt.Pattern, " ")
	s.methods[path] = append(s.methods[path], method)
	s.mux.Handle(rt.Pattern, s.guard(rt, h))
}

// An Operation is a route with what its description says.
type Operation struct {
	ID, Summary, Tag string
	Status           int // of success; 0 means 200
	Route
}

// describe makes the library's form of an operation.
func (s *Server) describe(o Operation) huma.Operation {
	method, path, _ := strings.Cut(o.Pattern, " ")
	schema := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	op := huma.Operation{
		OperationID: o.ID, Summary: o.Summary, Tags: []string{o.Tag}, Method: method, Path: path,
		DefaultStatus: o.Status, MaxBodyBytes: o.Body + 1, BodyReadTimeout: -1, // the guard has read it
		Metadata: map[string]any{routeKey: o.Route},
		Responses: map[string]*huma.Response{"default": {
			Description: "Problem", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}},
	}
	if o.Public {
		return op
	}
	if o.Needs != "" {
		op.Extensions = map[string]any{"x-permission": string(o.Needs)}
	}
	op.Security = []map[string][]string{{"token": {}}, {"certificate": {}}}
	return op
}

// Serve registers an operation whose input and output the library describes,
// reads and checks.
func Serve[I, O any](s *Server, o Operation, do func(context.Context, *I) (*O, error)) {
	huma.Register(s.huma, s.describe(o), func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// A Reply is an answer with a body only.
type Reply[T any] struct{ Body T }

// Answer is the reply that v is.
func Answer[T any](v T) *Reply[T] { return &Reply[T]{v} }

// Shapes describe what an operation that is served by hand takes and answers.
type Shapes struct {
	In, Out         reflect.Type
	InName, OutName string // of their schemas
	Answer          string // what the answer is, in words
}

// Raw registers an operation that is described like any other and served by hand.
func (s *Server) Raw(o Operation, d Shapes, h http.HandlerFunc) {
	op := s.describe(o)
	schemas := s.huma.OpenAPI().Components.Schemas
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(d.In, true, d.InName)},
	}}
	op.Responses["200"] = &huma.Response{Description: d.Answer, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(d.Out, true, d.OutName)},
	}}
	s.huma.OpenAPI().AddOperation(&op)
	s.Handle(o.Route, h)
}

// finishRoutes describes what was registered and answers everything else.
func (s *Server) finishRoutes() error {
	s.loosenAnswers()
	text, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("describe API: %w", err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return fmt.Errorf("describe API: %w", err)
	}
	indented.WriteByte('\n')
	s.openAPI = indented.Bytes()
	s.Handle(Route{Pattern: "GET /openapi.json", Public: true}, static("application/openapi+json", s.openAPI))
	s.mux.Handle("/", s.guard(Route{Pattern: "/", Public: true}, s.elsewhere()))
	return nil
}

// loosenAnswers lets answers grow: what clients are generated from this description
// must not refuse a member that they do not know. Requests stay strict. Lists in
// answers are never null.
func (s *Server) loosenAnswers() {
	api := s.huma.OpenAPI()
	schemas := api.Components.Schemas.Map()
	delete(schemas, "ErrorModel") // the library's own form of a Problem
	delete(schemas, "ErrorDetail")
	requests := map[string]bool{}
	for _, item := range api.Paths {
		for _, op := range []*huma.Operation{item.Post, item.Put, item.Patch} {
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
func (s *Server) elsewhere() http.Handler {
	paths := http.NewServeMux()
	for _, known := range slices.Sorted(maps.Keys(s.methods)) {
		paths.Handle(known, http.NotFoundHandler())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, known := paths.Handler(r); known != "" {
			w.Header().Set("Allow", strings.Join(s.methods[known], ", "))
			NewProblem(http.StatusMethodNotAllowed, CodeMethod, "the path does not know this method").Write(w)
			return
		}
		NewProblem(http.StatusNotFound, CodeNoRoute, "there is no such path; /openapi.json lists all").Write(w)
	})
}

// OrEmpty is s, or an empty list that JSON writes as [].
func OrEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
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
