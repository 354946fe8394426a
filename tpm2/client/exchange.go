package client

import (
	"encoding/binary"
	"fmt"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Limits of commands and responses.
const (
	headerSize  = 10
	maxResponse = 8192 // of TPM 2.0 v1.85, which has the larger one
	maxSessions = 3    // in one command (Part 1, 18.5)
)

// An exchange is one command and its response.
type exchange struct {
	info *command.Info
	cmd  *Command
	uses []use

	params []byte // of the command, encrypted
}

// A use is what a session does in this exchange.
type use struct {
	session *Session // nil for a password
	attr    tpm2.SessionAttributes
	entity  *Entity // which it authorizes; nil when it does not
	nonce   []byte  // nonceCaller
	// include says that the authValue of entity is in the key of the HMACs, and
	// answer is that value as the response has it.
	include bool
	answer  []byte
}

// prepare checks that handles and sessions fit the command, and makes nonces.
func (t *TPM) prepare(info *command.Info, c *Command) (*exchange, error) {
	auths := info.Auths()
	n := max(auths, len(c.Uses))
	if len(c.Handles) != len(info.Handles) || n > maxSessions {
		return nil, fmt.Errorf("%d handles and %d sessions, want %d and at most %d: %w", len(c.Handles), n, len(info.Handles), maxSessions, ErrCommand)
	}
	x := &exchange{info: info, cmd: c, uses: make([]use, n)}
	for i := range x.uses {
		u := &x.uses[i]
		if i < auths {
			u.entity = &c.Handles[i]
		}
		if i < len(c.Uses) {
			u.session, u.attr = c.Uses[i].Session, c.Uses[i].Attributes
		}
		if u.session == nil {
			if u.entity == nil {
				return nil, fmt.Errorf("session %d is none and has nothing to authorize: %w", i+1, ErrCommand)
			}
			u.attr = tpm2.SessionContinue // Part 1, 19.4: a password authorization has no other
			continue
		}
		if u.entity != nil {
			u.include, u.answer = u.session.includes(u.entity), u.entity.authValue()
		}
		var err error
		if u.nonce, err = t.nonce(u.session.hash.DigestSize()); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// request lays the command out (Part 1, 18).
func (x *exchange) request() ([]byte, error) {
	if x.cmd.In != nil {
		var err error
		if x.params, err = wire.Encode(x.cmd.In); err != nil {
			return nil, fmt.Errorf("encode parameters: %w", err)
		}
	}
	if after, changes := x.authAfter(); changes && x.uses[0].entity != nil {
		x.uses[0].answer = after
	}
	if err := x.encrypt(); err != nil {
		return nil, err
	}
	tag := tpm2.TagNoSessions
	if len(x.uses) > 0 {
		tag = tpm2.TagSessions
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(x.info.Code))
	for i := range x.cmd.Handles {
		b = binary.BigEndian.AppendUint32(b, uint32(x.cmd.Handles[i].Handle))
	}
	if len(x.uses) > 0 {
		var err error
		if b, err = x.authorizations(b); err != nil {
			return nil, err
		}
	}
	b = append(b, x.params...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b))) // bounded by the limits of what was encoded
	return b, nil
}

// authAfter returns the authValue that the first entity has when the command was
// run, if the command changes it: the response is authenticated with that (Part 3,
// 24.8, 24.6, 22.7, 31.15; of an index that is gone the authValue is empty, 31.5).
func (x *exchange) authAfter() (value []byte, changes bool) {
	switch x.info.Code {
	case tpm2.CCHierarchyChangeAuth, tpm2.CCNVChangeAuth, tpm2.CCPCRSetAuthValue:
		first, ok := firstParameter(x.params)
		return trimZeros(append([]byte(nil), first...)), ok // before it is encrypted in place
	case tpm2.CCClear:
		return nil, x.cmd.Handles[0].Handle == tpm2.HandleLockout
	case tpm2.CCNVUndefineSpaceSpecial:
		return nil, true
	}
	return nil, false
}

// authorizations appends the size of the authorization area and the area.
func (x *exchange) authorizations(b []byte) ([]byte, error) {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	for i := range x.uses {
		entry, err := x.authorization(i)
		if err != nil {
			return nil, err
		}
		if b, err = wire.Append(b, entry); err != nil {
			return nil, fmt.Errorf("encode session %d: %w", i+1, err)
		}
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4)) // three entries at most
	return b, nil
}

