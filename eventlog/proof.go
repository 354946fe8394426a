package eventlog

// A Proof is one event of a confirmed log, with what a quoted register proves of it:
// always its place among the events of its register, and its digest.
type Proof struct {
	Event  int // index in the log
	PCR    int
	Digest []byte // in the bank; aliases the log
	// Stated tells that Type and Data are what the digest covers, that the event
	// stands before the closing marker of its register, and that no other event of
	// the register could be one of these in disguise. Else both are zero.
	Stated bool
	Type   Type
	Data   []byte // aliases the log
}

// Proofs returns the events of the believed registers, in log order. Of these are
// stated: separators and actions of PCR 0 to 7; the variables of PCR 7, if it is
// known whether Secure Boot is on; tagged events of Windows in PCR 12 to 14 and their
// end, if all of them can be believed, PCR 19 to 22 do not contradict them, and
// Windows did not wake from hibernation, for then they are those of another boot.
// Nothing closes PCR 19 to 22, so that what they say is never stated. A SHA-1 bank
// proves nothing.
func (c *Confirmed) Proofs() []Proof {
	if c == nil || c.a == nil || c.a.weak {
		return nil
	}
	a := c.a
	_, variables := a.secureBoot.state()
	tags := a.log.format == FormatWBCL && a.windowsBroken() == "" && !a.windows.Doubtful && !a.windows.Counters.Resumed.IsTrue()
	out := make([]Proof, 0, len(a.events))
	for i := range a.events {
		j := &a.events[i]
		if !a.trusts(int(j.PCR)) {
			continue
		}
		p := Proof{Event: j.Index, PCR: int(j.PCR), Digest: j.digest}
		if !j.closed && j.cover == coverWhole && j.states(variables == "", tags) {
			p.Stated, p.Type, p.Data = true, j.Type, j.Data
		}
		out = append(out, p)
	}
	return out
}

// states reports whether the type of j, whose digest covers its data, is proven
// with it; variables and tags tell whether those of the log are believed.
func (j *judged) states(variables, tags bool) bool {
	switch j.Type {
	case Separator:
		if j.PCR <= 7 {
			return isSeparator(j) && (j.PCR != 7 || variables)
		}
		return tags && closes(j)
	case EFIAction:
		return j.PCR < 7 && isAction(j)
	case EFIVariableDriverConfig:
		return j.PCR == 7 && variables
	case EventTag:
		return tags && j.PCR >= 12 && j.PCR <= 14
	default:
		return false
	}
}

// isSeparator reports whether j is a separator of the firmware without an error.
func isSeparator(j *judged) bool {
	return j.is(Separator, separatorZero) || j.is(Separator, separatorOnes)
}
