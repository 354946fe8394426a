package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// header is that of an empty qcow2 image.
func header(version uint32, backing, features uint64) []byte {
	h := make([]byte, qcow2Header)
	copy(h, qcow2Magic)
	binary.BigEndian.PutUint32(h[4:], version)
	binary.BigEndian.PutUint64(h[8:], backing)
	binary.BigEndian.PutUint64(h[72:], features)
	return h
}

func TestAnImageLeadsToNoOtherFile(t *testing.T) {
	for name, tc := range map[string]struct {
		header []byte
		want   string // "" for none
	}{
		"version 2":                     {header(2, 0, 0), ""},
		"version 3":                     {header(3, 0, 0), ""},
		"dirty, compressed, extended":   {header(3, 0, 1<<0|1<<3|1<<4), ""},
		"version 2 has no features":     {header(2, 0, 1<<2), ""},
		"backing file":                  {header(3, 600, 0), "backing file"},
		"backing file of version 2":     {header(2, 1<<63, 0), "backing file"},
		"external data file":            {header(3, 0, 1<<2), "external data file"},
		"external data file, and dirty": {header(3, 0, 1<<2|1), "external data file"},
		"a feature to come":             {header(3, 0, 1<<5), "unknown features"},
		"version 1":                     {header(1, 0, 0), "version 1"},
		"version 4":                     {header(4, 0, 0), "version 4"},
		"another format":                {make([]byte, qcow2Header), "no qcow2 image"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkQcow2(bytes.NewReader(tc.header))
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("checkQcow2 = %v, want %q", err, tc.want)
			}
		})
	}
	for n := range qcow2Header {
		if checkQcow2(bytes.NewReader(header(3, 0, 0)[:n])) == nil {
			t.Errorf("%d bytes are taken for a header", n)
		}
	}
}

func TestStartRefusesADiskThatLeadsToAnotherFile(t *testing.T) {
	dir := t.TempDir()
	for name, b := range map[string][]byte{"good": header(3, 0, 0), "bad": header(3, 600, 0), "raw": []byte("root:")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad, err := os.Open(filepath.Join(dir, "bad"))
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	for _, file := range []string{"bad", filepath.Join(dir, "bad"), "raw", "pipe", "none", ".", "/dev/fdset/1", "/dev/fdset/2", "/dev/fdset/0"} {
		m := plain()
		m.Disks = []Disk{{File: "raw", Format: "raw", Bus: "virtio"}, {File: "good", Format: "qcow2", Bus: "virtio"}, {File: file, Format: "qcow2", Bus: "virtio"}}
		_, err := Start(t.Context(), Config{Dir: dir, Machine: m, Files: []*os.File{bad}, Program: "no-such-qemu"})
		var f *FieldError
		if !errors.As(err, &f) || f.Field != "disk 2" {
			t.Errorf("%s: Start = %v, want a fault of disk 2", file, err)
		}
	}
	m := plain()
	m.Disks = []Disk{{File: "raw", Format: "raw", Bus: "virtio"}, {File: "none", Format: "raw", Bus: "virtio"}}
	var f *FieldError
	if _, err := Start(t.Context(), Config{Dir: dir, Machine: m, Program: "no-such-qemu"}); !errors.As(err, &f) || f.Field != "disk 1" {
		t.Errorf("a raw disk that is not there: Start = %v", err)
	}
	m.Disks = []Disk{{File: "raw", Format: "raw", Bus: "virtio"}, {File: "good", Format: "qcow2", Bus: "virtio"}}
	if _, err := Start(t.Context(), Config{Dir: dir, Machine: m, Program: "no-such-qemu"}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("Start = %v, want only the program to be missing", err)
	}
}

// TestImagesOfQEMUAreRead has what qemu-img writes.
func TestImagesOfQEMUAreRead(t *testing.T) {
	need(t)
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		args string
		good bool
	}{
		"plain":    {"plain 1M", true},
		"version2": {"-o compat=0.10 version2 1M", true},
		"extended": {"-o extended_l2=on,compression_type=zlib extended 1M", true},
		"backing":  {"-u -b /etc/passwd -F raw backing 1M", false},
		"data":     {"-o data_file=elsewhere data 1M", false},
	} {
		cmd := exec.Command("qemu-img", append([]string{"create", "-q", "-f", "qcow2"}, strings.Fields(tc.args)...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		if err := checkImage(dir, name, nil); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCheckQcow2(f *testing.F) {
	f.Add(header(3, 0, 0))
	f.Add(header(2, 0, 0))
	f.Fuzz(func(t *testing.T, in []byte) {
		if checkQcow2(bytes.NewReader(in)) == nil && !bytes.Equal(in[8:16], make([]byte, 8)) {
			t.Error("a backing file is taken")
		}
	})
}
