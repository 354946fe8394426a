package vtpmcli

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/localca"
)

// A certOptions is the command line of swtpm_cert, and of swtpm_localca what both
// take.
type certOptions struct {
	kind                        string
	tpm2, signing, decryption   bool
	manufacturer, model, tpmVer string
	platformManufacturer        string
	platformModel, platformVer  string
	family                      string
	level, revision             int64

	pubkey, modulus, x, y, curve string
	exponent                     int64
	signkey, issuer, out         string
	password, passwordSpec       string
	parent, parentSpec           string
	serial, subject              string
	days                         int
	pem, capabilities            bool
	help, version                bool
}

// describe adds the options about what is certified.
func (o *certOptions) describe(f *pflag.FlagSet) {
	f.StringVar(&o.kind, "type", "ek", "`KIND` of certificate: ek or platform")
	f.BoolVar(&o.tpm2, "tpm2", false, "for a TPM 2.0")
	f.BoolVar(&o.signing, "allow-signing", false, "the key signs, and does nothing else")
	f.BoolVar(&o.decryption, "decryption", false, "with --allow-signing: it decrypts, too")
	f.StringVar(&o.manufacturer, "tpm-manufacturer", "", "`NAME` of the TPM's maker")
	f.StringVar(&o.model, "tpm-model", "", "`NAME` of the TPM's model")
	f.StringVar(&o.tpmVer, "tpm-version", "", "`VERSION` of the TPM's firmware")
	f.StringVar(&o.family, "tpm-spec-family", "", "`FAMILY` of the specification: 2.0")
	f.Int64Var(&o.level, "tpm-spec-level", 0, "its `LEVEL`")
	f.Int64Var(&o.revision, "tpm-spec-revision", 0, "its `REVISION`")
	f.StringVar(&o.platformManufacturer, "platform-manufacturer", "", "`NAME` of the platform's maker")
	f.StringVar(&o.platformModel, "platform-model", "", "`NAME` of the platform's model")
	f.StringVar(&o.platformVer, "platform-version", "", "`VERSION` of the platform")
}

func (o *certOptions) flagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("swtpm_cert", pflag.ContinueOnError)
	f.SortFlags = false
	o.describe(f)
	f.StringVar(&o.pubkey, "pubkey", "", "`FILE` of the public key, in PEM")
	f.StringVar(&o.modulus, "modulus", "", "`HEX` of the modulus of an RSA key")
	f.Int64Var(&o.exponent, "exponent", 65537, "`NUMBER`: its exponent")
	f.StringVar(&o.x, "ecc-x", "", "`HEX` of the point of an ECC key: x")
	f.StringVar(&o.y, "ecc-y", "", "`HEX` of y")
	f.StringVar(&o.curve, "ecc-curveid", "secp256r1", "`NAME` of its curve: secp256r1, secp384r1 or secp521r1")
	f.StringVar(&o.signkey, "signkey", "", "`FILE` of the authority's private key, in PEM")
	f.StringVar(&o.password, "signkey-password", "", "`TEXT`: its password, which others on this machine can see here")
	f.StringVar(&o.passwordSpec, "signkey-pwd", "", "where its password is: `file:F|fd:N|env:NAME|pass:TEXT`")
	f.StringVar(&o.parent, "parentkey-password", "", "")
	f.StringVar(&o.parentSpec, "parentkey-pwd", "", "")
	f.Lookup("parentkey-password").Hidden = true // of keys in a TPM, which are refused
	f.Lookup("parentkey-pwd").Hidden = true
	f.StringVar(&o.issuer, "issuercert", "", "`FILE` of the authority's certificate, in PEM")
	f.StringVar(&o.out, "out-cert", "", "`FILE` to write")
	f.StringVar(&o.serial, "serial", "", "`NUMBER` of the certificate, to 2^160-1; without it a random one")
	f.StringVar(&o.subject, "subject", "CN=unknown", "`NAME` such as CN=vm1,O=Example,C=US")
	f.IntVar(&o.days, "days", 365, "`NUMBER` of days that it is valid; -1 for no end")
	f.BoolVar(&o.pem, "pem", false, "write PEM, not DER")
	f.BoolVar(&o.capabilities, "print-capabilities", false, "print what is supported, as JSON")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.BoolVarP(&o.help, "help", "h", false, "print this")
	return f
}

