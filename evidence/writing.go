package evidence

import (
	"bytes"
	"sync"
)

// A Writing is claims in the forms in which they leave, each made once, on first use.
// It is safe for concurrent use. Nobody may change what it is made of, nor what it
// returns.
type Writing struct {
	claims       Claims
	all, valued  sync.Once
	json, values []byte
}

// NewWriting returns the writing of claims that will not change.
func NewWriting(c Claims) *Writing { return &Writing{claims: c} }

// JSON is what [Claims.AppendJSON] appends.
func (w *Writing) JSON() []byte {
	w.all.Do(func() { w.json = w.claims.AppendJSON(nil) })
	return w.json
}

// Values is what [Claims.AppendValues] appends.
func (w *Writing) Values() []byte {
	w.valued.Do(func() { w.values = w.claims.AppendValues(nil) })
	return w.values
}

// Equal reports whether two writings are of the same claims.
func (w *Writing) Equal(other *Writing) bool {
	if w == nil || other == nil {
		return w == other
	}
	return bytes.Equal(w.JSON(), other.JSON())
}
