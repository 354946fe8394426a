// Package metrics tells Prometheus how the virtual machines of a host are: how each
// booted, whether it attests, what its operators have to look at.
//
// It repeats what supervisors and homes say, and proves nothing. What is not known is
// unknown and never good: a machine that hangs, is damaged, or runs unsupervised has no
// passed boot here, and one that was compared with nothing has not passed either. No
// machine holds up or hides another. Labels come from fixed sets, from the names of
// machines, key sets and key providers, and from the certificates in key sets, all bounded:
// no guest makes a series.
//
// Start with [New]; docs/metrics.md has every metric. The text format is Prometheus'
// (exposition format 0.0.4).
package metrics
