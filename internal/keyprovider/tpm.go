package keyprovider

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/wire"
)

// tpmHeader is the first line of a key file that this machine's TPM opens.
const tpmHeader = "assay-keys-tpm 1"

// noPCRs says that no register must have a value: any software that reaches the
// TPM opens the file.
const noPCRs = "none"

// A tpmSpec says which TPM protects a key file, and in which state. The zero
// tpmSpec is none.
type tpmSpec struct {
	device string
	pcrs   string // "sha256:7,11" or "none"
}

func (s tpmSpec) isZero() bool { return s.device == "" }

// tpm takes the options tpm (a device) and pcrs.
func (o *options) tpm() tpmSpec {
	s := tpmSpec{device: o.text("tpm"), pcrs: o.text("pcrs")}
	if s.device == "" {
		if s.pcrs != "" {
			o.fail("option pcrs without the option tpm")
		}
		return tpmSpec{}
	}
	if s.pcrs == "" {
		// There is no default: which updates of this machine cost the keys is the
		// operator's decision.
		o.fail("option tpm wants the option pcrs: the registers whose values must not change, as sha256:7, or %q", noPCRs)
		return s
	}
	if _, err := parsePCRs(s.pcrs); err != nil {
		o.fail("option pcrs: %w", err)
	}
	return s
}

// parsePCRs reads a bank and the numbers of registers; none are none.
func parsePCRs(text string) (tpm2.PCRSelections, error) {
	if text == noPCRs {
		return nil, nil
	}
	bank, list, ok := strings.Cut(text, ":")
	alg, known := tpm2.AlgOfBank(bank)
	if !ok || !known || alg == tpm2.AlgSHA1 {
		return nil, fmt.Errorf("want %q, or a bank of SHA-2 or later and registers, as sha256:7,11", noPCRs)
	}
	var sel tpm2.PCRSelect
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil || n >= tpm2.NumPCR || sel.Has(int(n)) || strconv.FormatUint(n, 10) != word {
			return nil, fmt.Errorf("want different registers from 0 to %d", tpm2.NumPCR-1)
		}
		sel.Set(int(n))
	}
	return tpm2.PCRSelections{{Hash: alg, Select: sel}}, nil
}

// A hostTPM seals secrets to this machine's TPM.
type hostTPM struct {
	spec tpmSpec
	// with runs do with a connection to the TPM.
	with func(do func(*client.TPM) error) error
}

// onHost returns the TPM of a spec, for as long as ctx lasts.
func onHost(ctx context.Context, spec tpmSpec, env *Env) *hostTPM {
	open := env.OpenTPM
	if open == nil {
		open = func(device string) (TPM, error) { return client.Open(device) }
	}
	return &hostTPM{spec, func(do func(*client.TPM) error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := open(spec.device)
		if err != nil {
			return fmt.Errorf("%w: open TPM: %w", ErrUnavailable, err)
		}
		defer t.Close()
		return tpmFault(do(client.New(t, env.Random)))
	}}
}

// A sealedObject is a secret that a TPM has sealed.
type sealedObject struct {
	pcrs   string // what it was sealed to
	parent []byte // Name of the storage key
	public tpm2.Public
	// private is a TPM2B_PRIVATE's content: only the TPM can read it.
	private []byte
}

// protect seals text under a key that the TPM keeps: header, then a line with the
// registers, the Name of the storage key, the sealed object and the envelope.
func (h *hostTPM) protect(text []byte, random io.Reader) ([]byte, error) {
	secret, err := seal.Random(random, seal.KeySize)
	if err != nil {
		return nil, err
	}
	defer secret.Destroy()
	var o *sealedObject
	if err := h.with(func(t *client.TPM) (err error) { o, err = sealTo(t, h.spec.pcrs, secret); return err }); err != nil {
		return nil, err
	}
	envelope, err := seal.Seal(random, seal.Key{ID: "tpm", Secret: secret}, tpmContext, text)
	if err != nil {
		return nil, err
	}
	public, err := wire.Encode(&o.public)
	if err != nil {
		return nil, err
	}
	return append([]byte(tpmHeader+"\n"), sealedLine(o, public, envelope)...), nil
}

