package query

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/strictjson"
)

// FuzzRun holds that no query and no document ends the process, that the same query
// gives the same result twice, and that a result is JSON that Parse reads again.
func FuzzRun(f *testing.F) {
	for text := range specified {
		f.Add(text, queryData)
	}
	f.Fuzz(func(t *testing.T, text, data string) {
		doc, err := Parse(data)
		if err != nil || len(data) > 1<<15 {
			return
		}
		q, err := Compile(text)
		if err != nil {
			return
		}
		q.Traps()
		small := func() *Meter { return &Meter{1 << 12, 1 << 16} }
		out, err := q.Run(small(), doc)
		again, errAgain := q.Run(small(), doc)
		if out != again || (err == nil) != (errAgain == nil) {
			t.Fatalf("%q over %q = %q, %v; then %q, %v", text, data, out, err, again, errAgain)
		}
		if err != nil {
			return
		}
		if !json.Valid([]byte(out)) {
			t.Fatalf("%q over %q = %q, which is not JSON", text, data, out)
		}
		// A sum that is too large to be exact is the one result that Parse refuses.
		if _, err := Parse(out); err != nil && !errors.Is(err, strictjson.ErrInexact) {
			t.Fatalf("%q over %q = %q: %v", text, data, out, err)
		}
	})
}
