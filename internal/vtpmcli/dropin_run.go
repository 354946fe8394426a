package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// start serves the TPM, in the background when that is asked for.
func (o *swtpmOptions) start(env *program.Env, args []string) error {
	if o.daemon && env.Getenv(daemonEnv) == "" {
		return daemonize(env, args)
	}
	keys, err := o.keys(env) // with the rights and the files of before
	if err != nil {
		return err
	}
	if keys != nil {
		defer keys.Close()
	}
	if err := o.ledger.chooseDropIn(env); err != nil {
		return err
	}
	if err := o.confine(); err != nil {
		return err
	}
	env, closeLog, err := o.logTo(env)
	if err != nil {
		return err
	}
	defer closeLog()
	return untilSignal(context.Background(), func(ctx context.Context) error { return o.serve(ctx, env, keys) })
}

// confine changes the root folder and the user of this process.
func (o *swtpmOptions) confine() error {
	u, err := o.user()
	if err != nil {
		return err
	}
	if o.chroot != "" {
		if err := syscall.Chroot(o.chroot); err != nil {
			return fmt.Errorf("--chroot %q: %w", o.chroot, err)
		}
		if err := os.Chdir("/"); err != nil {
			return fmt.Errorf("--chroot: %w", err)
		}
	}
	if u == nil {
		return nil
	}
	if err := become(u); err != nil {
		return fmt.Errorf("--runas %q: %w", o.runas, err)
	}
	return nil
}

// user looks the user of --runas up; nil for none.
func (o *swtpmOptions) user() (*user.User, error) {
	if o.runas == "" {
		return nil, nil
	}
	u, err := user.Lookup(o.runas)
	if err != nil {
		if u, err = user.LookupId(o.runas); err != nil {
			return nil, fmt.Errorf("--runas: %w", err)
		}
	}
	return u, nil
}

// become gives the process the rights of a user, and none beside.
func become(u *user.User) error {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	names, err := u.GroupIds()
	if err != nil {
		return err
	}
	groups := make([]int, 0, len(names))
	for _, name := range names {
		g, err := strconv.Atoi(name)
		if err != nil {
			return err
		}
		groups = append(groups, g)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return err
	}
	if err := syscall.Setgid(gid); err != nil {
		return err
	}
	return syscall.Setuid(uid)
}

// logTo has the log go where --log says.
func (o *swtpmOptions) logTo(env *program.Env) (*program.Env, func() error, error) {
	nothing := func() error { return nil }
	var to io.WriteCloser
	var err error
	switch {
	case o.log == nil:
		return env, nothing, nil
	case o.log.has("fd"):
		to, err = inherited(o.log.number("fd", -1))
	case o.log["file"] == "-":
		logged := *env
		logged.Stderr = io.Discard
		return &logged, nothing, nil
	case o.log.has("file"):
		flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND | syscall.O_NOFOLLOW
		if o.log.has("truncate") {
			flags |= os.O_TRUNC
		}
		to, err = os.OpenFile(o.log["file"], flags, 0o640)
	default:
		return env, nothing, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--log: %w", err)
	}
	logged := *env
	logged.Stderr = &prefixed{to: to, prefix: o.log["prefix"]}
	return &logged, to.Close, nil
}

// prefixed writes lines behind a prefix. Each Write is whole lines.
type prefixed struct {
	to     io.Writer
	prefix string
}

