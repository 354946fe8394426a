package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Evidence quotes registers 0 to 15 over a nonce and adds the logs that root has. The
// list of runtime measurements is read after the quote, so that it is no shorter than
// what was quoted.
func (m *TPM) Evidence(root fs.FS, nonce []byte, ima bool) (*Bundle, error) {
	q, pcrs, err := m.Quote(nonce)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Type: "tpm", Quotes: []Quote{q}, PCRs: pcrs, AKPublic: m.AKPublic()}
	if b.EventLog, err = optional(root, bootLogPath, maxBootLog); err != nil {
		return nil, fmt.Errorf("read boot log: %w", err)
	}
	if ima {
		b.IMALog, err = optional(root, imaPath, maxIMA)
		b.noIMA = errors.Is(err, errTooLong)
		if err != nil && !b.noIMA {
			return nil, fmt.Errorf("read IMA list: %w", err)
		}
	}
	return b, nil
}

// Within encodes the bundle in at most limit bytes, without its IMA list if it does
// not fit with it.
func (b *Bundle) Within(limit int) (text []byte, noIMA bool, err error) {
	if text, err = json.Marshal(b); err != nil || len(text) <= limit {
		return text, b.noIMA, err
	}
	if b.IMALog != nil {
		short := *b
		short.IMALog = nil
		if text, err = json.Marshal(&short); err != nil || len(text) <= limit {
			return text, true, err
		}
	}
	return nil, false, fmt.Errorf("the evidence has %d bytes, and %d are taken", len(text), limit)
}
