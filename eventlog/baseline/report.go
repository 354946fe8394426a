package baseline

import (
	"encoding/hex"
	"fmt"
)

// A Measurement is one value of a [Report].
type Measurement struct {
	PCRNum  string `json:"pcrNum"` // "PCR_4"
	Value   string `json:"value"`  // lower-case hex
	HashAlg string `json:"hashAlgo"`
}

// A Report has the contents of earlyBootReportEvent and lateBootReportEvent. The
// order of its lists is fixed, for readers that go by position.
type Report struct {
	ActualMeasurements     []Measurement `json:"actualMeasurements"`
	PolicyMeasurements     []Measurement `json:"policyMeasurements"`
	PolicyEvaluationPassed bool          `json:"policyEvaluationPassed"`
}

// reportOrder gives the PCRs of a report's lists, actual and policy. PCR 0 is
// listed in the policy and never decides under profile gce.
func reportOrder(late, windows bool) (actual, policy []int) {
	if late && windows {
		return []int{0, 4, 5, 7, 11, 12, 13, 14}, []int{0, 4, 7, 11, 13, 14}
	}
	return []int{0, 4, 5, 7}, []int{0, 4, 7}
}

// Reports gives the two reports of a boot. A value that is not known is left out
// of its list; each entry names its register.
func (b *Baseline) Reports(boot Boot, c *Comparison) (early, late Report) {
	actual, policy := reportOrder(false, c.Windows)
	values := boot.Early()
	early.ActualMeasurements = b.pick(actual, func(pcr int) []byte { return values[pcr] })
	early.PolicyMeasurements = b.pick(policy, func(pcr int) []byte { return first(b.pcrs[pcr].early) })
	early.PolicyEvaluationPassed = c.EarlyPassed

	actual, policy = reportOrder(true, c.Windows)
	whole := boot.Late()
	late.ActualMeasurements = b.pick(actual, func(pcr int) []byte {
		if !boot.Confirms(pcr) {
			return nil
		}
		return lateValue(whole, pcr, b.bank)
	})
	late.PolicyMeasurements = b.pick(policy, func(pcr int) []byte { return first(b.pcrs[pcr].late) })
	late.PolicyEvaluationPassed = c.LatePassed
	return early, late
}

func (b *Baseline) pick(order []int, value func(pcr int) []byte) []Measurement {
	out := []Measurement{}
	for _, pcr := range order {
		if v := value(pcr); v != nil {
			out = append(out, Measurement{fmt.Sprintf("PCR_%d", pcr), hex.EncodeToString(v), b.bank.BankName()})
		}
	}
	return out
}

func first(values [][]byte) []byte {
	if len(values) == 0 {
		return nil
	}
	return values[0]
}
