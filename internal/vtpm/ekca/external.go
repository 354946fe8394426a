package ekca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/wire"
)

// External is an issuer that is a program of the operator's: it gets the keys of a
// TPM as JSON on standard input and writes certificates as JSON on standard output
// (docs/vtpm-identity.md). What it returns is checked against the keys.
type External struct {
	Command []string // program and arguments
}

// programFile names an issuing program in the folder of an authority.
const programFile = "issuer.json"

// A programRecord is the content of issuer.json.
type programRecord struct {
	Version int      `json:"version"`
	Command []string `json:"command"`
}

// WriteProgram has the folder of an authority, which is made, name a program that
// issues in its place.
func WriteProgram(dir string, command []string) error {
	if len(command) == 0 || !filepath.IsAbs(command[0]) {
		return errors.New("issuing program: want its absolute path")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(programRecord{1, command})
	if err != nil {
		return err
	}
	return durable.CreateFile(filepath.Join(dir, programFile), append(text, '\n'), 0o600)
}

// ReadProgram returns the issuing program of a folder; nil when it names none.
func ReadProgram(dir string) (*External, error) {
	text, err := readBounded(filepath.Join(dir, programFile), maxMeta)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r programRecord
	if err := decodeStrict(text, &r); err != nil || r.Version != 1 || len(r.Command) == 0 {
		return nil, fmt.Errorf("read %q: %v: %w", filepath.Join(dir, programFile), err, ErrAuthority)
	}
	return &External{r.Command}, nil
}

// externalTime is how long a program may take.
const externalTime = time.Minute

// maxAnswer bounds what a program may write, in bytes.
const maxAnswer = 1 << 20

// An externalRequest is what an issuing program gets.
type externalRequest struct {
	Version    int           `json:"version"`
	TPM        string        `json:"tpm"`
	CommonName string        `json:"commonName,omitempty"`
	Device     Device        `json:"device"`
	Keys       []externalKey `json:"keys"`
	Platform   *Platform     `json:"platform,omitempty"`
}

type externalKey struct {
	Kind      Kind   `json:"kind"`
	PublicKey string `json:"publicKey"` // PEM
	Public    []byte `json:"public"`    // TPMT_PUBLIC
}

// An externalAnswer is what it writes: PEM throughout.
type externalAnswer struct {
	Certificates map[Kind]string `json:"certificates"`
	Platform     string          `json:"platformCertificate"`
	Chain        []string        `json:"chain"`
}

// Issue runs the program.
func (e *External) Issue(ctx context.Context, b *Batch) (*Certificates, error) {
	q := &externalRequest{Version: 1, TPM: b.TPM, CommonName: b.CommonName, Device: b.Device, Platform: b.Platform}
	for i := range b.Keys {
		k, err := externalKeyOf(&b.Keys[i])
		if err != nil {
			return nil, err
		}
		q.Keys = append(q.Keys, *k)
	}
	in, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	out, err := runProgram(ctx, e.Command, nil, in)
	if err != nil {
		return nil, err
	}
	answer, err := parseAnswer(out)
	if err != nil {
		return nil, fmt.Errorf("answer of %q: %w", e.Command[0], err)
	}
	return answer.certificates(b)
}

func externalKeyOf(k *BatchKey) (*externalKey, error) {
	key, err := k.Public.Key()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	public, err := wire.Encode(&k.Public)
	if err != nil {
		return nil, err
	}
	return &externalKey{k.Kind, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), public}, nil
}

func parseAnswer(text []byte) (*externalAnswer, error) {
	rules := strictjson.Rules{Bytes: maxAnswer, Depth: 4, Members: 32, Values: 64, FoldNames: true}
	if _, err := strictjson.Parse(text, rules); err != nil {
		return nil, err
	}
	a := new(externalAnswer)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return a, d.Decode(a)
}

// certificates puts the answer in the order of the batch. Which keys it certifies
// is the program's to say.
func (a *externalAnswer) certificates(b *Batch) (*Certificates, error) {
	out := &Certificates{Keys: make([][]byte, len(b.Keys))}
	used := 0
	for i := range b.Keys {
		text, ok := a.Certificates[b.Keys[i].Kind]
		if !ok {
			continue
		}
		used++
		var err error
		if out.Keys[i], err = onePEM(text, "CERTIFICATE"); err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", b.Keys[i].Kind, err)
		}
	}
	if used != len(a.Certificates) {
		return nil, errors.New("there is a certificate for a key that was not asked for")
	}
	for _, text := range a.Chain {
		der, err := onePEM(text, "CERTIFICATE")
		if err == nil {
			_, err = x509.ParseCertificate(der)
		}
		if err != nil {
			return nil, fmt.Errorf("chain: %w", err)
		}
		out.Chain = append(out.Chain, der)
	}
	if a.Platform == "" {
		return out, nil
	}
	var err error
	out.Platform, err = onePEM(a.Platform, "ATTRIBUTE CERTIFICATE")
	return out, err
}

func onePEM(text, kind string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("want one PEM block %q", kind)
	}
	return block.Bytes, nil
}

// A ProgramSigner is a private key that a program of the operator's uses, as one in
// an HSM: it gets a digest on standard input, the name of the hash in the
// environment variable ASSAY_SIGN_HASH, and writes the signature in DER.
type ProgramSigner struct {
	Command []string
	Key     crypto.PublicKey // *ecdsa.PublicKey or *rsa.PublicKey
}

// Public returns the public key.
func (p *ProgramSigner) Public() crypto.PublicKey { return p.Key }

// Sign runs the program and checks the signature.
func (p *ProgramSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	h := opts.HashFunc()
	name := strings.ToLower(strings.ReplaceAll(h.String(), "-", ""))
	// crypto.Signer has no context; the program's own time is bounded.
	sig, err := runProgram(context.Background(), p.Command, []string{"ASSAY_SIGN_HASH=" + name}, digest)
	if err != nil {
		return nil, err
	}
	ok := false
	switch key := p.Key.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, digest, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, h, digest, sig) == nil
	}
	if !ok {
		return nil, fmt.Errorf("signature by %q does not verify under the key of the certificate", p.Command[0])
	}
	return sig, nil
}

// runProgram runs a program for what it writes.
func runProgram(ctx context.Context, command, env []string, in []byte) ([]byte, error) {
	if len(command) == 0 || command[0] == "" {
		return nil, errors.New("no program is named")
	}
	ctx, cancel := context.WithTimeout(ctx, externalTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Env = append(cmd.Environ(), env...)
	cmd.WaitDelay = time.Second
	out, errs := &limited{max: maxAnswer}, &limited{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("run %q: %w: %s", command[0], err, strings.TrimSpace(errs.b.String()))
	}
	if out.over {
		return nil, fmt.Errorf("run %q: it writes more than %d bytes", command[0], maxAnswer)
	}
	return out.b.Bytes(), nil
}

// A limited buffer drops what is too much.
type limited struct {
	b    bytes.Buffer
	max  int
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.max-l.b.Len())
	l.b.Write(p[:n])
	l.over = l.over || n < len(p)
	return len(p), nil
}