// sealedLine is the line after the header.
func sealedLine(o *sealedObject, public, envelope []byte) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "%s %x %s %s %s\n", o.pcrs, o.parent, b64(public), b64(o.private), b64(envelope))
}

var tpmContext = seal.Context{Purpose: "key file", Name: "tpm"}

// parseSealed reads what follows the header.
func parseSealed(rest []byte) (*sealedObject, *seal.Envelope, error) {
	line, ended := strings.CutSuffix(string(rest), "\n")
	fields := strings.Split(line, " ")
	if !ended || len(fields) != 5 {
		return nil, nil, errors.New("line 2: want the registers, the storage key, the sealed object in two parts, and the sealed keys, and no more")
	}
	o := &sealedObject{pcrs: fields[0]}
	if _, err := parsePCRs(o.pcrs); err != nil {
		return nil, nil, fmt.Errorf("registers: %w", err)
	}
	var parts [3][]byte
	for i := range parts {
		var err error
		if parts[i], err = base64.StdEncoding.Strict().DecodeString(fields[2+i]); err != nil {
			return nil, nil, fmt.Errorf("line 2: field %d is not base64", 3+i)
		}
	}
	var err error
	if o.parent, err = hex.DecodeString(fields[1]); err != nil {
		return nil, nil, errors.New("storage key: want its Name in hexadecimal")
	}
	if err := wire.Decode(parts[0], &o.public); err != nil {
		return nil, nil, fmt.Errorf("sealed object: %w", err)
	}
	o.private = parts[1]
	e, err := seal.Parse(parts[2])
	return o, e, err
}

// unprotect opens what follows the header.
func (h *hostTPM) unprotect(rest []byte) (seal.Secret, error) {
	o, e, err := parseSealed(rest)
	if err != nil {
		return seal.Secret{}, err
	}
	if h == nil {
		return seal.Secret{}, fmt.Errorf("%w: a TPM has sealed the file, and the option tpm is missing", ErrPassphrase)
	}
	if h.spec.pcrs != o.pcrs {
		return seal.Secret{}, fmt.Errorf("the file is sealed to pcrs=%s, and the option pcrs says %s", o.pcrs, h.spec.pcrs)
	}
	var secret seal.Secret
	if err := h.with(func(t *client.TPM) (err error) { secret, err = unsealFrom(t, o); return err }); err != nil {
		return seal.Secret{}, err
	}
	defer secret.Destroy()
	return e.Open(seal.Key{ID: "tpm", Secret: secret}, tpmContext)
}

// tpmFault says of what kind an error of the TPM is.
func tpmFault(err error) error {
	var rc tpm2.RC
	switch {
	case err == nil, errors.Is(err, ErrUnknownKey):
		return err
	case !errors.As(err, &rc):
		if errors.Is(err, client.ErrResponse) || errors.Is(err, client.ErrHMAC) || errors.Is(err, client.ErrTransport) {
			return fmt.Errorf("%w: %w", ErrGarbage, err)
		}
		return fmt.Errorf("%w: TPM: %w", ErrUnavailable, err)
	}
	switch rc.Base() {
	case tpm2.RCPolicyFail, tpm2.RCValue, tpm2.RCPCRChanged:
		return fmt.Errorf("%w: this machine did not boot as when the key file was sealed: %w", ErrRefused, err)
	case tpm2.RCAuthFail, tpm2.RCBadAuth, tpm2.RCAuthMissing, tpm2.RCLockout, tpm2.RCHierarchy:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case tpm2.RCIntegrity:
		return fmt.Errorf("%w: the file was sealed by another TPM, or by this one before it was cleared: %w", ErrUnknownKey, err)
	}
	return fmt.Errorf("%w: TPM: %w", ErrUnavailable, err)
}
