package differential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A Served is a TPM in another process, for measurements.
type Served struct {
	Transport client.Transport
	PID       int
	tpm       *client.TPM
	random    io.Reader
	indices   tpm2.Handle // NV indices that rows have defined
}

// NewServed starts the TPM behind t.
func NewServed(t client.Transport, pid int, random io.Reader) (*Served, error) {
	s := &Served{Transport: t, PID: pid, tpm: client.New(t, random), random: random}
	return s, s.tpm.Startup(tpm2.StartupClear)
}

// A Series is what one command cost one program, in each round.
type Series struct {
	Wall, CPU []time.Duration // of the program, the mean of the round's commands
}

// cpu returns the processor time that the process has used.
func cpu(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		n, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// A Row is one command that is measured.
type Row struct {
	Name string
	N    int // commands of a batch
	make func(s *Served) (work, error)
}

// work is a command to be sent again and again. request makes it, which is not timed;
// after is sent, when not nil, for the response, and is not timed either.
type work struct {
	request func(i int) ([]byte, error)
	after   func(s *Served, response []byte) error
}

// Measure runs a row on all, in turns, and returns what each round took. Who begins
// changes from round to round.
func Measure(row Row, on []*Served, rounds int, now func() time.Time) ([]Series, error) {
	out := make([]Series, len(on))
	works := make([]work, len(on))
	for i, s := range on {
		var err error
		if works[i], err = row.make(s); err != nil {
			return nil, fmt.Errorf("%s: %w", row.Name, err)
		}
	}
	for r := range rounds {
		for turn := range on {
			i := (turn + r) % len(on)
			wall, busy, err := on[i].batch(works[i], r*row.N, row.N, now)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", row.Name, err)
			}
			out[i].Wall, out[i].CPU = append(out[i].Wall, wall), append(out[i].CPU, busy)
		}
	}
	for _, s := range on {
		if err := s.flushAll(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// A Spread is the median of some values and where the middle eight tenths of them lie.
type Spread struct{ Median, Low, High float64 }

// String gives all three.
func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High) }

// Micros returns the spread of times in microseconds.
func Micros(of []time.Duration) Spread {
	us := make([]float64, len(of))
	for i, d := range of {
		us[i] = float64(d.Nanoseconds()) / 1000
	}
	return spread(us)
}

// Ratio returns the spread of the ratios of a to b, round by round: what the machine
// does beside slows both programs of a round.
func Ratio(a, b []time.Duration) Spread {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = float64(a[i]) / float64(b[i])
	}
	return spread(ratios)
}

// Total returns the ratio of all the time in a to all in b: of the same commands, as
// somebody waits who sends them all.
func Total(a, b []time.Duration) float64 {
	var sumA, sumB time.Duration
	for i := range a {
		sumA += a[i]
		sumB += b[i]
	}
	return float64(sumA) / float64(sumB)
}

func spread(v []float64) Spread {
	slices.Sort(v)
	return Spread{v[len(v)/2], v[len(v)/10], v[len(v)-1-len(v)/10]}
}

// batch sends n commands and returns the mean times of one.
func (s *Served) batch(w work, from, n int, now func() time.Time) (wall, busy time.Duration, err error) {
	before, err := cpu(s.PID)
	if err != nil {
		return 0, 0, err
	}
	for i := range n {
		c, err := w.request(from + i)
		if err != nil {
			return 0, 0, err
		}
		start := now()
		r, err := s.Transport.Send(c)
		wall += now().Sub(start)
		if err != nil {
			return 0, 0, err
		}
		if rc := rcOf(r); rc != 0 {
			return 0, 0, rc
		}
		if w.after != nil {
			if err := w.after(s, r); err != nil {
				return 0, 0, err
			}
		}
	}
	after, err := cpu(s.PID)
	return wall / time.Duration(n), (after - before) / time.Duration(n), err
}

// flushAll ends what the row left.
func (s *Served) flushAll() error {
	for _, kind := range []tpm2.HandleKind{tpm2.KindTransient, tpm2.KindHMACSession} {
		var out command.GetCapabilityOut
		if _, err := s.tpm.Run(&client.Command{Code: tpm2.CCGetCapability, In: &command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: uint32(kind.First()), PropertyCount: 64}, Out: &out}); err != nil {
			return err
		}
		for _, h := range out.CapabilityData.Handles {
			if err := s.tpm.Flush(h); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush ends the object or session in a response.
func flush(s *Served, response []byte) error {
	return s.tpm.Flush(tpm2.Handle(response[10])<<24 | tpm2.Handle(response[11])<<16 | tpm2.Handle(response[12])<<8 | tpm2.Handle(response[13]))
}

// errCaptured ends a command that is only to be encoded.
var errCaptured = errors.New("captured")

// A capture is a transport that keeps the request.
type capture struct{ request []byte }

// Send keeps the command.
func (c *capture) Send(b []byte) ([]byte, error) {
	c.request = b
	return nil, errCaptured
}

// encode is a command with empty passwords.
func encode(cc tpm2.CC, in wire.Layout, handles ...tpm2.Handle) ([]byte, error) {
	var c capture
	cmd := &client.Command{Code: cc, In: in}
	for _, h := range handles {
		cmd.Handles = append(cmd.Handles, client.Entity{Handle: h})
	}
	if _, err := client.New(&c, nil).Run(cmd); !errors.Is(err, errCaptured) {
		return nil, err
	}
	return c.request, nil
}

// always is the same command each time.
func always(cc tpm2.CC, in wire.Layout, handles ...tpm2.Handle) (work, error) {
	b, err := encode(cc, in, handles...)
	return work{request: func(int) ([]byte, error) { return b, err }}, err
}
