package differential

import (
	"crypto/sha256"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// policyRows are the commands of policies. In a trial session nothing is compared, so
// that those which can be met are measured in a real one.
func policyRows() []Row {
	zero := make([]byte, 32)
	none := new(command.None)
	eight := tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 1, 2, 3, 4, 5, 6, 7)}}
	return []Row{
		{"PolicyPCR, 8 values", 300, policy(tpm2.CCPolicyPCR, &command.PolicyPCRIn{PCRs: eight})},
		{"PolicyOR, trial", 300, inSession(tpm2.SessionTrial, func(_ *Served, h tpm2.Handle) (work, error) {
			return always(tpm2.CCPolicyOR, &command.PolicyORIn{PHashList: []tpm2.Digest2B{zero, zero}}, h)
		})},
		{"PolicySecret", 300, inSession(tpm2.SessionPolicy, func(_ *Served, h tpm2.Handle) (work, error) {
			return always(tpm2.CCPolicySecret, new(command.PolicySecretIn), tpm2.HandleOwner, h)
		})},
		{"PolicyTicket", 300, inSession(tpm2.SessionPolicy, policyTicket)},
		{"PolicySigned, P-256", 60, inSession(tpm2.SessionPolicy, policySigned)},
		{"PolicyRestart and PolicyAuthorize", 300, inSession(tpm2.SessionPolicy, policyAuthorize)},
		{"PolicyNV", 300, inSession(tpm2.SessionPolicy, func(s *Served, h tpm2.Handle) (work, error) {
			at, err := s.index(0, 32)
			if err != nil {
				return work{}, err
			}
			return always(tpm2.CCPolicyNV, &command.PolicyNVIn{OperandB: zero, Operation: tpm2.OpEQ}, tpm2.HandleOwner, at, h)
		})},
		{"PolicyRestart and PolicyAuthorizeNV", 300, inSession(tpm2.SessionPolicy, policyAuthorizeNV)},
		{"PolicyCommandCode", 300, policy(tpm2.CCPolicyCommandCode, &command.PolicyCommandCodeIn{Code: tpm2.CCSign})},
		{"PolicyLocality", 300, policy(tpm2.CCPolicyLocality, &command.PolicyLocalityIn{Locality: 1})},
		{"PolicyCounterTimer", 300, policy(tpm2.CCPolicyCounterTimer, &command.PolicyCounterTimerIn{OperandB: make([]byte, 8), Operation: tpm2.OpUnsignedGE})},
		{"PolicyCpHash", 300, policy(tpm2.CCPolicyCpHash, &command.PolicyCpHashIn{CpHashA: zero})},
		{"PolicyRestart and PolicyNameHash", 300, restarted(tpm2.CCPolicyNameHash, &command.PolicyNameHashIn{NameHash: zero})},
		{"PolicyRestart and PolicyTemplate", 300, restarted(tpm2.CCPolicyTemplate, &command.PolicyTemplateIn{TemplateHash: zero})},
		{"PolicyRestart and PolicyDuplicationSelect", 300, restarted(tpm2.CCPolicyDuplicationSelect, new(command.PolicyDuplicationSelectIn))},
		{"PolicyNvWritten", 300, policy(tpm2.CCPolicyNvWritten, &command.PolicyNvWrittenIn{WrittenSet: true})},
		{"PolicyPhysicalPresence", 300, policy(tpm2.CCPolicyPhysicalPresence, none)},
		{"PolicyAuthValue", 300, policy(tpm2.CCPolicyAuthValue, none)},
		{"PolicyPassword", 300, policy(tpm2.CCPolicyPassword, none)},
		{"PolicyGetDigest", 300, policy(tpm2.CCPolicyGetDigest, none)},
		{"PolicyRestart", 300, policy(tpm2.CCPolicyRestart, none)},
	}
}

