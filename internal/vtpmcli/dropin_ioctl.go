package vtpmcli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// An ioctlOption is an option of swtpm_ioctl. A command is one of them.
type ioctlOption struct {
	name    string
	args    int
	command bool
}

// ioctlOptions are those of swtpm_ioctl 0.10.1.
func ioctlOptions() []ioctlOption {
	return []ioctlOption{
		{"tpm-device", 1, false},
		{"tcp", 1, false},
		{"unix", 1, false},
		{"c", 0, true},
		{"i", 0, true},
		{"stop", 0, true},
		{"s", 0, true},
		{"e", 0, true},
		{"r", 1, true},
		{"v", 0, true},
		{"C", 0, true},
		{"l", 1, true},
		{"h", 1, true},
		{"g", 0, true},
		{"b", 1, true},
		{"save", 2, true},
		{"load", 2, true},
		{"info", 1, true},
		{"lock-storage", 1, true},
		{"version", 0, true},
		{"help", 0, true},
	}
}

// ioctlTimeout is how long an answer may take: a TPM that makes a key is busy.
const ioctlTimeout = 10 * time.Second

// ioctlPort is where swtpm_ioctl looks for a control channel on its own.
const ioctlPort = "6545"

const ioctlHelp = `usage: swtpm_ioctl (--tcp [HOST]:[PORT] | --unix PATH) COMMAND

  -c                    which commands the control channel has
  -i                    power on; volatile state that was stored is used, and removed
  --stop                power off
  -s                    power off, and end the program
  -e                    the TPM_ESTABLISHMENT bit
  -r LOCALITY           reset that bit
  -v                    store the volatile state
  -C                    cancel the command that runs
  -l LOCALITY           locality of the commands that follow
  -h DATA               measure DATA as a dynamic root of trust would; - reads standard input
  --save TYPE FILE      write a state blob: permanent, volatile or savestate
  --load TYPE FILE      load one
  -g                    which keys are in use
  -b SIZE               set the size of the buffer; 0 only asks
  --info FLAGS          what the TPM is, as JSON
  --lock-storage N      take the lock of the state again, trying N times more
`

// An ioctlCall is what the command line of swtpm_ioctl asks for.
type ioctlCall struct {
	command string
	args    []string
	network string // "" when none is named
	address string
}

// runIOCTL is swtpm_ioctl: one command on the control channel.
func runIOCTL(env *program.Env, args []string) error {
	call, err := parseIOCTL(args)
	if err != nil {
		return err
	}
	switch {
	case call.command == "version":
		_, err := fmt.Fprintf(env.Stdout, "TPM emulator control tool version %s, in whose place assay %s stands\n", swtpmVersion, program.Version())
		return err
	case call.command == "help":
		_, err := io.WriteString(env.Stdout, ioctlHelp)
		return err
	case call.command == "":
		return errors.New("no command: --help lists them")
	case call.network == "":
		return errors.New("--tcp or --unix is missing: character devices are not served")
	}
	if err := call.checkLocality(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), ioctlTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, call.network, call.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &controlClient{conn: conn, now: env.Now}
	return call.run(env, c)
}

// parseIOCTL reads a command line as getopt_long_only does: with one hyphen or
// two, and names cut short where they stay the only one.
func parseIOCTL(args []string) (*ioctlCall, error) {
	call := &ioctlCall{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			return nil, fmt.Errorf("%q: character devices are not served; --tcp or --unix says where the control channel is", arg)
		}
		name, value, glued := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		option, err := findIOCTL(name)
		if err != nil {
			return nil, err
		}
		if glued {
			args = append([]string{value}, args...)
		}
		if len(args) < option.args || glued && option.args == 0 {
			return nil, fmt.Errorf("-%s takes %d arguments", option.name, option.args)
		}
		if err := call.take(option, args[:option.args]); err != nil {
			return nil, err
		}
		args = args[option.args:]
	}
	return call, nil
}

func findIOCTL(name string) (found ioctlOption, err error) {
	n := 0
	for _, o := range ioctlOptions() {
		if o.name == name {
			return o, nil
		}
		if strings.HasPrefix(o.name, name) {
			found = o
			n++
		}
	}
	if n != 1 || name == "" {
		return ioctlOption{}, fmt.Errorf("-%s is not an option, or more than one begins so", name)
	}
	return found, nil
}

