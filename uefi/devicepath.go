package uefi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxNodes bounds a device path. Real ones have under ten nodes.
const maxNodes = 64

// The failures of [DevicePathText].
var (
	// ErrDevicePath is a device path whose nodes do not fill it.
	ErrDevicePath = errors.New("device path is malformed")
	// ErrDevicePathLong is a device path with too many nodes.
	ErrDevicePathLong = errors.New("device path has too many nodes")
)

// A Node is one EFI_DEVICE_PATH_PROTOCOL node (UEFI 2.10, 10.3.1).
type Node struct {
	Type, SubType uint8
	Data          []byte // after the header
}

// nodeFilePath is the type and subtype of a file path (UEFI 2.10, 10.3.5.4).
const nodeFilePath = 0x0404

// ParseDevicePath splits a path into its nodes, without the end node. A path that
// stops without one is accepted when it stops after a whole node. It aliases b.
func ParseDevicePath(b []byte) ([]Node, error) {
	var out []Node
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, ErrDevicePath
		}
		size := int(binary.LittleEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return nil, ErrDevicePath
		}
		n := Node{b[0], b[1], b[4:size:size]}
		if n.Type == 0x7F && n.SubType == 0xFF { // 10.3.1: end of the entire path
			return out, nil
		}
		if len(out) == maxNodes {
			return nil, ErrDevicePathLong
		}
		out = append(out, n)
		b = b[size:]
	}
	return out, nil
}

// DevicePathText returns a path in the text form of UEFI 2.10, 10.6. Nodes that
// are not in the table here are written as Path(type,subtype,hex).
func DevicePathText(b []byte) (string, error) {
	nodes, err := ParseDevicePath(b)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for i, n := range nodes {
		text := n.String()
		if i > 0 && !strings.HasPrefix(text, `\`) {
			out.WriteByte('/')
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// FilePath returns the file name at the end of a path, "" if there is none.
func FilePath(b []byte) string {
	nodes, err := ParseDevicePath(b)
	if err != nil {
		return ""
	}
	var out strings.Builder
	for _, n := range nodes {
		if n.kind() == nodeFilePath {
			out.WriteString(Text(n.Data))
		}
	}
	return out.String()
}

func (n Node) kind() uint16 { return uint16(n.Type)<<8 | uint16(n.SubType) }

func (n Node) u16(at int) uint16 { return binary.LittleEndian.Uint16(n.Data[at:]) }

func (n Node) u32(at int) uint32 { return binary.LittleEndian.Uint32(n.Data[at:]) }

func (n Node) u64(at int) uint64 { return binary.LittleEndian.Uint64(n.Data[at:]) }

func (n Node) guid(at int) GUID { return GUID(n.Data[at : at+16]) }

// String gives the text form of one node.
func (n Node) String() string {
	f, ok := nodeForms[n.kind()]
	if !ok || len(n.Data) < f.size {
		return fmt.Sprintf("Path(%d,%d,%x)", n.Type, n.SubType, n.Data[:min(len(n.Data), 64)])
	}
	return f.text(n)
}

// partition writes HD(number,format,signature) (UEFI 2.10, table 10.62).
func (n Node) partition() string {
	switch n.Data[37] {
	case 1:
		return fmt.Sprintf("HD(%d,MBR,%#x)", n.u32(0), n.u32(20))
	case 2:
		return fmt.Sprintf("HD(%d,GPT,%v)", n.u32(0), n.guid(20))
	default:
		return fmt.Sprintf("HD(%d,%d,%x)", n.u32(0), n.Data[37], n.Data[20:36])
	}
}

// acpi writes an ACPI node; PNP0A03 and PNP0A08 are the PCI roots (10.3.3).
func (n Node) acpi() string {
	hid, uid := n.u32(0), n.u32(4)
	switch hid {
	case 0x0A0341D0, 0x0A0841D0:
		return fmt.Sprintf("PciRoot(%#x)", uid)
	default:
		return fmt.Sprintf("Acpi(%#x,%#x)", hid, uid)
	}
}

func ipv4(b []byte) string { return netip.AddrFrom4([4]byte(b)).String() }

func ipv6(b []byte) string { return netip.AddrFrom16([16]byte(b)).String() }
