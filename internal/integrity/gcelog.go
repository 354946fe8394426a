package integrity

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"
)

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

// GCEInstanceID is the number that a machine has in the shape of Google's log, where
// instance_id is a positive number of 64 bits in decimal: the first eight bytes, big-endian
// and without the highest bit, of the SHA-256 of "assay gce instance id", a line end and the
// machine's id as its card writes it. It is the same as long as the machine is, wherever it
// goes, and another for another machine of its name.
func GCEInstanceID(machine string) string {
	sum := sha256.Sum256([]byte("assay gce instance id\n" + machine))
	return strconv.FormatUint(binary.BigEndian.Uint64(sum[:])&(1<<63-1), 10)
}

// GCELog gives those events of a machine that Google has, in the shape of its log. id is
// that of the machine's card.
func GCELog(id string, list []Notice) []GCEEntry {
	out, number := []GCEEntry{}, GCEInstanceID(id)
	for i := range list {
		if payload, ok := list[i].GCE(); ok {
			out = append(out, GCEEntry{list[i].Time, GCEResource{"gce_instance", map[string]string{"instance_id": number, "instance_name": list[i].Instance}}, payload})
		}
	}
	return out
}
