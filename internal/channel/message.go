package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/strictjson"
)

// A Side is who says something.
type Side uint8

// The two sides.
const (
	Host Side = iota + 1
	Agent
)

// Why a line is no message.
var (
	// ErrLong is a line that is longer than its reader takes.
	ErrLong = errors.New("the line is too long")
	// ErrVersion is a message of another version of the protocol.
	ErrVersion = errors.New("message of another version of the protocol")
	// ErrMessage is anything else that is no message of the other side.
	ErrMessage = errors.New("not a message")
)

// A Message is one of the types of this file, by its pointer.
type Message interface {
	head() *Head
	// about says who sends the message, and its word.
	about() (Side, string)
	check() error
}

// Head is what every message begins with. [Encode] fills V and Type.
type Head struct {
	V    int    `json:"v"`
	Type string `json:"type"`
	// ID is that of the request which is made or answered, from 1; 0 in what is neither.
	ID uint64 `json:"id,omitempty"`
}

func (h *Head) head() *Head { return h }

// Greet asks the agent to say who it is.
type Greet struct{ Head }

// Enrol asks for the agent's attestation key; the answer is [Key].
type Enrol struct{ Head }

// Activate asks the TPM for the secret of a credential (Part 3, 12.5); the answer is
// [Secret].
type Activate struct {
	Head
	Template        string `json:"template"`        // of the endorsement key: "L-1" (EK Credential Profile, B)
	CredentialBlob  []byte `json:"credentialBlob"`  // content of a TPM2B_ID_OBJECT
	EncryptedSecret []byte `json:"encryptedSecret"` // content of a TPM2B_ENCRYPTED_SECRET
}

// Challenge asks for evidence over a nonce; the answer is [Evidence].
type Challenge struct {
	Head
	Nonce []byte `json:"nonce"`
	Limit int    `json:"limit"` // bytes of the longest line that the host takes
}

// PowerOff asks the agent to end the machine, which only one that runs as its init does.
type PowerOff struct{ Head }

// Hello is who the agent is. It comes when the agent starts, and after [Greet].
type Hello struct {
	Head
	Agent string `json:"agent"` // version of the program
	Boot  string `json:"boot"`  // a UUID that is new with each boot, as the kernel tells it
}

// Key is the agent's attestation key.
type Key struct {
	Head
	AKPublic []byte `json:"akPublic"` // TPMT_PUBLIC
}

// Secret is what TPM2_ActivateCredential gave back.
type Secret struct {
	Head
	Secret []byte `json:"secret"`
}

// Evidence is a bundle of type "tpm" (docs/formats/evidence-bundle.md), of which only
// the outer shape was looked at.
type Evidence struct {
	Head
	Bundle json.RawMessage `json:"bundle"`
	// NoIMA says that the list of runtime measurements was too long to be sent.
	NoIMA bool `json:"noIMA,omitempty"`
}

// Heartbeat says that the agent runs, and what it saw. All of it is the guest's word.
type Heartbeat struct {
	Head
	Boot    string   `json:"boot"`
	Modules []Module `json:"modules,omitempty"`
	// Kernel is how the kernel stands to modules.
	Kernel *Kernel `json:"kernel,omitempty"`
}

// A Module is a kernel module that was kept from loading, or loaded without a
// signature that the kernel accepts.
type Module struct {
	Name   string `json:"name,omitempty"` // empty when the kernel did not tell it
	Loaded bool   `json:"loaded"`
	Reason string `json:"reason"` // in words
	By     string `json:"by,omitempty"`
	Source string `json:"source"` // "kernel log", "audit" or "modules", and what names it
}

// Kernel is what the running kernel says of itself.
type Kernel struct {
	Tainted    uint64 `json:"tainted"`              // bits of /proc/sys/kernel/tainted
	Lockdown   string `json:"lockdown,omitempty"`   // "none", "integrity" or "confidentiality"
	SigEnforce string `json:"sigEnforce,omitempty"` // "Y" or "N"
}

// Failure is a request that the agent could not carry out.
type Failure struct {
	Head
	Message string `json:"message"`
}

func (*Greet) about() (Side, string)     { return Host, "greet" }
func (*Enrol) about() (Side, string)     { return Host, "enrol" }
func (*Activate) about() (Side, string)  { return Host, "activate" }
func (*Challenge) about() (Side, string) { return Host, "challenge" }
func (*PowerOff) about() (Side, string)  { return Host, "poweroff" }
func (*Hello) about() (Side, string)     { return Agent, "hello" }
func (*Key) about() (Side, string)       { return Agent, "key" }
func (*Secret) about() (Side, string)    { return Agent, "secret" }
func (*Evidence) about() (Side, string)  { return Agent, "evidence" }
func (*Heartbeat) about() (Side, string) { return Agent, "heartbeat" }
func (*Failure) about() (Side, string)   { return Agent, "failure" }

// newMessage returns an empty message of a type; nil for none.
func newMessage(kind string) Message {
	for _, m := range []Message{
		new(Greet), new(Enrol), new(Activate), new(Challenge), new(PowerOff),
		new(Hello), new(Key), new(Secret), new(Evidence), new(Heartbeat), new(Failure),
	} {
		if _, is := m.about(); is == kind {
			return m
		}
	}
	return nil
}

