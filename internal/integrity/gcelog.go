package integrity

import "time"

// A GCEEntry is one entry of the log that Google's Shielded VMs have.
type GCEEntry struct {
	Timestamp time.Time      `json:"timestamp"`
	Resource  GCEResource    `json:"resource"`
	Payload   map[string]any `json:"jsonPayload"`
}

// A GCEResource says what an entry is about.
type GCEResource struct {
	Type   string            `json:"type"`
	Labels map[string]string `json:"labels"`
}

// GCELog gives the events that Google has, in the shape of its log.
func GCELog(list []Notice) []GCEEntry {
	out := []GCEEntry{}
	for i := range list {
		if payload, ok := list[i].GCE(); ok {
			out = append(out, GCEEntry{list[i].Time, GCEResource{"gce_instance", map[string]string{"instance_id": list[i].Instance}}, payload})
		}
	}
	return out
}
