package engine

import (
	"errors"
	"math"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 28 of Part 3: context management. What a saved context looks like is
// in context_blob.go.

// contextSave is TPM2_ContextSave (Part 3, 28.2). An object stays loaded; a
// session leaves, so that only one of it is there (Part 1, 30.4).
func contextSave(c *call, _ *command.None, out *command.ContextSaveOut) error {
	t, h := c.t, c.handles[0]
	if h.Kind() == tpm2.KindTransient {
		return t.saveObject(t.object(h), &out.Context)
	}
	s := t.session(h)
	number, err := t.nextSessionContext()
	if err != nil {
		return err
	}
	out.Context = tpm2.Context{Sequence: number, SavedHandle: h, Hierarchy: tpm2.HandleNull}
	if err := t.sealContext(&out.Context, s); err != nil {
		return err
	}
	t.putAway(s)
	return nil
}

func (t *TPM) saveObject(o *object, x *tpm2.Context) error {
	if t.reset.contextID == math.MaxUint64 {
		panic(errors.New("numbers of object contexts are used up")) // Part 3, 28.2: failure mode
	}
	*x = tpm2.Context{Sequence: t.reset.contextID + 1, SavedHandle: tpm2.SavedObject, Hierarchy: o.hierarchy}
	switch {
	case o.sequence != nil:
		x.SavedHandle = tpm2.SavedSequenceObject
	case o.stClear:
		x.SavedHandle = tpm2.SavedSTClearObject
	}
	if err := t.sealContext(x, contextObject{o}); err != nil {
		return err
	}
	t.reset.contextID++
	return nil
}

// contextLoad is TPM2_ContextLoad (Part 3, 28.3).
func contextLoad(c *call, in *command.ContextLoadIn, _ *command.None) error {
	t, x := c.t, &in.Context
	b, err := t.openContext(x)
	if err != nil {
		return err
	}
	if x.SavedHandle.Kind() == tpm2.KindTransient {
		return c.loadObject(x, b)
	}
	if !t.savedAs(x.SavedHandle.Index(), x.Sequence) {
		return parameter(tpm2.RCHandleValue, 1)
	}
	if err := t.canBringBack(x.SavedHandle.Index()); err != nil {
		return err
	}
	s := new(session)
	readContext(x, b, s)
	t.bringBack(s)
	c.response = s.handle
	return nil
}

func (c *call) loadObject(x *tpm2.Context, b []byte) error {
	if !c.t.enabled(x.Hierarchy) {
		return parameter(tpm2.RCHierarchy, 1)
	}
	if _, err := c.t.freeSlot(); err != nil {
		return err
	}
	o := new(object)
	readContext(x, b, contextObject{o})
	var err error
	c.response, err = c.t.place(o)
	return err
}

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
