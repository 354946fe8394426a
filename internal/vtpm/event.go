package vtpm

import (
	"encoding/json"
	"time"

	"github.com/assay-project/assay/internal/audit"
)

// An EventType says what happened to a TPM.
type EventType string

// What happens to TPMs. Each is an entry of the audit trail.
const (
	EventCreate    EventType = "createTPMEvent"
	EventAttach    EventType = "attachTPMEvent"
	EventDetach    EventType = "detachTPMEvent"
	EventClear     EventType = "clearTPMEvent"
	EventClone     EventType = "cloneTPMEvent"
	EventDelete    EventType = "deleteTPMEvent"
	EventRestore   EventType = "restoreTPMEvent"
	EventImport    EventType = "importTPMEvent"
	EventRotateKey EventType = "rotateKeyTPMEvent"
	// EventReload is keys that were forgotten, to be asked for again.
	EventReload EventType = "reloadKeyProvidersEvent"
	// EventArrive is state that came from a hypervisor, by migration or a snapshot.
	EventArrive EventType = "arriveTPMEvent"
	EventStart  EventType = "startTPMEvent"
	EventStop   EventType = "stopTPMEvent"
	// EventSaveFailed is a state that could not be kept: the TPM answers
	// TPM_RC_FAILURE from then on.
	EventSaveFailed EventType = "saveFailedTPMEvent"
	// EventFault is a fault of this program that put one TPM in failure mode.
	EventFault EventType = "faultTPMEvent"
	// EventLimit is a TPM held to one of its limits.
	EventLimit EventType = "limitTPMEvent"
	// EventStranger is a request by a user who may not make it.
	EventStranger EventType = "deniedRequestEvent"
)

// How an operation ended.
const (
	OutcomeDone   = "done"
	OutcomeFailed = "failed"
	OutcomeDenied = "denied"
)

// An Event is one thing that happened to a TPM.
type Event struct {
	Type    EventType       `json:"type"`
	Time    time.Time       `json:"time"`
	TPM     string          `json:"tpm"`
	ID      string          `json:"id,omitempty"`
	Actor   string          `json:"actor"`
	Outcome string          `json:"outcome"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// entry is the event as the audit trail keeps it.
func (e *Event) entry() audit.Entry {
	detail := struct {
		ID     string          `json:"id,omitempty"`
		Detail json.RawMessage `json:"detail,omitempty"`
	}{e.ID, e.Detail}
	text, err := json.Marshal(detail)
	if err != nil || len(text) > maxLine/2 {
		text = nil // made by this program: it marshals and is short
	}
	return audit.Entry{Time: e.Time, Actor: e.Actor, Action: string(e.Type), Subject: e.TPM, Outcome: e.Outcome, Detail: text}
}

// detail makes the Detail of an event.
func detail(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic("unreachable: the detail of an event does not marshal: " + err.Error())
	}
	return text
}
