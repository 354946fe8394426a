// Package differential sends the same streams of commands to this project's TPM
// and to another one, and compares what they answer: response codes with their
// handle, parameter and session numbers, sizes, and all contents that do not hang
// on a secret of the one TPM.
//
// Agreement proves little where both follow the same reference code; what this
// finds is where we do not. Every difference must be one of [Differences], which
// says who is right and by which clause, else the run fails.
//
// Start with [Run]. The streams are made by generate.go and follow from a seed.
package differential

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// A Peer is a TPM in a machine.
type Peer interface {
	// Send runs a command.
	Send(command []byte) ([]byte, error)
	// PowerCycle takes the power away without warning and gives it back.
	PowerCycle() error
	// SetLocality says where the following commands come from.
	SetLocality(locality uint8) error
	// Hash measures data as the dynamic root of trust does: _TPM_Hash_Start, _Data, _End.
	Hash(data []byte) error
	Close() error
}

// Config says what to run.
type Config struct {
	Seed     uint64
	Commands int // to be sent to each of the two, about
	Stream   int // commands of one stream, each with TPMs of its own; 0 is 400
	// Ours and Theirs make new TPMs, with power and not started.
	Ours, Theirs func() (Peer, error)
	// Now bounds the run to Budget, unless that is 0.
	Now    func() time.Time
	Budget time.Duration
	// Reference says that Theirs are of the reference simulator, which has differences
	// of its own.
	Reference bool
	// Only runs nothing but the stream of this number, from 1.
	Only int
	// Trace is told of every command with its responses. May be nil.
	Trace func(o *Observation)

	rsa *tpmcrypto.RSAKey // a key that both can load
}

// An Observation is one command and what the two answered.
type Observation struct {
	Stream, Step int
	Code         tpm2.CC
	Name         string
	Bent         string // how the command was spoilt, "" when it was not
	Plain        []byte // the parameters of the request, not encrypted
	Request      [2][]byte
	RC           [2]tpm2.RC
	Response     [2][]byte
	Params       [2][]byte // of the response, decrypted
	Diff         string    // "" when they agree
	Past         past
	Index        tpm2.NVAttributes // of the NV index that it is about
	PIN          bool              // a policy authorizes the use of a PIN index
	Part         bool              // it is about a PIN index of which a part was written
	HMAC         bool              // an HMAC session authorizes something
	Handles      []tpm2.Handle
	Type         tpm2.Alg // of the object of the first handle
	Modulus      []byte   // of that object, the peer's, if it is an RSA key
	Ended        bool     // the peer gave no answer: its process ended
	Made         tpm2.Alg // of the object that the command makes
}

// String is the observation in one line.
func (o *Observation) String() string {
	return fmt.Sprintf("stream %d step %d %s%s: ours %v (%#x), theirs %v (%#x): %s", o.Stream, o.Step, o.Name, o.Bent, o.RC[0], uint32(o.RC[0]), o.RC[1], uint32(o.RC[1]), o.Diff)
}

// A Report is the result of a run.
type Report struct {
	Streams     int
	Commands    int            // sent to each
	Succeeded   int            // by both
	Retries     int            // TPM_RC_RETRY of the peer, after which the command was sent again
	ByCommand   map[string]int // how often each command was sent
	Successes   map[string]int // how often both ran it
	Refusals    map[string]int // what both refused, by command and code
	Explained   map[string]int // differences, by their name in [Differences]
	Kinds       map[string]int // the same, by name and what was answered
	First       map[string]*Observation
	Unexplained []*Observation // one for each kind, and how often each was seen
	Seen        map[string]int

	reference bool
}

func newReport(reference bool) *Report {
	return &Report{
		ByCommand: map[string]int{}, Successes: map[string]int{}, Refusals: map[string]int{}, Explained: map[string]int{}, Kinds: map[string]int{},
		First: map[string]*Observation{}, Seen: map[string]int{}, reference: reference,
	}
}

// ErrUnexplained is a difference that the table does not have.
var ErrUnexplained = errors.New("difference that no row explains")

