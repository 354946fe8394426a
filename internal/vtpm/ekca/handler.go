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
// request: another process may have published a new list.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, by := range []string{byRoot, byIssuing, byPlatform} {
		mux.HandleFunc("GET "+a.route(by+certSuffix), a.serve(by+certSuffix, "application/pkix-cert")) // RFC 2585, 4.1
		mux.HandleFunc("GET "+a.route(by+listSuffix), a.serve(by+listSuffix, "application/pkix-crl"))
	}
	mux.HandleFunc("GET "+a.route(chainFile), a.serve(chainFile, "application/x-pem-file"))
	return mux
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

func (a *Authority) serve(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
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
}
