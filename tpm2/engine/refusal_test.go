package engine_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A holder has entities with random authValues and a command that uses them.
type holder struct {
	*machine
	*rand.Rand

	cc      tpm2.CC
	targets []tpm2.Handle // of the command
	values  []string      // the authValue of each handle that needs one
	in      wire.Layout
	policy  bool // the first entity wants TPM2_PolicyAuthValue
}

// secret is a random authValue.
func (o *holder) secret() string {
	b := make([]byte, 1+o.IntN(20))
	for i := range b {
		b[i] = byte(1 + o.IntN(255)) // no zero, which could be a trailing one
	}
	return string(b)
}

// pick makes entities and chooses a command for them.
func (o *holder) pick() {
	a, b := o.secret(), o.secret()
	sealed := keyedHashTemplate(fixed | usable | tpm2.AttrNoDA)
	switch o.IntN(7) {
	case 0:
		o.do(tpm2.CCHierarchyChangeAuth, handles(tpm2.HandleOwner), password(""), &command.HierarchyChangeAuthIn{NewAuth: []byte(a)}, nil)
		o.cc, o.targets, o.in = tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), &command.NVDefineSpaceIn{Auth: []byte("pin"), PublicInfo: o.publicIndex()}
	case 1:
		key := o.primary(tpm2.HandleOwner, keyedHashTemplate(signing|tpm2.AttrNoDA), a)
		o.cc, o.targets, o.in = tpm2.CCHMAC, handles(key), &command.HMACIn{Buffer: []byte("some data"), InScheme: tpm2.AlgNull}
	case 2:
		h := o.secretIndex(a)
		o.cc, o.targets, o.in = tpm2.CCNVWrite, handles(h, h), &command.NVWriteIn{Data: []byte("ab"), Offset: 1}
	case 3:
		h := o.secretIndex(a)
		o.do(tpm2.CCNVWrite, handles(h, h), password(a), &command.NVWriteIn{Data: make([]byte, 8)}, nil)
		o.cc, o.targets, o.in = tpm2.CCNVRead, handles(h, h), &command.NVReadIn{Size: 4}
	case 4:
		o.cc, o.in = tpm2.CCCertify, &command.CertifyIn{QualifyingData: []byte("fresh"), InScheme: tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}}
		o.targets = handles(o.primary(tpm2.HandleOwner, eccTemplate(storing|tpm2.AttrNoDA), a), o.primary(tpm2.HandleEndorsement, eccTemplate(signing|tpm2.AttrNoDA), b))
	case 5:
		o.policy = true
		sealed.Attributes &^= tpm2.AttrUserWithAuth
		sealed.AuthPolicy = asserted(zeros(), tpm2.CCPolicyAuthValue)
		fallthrough
	default:
		o.cc, o.targets = tpm2.CCUnseal, handles(o.child(o.storage(""), sealed, a, "the secret"))
	}
	if o.values = []string{a}; o.cc == tpm2.CCCertify {
		o.values = []string{a, b}
	}
}

func (o *holder) publicIndex() tpm2.NVPublic {
	return tpm2.NVPublic{NVIndex: sceneIndex, NameAlg: tpm2.AlgSHA256, DataSize: 8, Attributes: tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA}
}

// secretIndex defines an index with this authValue.
func (o *holder) secretIndex(auth string) tpm2.Handle {
	o.do(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{Auth: []byte(auth), PublicInfo: o.publicIndex()}, nil)
	return sceneIndex
}

// start starts a session of random parameters; bound, if at all, to one of the entities.
func (o *holder) start(policy bool) *session {
	cfg := sessionConfig{hash: []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384}[o.IntN(3)]}
	cfg.symmetric = []tpm2.SymDef{aes128(), {Algorithm: tpm2.AlgXOR, Hash: cfg.hash}}[o.IntN(2)]
	if policy {
		cfg.kind, cfg.hash = tpm2.SessionPolicy, tpm2.AlgSHA256
	}
	if i := o.IntN(len(o.values) + 1); i < len(o.values) {
		cfg.bind, cfg.bindAuth = o.targets[i], o.values[i]
	}
	s := o.session(cfg)
	if policy {
		o.do(tpm2.CCPolicyAuthValue, handles(s.handle), nil, nil, nil)
		s.withAuthValue = true
	}
	return s
}