func (x *exchange) authorization(i int) (*tpm2.AuthCommand, error) {
	u := &x.uses[i]
	if u.session == nil {
		return &tpm2.AuthCommand{SessionHandle: tpm2.HandlePassword, Attributes: u.attr, HMAC: u.entity.authValue()}, nil
	}
	entry := &tpm2.AuthCommand{SessionHandle: u.session.handle, Nonce: u.nonce, Attributes: u.attr}
	if u.session.Password && u.entity != nil {
		entry.HMAC = u.entity.authValue() // Part 1, 19.7: after TPM2_PolicyPassword
		return entry, nil
	}
	var auth []byte
	if u.include {
		auth = u.entity.authValue()
	}
	key := u.session.hmacKey(auth)
	if u.session.policy && len(key) == 0 {
		return entry, nil // anybody could compute it, and the TPM expects none
	}
	cp, err := x.cpHash(u.session.hash)
	if err != nil {
		return nil, err
	}
	entry.HMAC, err = tpmcrypto.HMAC(u.session.hash, key, cp, u.nonce, u.session.nonceTPM, x.foreignNonces(i), []byte{byte(u.attr)})
	return entry, err
}

// foreignNonces are the nonces of other sessions, for which the first session
// vouches when it authorizes and they encrypt (Part 1, 19.6.5).
func (x *exchange) foreignNonces(i int) []byte {
	if i != 0 || x.uses[0].entity == nil {
		return nil
	}
	decrypt, encrypt := x.withAttribute(tpm2.SessionDecrypt), x.withAttribute(tpm2.SessionEncrypt)
	var b []byte
	if decrypt > 0 {
		b = append(b, x.uses[decrypt].session.nonceTPM...)
	}
	if encrypt > 0 && encrypt != decrypt {
		b = append(b, x.uses[encrypt].session.nonceTPM...)
	}
	return b
}

// withAttribute returns the place of the session that has it, or -1.
func (x *exchange) withAttribute(a tpm2.SessionAttributes) int {
	for i := range x.uses {
		if x.uses[i].session != nil && x.uses[i].attr.Has(a) {
			return i
		}
	}
	return -1
}

// cpHash is the hash of the command (Part 1, 18.7).
func (x *exchange) cpHash(a tpm2.Alg) ([]byte, error) {
	parts := [][]byte{binary.BigEndian.AppendUint32(nil, uint32(x.info.Code))}
	for i := range x.cmd.Handles {
		parts = append(parts, x.cmd.Handles[i].name())
	}
	return tpmcrypto.Hash(a, append(parts, x.params)...)
}

// encrypt encrypts the first parameter when a session says so (Part 1, 21).
func (x *exchange) encrypt() error {
	i := x.withAttribute(tpm2.SessionDecrypt)
	if i < 0 {
		return nil
	}
	u := &x.uses[i]
	first, ok := firstParameter(x.params)
	if !ok || !x.info.DecryptFirst {
		return fmt.Errorf("the first parameter cannot be encrypted: %w", ErrCommand)
	}
	return u.session.crypt(u.entity, u.nonce, u.session.nonceTPM, first, true)
}

// firstParameter returns the content of a TPM2B at the start of b.
func firstParameter(b []byte) ([]byte, bool) {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) > len(b)-2 {
		return nil, false
	}
	return b[2 : 2+int(binary.BigEndian.Uint16(b))], true
}

// response reads the response, which it may change, and checks it.
func (x *exchange) response(b []byte) (tpm2.Handle, error) {
	if len(b) < headerSize || len(b) > maxResponse || int64(binary.BigEndian.Uint32(b[2:])) != int64(len(b)) {
		return 0, fmt.Errorf("%d bytes: %w", len(b), ErrResponse)
	}
	if rc := tpm2.RC(binary.BigEndian.Uint32(b[6:])); rc != tpm2.RCSuccess {
		return 0, rc
	}
	want := tpm2.TagNoSessions
	if len(x.uses) > 0 {
		want = tpm2.TagSessions
	}
	if tag := tpm2.Tag(binary.BigEndian.Uint16(b)); tag != want {
		return 0, fmt.Errorf("tag is %#04x: %w", uint16(tag), ErrResponse)
	}
	handle, params, auths, err := x.split(b[headerSize:])
	if err != nil {
		return 0, err
	}
	if len(x.uses) > 0 {
		if err := x.verify(params, auths); err != nil {
			return 0, err
		}
	}
	return handle, x.decode(params)
}

