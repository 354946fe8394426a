// Package move carries the memory of a machine: into a file of its home, as a snapshot
// has it, and over the network to another host.
//
// What leaves is encrypted, in parts that can be neither altered, moved, left out nor cut
// off ([Writer], [Reader]); two hosts speak TLS under keys that one [Ticket] gives to both,
// for one machine and for a while ([Dial], [Accept]). Nothing here knows what a machine
// is, or whether the other host may be trusted with one: who makes a ticket and gives it
// away says so.
//
// Read [Ticket] first, then [Link]. TLS 1.3 (RFC 8446); AES-256-GCM by package seal.
package move