// runCert is swtpm_cert: one certificate by an authority in files.
func runCert(env *program.Env, args []string) error {
	o := &certOptions{}
	f := o.flagSet()
	f.SetOutput(env.Stderr)
	f.Usage = func() {}
	if err := f.Parse(wholeNames(f, args)); err != nil {
		return err
	}
	var err error
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("%q is not understood", f.Arg(0))
	case o.help:
		_, err = fmt.Fprintf(env.Stdout, "usage: swtpm_cert --signkey FILE --issuercert FILE --out-cert FILE [OPTIONS]\n\n%s", f.FlagUsagesWrapped(100))
		return err
	case o.version:
		_, err = fmt.Fprintf(env.Stdout, "TPM emulator certificate tool version %s, in whose place assay %s stands\n", swtpmVersion, program.Version())
		return err
	case o.capabilities:
		_, err = fmt.Fprintf(env.Stdout, "{ \"type\": \"swtpm_cert\", \"features\": [ \"cmdarg-signkey-pwd\", \"cmdarg-parentkey-pwd\" ], \"version\": %q }\n", swtpmVersion)
		return err
	}
	return o.run(env)
}

func (o *certOptions) run(env *program.Env) error {
	for name, text := range map[string]string{"signkey": o.signkey, "issuercert": o.issuer, "out-cert": o.out} {
		if text == "" {
			return fmt.Errorf("--%s is missing", name)
		}
	}
	r, err := o.request(env)
	if err != nil {
		return err
	}
	if err := mustBeFile(o.signkey); err != nil {
		return err
	}
	password, err := o.signingPassword(env)
	if err != nil {
		return err
	}
	key, err := localca.ReadKey(o.signkey, password)
	clear(password)
	if err != nil {
		return err
	}
	cert, err := localca.ReadCertificate(o.issuer)
	if err != nil {
		return err
	}
	der, err := (&localca.Issuer{Certificate: cert, Key: key, Random: env.Rand, Now: env.Now}).Issue(r)
	if err != nil {
		return err
	}
	if o.pem {
		der = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return durable.WriteFile(o.out, der, 0o644)
}

// mustBeFile refuses signing keys that are no file.
func mustBeFile(name string) error {
	if strings.HasPrefix(name, "pkcs11:") || strings.HasPrefix(name, "tpmkey:") {
		return errors.New("a signing key in a token or a TPM is not used here: assay vtpm ca init --help names the program that signs for the built-in authority")
	}
	return nil
}

// request is the certificate that the options describe.
func (o *certOptions) request(env *program.Env) (*localca.Request, error) {
	r, err := o.described()
	if err != nil {
		return nil, err
	}
	if r.Key, err = o.publicKey(); err != nil {
		return nil, err
	}
	if r.Subject, err = parseSubject(o.subject); err != nil {
		return nil, err
	}
	if o.days >= 0 {
		r.NotAfter = env.Now().Add(time.Duration(min(o.days, 100_000)) * 24 * time.Hour)
	}
	if o.serial == "" {
		r.Serial, err = localca.RandomSerial(env.Rand)
		return r, err
	}
	var ok bool
	if r.Serial, ok = new(big.Int).SetString(o.serial, 0); !ok || len(o.serial) > 64 {
		return nil, fmt.Errorf("--serial: %q is no number", o.serial)
	}
	return r, nil
}

// described is what the options say of the certificate, without its key and name.
func (o *certOptions) described() (*localca.Request, error) {
	r := &localca.Request{
		Signs: o.signing, SignsOnly: o.signing && !o.decryption,
		Manufacturer: o.manufacturer, Model: o.model, Version: o.tpmVer,
		Specification:        localca.Specification{Family: o.family, Level: o.level, Revision: o.revision},
		PlatformManufacturer: o.platformManufacturer, PlatformModel: o.platformModel, PlatformVersion: o.platformVer,
	}
	needed := map[string]string{"tpm-manufacturer": o.manufacturer, "tpm-model": o.model, "tpm-version": o.tpmVer}
	switch o.kind {
	case "ek":
	case "platform":
		r.Kind = localca.Platform
		needed = map[string]string{"platform-manufacturer": o.platformManufacturer, "platform-model": o.platformModel, "platform-version": o.platformVer}
	default:
		return nil, fmt.Errorf("--type: %q is neither ek nor platform", o.kind)
	}
	for name, text := range needed {
		if text == "" {
			return nil, fmt.Errorf("--%s is missing", name)
		}
	}
	if (o.signing || o.decryption) && !o.tpm2 {
		return nil, errors.New("--allow-signing and --decryption go with --tpm2")
	}
	return r, nil
}

// publicKey is the key that is certified.
func (o *certOptions) publicKey() (crypto.PublicKey, error) {
	switch {
	case o.pubkey != "":
		return localca.ReadPublicKey(o.pubkey)
	case o.modulus != "":
		return rsaPublicKey(o.modulus, o.exponent)
	case o.x != "" && o.y != "":
		return eccPublicKey(o.curve, o.x, o.y)
	}
	return nil, errors.New("which key? --pubkey, --modulus, or --ecc-x and --ecc-y")
}

// maxModulus bounds an RSA key in hexadecimal digits: 4096 bits.
const maxModulus = 1024

func rsaPublicKey(modulus string, exponent int64) (crypto.PublicKey, error) {
	n, err := hex.DecodeString(modulus)
	if err != nil || len(modulus) > maxModulus {
		return nil, errors.New("the modulus is not hexadecimal, or of more than 4096 bits")
	}
	if exponent < 3 || exponent > 1<<31-1 || exponent%2 == 0 {
		return nil, fmt.Errorf("exponent %d is none", exponent)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
}

func eccPublicKey(curve, x, y string) (crypto.PublicKey, error) {
	c, ok := map[string]elliptic.Curve{"": elliptic.P256(), "secp256r1": elliptic.P256(), "secp384r1": elliptic.P384(), "secp521r1": elliptic.P521()}[curve]
	if !ok {
		return nil, fmt.Errorf("curve %q is not one of secp256r1, secp384r1, secp521r1", curve)
	}
	size := (c.Params().BitSize + 7) / 8
	point := []byte{4} // uncompressed
	for _, text := range []string{x, y} {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) > size {
			return nil, fmt.Errorf("%q is no coordinate on %s", text, curve)
		}
		point = append(append(point, make([]byte, size-len(b))...), b...)
	}
	return ecdsa.ParseUncompressedPublicKey(c, point)
}

// parseSubject reads a name such as CN=vm1,O=Example. A comma ends a value.
func parseSubject(text string) (pkix.Name, error) {
	var n pkix.Name
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return n, fmt.Errorf("--subject: %q is no NAME=VALUE", part)
		}
		switch strings.ToUpper(strings.TrimSpace(name)) {
		case "CN":
			n.CommonName = value
		case "O":
			n.Organization = append(n.Organization, value)
		case "OU":
			n.OrganizationalUnit = append(n.OrganizationalUnit, value)
		case "L":
			n.Locality = append(n.Locality, value)
		case "ST":
			n.Province = append(n.Province, value)
		case "C":
			n.Country = append(n.Country, value)
		default:
			return n, fmt.Errorf("--subject: %q is not one of CN, O, OU, L, ST, C", name)
		}
	}
	return n, nil
}

// maxPassword bounds a password, in bytes, as swtpm_cert does.
const maxPassword = 255

// signingPassword is the password of --signkey.
func (o *certOptions) signingPassword(env *program.Env) ([]byte, error) {
	if o.passwordSpec == "" {
		return []byte(o.password), nil
	}
	from, value, ok := strings.Cut(o.passwordSpec, ":")
	if !ok {
		return []byte(o.passwordSpec), nil
	}
	var f io.ReadCloser
	var err error
	switch from {
	case "pass":
		return []byte(value), nil
	case "env":
		return []byte(env.Getenv(value)), nil
	case "file":
		f, err = os.Open(value)
	case "fd":
		f, err = inherited(words{"fd": value}.number("fd", -1))
	default:
		return []byte(o.passwordSpec), nil
	}
	if err != nil {
		return nil, fmt.Errorf("--signkey-pwd: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+2))
	if err != nil {
		return nil, fmt.Errorf("--signkey-pwd: %w", err)
	}
	line := strings.TrimRight(string(text), "\r\n")
	if len(line) > maxPassword {
		return nil, fmt.Errorf("--signkey-pwd: more than %d bytes", maxPassword)
	}
	return []byte(line), nil
}