// split cuts the response behind its header: handle, parameters, authorizations.
func (x *exchange) split(b []byte) (h tpm2.Handle, params, auths []byte, err error) {
	if x.info.Response != "" {
		if len(b) < 4 {
			return 0, nil, nil, fmt.Errorf("handle is missing: %w", ErrResponse)
		}
		h, b = tpm2.Handle(binary.BigEndian.Uint32(b)), b[4:]
	}
	if len(x.uses) == 0 {
		return h, b, nil, nil
	}
	if len(b) < 4 || int64(binary.BigEndian.Uint32(b)) > int64(len(b)-4) {
		return 0, nil, nil, fmt.Errorf("size of parameters: %w", ErrResponse)
	}
	n := 4 + int(binary.BigEndian.Uint32(b))
	return h, b[4:n], b[n:], nil
}

// verify checks all HMACs, and only when all hold takes over the nonces.
func (x *exchange) verify(params, auths []byte) error {
	entries := make([]tpm2.AuthResponse, len(x.uses))
	for i := range x.uses {
		var err error
		if auths, err = wire.DecodePrefix(auths, &entries[i]); err != nil {
			return fmt.Errorf("session %d: %v: %w", i+1, err, ErrResponse)
		}
	}
	if len(auths) != 0 {
		return fmt.Errorf("%d bytes after the sessions: %w", len(auths), ErrResponse)
	}
	for i := range x.uses {
		if err := x.verifyOne(&x.uses[i], &entries[i], params); err != nil {
			return fmt.Errorf("session %d: %w", i+1, err)
		}
	}
	for i := range x.uses {
		if s := x.uses[i].session; s != nil {
			s.advance(&entries[i], &x.uses[i])
		}
	}
	i := x.withAttribute(tpm2.SessionEncrypt)
	if i < 0 {
		return nil
	}
	first, ok := firstParameter(params)
	if !ok {
		return fmt.Errorf("encrypted parameter: %w", ErrResponse)
	}
	u := &x.uses[i]
	return u.session.crypt(u.entity, entries[i].Nonce, u.nonce, first, false)
}

func (x *exchange) verifyOne(u *use, entry *tpm2.AuthResponse, params []byte) error {
	if u.session == nil {
		return nil
	}
	if u.session.policy && u.session.Password {
		// Part 1, 19.6.5: with TPM2_PolicyPassword there is no HMAC, whatever the key of the
		// session and whether it authorized anything.
		if len(entry.HMAC) != 0 {
			return ErrHMAC
		}
		return nil
	}
	var auth []byte
	if u.include {
		auth = u.answer
	}
	key := u.session.hmacKey(auth)
	if u.session.policy && len(key) == 0 && len(entry.HMAC) == 0 {
		return nil // Part 1, 19.6.7: without a secret there is nothing to prove it with
	}
	rp, err := tpmcrypto.Hash(u.session.hash, []byte{0, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(x.info.Code)), params)
	if err != nil {
		return err
	}
	want, err := tpmcrypto.HMAC(u.session.hash, key, rp, entry.Nonce, u.nonce, []byte{byte(entry.Attributes)})
	if err != nil {
		return err
	}
	if !tpmcrypto.Equal(want, entry.HMAC) {
		return ErrHMAC
	}
	return nil
}

// decode fills the command's Out.
func (x *exchange) decode(params []byte) error {
	out := x.cmd.Out
	if out == nil {
		out = new(command.None)
		if _, expected := x.info.New(); !isNone(expected) {
			return nil // the caller does not want it
		}
	}
	if err := wire.Decode(params, out); err != nil {
		return fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return nil
}

func isNone(l wire.Layout) bool { _, ok := l.(*command.None); return ok }