// The limits of what messages have in them.
const (
	MinNonce   = 16
	MaxNonce   = 64 // TPM2B_DATA of every TPM takes it (Part 2, 10.4.3)
	MaxModules = 32
	MaxText    = 256 // bytes of a text in words
	maxPublic  = 1024
	maxBlob    = 256 // a TPM2B_ID_OBJECT with SHA-512 has 132 bytes
	maxSecret  = 1024
)

func (m *Greet) check() error    { return m.noID() }
func (m *Enrol) check() error    { return m.hasID() }
func (m *PowerOff) check() error { return m.hasID() }

func (m *Activate) check() error {
	return errors.Join(m.hasID(), text("template", m.Template, 8), bytesOf("credentialBlob", m.CredentialBlob, 1, maxBlob), bytesOf("encryptedSecret", m.EncryptedSecret, 1, maxSecret))
}

func (m *Challenge) check() error {
	err := errors.Join(m.hasID(), bytesOf("nonce", m.Nonce, MinNonce, MaxNonce))
	if m.Limit <= 0 || m.Limit > MaxEvidence {
		err = errors.Join(err, fmt.Errorf("limit is %d", m.Limit))
	}
	return err
}

func (m *Hello) check() error {
	return errors.Join(m.noID(), text("agent", m.Agent, 64), uuid(m.Boot))
}

func (m *Key) check() error {
	return errors.Join(m.hasID(), bytesOf("akPublic", m.AKPublic, 1, maxPublic))
}

func (m *Secret) check() error {
	return errors.Join(m.hasID(), bytesOf("secret", m.Secret, 1, 64))
}

func (m *Evidence) check() error {
	if len(m.Bundle) == 0 || m.Bundle[0] != '{' {
		return errors.New("bundle is no object")
	}
	return m.hasID()
}

func (m *Heartbeat) check() error {
	err := errors.Join(m.noID(), uuid(m.Boot))
	if len(m.Modules) > MaxModules {
		return errors.Join(err, fmt.Errorf("more than %d modules", MaxModules))
	}
	for _, module := range m.Modules {
		err = errors.Join(err, text("module", module.Name+module.Reason+module.By+module.Source, 4*MaxText))
	}
	if k := m.Kernel; k != nil {
		err = errors.Join(err, text("kernel", k.Lockdown+k.SigEnforce, 64))
	}
	return err
}

func (m *Failure) check() error { return errors.Join(m.hasID(), text("message", m.Message, MaxText)) }

func (h *Head) hasID() error {
	if h.ID == 0 {
		return errors.New("there is no id")
	}
	return nil
}

func (h *Head) noID() error {
	if h.ID != 0 {
		return errors.New("there is an id")
	}
	return nil
}

func bytesOf(what string, b []byte, least, most int) error {
	if len(b) < least || len(b) > most {
		return fmt.Errorf("%s has %d bytes, want %d to %d", what, len(b), least, most)
	}
	return nil
}

// text refuses what a terminal or a log would act on.
func text(what, s string, most int) error {
	if len(s) > most || s != Clean(s, most) {
		return fmt.Errorf("%s is no line of at most %d printable characters", what, most)
	}
	return nil
}

// Clean makes words of what somebody else wrote: printable ASCII only, and not more
// of it than most.
func Clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 4*most)])
	return s[:min(len(s), most)]
}

var uuidRule = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func uuid(s string) error {
	if !uuidRule.MatchString(s) {
		return errors.New("boot is no UUID in lower case")
	}
	return nil
}

// rules bound a message's JSON: the object of a bundle is the deepest.
var rules = strictjson.Rules{Bytes: MaxEvidence, Depth: 6, Members: 64, Values: 1024, PlainNames: true, FoldNames: true}

// Parse reads one message of a side, without its mark.
func Parse(line []byte, from Side) (Message, error) {
	members, err := strictjson.ParseObject(line, rules)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	if v, ok := members.Get("v"); !ok || string(v) != strconv.Itoa(Version) {
		return nil, fmt.Errorf("%w: want %d", ErrVersion, Version)
	}
	kind, _, err := members.Text("type")
	if err != nil {
		return nil, fmt.Errorf("%w: type: %v", ErrMessage, err)
	}
	m := newMessage(kind)
	if m == nil {
		return nil, fmt.Errorf("%w: type %.20q is not known", ErrMessage, kind)
	}
	if side, _ := m.about(); side != from {
		return nil, fmt.Errorf("%w: %q comes from the other side", ErrMessage, kind)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %.100s", ErrMessage, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %q: %v", ErrMessage, kind, err)
	}
	return m, nil
}

// Encode writes a message as a line with its mark. It refuses what the other side
// would refuse.
func Encode(m Message) ([]byte, error) {
	h := m.head()
	h.V = Version
	var side Side
	side, h.Type = m.about()
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("write message %q: %w", h.Type, err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write message %q: %w", h.Type, err)
	}
	limit := MaxRequest
	if side == Agent {
		limit = MaxEvidence
	}
	if len(body)+2 > limit {
		return nil, fmt.Errorf("write message %q of %d bytes: %w", h.Type, len(body), ErrLong)
	}
	line := make([]byte, 0, len(body)+2)
	line = append(line, mark)
	line = append(line, body...)
	return append(line, '\n'), nil
}