// authorize makes a right authorization: of the first entity by a session, of the
// second by a session or its password, and perhaps a session that only encrypts.
func (o *holder) authorize() []auth {
	info, _ := command.Lookup(o.cc)
	out := o.start(o.policy).with(o.values[0])
	if len(o.values) > 1 {
		next := password(o.values[1])
		if o.IntN(2) == 0 {
			next = o.start(false).with(o.values[1])
		}
		out = append(out, next...)
	}
	if o.IntN(2) == 0 && (info.DecryptFirst || info.EncryptFirst) {
		out = append(out, o.start(false).with("")...)
	}
	cipher := &out[len(out)-1]
	if cipher.session == nil {
		cipher = &out[0]
	}
	if info.DecryptFirst {
		cipher.attributes |= tpm2.SessionDecrypt
	}
	if info.EncryptFirst {
		cipher.attributes |= tpm2.SessionEncrypt
	}
	if !out[0].session.policy && o.IntN(2) == 0 {
		out[0].attributes |= tpm2.SessionAudit
	}
	out[0].once = o.IntN(4) == 0
	return out
}

// wrong are the authorizations with a wrong value for one of the entities.
func (o *holder) wrong(right []auth) [][]auth {
	var out [][]auth
	for i, v := range o.values {
		for _, guess := range []string{"", v[1:], v[:len(v)-1], v + "\x01", o.secret() + v, o.values[(i+1)%len(o.values)] + "x"} {
			if s := right[i].session; guess == "" && s != nil && s.boundAuth == v {
				continue // the key of a session that is bound to the entity proves the authValue
			}
			a := slices.Clone(right)
			a[i].value = guess
			out = append(out, a)
		}
		a := slices.Clone(right)
		a[i].hmac = []byte{} // an HMAC that is empty, or the password
		out = append(out, a)
		a = slices.Clone(right)
		a[i].hmac = []byte(v + "x")
		out = append(out, a)
	}
	return out
}

// Of a command that a session authorizes with an HMAC any bit may change: it is
// refused. So is a wrong authValue, a second sending, and the command without its
// authorizations. What is sent at last, unchanged, succeeds.
func TestNoBitOfAnAuthorizedCommandMayChange(t *testing.T) {
	for seed := range uint64(holders(t)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			o := &holder{machine: newMachine(t), Rand: rand.New(rand.NewPCG(seed, 3))}
			o.pick()
			right := o.authorize()
			for _, a := range o.wrong(right) {
				if rc := o.run(o.cc, o.targets, a, o.in, nil); rc == tpm2.RCSuccess {
					t.Errorf("%s succeeds with %+v, the authValues are %q", commandName(o.cc), a, o.values)
				}
			}
			o.bare()
			x := &exchange{m: o.machine, cc: o.cc, handles: o.targets, auths: right}
			request := x.request(o.in)
			o.flipAll(x, request)
			if rc := x.parse(o.execute(request), nil); rc != tpm2.RCSuccess {
				t.Errorf("%s = %v when nothing is changed, want success", commandName(o.cc), rc)
			}
			if rc := codeOf(o.execute(request)); rc == tpm2.RCSuccess {
				t.Errorf("%s succeeds when it is sent again", commandName(o.cc))
			}
		})
	}
}

func holders(t *testing.T) int {
	if testing.Short() {
		return 12
	}
	return 80
}

// bare sends the command without authorization, and with passwords that are wrong.
func (o *holder) bare() {
	o.Helper()
	if rc := o.run(o.cc, o.targets, nil, o.in, nil); rc == tpm2.RCSuccess {
		o.Errorf("%s succeeds without authorization", commandName(o.cc))
	}
	for i := range o.values {
		given := slices.Clone(o.values)
		for _, given[i] = range []string{"", o.secret() + given[i], given[i] + "\x01"} {
			if rc := o.run(o.cc, o.targets, password(given...), o.in, nil); rc == tpm2.RCSuccess {
				o.Errorf("%s succeeds with password %q, the authValue is %q", commandName(o.cc), given[i], o.values[i])
			}
		}
	}
}

// flipAll sends the command with each of its bits changed, one at a time.
func (o *holder) flipAll(x *exchange, request []byte) {
	o.Helper()
	free := o.passwordAttributes(x)
	for i := range 8 * len(request) {
		if i/8 == free && i%8 == 0 {
			continue // no HMAC covers continueSession of a password
		}
		b := bytes.Clone(request)
		b[i/8] ^= 1 << (i % 8)
		if rc := codeOf(o.execute(b)); rc == tpm2.RCSuccess {
			o.Fatalf("%x succeeds with bit %d of byte %d changed", request, i%8, i/8)
		}
	}
}

// passwordAttributes is where the attributes of the entry with a password are, -1
// when there is none.
func (o *holder) passwordAttributes(x *exchange) int {
	at := 10 + 4*len(x.handles) + 4
	for i := range x.auths {
		s := x.auths[i].session
		if s == nil {
			return at + 4 + 2
		}
		at += 4 + 2 + len(s.nonceCaller) + 1 + 2 + s.hash.DigestSize()
	}
	return -1
}
