package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
)

// fakeCopies are what a fake hypervisor has of the disks that it copies or takes.
type fakeCopies struct {
	mu      sync.Mutex // guards what follows
	server  net.Listener
	clients []net.Conn
	exports map[string]bool
	nodes   map[string]*fakeNode // by node-name
	jobs    map[string]*fakeJob
	held    chan bool // a move waits for it; nil for one that does not
}

// A fakeNode is a disk of another fake hypervisor.
type fakeNode struct {
	conn   net.Conn
	export string
}

type fakeJob struct {
	file, status, why string
	node              *fakeNode
}

// A written disk is what goes over the connection in the place of NBD.
type written struct {
	Export  string
	Content []byte
}

type copyArguments struct {
	Addr         struct{ Data struct{ Path string } }
	Server       struct{ Path string }
	ID, Name     string
	Node         string `json:"node-name"`
	Job          string `json:"job-id"`
	Export       string
	Device       string
	Target       string
	Force        bool
	Capabilities []struct {
		Capability string
		State      bool
	}
}

// performCopy runs a command of the monitor that is about copies of disks.
func (f *fakeQEMU) performCopy(command string, arguments json.RawMessage) (any, error) {
	var a copyArguments
	if len(arguments) > 0 {
		if err := json.Unmarshal(arguments, &a); err != nil {
			return nil, err
		}
	}
	c := &f.copies
	c.mu.Lock()
	defer c.mu.Unlock()
	switch command {
	case "query-block":
		return f.blockList(), nil
	case "nbd-server-start":
		l, err := net.Listen("unix", a.Addr.Data.Path)
		if err != nil {
			return nil, err
		}
		c.server, c.exports = l, map[string]bool{}
		go f.serveCopies(l)
	case "block-export-add":
		c.exports[a.Name] = true
	case "nbd-server-stop":
		for _, conn := range c.clients {
			conn.Close()
		}
		return struct{}{}, c.server.Close()
	case "blockdev-add":
		conn, err := net.Dial("unix", a.Server.Path)
		if err != nil {
			return nil, err
		}
		if c.nodes == nil {
			c.nodes, c.jobs = map[string]*fakeNode{}, map[string]*fakeJob{}
		}
		c.nodes[a.Node] = &fakeNode{conn, a.Export}
	case "blockdev-mirror":
		j := &fakeJob{file: f.disk(a.Device), status: "running", node: c.nodes[a.Target]}
		c.jobs[a.Job] = j
		go f.mirror(j, "ready")
	case "query-block-jobs":
		list := []any{}
		for id, j := range c.jobs {
			list = append(list, map[string]any{"device": id, "status": j.status, "ready": j.status == "ready", "io-status": "ok", "error": j.why, "offset": 1, "len": 1})
		}
		return list, nil
	case "block-job-cancel":
		j := c.jobs[a.Device]
		if a.Force {
			j.status, j.why = "concluded", "cancelled"
		} else {
			go f.mirror(j, "concluded")
		}
	case "job-dismiss":
		delete(c.jobs, a.ID)
	case "blockdev-del":
		n := c.nodes[a.Node]
		if n == nil {
			return nil, errors.New("Failed to find node with node-name=" + a.Node) //nolint:staticcheck // as QEMU says it
		}
		delete(c.nodes, a.Node)
		return struct{}{}, n.conn.Close()
	case "migrate-set-capabilities":
		c.held = nil
		for _, s := range a.Capabilities {
			if s.Capability == "pause-before-switchover" && s.State {
				c.held = make(chan bool, 1)
			}
		}
	case "migrate-continue":
		c.held <- true
	case "migrate_cancel":
		if c.held != nil && f.moved() == "pre-switchover" {
			c.held <- false
		}
	}
	return struct{}{}, nil
}

func (f *fakeQEMU) blockList() (list []any) {
	for i := range 8 {
		device := fmt.Sprintf("disk%d", i)
		if f.disk(device) != "" {
			image := map[string]any{"virtual-size": 1 << 20}
			list = append(list, map[string]any{"device": device, "inserted": map[string]any{"node-name": "#" + device, "image": image}})
		}
	}
	return list
}

// mirror sends what a disk holds, and is in a state once the other end has it.
func (f *fakeQEMU) mirror(j *fakeJob, then string) {
	err := refuse("copy-" + then)
	if err == nil {
		err = send(j)
	}
	f.copies.mu.Lock()
	defer f.copies.mu.Unlock()
	if j.status == "concluded" {
		return // it was cancelled
	}
	j.status = then
	if err != nil {
		j.status, j.why = "concluded", err.Error()
	}
}

func send(j *fakeJob) error {
	text, err := os.ReadFile(j.file)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(j.node.conn).Encode(written{j.node.export, text}); err != nil {
		return err
	}
	_, err = io.ReadFull(j.node.conn, make([]byte, 1))
	return err
}

// serveCopies takes what other hypervisors write to the disks that are exported.
func (f *fakeQEMU) serveCopies(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.copies.mu.Lock()
		f.copies.clients = append(f.copies.clients, conn)
		f.copies.mu.Unlock()
		go func() {
			defer conn.Close()
			d := json.NewDecoder(conn)
			for {
				var w written
				if d.Decode(&w) != nil || refuse("written") != nil {
					return
				}
				f.copies.mu.Lock()
				exported := f.copies.exports[w.Export]
				f.copies.mu.Unlock()
				if !exported || os.WriteFile(f.disk(w.Export), w.Content, 0o600) != nil {
					return
				}
				if _, err := conn.Write([]byte{1}); err != nil {
					return
				}
			}
		}()
	}
}

// hold has a move wait until it is let go of, where that was asked for.
func (f *fakeQEMU) hold() error {
	f.copies.mu.Lock()
	held := f.copies.held
	f.copies.mu.Unlock()
	if held == nil {
		return nil
	}
	f.setState("paused")
	f.event("STOP")
	f.setMoved("pre-switchover")
	if !<-held {
		f.setState("running")
		f.event("RESUME")
		return errors.New("cancelled")
	}
	f.setMoved("active")
	return nil
}

// createImage is qemu-img create.
func createImage(args []string) error {
	file := args[len(args)-2]
	if err := refuseIn("", "create"); err != nil {
		return err
	}
	if strings.Contains(file, "..") {
		return errors.New("not a file of a machine")
	}
	return os.WriteFile(file, []byte(image("")), 0o600)
}