// Err returns an error for the first of the differences that nothing explains.
func (r *Report) Err() error {
	if len(r.Unexplained) == 0 {
		return nil
	}
	return fmt.Errorf("%d kinds; %s: %w", len(r.Unexplained), r.Unexplained[0], ErrUnexplained)
}

// String is the report as text.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d commands to each TPM in %d streams, %d run by both, %d retries\n", r.Commands, r.Streams, r.Succeeded, r.Retries)
	count(&b, "explained differences:", r.Explained)
	count(&b, "unexplained differences:", r.Seen)
	return b.String()
}

// count writes counts by name.
func count(b *strings.Builder, title string, of map[string]int) {
	fmt.Fprintln(b, title)
	for _, n := range slices.Sorted(maps.Keys(of)) {
		fmt.Fprintf(b, "  %8d %s\n", of[n], n)
	}
}

// Details says what hides behind each row of the table, and how often each command
// was sent and run by both.
func (r *Report) Details() string {
	var b strings.Builder
	fmt.Fprintln(&b, "explained differences by kind, and where the first was:")
	for _, n := range slices.Sorted(maps.Keys(r.Kinds)) {
		fmt.Fprintf(&b, "  %8d %s (stream %d step %d)\n", r.Kinds[n], n, r.First[n].Stream, r.First[n].Step)
	}
	count(&b, "refused by both:", r.Refusals)
	fmt.Fprintln(&b, "commands sent and run:")
	for _, n := range slices.Sorted(maps.Keys(r.ByCommand)) {
		fmt.Fprintf(&b, "  %8d %8d %s\n", r.ByCommand[n], r.Successes[n], n)
	}
	return b.String()
}

// Run runs streams until the number of commands is reached.
func Run(cfg Config) (*Report, error) {
	key, err := tpmcrypto.GenerateRSA(nonces(cfg.Seed, 0), 2048, 65537)
	if err != nil {
		return nil, err
	}
	cfg.rsa = key
	if cfg.Stream == 0 {
		cfg.Stream = 400
	}
	r := newReport(cfg.Reference)
	start := cfg.Now()
	for n := 1; r.Commands < cfg.Commands; n++ {
		if cfg.Budget != 0 && cfg.Now().Sub(start) > cfg.Budget {
			break
		}
		if cfg.Only != 0 {
			n = cfg.Only
		}
		if err := r.stream(&cfg, n); err != nil {
			return r, fmt.Errorf("stream %d: %w", n, err)
		}
		r.Streams++
		if cfg.Only != 0 {
			break
		}
	}
	return r, nil
}

// stream runs one stream with two new TPMs. It ends early where the two have gone
// separate ways.
func (r *Report) stream(cfg *Config, n int) (err error) {
	p, err := newPair(cfg, r, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	g := newGenerator(p, cfg.Seed, n)
	g.begin()
	for p.steps < cfg.Stream && !p.parted {
		g.next()
	}
	return p.err
}

// observe counts an observation, and returns what explains its difference.
func (r *Report) observe(o *Observation) *Difference {
	r.Commands++
	r.ByCommand[o.Name]++
	if o.RC[0] == tpm2.RCSuccess && o.RC[1] == tpm2.RCSuccess {
		r.Succeeded++
		r.Successes[o.Name]++
	}
	if o.RC[0] == o.RC[1] && o.RC[0] != tpm2.RCSuccess {
		r.Refusals[fmt.Sprintf("%s: %v", o.Name, o.RC[0])]++
	}
	if o.Diff == "" {
		return nil
	}
	kind := fmt.Sprintf("%s: ours %v (%#x), theirs %v (%#x): %s", o.Name, o.RC[0], uint32(o.RC[0]), o.RC[1], uint32(o.RC[1]), firstLine(o.Diff))
	if d := explain(o, r.reference); d != nil {
		r.Explained[d.Name]++
		if r.Kinds[d.Name+": "+kind]++; r.Kinds[d.Name+": "+kind] == 1 {
			r.First[d.Name+": "+kind] = o
		}
		return d
	}
	if r.Seen[kind]++; r.Seen[kind] == 1 {
		r.Unexplained = append(r.Unexplained, o)
	}
	return nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
