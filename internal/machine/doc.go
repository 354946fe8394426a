// Package machine keeps the virtual machines of one host: the home of each, which is
// encrypted, and its life, from the start of its firmware to its end.
//
// One process supervises one machine ([Run]): it holds the machine's home, runs its
// TPM, starts the hypervisor, watches the boot by the TPM's own journal (package
// integrity), and keeps what happened. It believes nothing that the guest says; what
// the guest prints is shown as words. What lies in a home in the clear, a [Card], is a
// claim, and the sealed [Home] decides. Whoever is root on the host is not kept out.
//
// Read [Root] first, then [Home], then [Run].
package machine
