package vtpmcli

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/seal"
)

// keyProviderEnv names the key provider of the drop-ins; ephemeralKeys in it has
// them keep nothing.
const (
	keyProviderEnv = "ASSAY_KEY_PROVIDER"
	ephemeralKeys  = "ephemeral"
)

// dropInKeyHelp says how a drop-in comes by its key provider.
const dropInKeyHelp = `The state of a TPM is always encrypted. What holds the key is, first that is there:
  --key              that key or passphrase
  ` + keyProviderEnv + ` a provider, as assay key-provider lists them, or local:FILE and the like;
                     "ephemeral" keeps nothing: the TPM ends with the process (for test suites)
  $XDG_CONFIG_HOME/assay/dropin.json, /etc/assay/dropin.json
                     {"keyProvider": "local:/etc/assay/vtpm.keys", "root": "/var/lib/assay-dropin"}
Make one with: assay key-provider add NAME local:/etc/assay/vtpm.keys --create
What tells an old copy of the state, or another TPM's, is its ledger: a folder that --ledger,
` + ledgerEnv + ` or "ledger" in dropin.json names, else the folder ` + ledgerDir + ` of the root.
`

// errNoKeys is a drop-in that was given a place for state and no key provider.
var errNoKeys = errors.New("no key provider, and without one no TPM is kept.\n" + strings.TrimSpace(dropInKeyHelp))

// dropInKeys hold the keys of a drop-in. The zero value keeps nothing.
type dropInKeys struct {
	provider  keyprovider.Provider // nil when ephemeral
	migration keyprovider.Provider // for blobs that leave the process; nil for provider
	name      string               // for the record of what is made
	old       oldKey               // what --key says of a state that swtpm encrypted
	closers   []io.Closer
}

func (k *dropInKeys) ephemeral() bool { return k.provider == nil }

// blobs is the provider for state that passes through the control channel; nil
// when it passes as it is.
func (k *dropInKeys) blobs() keyprovider.Provider {
	if k.migration != nil {
		return k.migration
	}
	return k.provider
}

