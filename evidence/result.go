package evidence

// A Result is an attestation result (RFC 9334): the outcome of an appraisal as
// the command line and the service give it alike. The zero Result refuses.
type Result struct {
	Verdict  Verdict  `json:"verdict"`
	Reasons  []Reason `json:"reasons"`
	Evidence Summary  `json:"evidence"`
	// Claims are empty unless the evidence was verified.
	Claims Claims `json:"claims"`
	// NotChecked lists what the verdict says nothing about.
	NotChecked []string `json:"notChecked"`
	Token      string   `json:"token,omitempty"`
	// Writing is that of Claims, when the verifier keeps one; else nil.
	Writing *Writing `json:"-"`
}

// A Summary tells of the evidence itself, apart from what it says.
type Summary struct {
	Type      string `json:"type"`
	Signature string `json:"signature,omitempty"` // "valid" or "invalid"
	// Attester is the Name of the key that signed, in hex.
	Attester string `json:"attester,omitempty"`
	// Proof says how the key came to be trusted.
	Proof string `json:"proof,omitempty"`
	// Bank is the PCR bank that the claims were proven in.
	Bank string `json:"bank,omitempty"`
	// PCRs are the registers that the attester's signature covers, in that bank.
	PCRs []int `json:"pcrs,omitempty"`
}

// Words of a [Summary]'s Signature.
const (
	SignatureValid   = "valid"
	SignatureInvalid = "invalid"
)

// NewResult returns a result that refuses for the given reasons, with no member nil.
func NewResult(kind string, reasons []Reason) Result {
	if reasons == nil {
		reasons = []Reason{}
	}
	return Result{Reasons: reasons, Evidence: Summary{Type: kind}, Claims: Claims{}, NotChecked: []string{}}
}