func (call *ioctlCall) take(o ioctlOption, args []string) error {
	switch {
	case o.command && call.command != "":
		return plainError("Only one command may be given.")
	case o.command:
		call.command, call.args = o.name, args
	case o.name == "unix":
		call.network, call.address = "unix", args[0]
	case o.name == "tcp":
		host, port := args[0], ioctlPort
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host, port = host[:i], host[i+1:]
		}
		if host == "" {
			host = "127.0.0.1"
		}
		if port == "" {
			port = ioctlPort
		}
		call.network, call.address = "tcp", net.JoinHostPort(strings.Trim(host, "[]"), port)
	default:
		return errors.New("--tpm-device: character devices are not served; --tcp or --unix says where the control channel is")
	}
	return nil
}

// checkLocality refuses localities that no TPM has, before anything is sent.
func (call *ioctlCall) checkLocality() error {
	if call.command != "r" && call.command != "l" {
		return nil
	}
	if n, err := strconv.ParseUint(call.args[0], 0, 32); err != nil || n > 4 {
		return plainError("Locality outside valid range of [0..4].")
	}
	return nil
}

// run sends the command and prints what it gives.
func (call *ioctlCall) run(env *program.Env, c *controlClient) error {
	switch call.command {
	case "c":
		// The answer has no result of its own: 4 bytes of nothing and the flags.
		b, err := c.exchange(1, nil, 8)
		if err == nil {
			fmt.Fprintf(env.Stdout, "ptm capability is %#x\n", binary.BigEndian.Uint32(b[4:]))
		}
		return err
	case "i":
		_, err := c.call("PTM_INIT", 2, []byte{0, 0, 0, 1}, 0) // delete volatile state
		return err
	case "e":
		b, err := c.call("PTM_GET_TPMESTABLISHED", 4, nil, 1)
		if err == nil {
			fmt.Fprintf(env.Stdout, "tpmEstablished is %d\n", b[0])
		}
		return err
	case "h":
		return c.hash(env.Stdin, call.args[0])
	case "save":
		return c.saveBlob(call.args[0], call.args[1])
	case "load":
		return c.loadBlob(call.args[0], call.args[1])
	case "g":
		b, err := c.call("PTM_GET_CONFIG", 15, nil, 4)
		if err == nil {
			fmt.Fprintf(env.Stdout, "ptm configuration flags: %#x\n", binary.BigEndian.Uint32(b))
		}
		return err
	}
	return call.runNumber(env, c)
}

// runNumber sends the commands that take a number, or nothing.
func (call *ioctlCall) runNumber(env *program.Env, c *controlClient) error {
	simple := map[string]struct {
		name string
		code uint32
	}{"s": {"PTM_SHUTDOWN", 3}, "C": {"PTM_CANCEL_TPM_CMD", 9}, "v": {"PTM_STORE_VOLATILE", 10}, "stop": {"PTM_STOP", 14}}
	if s, ok := simple[call.command]; ok {
		_, err := c.call(s.name, s.code, nil, 0)
		return err
	}
	n, err := strconv.ParseUint(call.args[0], 0, 32)
	if err != nil {
		return fmt.Errorf("-%s: %q is no number", call.command, call.args[0])
	}
	word := binary.BigEndian.AppendUint32(nil, uint32(n)) // parsed with 32 bits
	switch call.command {
	case "r", "l":
		name, code := "PTM_SET_LOCALITY", uint32(5)
		if call.command == "r" {
			name, code = "PTM_RESET_TPMESTABLISHED", 11
		}
		_, err = c.call(name, code, word[3:], 0)
	case "b":
		var b []byte
		if b, err = c.call("PTM_SET_BUFFERSIZE", 17, word, 12); err == nil {
			fmt.Fprintf(env.Stdout, "TPM buffersize: %d\nminimum size  : %d\nmaximum size  : %d\n",
				binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]))
		}
	case "info":
		err = c.info(env.Stdout, n)
	case "lock-storage":
		_, err = c.call("PTM_LOCK_STORAGE", 19, word, 0)
	}
	return err
}

// A controlClient is the caller's side of swtpm's control channel.
type controlClient struct {
	conn net.Conn
	now  func() time.Time
}

