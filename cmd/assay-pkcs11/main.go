// Command assay-pkcs11 speaks to a PKCS #11 token for assay, in a process of its own:
// the vendor's library is C code in our address space, and a fault of it must end
// nothing but this program.
//
// It reads requests from standard input and writes answers to standard output, one
// JSON object a line (docs/key-providers.md, "pkcs11"), and ends with its input. It
// proves nothing about the token. The first function to read is [serve].
//
// OASIS PKCS #11 Cryptographic Token Interface, version 3.0; RFC 7512.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "assay-pkcs11 is started by assay, without arguments; see docs/key-providers.md")
		os.Exit(2)
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "assay-pkcs11:", err)
		os.Exit(1)
	}
}

// maxLine bounds a line in bytes.
const maxLine = 64 << 10

// A request asks for one operation.
type request struct {
	ID uint64 `json:"id"`
	// Op is open, find, create, encrypt, decrypt.
	Op string `json:"op"`

	Module string `json:"module,omitempty"` // of open: the vendor's library
	Token  string `json:"token,omitempty"`  // of open: the token's label
	Serial string `json:"serial,omitempty"` // of open: its serial number
	PIN    []byte `json:"pin,omitempty"`    // of open

	Object    string `json:"object,omitempty"` // label of the keys
	KeyID     []byte `json:"keyId,omitempty"`  // CKA_ID
	Mechanism string `json:"mechanism,omitempty"`
	IV        []byte `json:"iv,omitempty"`
	AAD       []byte `json:"aad,omitempty"`
	Data      []byte `json:"data,omitempty"`
}

// A response answers the request of its id.
type response struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"` // in words
	// Kind is unavailable, refused, unknown-key, does-not-open or garbage.
	Kind  string `json:"kind,omitempty"`
	KeyID []byte `json:"keyId,omitempty"`
	Data  []byte `json:"data,omitempty"`
}

// A fault is an error with the kind that the other side acts on.
type fault struct {
	kind string
	err  error
}

func (f *fault) Error() string { return f.err.Error() }

func (f *fault) Unwrap() error { return f.err }

// serve answers requests until the input ends. A line that is no request ends it
// with an error: whoever sends it is not who should.
func serve(in io.Reader, out io.Writer) error {
	var t token
	defer t.close()
	lines := bufio.NewReaderSize(in, maxLine)
	enc := json.NewEncoder(out)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		var r request
		err = json.Unmarshal(line, &r)
		clear(line)
		if err != nil {
			return errors.New("read request: not JSON as wanted")
		}
		if err := enc.Encode(answer(&t, &r)); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}

// answer does what a request asks for.
func answer(t *token, r *request) (a response) {
	defer clear(r.PIN)
	defer clear(r.Data)
	a.ID = r.ID
	var err error
	switch r.Op {
	case "open":
		err = t.open(r)
	case "find":
		a.KeyID, err = t.only(r.Object)
	case "create":
		a.KeyID, err = t.create(r.Object)
	case "encrypt":
		a.Data, err = t.encrypt(r)
	case "decrypt":
		a.Data, err = t.decrypt(r)
	default:
		err = &fault{kindGarbage, fmt.Errorf("operation %q is not known", r.Op)}
	}
	if err == nil {
		return a
	}
	a.Error, a.Kind = err.Error(), kindUnavailable
	var f *fault
	if errors.As(err, &f) {
		a.Kind = f.kind
	}
	return a
}
