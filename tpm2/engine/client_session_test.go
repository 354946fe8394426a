package engine_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A session is the client's side of an HMAC, policy or trial session.
type session struct {
	handle      tpm2.Handle
	policy      bool
	hash        tpm2.Alg
	symmetric   tpm2.SymDef
	key         []byte // sessionKey
	nonceCaller []byte
	nonceTPM    []byte
	told        tpm2.SessionAttributes // of the last response

	boundName []byte
	boundAuth string

	// withAuthValue is set by a test whose policy has TPM2_PolicyAuthValue, and
	// withPassword by one whose policy has TPM2_PolicyPassword.
	withAuthValue, withPassword bool
}

// sessionConfig says what session to start; the zero value is an HMAC session
// with SHA-256, unbound, unsalted, without parameter encryption.
type sessionConfig struct {
	kind      tpm2.SessionType
	hash      tpm2.Alg    // 0 is SHA-256
	symmetric tpm2.SymDef // the zero value is AlgNull
	salt      tpm2.Handle // a loaded decryption key, or 0
	bind      tpm2.Handle // or 0
	bindAuth  string
}

// aes128 encrypts parameters.
func aes128() tpm2.SymDef {
	return tpm2.SymDef{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
}

// session starts a session.
func (m *machine) session(cfg sessionConfig) *session {
	m.Helper()
	s := &session{policy: cfg.kind != tpm2.SessionHMAC, hash: cfg.hash, symmetric: cfg.symmetric}
	if s.hash == 0 {
		s.hash = tpm2.AlgSHA256
	}
	if s.symmetric.Algorithm == 0 {
		s.symmetric.Algorithm = tpm2.AlgNull
	}
	s.nonceCaller = bytes.Repeat([]byte{0x42}, 16)
	in := &command.StartAuthSessionIn{
		NonceCaller: s.nonceCaller, SessionType: cfg.kind, Symmetric: s.symmetric, AuthHash: s.hash,
	}
	entities := handles(tpm2.HandleNull, tpm2.HandleNull)
	var salt []byte
	if cfg.salt != 0 {
		entities[0] = cfg.salt
		salt, in.EncryptedSalt = m.salt(m.public(cfg.salt))
	}
	var key []byte
	if cfg.bind != 0 {
		entities[1] = cfg.bind
		key = []byte(cfg.bindAuth)
		if !s.policy {
			s.boundName, s.boundAuth = m.name(cfg.bind), cfg.bindAuth
		}
	}
	var out command.StartAuthSessionOut
	m.do(tpm2.CCStartAuthSession, entities, nil, in, &out)
	s.handle, s.nonceTPM = m.handle, out.NonceTPM
	if cfg.bind != 0 || cfg.salt != 0 {
		s.key = m.kdfa(s.hash, append(key, salt...), "ATH", s.nonceTPM, s.nonceCaller, 8*s.hash.DigestSize())
	}
	return s
}

func (m *machine) kdfa(a tpm2.Alg, key []byte, label string, u, v []byte, bits int) []byte {
	m.Helper()
	k, err := tpm2.KDFa(a, key, label, u, v, bits)
	if err != nil {
		m.Fatal(err)
	}
	return k
}

// salt makes a salt and encrypts it to a key (Part 1, 19.6.13).
func (m *machine) salt(public *tpm2.Public) (salt, encrypted []byte) {
	m.Helper()
	if public.Type == tpm2.AlgMLKEM {
		return m.encapsulatedSecret(public, "SECRET")
	}
	key, err := public.Key()
	if err != nil {
		m.Fatal(err)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		salt = bytes.Repeat([]byte{0x5a}, public.NameAlg.DigestSize())
		h, _ := public.NameAlg.Hash()
		encrypted, err = rsa.EncryptOAEP(h.New(), rand.Reader, key, salt, []byte("SECRET\x00"))
	case *ecdsa.PublicKey:
		salt, encrypted, err = sharedSalt(public.NameAlg, key)
	}
	if err != nil {
		m.Fatal(err)
	}
	return salt, encrypted
}

func sharedSalt(nameAlg tpm2.Alg, key *ecdsa.PublicKey) (salt, encrypted []byte, err error) {
	static, err := key.ECDH()
	if err != nil {
		return nil, nil, err
	}
	ephemeral, err := static.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	z, err := ephemeral.ECDH(static)
	if err != nil {
		return nil, nil, err
	}
	point := split(ephemeral.PublicKey())
	salt, err = tpm2.KDFe(nameAlg, z, "SECRET", point.X, split(static).X, 8*nameAlg.DigestSize())
	if err != nil {
		return nil, nil, err
	}
	encrypted, err = wire.Encode(&point)
	return salt, encrypted, err
}

func split(k *ecdh.PublicKey) tpm2.ECCPoint {
	b := k.Bytes()[1:]
	return tpm2.ECCPoint{X: b[:len(b)/2], Y: b[len(b)/2:]}
}

// An auth is one entry of an authorization area.
type auth struct {
	session    *session // nil for a password
	value      string   // the authValue of the entity, or the password
	attributes tpm2.SessionAttributes
	once       bool    // do not continue the session
	hmac       []byte  // sent in place of what is right, unless nil
	after      *string // authValue once the command has changed it
}

// password authorizes each of the command's handles with its authValue.
func password(values ...string) []auth {
	var out []auth
	for _, v := range values {
		out = append(out, auth{value: v})
	}
	return out
}

// with authorizes by the session, for an entity with this authValue.
func (s *session) with(value string, attributes ...tpm2.SessionAttributes) []auth {
	a := auth{session: s, value: value}
	for _, bit := range attributes {
		a.attributes |= bit
	}
	return []auth{a}
}

func (a *auth) attr() tpm2.SessionAttributes {
	if a.once {
		return a.attributes
	}
	return a.attributes | tpm2.SessionContinue
}

// authArea lays out the authorization area and encrypts the first parameter in
// params if a session says so.
func (x *exchange) authArea(params []byte) []byte {
	for i := range x.auths {
		if s := x.auths[i].session; s != nil {
			next := sha256.Sum256(append(s.nonceCaller, byte(i)))
			s.nonceCaller = next[:16]
		}
	}
	x.crypt(params, tpm2.SessionDecrypt)
	x.names = make([][]byte, len(x.handles))
	for i, h := range x.handles {
		x.names[i] = x.m.name(h)
	}
	var area []byte
	for i := range x.auths {
		area = x.appendAuth(area, i, params)
	}
	return area
}

func (x *exchange) appendAuth(area []byte, i int, params []byte) []byte {
	a := &x.auths[i]
	out := tpm2.AuthCommand{SessionHandle: tpm2.HandlePassword, Attributes: a.attr(), HMAC: []byte(a.value)}
	if s := a.session; s != nil {
		out.SessionHandle, out.Nonce = s.handle, s.nonceCaller
		if !s.withPassword {
			out.HMAC = x.commandHMAC(i, params)
		}
	}
	if a.hmac != nil {
		out.HMAC = a.hmac
	}
	area, err := wire.Append(area, &out)
	if err != nil {
		x.m.Fatal(err)
	}
	return area
}

// hmacKey is the key of entry i: with the authValue if it authorizes and the
// session is not bound to the entity, or its policy asks for it.
func (x *exchange) hmacKey(i int) []byte {
	a := &x.auths[i]
	s := a.session
	if !x.authorizes(i) {
		return s.key
	}
	include := s.withAuthValue
	if !s.policy {
		include = s.boundName == nil || !bytes.Equal(s.boundName, x.names[i]) || s.boundAuth != a.value
	}
	if !include {
		return s.key
	}
	return append(bytes.Clone(s.key), a.value...)
}

// authorizes reports whether entry i is for a handle.
func (x *exchange) authorizes(i int) bool {
	info, ok := command.Lookup(x.cc)
	return ok && i < len(info.Handles) && i < len(x.handles) && info.Handles[i].Role != command.RoleNone
}

func (x *exchange) commandHMAC(i int, params []byte) []byte {
	s := x.auths[i].session
	key := x.hmacKey(i)
	if s.policy && len(key) == 0 {
		return nil
	}
	h, _ := s.hash.Hash()
	cp := h.New()
	_ = binary.Write(cp, binary.BigEndian, x.cc)
	for _, n := range x.names {
		cp.Write(n)
	}
	cp.Write(params)
	mac := hmac.New(h.New, key)
	mac.Write(cp.Sum(nil))
	mac.Write(s.nonceCaller)
	mac.Write(s.nonceTPM)
	if i == 0 && x.authorizes(0) {
		d, e := x.cipher(tpm2.SessionDecrypt), x.cipher(tpm2.SessionEncrypt)
		if d > 0 {
			mac.Write(x.auths[d].session.nonceTPM)
		}
		if e > 0 && e != d {
			mac.Write(x.auths[e].session.nonceTPM)
		}
	}
	mac.Write([]byte{byte(x.auths[i].attr())})
	return mac.Sum(nil)
}

// cipher returns the entry whose session has the attribute, -1 when none has.
func (x *exchange) cipher(bit tpm2.SessionAttributes) int {
	for i := range x.auths {
		if x.auths[i].session != nil && x.auths[i].attributes&bit != 0 {
			return i
		}
	}
	return -1
}

// crypt encrypts the first parameter of a command or decrypts that of a response.
func (x *exchange) crypt(params []byte, bit tpm2.SessionAttributes) {
	i := x.cipher(bit)
	if i < 0 || len(params) < 2 {
		return
	}
	a, s := &x.auths[i], x.auths[i].session
	key := bytes.Clone(s.key)
	if x.authorizes(i) {
		key = append(key, a.value...)
	}
	newer, older := s.nonceCaller, s.nonceTPM
	if bit == tpm2.SessionEncrypt {
		newer, older = older, newer
	}
	first := params[2 : 2+binary.BigEndian.Uint16(params)]
	if s.symmetric.Algorithm == tpm2.AlgNull {
		return // the TPM refuses
	}
	if s.symmetric.Algorithm == tpm2.AlgXOR {
		x.check(tpmcrypto.XOR(s.hash, key, newer, older, first))
		return
	}
	bits := int(s.symmetric.KeyBits)
	k := x.m.kdfa(s.hash, key, "CFB", newer, older, bits+128)
	if bit == tpm2.SessionDecrypt {
		x.check(tpmcrypto.EncryptCFB(k[:bits/8], k[bits/8:], first))
	} else {
		x.check(tpmcrypto.DecryptCFB(k[:bits/8], k[bits/8:], first))
	}
}

func (x *exchange) check(err error) {
	if err != nil {
		x.m.Fatal(err)
	}
}

// checkResponse checks the authorizations of a response, with the authValues that
// the entities have after the command, and decrypts its first parameter.
func (x *exchange) checkResponse(params, area []byte) {
	m := x.m
	m.Helper()
	for i := range x.auths {
		if x.auths[i].after != nil {
			x.auths[i].value = *x.auths[i].after
		}
		var r tpm2.AuthResponse
		rest, err := wire.DecodePrefix(area, &r)
		if err != nil {
			m.Fatalf("decode authorization %d of the response of %s: %v", i+1, commandName(x.cc), err)
		}
		area = rest
		s := x.auths[i].session
		if s == nil {
			if len(r.Nonce) != 0 || len(r.HMAC) != 0 || r.Attributes != tpm2.SessionContinue {
				m.Errorf("password's authorization in the response of %s is %+v", commandName(x.cc), r)
			}
			continue
		}
		s.nonceTPM, s.told = bytes.Clone(r.Nonce), r.Attributes
		x.checkHMAC(i, &r, params)
	}
	if len(area) != 0 {
		m.Errorf("response of %s has %d bytes after its authorizations", commandName(x.cc), len(area))
	}
	x.crypt(params, tpm2.SessionEncrypt)
}

func (x *exchange) checkHMAC(i int, r *tpm2.AuthResponse, params []byte) {
	m, s := x.m, x.auths[i].session
	m.Helper()
	key := x.hmacKey(i)
	if s.withPassword || s.policy && len(key) == 0 {
		if len(r.HMAC) != 0 {
			m.Errorf("HMAC %d of the response of %s is %x, want none", i+1, commandName(x.cc), r.HMAC)
		}
		return
	}
	h, _ := s.hash.Hash()
	rp := h.New()
	_ = binary.Write(rp, binary.BigEndian, uint32(0))
	_ = binary.Write(rp, binary.BigEndian, x.cc)
	rp.Write(params)
	mac := hmac.New(h.New, key)
	mac.Write(rp.Sum(nil))
	mac.Write(s.nonceTPM)
	mac.Write(s.nonceCaller)
	mac.Write([]byte{byte(r.Attributes)})
	if got, want := r.HMAC, mac.Sum(nil); !bytes.Equal(got, want) {
		m.Errorf("HMAC %d of the response of %s is %x, want %x", i+1, commandName(x.cc), got, want)
	}
}
