package ekca

import (
	"bytes"
	"net/http"
	"os"
	"path"
	"strings"
)

// Handler serves what verifiers fetch: the certificates of the authority and its
// revocation lists, at the URLs that its certificates name. All of it is signed, so
// that plain HTTP serves, as RFC 5280, 8 expects. It reads the folder at each
// request: another process may have published a new list, or a new generation.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+a.route("{file}"), func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		kind := mediaType(name)
		if kind == "" {
			http.NotFound(w, r)
			return
		}
		a.serve(w, r, name, kind)
	})
	return mux
}

// mediaType is that of a public file (RFC 2585, 4); "" of a name that none has.
func mediaType(name string) string {
	if name == chainFile {
		return "application/x-pem-file"
	}
	by, certificate := strings.CutSuffix(name, certSuffix)
	by, list := strings.CutSuffix(by, listSuffix)
	if stem := strings.TrimRight(by, "0123456789"); certificate == list || stem != byIssuing && stem != byPlatform && by != byRoot {
		return ""
	}
	if certificate {
		return "application/pkix-cert"
	}
	return "application/pkix-crl"
}

// route is the path of a file in the authority's URL.
func (a *Authority) route(name string) string {
	base := a.urls.base
	if i := strings.Index(base, "://"); i >= 0 {
		base = base[i+3:]
	}
	_, prefix, _ := strings.Cut(base, "/")
	return path.Join("/", prefix, name)
}

func (a *Authority) serve(w http.ResponseWriter, r *http.Request, name, kind string) {
	b, err := readBounded(a.public(name), maxList)
	if err != nil {
		http.NotFound(w, r) // a foreign authority's root publishes its own
		return
	}
	info, err := os.Stat(a.public(name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, name, info.ModTime(), bytes.NewReader(b))
}
