package engine

import (
	"encoding/binary"
	"errors"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Sizes of the parts of commands and responses (Part 1, 18).
const (
	headerSize  = 10
	maxHandles  = 3
	maxSessions = 3
	minAuthSize = 9 // a handle, an empty nonce, attributes, an empty HMAC
)

// A call is one command while it runs.
type call struct {
	t        *TPM
	info     *command.Info
	handler  handler
	locality uint8
	request  []byte

	handles  [maxHandles]tpm2.Handle
	nhandles int
	params   []byte // of the command; plain once the sessions are checked
	auths    [maxSessions]authUse
	nauths   int
	decrypt  *authUse // whose session decrypts the first parameter; nil is none
	encrypt  *authUse
	audit    *authUse
	cpHashes [maxSessions + 1]hashOf // computed for sessions and command audit

	unaudited bool        // the command changed how commands are audited
	response  tpm2.Handle // of the response's handle area
	flush     tpm2.Handle // transient object that goes once the response is made
}

// handler runs one command on its parameters, which are of the types that
// [command.Info.New] makes.
type handler func(c *call, in, out wire.Layout) error

// bind makes a handler of a function over the command's own structures. These are
// pointers: the compiler has one body for all of them, unless it is inlined.
//
//go:noinline
func bind[I, O wire.Layout](run func(c *call, in I, out O) error) handler {
	return func(c *call, in, out wire.Layout) error { return run(c, in.(I), out.(O)) }
}

// runHandler runs the command and appends its response parameters to dst.
func (c *call) runHandler(dst []byte) ([]byte, error) {
	in, out := c.info.New()
	if err := c.parameters(in); err != nil {
		return nil, err
	}
	if err := c.handler(c, in, out); err != nil {
		return nil, err
	}
	return c.t.codec.Append(dst, out)
}

// parameters decodes the command's parameters, to their end.
func (c *call) parameters(in wire.Layout) error {
	rest, err := c.t.codec.DecodePrefixIn(c.t.offer(), c.params, in)
	if err != nil {
		return tpm2.RCOf(err)
	}
	if len(rest) != 0 {
		return tpm2.RCSize
	}
	return nil
}

// parameter numbers a response code as that of a parameter, from 1. It stands at 160
// places, and is compiled once.
//
//go:noinline
func parameter(rc tpm2.RC, n int) error { return rc.Of(tpm2.RCParameter, n) }

// handleError numbers a response code as that of a handle, from 1; compiled once, too.
//
//go:noinline
func handleError(rc tpm2.RC, n int) error { return rc.Of(tpm2.RCHandle, n) }

// execute runs the command in request to its response (Part 3, 5).
func (t *TPM) execute(locality uint8, request []byte) []byte {
	c := &t.call
	*c = call{t: t, locality: locality, request: request}
	if t.vol.failed {
		return t.executeFailed(request)
	}
	sessions, err := c.header()
	if err == nil {
		err = c.run(sessions)
	}
	if err != nil {
		return t.errorResponse(responseCode(err))
	}
	return t.resp
}

// responseCode returns the code of an error of a command. Any other error is a
// fault of ours, which ends in failure mode.
//
//go:noinline
func responseCode(err error) tpm2.RC {
	var rc tpm2.RC
	if !errors.As(err, &rc) {
		panic(err)
	}
	return rc
}

// errorResponse is a response of a header alone; to a command with a tag of
// TPM 1.2 it has TPM 1.2's tag (Part 3, 5.2).
func (t *TPM) errorResponse(rc tpm2.RC) []byte {
	tag := tpm2.TagNoSessions
	if rc == tpm2.RCBadTag {
		tag = tpm2.TagResponseCommand
	}
	t.resp = appendHeader(t.resp[:0], tag, rc)
	binary.BigEndian.PutUint32(t.resp[2:], headerSize)
	return t.resp
}

// appendHeader appends a response header whose size is still to be filled in.
func appendHeader(dst []byte, tag tpm2.Tag, rc tpm2.RC) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(tag))
	dst = append(dst, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, uint32(rc))
}