// Close forgets the keys.
func (k *dropInKeys) Close() error {
	k.old.text.Destroy()
	var errs []error
	for _, c := range k.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// openDropInKeys opens the key provider: that of --key, of the environment or of
// a configuration file.
func openDropInKeys(env *program.Env, key, migration words) (*dropInKeys, error) {
	k := &dropInKeys{}
	if err := k.open(env, key, migration); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *dropInKeys) open(env *program.Env, key, migration words) error {
	if migration != nil {
		p, old, err := keyOfWords(env, "--migration-key", migration)
		if err != nil {
			return err
		}
		old.text.Destroy()
		k.migration, k.closers = p, append(k.closers, p)
	}
	if key != nil {
		p, old, err := keyOfWords(env, "--key", key)
		if err != nil {
			return err
		}
		k.provider, k.name, k.closers, k.old = p, "--key", append(k.closers, p), old
		return nil
	}
	spec, err := dropInKeySpec(env)
	if err != nil || spec == ephemeralKeys {
		return err
	}
	p, err := openKeySpec(context.Background(), env, spec)
	if err != nil {
		return err
	}
	k.provider, k.name, k.closers = p, spec, append(k.closers, p)
	return nil
}

// keepRenewed has the credential renewed, for a process that lives long.
func (k *dropInKeys) keepRenewed(env *program.Env) {
	p, ok := k.provider.(*keyprovider.Opened)
	if !ok {
		return
	}
	kept := keepRenewed(env, p)
	k.provider = kept
	k.closers[slices.Index(k.closers, io.Closer(p))] = kept
}

// dropInKeySpec finds which provider is meant.
func dropInKeySpec(env *program.Env) (string, error) {
	if spec := env.Getenv(keyProviderEnv); spec != "" {
		return spec, nil
	}
	c, err := readDropInFile(env)
	if err == nil && c.keyProvider == "" {
		err = errNoKeys
	}
	return c.keyProvider, err
}

// dropInRoot finds the folder of the built-in authority. libvirtd of the system has
// no home folder for the user that it runs swtpm as, so the configuration may say.
func dropInRoot(env *program.Env) (string, error) {
	if dir := env.Getenv("ASSAY_VTPM_ROOT"); dir != "" {
		return dir, nil
	}
	c, err := readDropInFile(env)
	if err != nil || c.root != "" {
		return c.root, err
	}
	dir, err := defaultVTPMRoot(env)
	if err != nil {
		err = errors.New("no folder for it: name one that this user may write as \"root\" in dropin.json, or set ASSAY_VTPM_ROOT")
	}
	return dir, err
}

// maxKeyText bounds what a key or a passphrase is read from, in bytes.
const maxKeyText = 4096

// keyOfWords is the provider of --key: a key, or a passphrase. The other result is
// the text for a state that swtpm encrypted.
func keyOfWords(env *program.Env, flag string, w words) (_ closingProvider, old oldKey, err error) {
	for name, known := range map[string][]string{
		"mode":   {"aes-cbc", "aes-128-cbc", "aes-256-cbc"},
		"format": {"hex", "binary"},
		"kdf":    {"sha512", "pbkdf2"},
	} {
		if w.has(name) {
			if err := knownWords(flag+": "+name, []string{w[name]}, known...); err != nil {
				return nil, old, err
			}
		}
	}
	text, phrase, err := readKeyWords(w)
	if err != nil {
		return nil, old, fmt.Errorf("%s: %w", flag, err)
	}
	defer clear(text)
	old = oldKey{text: seal.NewSecret(bytes.Clone(text)), phrase: phrase, binary: w["format"] == "binary", hashed: w["kdf"] == "sha512"}
	if w.has("remove") {
		for _, name := range []string{w["file"], w["pwdfile"]} {
			if name != "" {
				os.Remove(name) // as swtpm: a file that cannot be removed is no error
			}
		}
	}
	var p closingProvider
	if phrase {
		p, err = newPassphrase(env.Rand, text)
	} else {
		p, err = newRawKey(env.Rand, text, old.binary, w["mode"] == "aes-256-cbc")
	}
	if err != nil {
		old.text.Destroy()
	}
	return p, old, err
}

// readKeyWords reads what the words name.
func readKeyWords(w words) (text []byte, phrase bool, err error) {
	var f io.ReadCloser
	switch {
	case w.has("file"):
		f, err = os.Open(w["file"])
	case w.has("fd"):
		f, err = inherited(w.number("fd", -1))
	case w.has("pwdfile"):
		phrase = true
		f, err = os.Open(w["pwdfile"])
	case w.has("pwdfd"):
		phrase = true
		f, err = inherited(w.number("pwdfd", -1))
	default:
		return nil, false, errors.New("one of file, fd, pwdfile and pwdfd is missing")
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	text, err = io.ReadAll(io.LimitReader(f, maxKeyText+1))
	if err == nil && len(text) > maxKeyText {
		err = fmt.Errorf("more than %d bytes", maxKeyText)
	}
	return text, phrase, err
}

// A closingProvider is a provider that forgets its keys.
type closingProvider interface {
	keyprovider.Provider
	io.Closer
}

// newRawKey is the local provider with a key of 128 or 256 bits as swtpm takes it.
// The key that wraps is derived from it, so that the same key in swtpm's own files
// is never used twice over.
func newRawKey(random io.Reader, text []byte, binaryForm, long bool) (closingProvider, error) {
	key := text
	if !binaryForm {
		digits := bytes.TrimPrefix(bytes.TrimSpace(text), []byte("0x"))
		key = make([]byte, hex.DecodedLen(len(digits)))
		defer clear(key)
		if _, err := hex.Decode(key, digits); err != nil {
			return nil, errors.New("the key is not hexadecimal")
		}
	}
	want := 16
	if long {
		want = 32
	}
	if len(key) != want {
		return nil, fmt.Errorf("the key has %d bytes, and mode asks for %d", len(key), want)
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "assay: key of swtpm --key, version 1", seal.KeySize)
	if err != nil {
		return nil, err
	}
	return keyprovider.NewLocal(random, seal.Key{ID: "swtpm --key", Secret: seal.NewSecret(derived)})
}

// passphraseKeys wrap under a key that is derived from a passphrase anew each
// time: whoever holds a state file pays that for each guess.
type passphraseKeys struct {
	random io.Reader
	phrase seal.Secret
}

const (
	passphraseKeyID  = "swtpm passphrase"
	passphraseRounds = 600_000 // of PBKDF2-HMAC-SHA-256
	passphraseSalt   = 16
)

func newPassphrase(random io.Reader, text []byte) (closingProvider, error) {
	line := bytes.TrimRight(text, "\r\n")
	if len(line) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	return &passphraseKeys{random, seal.NewSecret(bytes.Clone(line))}, nil
}

// Close forgets the passphrase.
func (p *passphraseKeys) Close() error {
	p.phrase.Destroy()
	return nil
}

func passphraseContext(c seal.Context) seal.Context {
	return seal.Context{Purpose: "data key: " + c.Purpose, Name: c.Name}
}

// Wrap seals a data key. Rounds and salt stand in the envelope's field for a
// wrapped key, which it has none of.
func (p *passphraseKeys) Wrap(_ context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	head := make([]byte, 4+passphraseSalt)
	binary.BigEndian.PutUint32(head, passphraseRounds)
	if _, err := io.ReadFull(p.random, head[4:]); err != nil {
		return nil, fmt.Errorf("make salt: %w", err)
	}
	derived, err := p.derive(head)
	if err != nil {
		return nil, err
	}
	defer derived.Destroy()
	return seal.Seal(p.random, seal.Key{ID: passphraseKeyID, Secret: derived, Wrapped: head}, passphraseContext(c), key.Expose())
}

// Unwrap opens what Wrap sealed.
func (p *passphraseKeys) Unwrap(_ context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	e, err := seal.Parse(wrapped)
	if err != nil {
		return seal.Secret{}, err
	}
	if e.KeyID() != passphraseKeyID {
		return seal.Secret{}, fmt.Errorf("key %q: %w", e.KeyID(), keyprovider.ErrUnknownKey)
	}
	derived, err := p.derive(e.Wrapped())
	if err != nil {
		return seal.Secret{}, err
	}
	defer derived.Destroy()
	key, err := e.Open(seal.Key{Secret: derived}, passphraseContext(c))
	if errors.Is(err, seal.ErrOpen) {
		return seal.Secret{}, fmt.Errorf("the passphrase is wrong, or the file was altered: %w", err)
	}
	return key, err
}

func (p *passphraseKeys) derive(head []byte) (seal.Secret, error) {
	if len(head) != 4+passphraseSalt || binary.BigEndian.Uint32(head) != passphraseRounds {
		return seal.Secret{}, fmt.Errorf("salt of a passphrase: %w", seal.ErrFormat)
	}
	key, err := pbkdf2.Key(sha256.New, string(p.phrase.Expose()), head[4:], passphraseRounds, seal.KeySize)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("derive key: %w", err)
	}
	return seal.NewSecret(key), nil
}
