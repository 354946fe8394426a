// Package finding keeps what the operator of a host has to know and to do: alerts
// about machines that booted or attested otherwise than they should, and
// recommendations about machines that could be better protected.
//
// A [Book] is the set of findings of one host: conditions begin and end as [Signal]s
// say, people acknowledge and suppress, and each move that somebody must hear of is
// a [Change]. The book believes whoever calls it; it proves nothing about a machine,
// and the texts of reasons may be a guest's. A [Store] keeps the book and its queue of
// changes in files. Nothing is sent from here: that is package route.
//
// Start with [Signal] and [Book.Apply]. The format is docs/formats/findings.md.
package finding
