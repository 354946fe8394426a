package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/strictjson"
)

// The types of routes.
const (
	Webhook      = "webhook"
	Alertmanager = "alertmanager"
	Syslog       = "syslog"
)

// A Route is one receiver, and what is sent to it. Secrets are in files of their own
// that are read for each delivery, never in the route.
type Route struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// URL is http or https for webhooks and Alertmanager (the address of its root), and
	// udp, tcp, tls or unix for syslog.
	URL string `json:"url"`
	// SecretFile holds the key that signs the bodies of a webhook; required there.
	SecretFile string `json:"secretFile,omitempty"`
	// TokenFile holds a bearer token of a webhook or of Alertmanager.
	TokenFile string `json:"tokenFile,omitempty"`
	// CAFile holds the authorities that vouch for the receiver, PEM; empty is the
	// system's.
	CAFile string `json:"caFile,omitempty"`
	// AllowPlain permits a receiver on the network without TLS.
	AllowPlain bool `json:"allowPlain,omitempty"`
	// Minimum is the lowest severity that is sent.
	Minimum finding.Severity `json:"minimum"`
}

// Errors that a caller can act on.
var (
	ErrRoute  = errors.New("route is not fit")
	ErrExists = errors.New("there is a route of this name")
	ErrNone   = errors.New("there is no such route")
)

const (
	routesFile    = "routes.json"
	formatName    = "assay finding routes"
	formatVersion = 1
	maxRoutesFile = 1 << 20
	maxRoutes     = 64
	maxURL        = 2048
)

var (
	nameRule  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`) // of any length: a bound takes time at each start of a program
	schemes   = map[string][]string{Webhook: {"http", "https"}, Alertmanager: {"http", "https"}, Syslog: {"udp", "tcp", "tls", "unix"}}
	fileRules = strictjson.Rules{Bytes: maxRoutesFile, Depth: 4, Members: 16, Values: 2048, FoldNames: true}
)

// Check returns the first fault of a route.
func (r *Route) Check() error {
	u, err := url.Parse(r.URL)
	if err != nil || len(r.URL) > maxURL {
		return fmt.Errorf("route %q: address is no URL: %w", r.Name, ErrRoute) // which may hold a secret
	}
	known, ok := schemes[r.Type]
	for _, rule := range []struct {
		good bool
		what string
	}{
		{len(r.Name) <= 63 && nameRule.MatchString(r.Name), "name is not 1 to 63 lower-case letters, digits and hyphens"},
		{ok, "type is none of webhook, alertmanager, syslog"},
		{slices.Contains(known, u.Scheme), "address begins with none of " + strings.Join(known, ", ")},
		{u.User == nil, "address holds a user or password: give a token file"},
		{(u.Host == "") == (u.Scheme == "unix"), "address names no receiver"},
		{u.Scheme != "unix" || filepath.IsAbs(u.Path), "address of a socket is not absolute"},
		{r.Type != Syslog || u.Scheme == "unix" || u.Port() != "", "address of a syslog has no port"},
		{(r.Type == Webhook) == (r.SecretFile != ""), "a webhook, and nothing else, has a secret file"},
		{r.Type != Syslog || r.TokenFile == "", "syslog has no token"},
		{private(u) || r.AllowPlain, "the receiver is on the network and the address has no TLS: others could read and change findings"},
		{fit(r.SecretFile, r.TokenFile, r.CAFile), "names of files are absolute"},
		{r.Minimum >= finding.Low && r.Minimum <= finding.High, "lowest severity is none of low, medium, high"},
	} {
		if !rule.good {
			return fmt.Errorf("route %q: %s: %w", r.Name, rule.what, ErrRoute)
		}
	}
	return nil
}

// private reports whether nobody between here and the receiver can read what is sent.
func private(u *url.URL) bool {
	if u.Scheme == "https" || u.Scheme == "tls" || u.Scheme == "unix" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

func fit(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return n != "" && !filepath.IsAbs(n) })
}

// Shown is the address without what may be a secret in it: paths and queries of
// webhooks often are.
func (r *Route) Shown() string {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		return r.Type
	case u.Scheme == "unix":
		return "unix://" + u.Path
	case len(strings.Trim(u.Path, "/")) > 0 || u.RawQuery != "":
		return u.Scheme + "://" + u.Host + "/…"
	}
	return u.Scheme + "://" + u.Host
}

// routesV1 is the text of routes.json.
type routesV1 struct {
	Format       string  `json:"format"`
	Version      int     `json:"version"`
	OldestReader int     `json:"oldestReader"`
	Routes       []Route `json:"routes"`
}

// Parse reads a file of routes. What is unknown, stands twice or is not fit is an
// error.
func Parse(text []byte) ([]Route, error) {
	if _, err := strictjson.Parse(text, fileRules); err != nil {
		return nil, fmt.Errorf("%w: %w", finding.ErrFormat, err)
	}
	var f routesV1
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", finding.ErrFormat, err)
	}
	if f.Format != formatName || f.OldestReader != formatVersion || f.Version < formatVersion || len(f.Routes) > maxRoutes {
		return nil, fmt.Errorf("%w: format %.40q, version %d, %d routes", finding.ErrFormat, f.Format, f.Version, len(f.Routes))
	}
	for i := range f.Routes {
		if err := f.Routes[i].Check(); err != nil {
			return nil, fmt.Errorf("%w: %w", finding.ErrFormat, err)
		}
		if i > 0 && f.Routes[i].Name <= f.Routes[i-1].Name {
			return nil, fmt.Errorf("%w: route %q is not in order", finding.ErrFormat, f.Routes[i].Name)
		}
	}
	return f.Routes, nil
}

// Load reads the routes of a store's folder; there are none where there is no file.
func Load(dir string) ([]Route, error) {
	name := filepath.Join(dir, routesFile)
	text, err := finding.ReadFile(name, maxRoutesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	routes, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return routes, nil
}

func save(dir string, routes []Route) error {
	text, err := json.MarshalIndent(routesV1{formatName, formatVersion, formatVersion, append([]Route{}, routes...)}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, routesFile), append(text, '\n'), 0o600)
}
