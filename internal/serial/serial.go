// Package serial reads what a machine prints on its console while it boots, and
// finds the lines that say why it did not.
//
// A console proves nothing. What firmware prints can be relied upon until the first
// program runs that is not the firmware's own; from then on anybody in the guest can
// print any line, and [Log.Distrust] is to be called. A [Finding] says which it is.
// Whether a machine booted is for its TPM's journal to say (package integrity);
// this package gives the words. Start with [Log].
//
// The texts are those of edk2's BdsDxe, shim 15 and 16, GRUB 2.06 and Linux; and, of
// Google's VMs, the two lines that their users look for.
package serial

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"github.com/assay-project/assay/evidence"
)

// Limits of what is kept of one boot. A guest may print for ever.
const (
	maxLine     = 4096
	maxText     = 256 << 10
	maxFindings = 64
)

// A Finding is a line that says something about the boot.
type Finding struct {
	Code evidence.Code
	Line string // without control characters
	// Option, Device and Status are what the line names: a boot option such as
	// Boot0001 "UEFI Misc Device", its device path, and the firmware's status.
	Option, Device, Status string
	// Forgeable is set when a program of the guest may have printed the line.
	Forgeable bool
}

// Reason gives the finding as the reason of an event.
func (f *Finding) Reason() evidence.Reason {
	message := f.Line
	if f.Forgeable {
		message += " (the guest could print this itself)"
	}
	return evidence.Reason{Code: f.Code, Message: message, Component: f.Option}
}

// A Log takes the bytes of a console. It is safe for concurrent use; its zero
// value is ready.
type Log struct {
	mu        sync.Mutex // guards what follows
	escape    escape
	line      []byte
	text      []byte // whole lines
	cut       bool   // the beginning of text is gone
	findings  []Finding
	more      int // findings that were not kept
	forgeable bool
}

// escape is where in a control sequence the stream is (ECMA-48, 5.3 and 5.4).
type escape uint8

const (
	none    escape = iota
	esc            // after ESC
	control        // after ESC [
	str            // in an operating system command and the like, until BEL or ESC \
)

// Write takes what the machine printed next. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		l.take(b)
	}
	return len(p), nil
}

// take takes one byte. Carriage returns and the moves of the cursor end a line: on
// a screen what follows stands elsewhere.
func (l *Log) take(b byte) {
	switch {
	case l.escape == esc:
		switch b {
		case '[':
			l.escape = control
		case ']', 'P', 'X', '^', '_':
			l.escape = str
		default:
			l.escape = none
		}
	case l.escape == control:
		if b >= 0x40 && b <= 0x7E {
			l.escape = none
			if strings.IndexByte("ABCDEFGHJSTdf", b) >= 0 {
				l.end()
			}
		}
	case b == 0x1B:
		l.escape = esc
	case l.escape == str:
		if b == 0x07 {
			l.escape = none
		}
	case b == '\n' || b == '\r':
		l.end()
	case b == '\t':
		l.add(' ')
	case b < ' ' || b == 0x7F:
	default:
		l.add(b)
	}
}

func (l *Log) add(b byte) {
	if l.line = append(l.line, b); len(l.line) >= maxLine {
		l.end()
	}
}

// end looks at the line that is complete.
func (l *Log) end() {
	if len(bytes.TrimSpace(l.line)) == 0 {
		l.line = l.line[:0]
		return
	}
	line := strings.ToValidUTF8(string(bytes.TrimSpace(l.line)), "\uFFFD")
	l.line = l.line[:0]
	l.text = append(append(l.text, line...), '\n')
	if f, ok := classify(line); ok {
		f.Forgeable = l.forgeable
		if f.Code == codeRefused {
			// What users of Google's VMs search their logs for.
			l.text = append(l.text, "UEFI: Failed to load image\nStatus: Security Violation\n"...)
		}
		if len(l.findings) < maxFindings {
			l.findings = append(l.findings, f)
		} else {
			l.more++
		}
	}
	if extra := len(l.text) - maxText; extra > 0 {
		if at := bytes.IndexByte(l.text[extra:], '\n'); at >= 0 {
			extra += at + 1
		}
		l.text, l.cut = append(l.text[:0], l.text[extra:]...), true
	}
}

// Distrust says that from here on programs of the guest may print.
func (l *Log) Distrust() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgeable = true
}

// Restart forgets everything, for a machine that was reset: only firmware runs.
func (l *Log) Restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.escape, l.line, l.text, l.cut, l.findings, l.more, l.forgeable = none, nil, nil, false, nil, 0, false
}

// Findings returns what was found, in order. more is how many there were beyond the
// limit.
func (l *Log) Findings() (found []Finding, more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Finding(nil), l.findings...), l.more
}

// Text returns what was printed, in lines and without control characters, with the
// two lines of Google's VMs after each refusal of the firmware. It ends with the
// line that is not complete, and begins with a note when older lines are gone.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var head string
	if l.cut {
		head = fmt.Sprintf("[what came before the last %d kB is not kept]\n", maxText>>10)
	}
	return head + string(l.text) + strings.ToValidUTF8(string(l.line), "\uFFFD")
}