// header checks the command's header (Part 3, 5.2) and finds the command.
// sessions says whether there is an authorization area.
func (c *call) header() (sessions bool, err error) {
	r := c.request
	if len(r) < headerSize {
		return false, shortHeader(r)
	}
	switch tpm2.Tag(binary.BigEndian.Uint16(r)) {
	case tpm2.TagSessions:
		sessions = true
	case tpm2.TagNoSessions:
	default:
		return false, tpm2.RCBadTag
	}
	if size := binary.BigEndian.Uint32(r[2:]); uint64(size) != uint64(len(r)) || len(r) > c.t.limits.Command {
		return false, tpm2.RCCommandSize
	}
	code := tpm2.CC(binary.BigEndian.Uint32(r[6:]))
	info, ok := command.Lookup(code)
	if !ok || !c.t.profile.Has(code) || handlerOf(info) == nil {
		return false, tpm2.RCCommandCode
	}
	c.info, c.handler = info, handlerOf(info)
	// Part 3, 9.3: before TPM2_Startup no other command runs, and none twice; the
	// reference looks here, before the parameters.
	if c.t.vol.started == (code == tpm2.CCStartup) {
		return false, tpm2.RCInitialize
	}
	// Part 3, TPM2_ReadOnlyControl; the reference checks it before any handle.
	if c.t.clear.readOnly && info.ChangesState() {
		return false, tpm2.RCReadOnly
	}
	return sessions, nil
}

// shortHeader says which field of the header is cut off.
func shortHeader(r []byte) error {
	if len(r) >= 2 {
		if tag := tpm2.Tag(binary.BigEndian.Uint16(r)); tag != tpm2.TagSessions && tag != tpm2.TagNoSessions {
			return tpm2.RCBadTag
		}
	}
	return tpm2.RCInsufficient
}

// run checks handles and authorizations, runs the command and makes the response.
func (c *call) run(sessions bool) error {
	rest, err := c.readHandles(c.request[headerSize:])
	if err != nil {
		return err
	}
	if err := c.checkPresent(); err != nil {
		return err
	}
	if c.params = rest; sessions {
		err = c.authorize()
	} else {
		err = c.checkNoSessions()
	}
	if err != nil {
		return err
	}
	return c.respond(sessions)
}

// respond runs the handler and lays out the response: header, handle, parameter
// size if there are sessions, parameters, authorizations (Part 1, 18.9).
func (c *call) respond(sessions bool) error {
	t := c.t
	tag := tpm2.TagNoSessions
	if sessions {
		tag = tpm2.TagSessions
	}
	b := appendHeader(t.resp[:0], tag, tpm2.RCSuccess)
	if c.info.Response != "" {
		b = append(b, 0, 0, 0, 0)
	}
	if sessions {
		b = append(b, 0, 0, 0, 0)
	}
	start := len(b)
	b, err := c.runHandler(b)
	if err != nil {
		return err
	}
	if c.info.Response != "" {
		binary.BigEndian.PutUint32(b[headerSize:], uint32(c.response))
	}
	if sessions {
		binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	}
	if b, err = c.finish(b, start); err != nil {
		return err
	}
	if c.flush != 0 {
		t.flushObject(c.flush)
	}
	t.disorder(c.info.Code)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	t.resp = b
	return nil
}

// readHandles decodes the handle area; each handle must be of its type.
func (c *call) readHandles(b []byte) (rest []byte, err error) {
	for i := range c.info.Handles {
		if len(b) < 4 {
			return nil, handleError(tpm2.RCInsufficient, i+1)
		}
		h := tpm2.Handle(binary.BigEndian.Uint32(b))
		b = b[4:]
		if rc := c.info.Handles[i].Type.Check(h, c.t.profile.HandleLimits()); rc != tpm2.RCSuccess {
			return nil, handleError(rc, i+1)
		}
		c.handles[i] = h
		c.nhandles++
	}
	return b, nil
}

// checkPresent refuses handles that name nothing, or nothing usable now (Part 3, 5.4).
func (c *call) checkPresent() error {
	for i := range c.nhandles {
		err := c.t.present(c.handles[i])
		if err == nil {
			continue
		}
		rc := responseCode(err)
		if rc == tpm2.RCReferenceH0 {
			return rc + tpm2.RC(i)
		}
		return handleError(rc, i+1)
	}
	return nil
}
