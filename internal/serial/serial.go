// Package serial reads what a machine prints on its console while it boots, and
// finds the lines that say why it did not.
//
// A console proves nothing. Programs of the guest print what they like, and the
// firmware itself prints text of the guest's: the description of a boot option is a
// variable that the guest may have written, line ends and all, before the reset. So
// no line is known to be the firmware's, not even the first of a boot, and each
// [Finding] says so. Whether a machine booted is for its TPM's journal to say (package integrity);
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
	"unicode"

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
}

// Final reports whether the line says that nothing else will be started: the firmware
// has no option left, or a boot loader stops.
func (f *Finding) Final() bool {
	switch f.Code {
	case codeStuck, codeShimRefused, codeShimRevoked, codeGRUBRefused:
		return true
	}
	return false
}

// Reason gives the finding as the reason of an event.
func (f *Finding) Reason() evidence.Reason {
	return evidence.Reason{Code: f.Code, Message: f.Line + " (a line of the console, which proves nothing)", Component: f.Option}
}

// A Log takes the bytes of a console. It is safe for concurrent use; its zero
// value is ready.
type Log struct {
	mu       sync.Mutex // guards what follows
	escape   escape
	line     []byte
	text     []byte // whole lines
	cut      bool   // the beginning of text is gone
	findings []Finding
	more     int // findings that were not kept
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
	line := readable(bytes.TrimSpace(l.line))
	l.line = l.line[:0]
	l.text = append(append(l.text, line...), '\n')
	if f, ok := classify(line); ok {
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
	// Not for each line: what is kept has to be moved.
	if len(l.text) > 2*maxText {
		l.text, l.cut = append(l.text[:0], last(l.text)...), true
	}
}

// last returns the lines at the end of text that fit.
func last(text []byte) []byte {
	extra := len(text) - maxText
	if extra <= 0 {
		return text
	}
	if at := bytes.IndexByte(text[extra:], '\n'); at >= 0 {
		extra += at + 1
	}
	return text[extra:]
}

// Restart forgets everything, for a machine that was reset. What it printed before
// may still be on its way, and come after.
func (l *Log) Restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.escape, l.line, l.text, l.cut, l.findings, l.more = none, nil, nil, false, nil, 0
}

// cutNote begins a text whose older lines are gone.
var cutNote = fmt.Sprintf("[what came before the last %d kB is not kept]\n", maxText>>10)

// Restore has the log go on after the text of another, of a machine that goes on: nothing in
// it is looked for once more.
func (l *Log) Restore(text string) {
	l.Restart()
	l.mu.Lock()
	defer l.mu.Unlock()
	if text, l.cut = strings.CutPrefix(text, cutNote); len(text) > 2*maxText {
		text, l.cut = text[len(text)-2*maxText:], true
	}
	for line := range strings.Lines(string(last([]byte(text)))) {
		whole := strings.HasSuffix(line, "\n")
		line = readable([]byte(strings.TrimSuffix(line, "\n")))
		if !whole {
			l.line = []byte(line)
			return
		}
		l.text = append(append(l.text, line...), '\n')
	}
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
	text := last(l.text)
	if l.cut || len(text) < len(l.text) {
		head = cutNote
	}
	return head + string(text) + readable(l.line)
}

// readable is a line without what is no text: the control characters that take two
// bytes in UTF-8 (U+0080 to U+009F, of which terminals obey some as they do ESC), those
// that turn the direction of writing (Unicode Standard Annex 9, 2) and others without a
// shape, and the separators of lines.
func readable(line []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(line), "\uFFFD"))
}
