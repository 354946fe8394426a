//go:build unix

package state

// InUse reports whether a process has the file locked at this moment, and says which
// as far as it can be told. It is for people: the next moment may be another.
func InUse(path string) (owner string, inUse bool, err error) {
	f := &file{path: path}
	h, err := system{}.view(path)
	if err != nil {
		return "", false, f.openFault(err)
	}
	defer h.Close()
	free, err := h.lock()
	if err != nil {
		return "", false, f.ioFault(err)
	}
	if free {
		return "", false, nil
	}
	return h.owner(), true, nil
}
