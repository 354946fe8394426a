package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/assay-project/assay/internal/program"
)

// swtpmSocketMode are the permissions of a socket when none are said: swtpm's.
const swtpmSocketMode = 0o770

// listenSWTPM opens the channel that --server or --ctrl describes.
func listenSWTPM(ctx context.Context, env *program.Env, flag string, w words) (net.Listener, error) {
	var l net.Listener
	var err error
	switch kind := w["type"]; {
	case w.has("clientfd"):
		l, err = connectedFile(w.number("clientfd", -1))
	case kind == "unixio" && w.has("fd"):
		l, err = listeningFile(w.number("fd", -1))
	case kind == "unixio" && w.has("path"):
		l, err = listenUnixOwned(ctx, w)
	case kind == "unixio":
		err = errors.New("path or fd is missing")
	case flag == "--ctrl" && kind == "":
		err = errors.New("type is missing")
	case kind != "" && kind != "tcp":
		err = fmt.Errorf("type %q is neither tcp nor unixio", kind)
	case w.has("fd") && flag == "--ctrl":
		l, err = listeningFile(w.number("fd", -1))
	case w.has("fd"):
		l, err = connectedFile(w.number("fd", -1)) // as swtpm: a TCP data channel is given connected
	default:
		l, err = listenSWTPMTCP(ctx, env, flag, w)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}

// listenSWTPMTCP listens on a loopback address: whoever reaches the port commands
// the TPM.
func listenSWTPMTCP(ctx context.Context, env *program.Env, flag string, w words) (net.Listener, error) {
	text := w["port"]
	if text == "" && flag == "--server" {
		text = env.Getenv("TPM_PORT")
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("port %q is none", text)
	}
	host := w["bindaddr"]
	if host == "" {
		host = "127.0.0.1"
	}
	if w.has("ifname") {
		host += "%" + w["ifname"]
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	if err := program.MustBeLoopback(flag, addr); err != nil {
		return nil, err
	}
	return listen(ctx, "tcp", addr)
}

// listenUnixOwned makes a socket with the permissions and the owner asked for.
// It never stands there with more than that.
func listenUnixOwned(ctx context.Context, w words) (net.Listener, error) {
	path := w["path"]
	l, err := listenUnix(ctx, path)
	if err != nil {
		return nil, err
	}
	if w.has("uid") || w.has("gid") {
		err = os.Lchown(path, w.number("uid", -1), w.number("gid", -1))
	}
	if err == nil {
		err = os.Chmod(path, os.FileMode(w.mode("mode", swtpmSocketMode)))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// inherited is an open file that the caller of this program left, by its number.
func inherited(fd int) (*os.File, error) {
	f := os.NewFile(uintptr(fd), "file descriptor "+strconv.Itoa(fd))
	if f == nil {
		return nil, fmt.Errorf("%d is no file descriptor", fd)
	}
	if _, err := f.Stat(); err != nil {
		return nil, err
	}
	return f, nil
}

// listeningFile is a socket that listens already.
func listeningFile(fd int) (net.Listener, error) {
	f, err := inherited(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// connectedFile is a listener that gives one connection, which is there already.
func connectedFile(fd int) (net.Listener, error) {
	f, err := inherited(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return newGivenListener(conn), nil
}

// A givenListener accepts the connections that it was given, then waits to be
// closed.
type givenListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newGivenListener(conns ...net.Conn) *givenListener {
	g := &givenListener{conns: make(chan net.Conn, len(conns)), closed: make(chan struct{})}
	g.close = sync.OnceFunc(func() { close(g.closed) })
	for _, c := range conns {
		g.conns <- c
	}
	return g
}

// Accept gives the next connection.
func (g *givenListener) Accept() (net.Conn, error) {
	select {
	case c := <-g.conns:
		return c, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (g *givenListener) Close() error {
	g.close()
	return nil
}

// Addr says that there is no address.
func (g *givenListener) Addr() net.Addr { return &net.UnixAddr{Name: "(given)", Net: "unix"} }

// A oneAnswer listener ends each connection after one answer, as swtpm does with
// disconnect.
type oneAnswer struct{ net.Listener }

// Accept wraps the next connection.
func (l oneAnswer) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &oneAnswerConn{Conn: c}, nil
}

type oneAnswerConn struct{ net.Conn }

// Write sends the answer, which the front end writes in one piece, and ends the
// connection.
func (c *oneAnswerConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok && err == nil {
		err = w.CloseWrite()
	}
	return n, errors.Join(err, c.Conn.Close())
}
