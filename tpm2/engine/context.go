package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 28 of Part 3: context management. What a saved context looks like is
// in context_blob.go.

// flushContext is TPM2_FlushContext (Part 3, 28.4).
func flushContext(c *call, in *command.FlushContextIn, _ *command.None) error {
	t, h := c.t, in.FlushHandle
	if h.Kind() == tpm2.KindTransient {
		if t.object(h) == nil {
			return parameter(tpm2.RCHandleValue, 1)
		}
		t.flushObject(h)
		return nil
	}
	if t.session(h) == nil && !t.sessionSaved(h.Index()) {
		return parameter(tpm2.RCHandleValue, 1)
	}
	t.flushSession(h.Index())
	return nil
}

// evictControl is TPM2_EvictControl (Part 3, 28.5): it makes a copy of a
// transient object persistent, or removes a persistent object.
func evictControl(c *call, in *command.EvictControlIn, _ *command.None) error {
	t := c.t
	o := t.object(c.handles[1])
	if o.temporary || o.stClear || o.publicOnly || o.sequence != nil || o.hierarchy == tpm2.HandleNull {
		return handleError(tpm2.RCAttributes, 2)
	}
	if o.evict != 0 && o.evict != in.PersistentHandle {
		return handleError(tpm2.RCHandleValue, 2)
	}
	if err := c.evictAllowed(o, in.PersistentHandle); err != nil {
		return err
	}
	if o.evict != 0 {
		delete(t.permanent.objects, o.evict)
		t.touch()
		return nil
	}
	if t.permanent.objects[in.PersistentHandle] != nil {
		return tpm2.RCNVDefined
	}
	if len(t.permanent.objects) >= t.limits.Persistent {
		return tpm2.RCNVSpace
	}
	kept := *o
	kept.evict = in.PersistentHandle
	t.permanent.objects[in.PersistentHandle] = &kept
	t.touch()
	return nil
}

// evictAllowed checks that who authorizes the command may do so for the object:
// the platform keeps its own objects in its own range and may remove any.
func (c *call) evictAllowed(o *object, h tpm2.Handle) error {
	platform := c.handles[0] == tpm2.HandlePlatform
	own := o.hierarchy == tpm2.HandlePlatform
	if own != platform && (!platform || o.evict == 0) {
		return handleError(tpm2.RCHierarchy, 2)
	}
	if o.evict == 0 && platform != (h >= tpm2.HandlePlatformPersistent) {
		return parameter(tpm2.RCRange, 1)
	}
	return nil
}
