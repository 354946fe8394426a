package launch

import "context"

// PredictWithin is Predict that reads so many bytes at most.
func PredictWithin(ctx context.Context, most int64, m *Machine, d *Disk) (*Prediction, error) {
	return predict(&meter{ctx, most}, m, d)
}