// Write writes one or more lines.
func (p *prefixed) Write(b []byte) (int, error) {
	if p.prefix == "" {
		return p.to.Write(b)
	}
	if _, err := p.to.Write(append([]byte(p.prefix), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// serve runs the TPM until ctx ends.
func (o *swtpmOptions) serve(ctx context.Context, env *program.Env, keys *dropInKeys) (err error) {
	data, ctrl, err := o.listeners(ctx, env)
	if err != nil {
		return err
	}
	defer closeListeners(data, ctrl)
	t, err := o.open(ctx, env, keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := o.power(t.machine); err != nil {
		return err
	}
	removePID, err := o.writePID() // as swtpm: then the TPM's file is there, too
	if err != nil {
		return err
	}
	defer removePID()
	if err := o.answers(env); err != nil {
		return err
	}
	return frontend.ServeSWTPM(ctx, t.machine, data, o.frontConfig(ctrl, t), dropInConfig(env))
}

func closeListeners(ls ...net.Listener) {
	for _, l := range ls {
		if l != nil {
			l.Close()
		}
	}
}

// listeners opens the channels. Without a data channel of its own, the TPM waits
// for one that comes through the control channel.
func (o *swtpmOptions) listeners(ctx context.Context, env *program.Env) (data, ctrl net.Listener, err error) {
	if o.ctrl != nil {
		if ctrl, err = listenSWTPM(ctx, env, "--ctrl", o.ctrl); err != nil {
			return nil, nil, err
		}
	}
	if data, err = o.dataListener(ctx, env); err != nil {
		closeListeners(ctrl)
		return nil, nil, err
	}
	return data, ctrl, nil
}

func (o *swtpmOptions) dataListener(ctx context.Context, env *program.Env) (net.Listener, error) {
	switch {
	case o.device:
		return deviceFile(o.fd)
	case o.fd >= 0:
		return connectedFile(o.fd)
	case o.server != nil:
		l, err := listenSWTPM(ctx, env, "--server", o.server)
		if err == nil && o.server.has("disconnect") {
			l = oneAnswer{l}
		}
		return l, err
	case o.port != 0:
		l, err := listenSWTPM(ctx, env, "--port", words{"port": strconv.Itoa(o.port)})
		return oneAnswer{l}, err // as swtpm: --port ends each connection, --server keeps it
	case env.Getenv("TPM_PORT") != "":
		return listenSWTPM(ctx, env, "--server", words{})
	case o.ctrl != nil:
		return newGivenListener(), nil
	}
	return nil, errors.New("--server is missing: where is the data channel?")
}

func (o *swtpmOptions) frontConfig(ctrl net.Listener, t *servedTPM) frontend.SWTPMConfig {
	givenData := o.fd >= 0 || o.server.has("fd") && o.server["type"] != "unixio"
	return frontend.SWTPMConfig{
		Control:          ctrl,
		AllowSetLocality: o.locality.has("allow-set-locality"),
		RejectLocality4:  o.locality.has("reject-locality-4"),
		Terminate:        o.terminate || givenData,
		TerminateControl: o.ctrl.has("terminate"),
		FileKey:          t.kept,
		MigrationKey:     o.migrationKey != nil,
		Info:             func(flags uint64) []byte { return swtpmInfo(t.profile(), flags) },
	}
}

// writePID writes the number of this process where --pid says.
func (o *swtpmOptions) writePID() (remove func(), err error) {
	nothing := func() {}
	if o.pid == nil {
		return nothing, nil
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if !o.pid.has("file") {
		f, err := inherited(o.pid.number("fd", -1))
		if err != nil {
			return nil, fmt.Errorf("--pid: %w", err)
		}
		defer f.Close()
		_, err = f.WriteString(text)
		return nothing, err
	}
	name := o.pid["file"]
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("--pid: %w", err)
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return func() { os.Remove(name) }, err
}

// The commands that --flags has this program send (Part 3, 9.3).
const (
	startupClear = "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00"
	startupState = "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x01"
)

// power gives the TPM power as --flags say, unless it waits for CMD_INIT.
func (o *swtpmOptions) power(m *frontend.Machine) error {
	if o.needsInit() {
		return nil
	}
	m.PowerOn()
	if err := errors.Join(m.LoadErr(), m.Err()); err != nil {
		return err
	}
	command := ""
	switch {
	case o.flags.has("startup-clear"):
		command = startupClear
	case o.flags.has("startup-state"):
		command = startupState
	default:
		return nil
	}
	response := m.Execute(nil, 0, []byte(command))
	if rc := responseCode(response); rc != 0 {
		return fmt.Errorf("--flags: TPM2_Startup answers %#x", rc)
	}
	return m.Err()
}

// answers says that the TPM does: to whoever waits for the background process, or
// on standard output.
func (o *swtpmOptions) answers(env *program.Env) error {
	if o.daemon {
		return daemonReady()
	}
	if o.log.number("level", 0) > 0 {
		vtpmLog(env).Info("the TPM answers", slog.Int("process", os.Getpid()))
	}
	_, err := io.WriteString(env.Stdout, readyLine)
	return err
}

// responseCode is the code of a response, which has a whole header.
func responseCode(response []byte) uint32 {
	if len(response) < 10 {
		return 0x101 // TPM_RC_FAILURE: no answer is no success
	}
	return uint32(response[6])<<24 | uint32(response[7])<<16 | uint32(response[8])<<8 | uint32(response[9])
}