// exchange sends a command and reads n bytes.
func (c *controlClient) exchange(code uint32, body []byte, n int) ([]byte, error) {
	if err := c.conn.SetDeadline(c.now().Add(ioctlTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(append(binary.BigEndian.AppendUint32(nil, code), body...)); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c.conn, b)
	return b, err
}

// resultNonFatal is the bit of results that are no failure: TPM_NON_FATAL.
const resultNonFatal = 0x800

// call sends a command whose answer begins with a result, which n bytes follow
// when it is 0.
func (c *controlClient) call(name string, code uint32, body []byte, n int) ([]byte, error) {
	b, err := c.exchange(code, body, 4)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if result := binary.BigEndian.Uint32(b); result != 0 && result&resultNonFatal == 0 {
		return nil, plainError(fmt.Sprintf("TPM result from %s: %#x", name, result))
	}
	b = make([]byte, n)
	if _, err := io.ReadFull(c.conn, b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// hashPiece is the most that one CMD_HASH_DATA carries.
const hashPiece = 4096

// hash measures data, or standard input for "-".
func (c *controlClient) hash(stdin io.Reader, data string) error {
	var from io.Reader = strings.NewReader(data)
	if data == "-" {
		from = stdin
	}
	if _, err := c.call("PTM_HASH_START", 6, nil, 0); err != nil {
		return err
	}
	piece := make([]byte, hashPiece)
	for {
		n, err := io.ReadFull(from, piece)
		if n > 0 {
			if _, err := c.call("PTM_HASH_DATA", 7, append(binary.BigEndian.AppendUint32(nil, uint32(n)), piece[:n]...), 0); err != nil { // at most hashPiece
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	_, err := c.call("PTM_HASH_END", 8, nil, 0)
	return err
}

// blobType is the number of a state blob by its name.
func blobType(name string) (uint32, error) {
	switch name {
	case "permanent":
		return 1, nil
	case "volatile":
		return 2, nil
	case "savestate":
		return 3, nil
	}
	return 0, plainError("Unknown TPM state type '" + name + "'")
}

// maxBlob bounds a state blob in bytes.
const maxBlob = 16 << 20

// saveBlob writes a state blob to a file.
func (c *controlClient) saveBlob(kind, file string) error {
	n, err := blobType(kind)
	if err != nil {
		return err
	}
	body := binary.BigEndian.AppendUint32(nil, 1) // PTM_STATE_FLAG_DECRYPTED
	body = binary.BigEndian.AppendUint32(body, n)
	body = binary.BigEndian.AppendUint32(body, 0)
	head, err := c.call("PTM_GET_STATEBLOB", 12, body, 12)
	if err != nil {
		return err
	}
	total, length := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	if length > total || total > maxBlob {
		return fmt.Errorf("state blob of %d bytes, of which %d come: more than can be", total, length)
	}
	blob, err := io.ReadAll(io.LimitReader(c.conn, int64(length)))
	if err != nil {
		return err
	}
	if len(blob) != int(total) {
		return fmt.Errorf("state blob: %d of %d bytes came", len(blob), total)
	}
	return writeBlob(file, blob)
}

// loadBlob loads a state blob from a file.
func (c *controlClient) loadBlob(kind, file string) error {
	n, err := blobType(kind)
	if err != nil {
		return err
	}
	blob, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(blob) > maxBlob {
		return fmt.Errorf("%q has %d bytes, more than %d", file, len(blob), maxBlob)
	}
	body := binary.BigEndian.AppendUint32(nil, 0)
	body = binary.BigEndian.AppendUint32(body, n)
	body = binary.BigEndian.AppendUint32(body, uint32(len(blob))) // at most maxBlob
	_, err = c.call("PTM_SET_STATEBLOB", 13, append(body, blob...), 0)
	return err
}

// info prints the JSON of CMD_GET_INFO, which comes in pieces.
func (c *controlClient) info(out io.Writer, flags uint64) error {
	var text []byte
	for {
		body := binary.BigEndian.AppendUint64(nil, flags)
		body = binary.BigEndian.AppendUint32(body, uint32(len(text))) // bounded by maxBlob
		body = binary.BigEndian.AppendUint32(body, 0)
		head, err := c.call("PTM_GET_INFO", 18, body, 8)
		if err != nil {
			return err
		}
		total, length := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if total > maxBlob || length == 0 || uint64(len(text))+uint64(length) > uint64(total) {
			return errors.New("PTM_GET_INFO: lengths that cannot be")
		}
		piece := make([]byte, min(length, maxBlob))
		if _, err := io.ReadFull(c.conn, piece); err != nil {
			return err
		}
		if text = append(text, piece...); len(text) == int(total) {
			break
		}
	}
	_, err := fmt.Fprintf(out, "%s\n", strings.TrimRight(string(text), "\x00"))
	return err
}
