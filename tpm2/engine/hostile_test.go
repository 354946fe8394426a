package engine_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// A machine that was reset holds handles of sessions that are gone; FuzzExecute
// found that its snapshot was refused until TPM2_Startup.
func TestASnapshotBetweenPowerOnAndStartupCanBeRestored(t *testing.T) {
	m := newMachine(t)
	m.session(sessionConfig{})
	m.tpm.PowerOn()
	twin := m.snapshot()
	twin.startup(tpm2.StartupClear)
	twin.session(sessionConfig{})
}

// CVE-2023-1017: the reference decrypted a first parameter whose size says more than
// there is, and wrote two bytes beyond the command.
func TestCVE2023x1017ParametersTooShortToDecrypt(t *testing.T) {
	refuseToDecrypt(t, map[string]tpm2.RC{
		"\x00\x01": tpm2.RCSize, "\x00\x03ab": tpm2.RCSize, "\xff\xff": tpm2.RCSize, "\xff\xff" + string(make([]byte, 100)): tpm2.RCSize,
	})
}

// CVE-2023-1018: it read the size of a first parameter that was not there, or only in part.
func TestCVE2023x1018ParametersWithoutASizeToDecrypt(t *testing.T) {
	refuseToDecrypt(t, map[string]tpm2.RC{"": tpm2.RCInsufficient, "\x00": tpm2.RCInsufficient})
}

// refuseToDecrypt sends each of the parameters to commands of all chapters with a session
// that is to decrypt the first.
func refuseToDecrypt(t *testing.T, parameters map[string]tpm2.RC) {
	t.Helper()
	for name, symmetric := range map[string]tpm2.SymDef{"AES": aes128(), "XOR": {Algorithm: tpm2.AlgXOR, Hash: tpm2.AlgSHA256}} {
		m := newMachine(t)
		srk := m.storage("")
		s := m.session(sessionConfig{symmetric: symmetric})
		entry := tpm2.AuthCommand{SessionHandle: s.handle, Nonce: make([]byte, 16), Attributes: tpm2.SessionContinue | tpm2.SessionDecrypt}
		for _, c := range []meant{
			{cc: tpm2.CCStirRandom},
			{cc: tpm2.CCHash},
			{cc: tpm2.CCCreatePrimary, handles: handles(tpm2.HandleOwner)},
			{cc: tpm2.CCCreate, handles: handles(srk)},
			{cc: tpm2.CCHierarchyChangeAuth, handles: handles(tpm2.HandleOwner)},
			{cc: tpm2.CCMakeCredential, handles: handles(srk)},
		} {
			for params, want := range parameters {
				p := raw(params)
				b := m.tpm.Execute(0, encoded(t, c.cc, c.handles, []tpm2.AuthCommand{entry}, &p))
				if got, want := codeOf(b), sessionRC(want, 1); got != want {
					t.Errorf("%s: %s(%x) = %v, want %v", name, commandName(c.cc), params, got, want)
				}
			}
		}
	}
}

func codeOf(response []byte) tpm2.RC { return tpm2.RC(binary.BigEndian.Uint32(response[6:])) }

// Every command that means something is cut everywhere: in its handles, authorizations
// and parameters. None succeeds, and the code says why.
func TestCommandsThatEndEarly(t *testing.T) {
	reached := map[tpm2.CC]bool{}
	for n, s := range scenes(t) {
		for i, request := range s.meant(t, 3*n) {
			if codeOf(s.machine(t).tpm.Execute(0, request)) != tpm2.RCSuccess {
				continue
			}
			cc := meaningful()[i].cc
			if cc == tpm2.CCPolicySecret {
				continue // each use of a PIN counts
			}
			reached[cc] = true
			m := s.machine(t)
			for cut := 10; cut < len(request); cut++ {
				m.cutCommand(request, cut)
			}
			if rc := codeOf(m.tpm.Execute(0, resized(append(bytes.Clone(request), 0)))); rc.Base() != tpm2.RCSize {
				t.Errorf("%s: %s with a byte behind it = %v, want TPM_RC_SIZE", s.name, commandName(cc), rc)
			}
			if rc := codeOf(m.tpm.Execute(0, request)); rc != tpm2.RCSuccess {
				t.Errorf("%s: %s = %v after all, want success", s.name, commandName(cc), rc)
			}
		}
	}
	if len(reached) < 60 {
		t.Errorf("only %d commands were cut", len(reached))
	}
}

// resized sets the size in the header to that of the command.
func resized(request []byte) []byte {
	binary.BigEndian.PutUint32(request[2:], uint32(len(request)))
	return request
}

// cutCommand sends the first bytes of a command, which must be refused.
func (m *machine) cutCommand(request []byte, cut int) {
	m.Helper()
	short := resized(bytes.Clone(request[:cut]))
	switch rc := codeOf(m.tpm.Execute(0, short)); rc.Base() {
	case tpm2.RCInsufficient, tpm2.RCSize, tpm2.RCCommandSize:
	default:
		m.Errorf("%x, cut at byte %d = %v, want TPM_RC_INSUFFICIENT or TPM_RC_SIZE", request, cut, rc)
	}
}

// CVE-2021-3746: libtpms read beyond its buffers when it wrote the volatile state of
// some sequences and sessions. Whatever a TPM holds, its blobs bring it back.
func TestCVE2021x3746VolatileStateOfEveryKind(t *testing.T) {
	for _, s := range scenes(t) {
		m := s.machine(t)
		again, err := engine.Restore(impatient(m.fork()), m.tpm.MustPermanent(), m.tpm.MustVolatile())
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if err := m.tpm.Reseed(); err != nil { // as Restore does
			t.Fatal(err)
		}
		if !bytes.Equal(m.tpm.Settled(), again.Settled()) || !bytes.Equal(m.tpm.MustPermanent(), again.MustPermanent()) {
			t.Errorf("%s: the state changes when it is written and read", s.name)
		}
	}
}

// openvmm-deps issue 82: uninitialised bytes went into the generator of primary keys,
// so that each boot had another attestation key. Neither the entropy of the machine
// nor what the TPM did before may show in one.
func TestOpenVMMDeps82AttestationKeysAreTheSameAtEachBoot(t *testing.T) {
	small := rsaTemplate(fixed | ordinary | tpm2.AttrRestricted | tpm2.AttrSign)
	small.Parameters.RSA.KeyBits, small.Parameters.RSA.Scheme = 1024, tpm2.RSAScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256}
	onCurve := eccTemplate(fixed | ordinary | tpm2.AttrRestricted | tpm2.AttrSign)
	onCurve.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	m := newMachine(t)
	for name, template := range map[string]tpm2.Public{"RSA": small, "ECC": onCurve} {
		first := *m.public(m.primary(tpm2.HandleEndorsement, template, ""))
		m.flush(m.handle)
		for boot := range byte(4) {
			next := &machine{TB: t, now: time.Hour * time.Duration(boot), entropy: rand.NewChaCha8([32]byte{boot}), names: map[tpm2.Handle][]byte{}}
			var err error
			if next.tpm, err = engine.Restore(next.config(), m.tpm.MustPermanent(), nil); err != nil {
				t.Fatal(err)
			}
			next.tpm.PowerOn()
			next.startup(tpm2.StartupClear)
			next.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: uint16(boot)}, nil)
			if diff := cmp.Diff(first, *next.public(next.primary(tpm2.HandleEndorsement, template, ""))); diff != "" {
				t.Errorf("%s, boot %d: the key differs (-first +now):\n%s", name, boot, diff)
			}
		}
	}
}
