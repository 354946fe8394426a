package uefi

import "fmt"

// nodeForm says how to write one kind of node, and how many bytes it needs.
type nodeForm struct {
	size int
	text func(Node) string
}

// nodeForms are the nodes that boot paths are made of, by type and subtype
// (UEFI 2.10, 10.3.2 to 10.3.5; text 10.6.1.6).
var nodeForms = map[uint16]nodeForm{
	0x0101:       {2, func(n Node) string { return fmt.Sprintf("Pci(%#x,%#x)", n.Data[1], n.Data[0]) }},
	0x0103:       {20, func(n Node) string { return fmt.Sprintf("MemoryMapped(%#x,%#x,%#x)", n.u32(0), n.u64(4), n.u64(12)) }},
	0x0104:       {16, func(n Node) string { return fmt.Sprintf("VenHw(%v)", n.guid(0)) }},
	0x0105:       {4, func(n Node) string { return fmt.Sprintf("Ctrl(%#x)", n.u32(0)) }},
	0x0201:       {8, Node.acpi},
	0x0301:       {4, func(n Node) string { return fmt.Sprintf("Ata(%d,%d,%d)", n.Data[0], n.Data[1], n.u16(2)) }},
	0x0302:       {4, func(n Node) string { return fmt.Sprintf("Scsi(%#x,%#x)", n.u16(0), n.u16(2)) }},
	0x0305:       {2, func(n Node) string { return fmt.Sprintf("USB(%#x,%#x)", n.Data[0], n.Data[1]) }},
	0x030A:       {16, func(n Node) string { return fmt.Sprintf("VenMsg(%v)", n.guid(0)) }},
	0x030B:       {33, func(n Node) string { return fmt.Sprintf("MAC(%x,%#x)", n.Data[:6], n.Data[32]) }},
	0x030C:       {8, func(n Node) string { return fmt.Sprintf("IPv4(%s)", ipv4(n.Data[4:8])) }},
	0x030D:       {32, func(n Node) string { return fmt.Sprintf("IPv6(%s)", ipv6(n.Data[16:32])) }},
	0x0311:       {1, func(n Node) string { return fmt.Sprintf("Unit(%#x)", n.Data[0]) }},
	0x0312:       {6, func(n Node) string { return fmt.Sprintf("Sata(%#x,%#x,%#x)", n.u16(0), n.u16(2), n.u16(4)) }},
	0x0317:       {12, func(n Node) string { return fmt.Sprintf("NVMe(%#x,%x)", n.u32(0), n.Data[4:12]) }},
	0x0318:       {0, func(n Node) string { return fmt.Sprintf("Uri(%q)", n.Data) }},
	0x031A:       {1, func(n Node) string { return fmt.Sprintf("SD(%#x)", n.Data[0]) }},
	0x031D:       {1, func(n Node) string { return fmt.Sprintf("eMMC(%#x)", n.Data[0]) }},
	0x0401:       {38, Node.partition},
	0x0402:       {20, func(n Node) string { return fmt.Sprintf("CDROM(%#x,%#x,%#x)", n.u32(0), n.u64(4), n.u64(12)) }},
	0x0403:       {16, func(n Node) string { return fmt.Sprintf("VenMedia(%v)", n.guid(0)) }},
	nodeFilePath: {0, func(n Node) string { return Text(n.Data) }},
	0x0406:       {16, func(n Node) string { return fmt.Sprintf("FvFile(%v)", n.guid(0)) }},
	0x0407:       {16, func(n Node) string { return fmt.Sprintf("Fv(%v)", n.guid(0)) }},
	0x0408:       {20, func(n Node) string { return fmt.Sprintf("Offset(%#x,%#x)", n.u64(4), n.u64(12)) }},
	0x0501:       {4, func(n Node) string { return fmt.Sprintf("BBS(%#x,%s)", n.u16(0), printable(n.Data[4:])) }},
}

// printable keeps the printable ASCII of a text that may end with NUL.
func printable(b []byte) string {
	var out []byte
	for _, c := range b[:min(len(b), 256)] {
		if c == 0 {
			break
		}
		if c < 0x20 || c > 0x7E {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}
