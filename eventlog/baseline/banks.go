package baseline

import (
	"fmt"
	"slices"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/tpm2"
)

// Banks are those that the baseline has, its own first. all is false when it does not
// say which others there were: then a bank that appears is none that is new.
func (b *Baseline) Banks() (banks []tpm2.Alg, all bool) {
	banks = []tpm2.Alg{b.bank}
	for _, o := range b.others {
		banks = append(banks, o.bank)
	}
	return banks, b.banks
}

// even reports whether a bank has what the boot measured. One that was capped, that
// nobody extended, or that was extended alone has not.
func even(b Boot) bool { return b.Confirms(0) && b.Confirms(4) && b.Confirms(7) }

// banks judges the other banks of a boot. A relying party may ask for a quote of any that
// is active, so that none may hold another boot than the one that was judged.
func (c *comparer) banks() {
	boot, ok := c.boot.(Banked)
	if !ok {
		return
	}
	others, known := boot.Others()
	if !known {
		return
	}
	for _, o := range others {
		i := slices.IndexFunc(c.base.others, func(b *Baseline) bool { return b.bank == o.Bank() })
		switch {
		case !even(o):
			c.bank(ChangeBankUneven, o.Bank())
		case i >= 0:
			c.merge(c.base.others[i].Compare(o, c.profile), o.Bank())
		case c.base.banks:
			c.bank(ChangeBankAdded, o.Bank())
		}
	}
	for _, b := range c.base.others {
		if !slices.ContainsFunc(others, func(o Boot) bool { return o.Bank() == b.bank }) {
			c.bank(ChangeBankRemoved, b.bank)
		}
	}
}

// bank adds a difference that is of a whole bank, and decides on both parts.
func (c *comparer) bank(change string, bank tpm2.Alg) {
	c.out.EarlyPassed, c.out.LatePassed = false, false
	d := Difference{Phase: phaseEarly, Kind: eventlog.KindOther, Component: "bank " + bank.BankName(), Change: change, Judged: true}
	d.describe()
	c.out.Differences = append(c.out.Differences, d)
}

// merge takes over what another bank alone shows: what differs in all is said once.
func (c *comparer) merge(other *Comparison, bank tpm2.Alg) {
	c.out.EarlyPassed = c.out.EarlyPassed && other.EarlyPassed
	c.out.LatePassed = c.out.LatePassed && other.LatePassed
	for _, d := range other.Differences {
		said := slices.ContainsFunc(c.out.Differences, func(o Difference) bool {
			return o.PCR == d.PCR && o.Phase == d.Phase && o.Change == d.Change && o.Kind == d.Kind && o.Component == d.Component && (o.Judged || !d.Judged)
		})
		if !said {
			d.Words = fmt.Sprintf("in bank %s: %s", bank.BankName(), d.Words)
			c.out.Differences = append(c.out.Differences, d)
		}
	}
}