// inSession is a row about a session with a policy.
func inSession(kind tpm2.SessionType, of func(*Served, tpm2.Handle) (work, error)) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		session, err := s.tpm.StartSession(client.SessionConfig{Type: kind, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}})
		if err != nil {
			return work{}, err
		}
		return of(s, session.Handle())
	}
}

// policy is a row of one assertion that can be made again and again.
func policy(cc tpm2.CC, in wire.Layout) func(*Served) (work, error) {
	return inSession(tpm2.SessionPolicy, func(_ *Served, h tpm2.Handle) (work, error) { return always(cc, in, h) })
}

// restarted is a row of an assertion that a policy can have once.
func restarted(cc tpm2.CC, in wire.Layout) func(*Served) (work, error) {
	return inSession(tpm2.SessionPolicy, func(_ *Served, h tpm2.Handle) (work, error) {
		return inTurn(restart(h), sameTurn(cc, in, h)), nil
	})
}

func restart(session tpm2.Handle) turn {
	return sameTurn(tpm2.CCPolicyRestart, new(command.None), session)
}

// forLong is an expiration, in seconds, after which no run is under way.
const forLong = -1 << 20

func policyTicket(s *Served, h tpm2.Handle) (work, error) {
	var out command.PolicySecretOut
	if _, err := s.do(tpm2.CCPolicySecret, &command.PolicySecretIn{Expiration: forLong}, &out, tpm2.HandleOwner, h); err != nil {
		return work{}, err
	}
	owner := tpm2.HandleOwner
	name, err := wire.Encode(&owner)
	if err != nil {
		return work{}, err
	}
	return always(tpm2.CCPolicyTicket, &command.PolicyTicketIn{Timeout: out.Timeout, AuthName: name, Ticket: out.PolicyTicket}, h)
}

// signed makes a key of the TPM and has it sign a digest.
func (s *Served) signed(digest []byte) (key, tpm2.Signature, error) {
	k, err := s.primary(eccSigner())
	if err != nil {
		return k, tpm2.Signature{}, err
	}
	in := signIn()
	in.Digest = digest
	var out command.SignOut
	_, err = s.do(tpm2.CCSign, in, &out, k.Handle)
	return k, out.Signature, err
}

func policySigned(s *Served, h tpm2.Handle) (work, error) {
	digest := sha256.Sum256(make([]byte, 4)) // no expiration, and nothing else
	k, signature, err := s.signed(digest[:])
	if err != nil {
		return work{}, err
	}
	return always(tpm2.CCPolicySigned, &command.PolicySignedIn{Auth: signature}, k.Handle, h)
}

func policyAuthorize(s *Served, h tpm2.Handle) (work, error) {
	approved := make([]byte, 32)
	digest := sha256.Sum256(approved)
	k, signature, err := s.signed(digest[:])
	if err != nil {
		return work{}, err
	}
	var out command.VerifySignatureOut
	if _, err := s.do(tpm2.CCVerifySignature, &command.VerifySignatureIn{Digest: digest[:], Signature: signature}, &out, k.Handle); err != nil {
		return work{}, err
	}
	in := &command.PolicyAuthorizeIn{ApprovedPolicy: approved, KeySign: k.Name, CheckTicket: out.Validation}
	return inTurn(restart(h), sameTurn(tpm2.CCPolicyAuthorize, in, h)), nil
}

// policyAuthorizeNV approves the empty policy, which an index holds.
func policyAuthorizeNV(s *Served, h tpm2.Handle) (work, error) {
	at, err := s.index(0, 34)
	if err != nil {
		return work{}, err
	}
	approved := append([]byte{0, byte(tpm2.AlgSHA256)}, make([]byte, 32)...)
	if _, err := s.do(tpm2.CCNVWrite, &command.NVWriteIn{Data: approved}, nil, tpm2.HandleOwner, at); err != nil {
		return work{}, err
	}
	return inTurn(restart(h), sameTurn(tpm2.CCPolicyAuthorizeNV, new(command.None), tpm2.HandleOwner, at, h)), nil
}
