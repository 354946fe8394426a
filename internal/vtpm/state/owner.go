//go:build unix

package state

// InUse says who has the file locked at this moment; empty when nobody has, or when
// it cannot be told, as over a network. It takes no lock itself, which could be in
// somebody's way, and is for people: the next moment may be another.
func InUse(path string) (owner string, err error) {
	f := &file{path: path}
	h, err := system{}.view(path)
	if err != nil {
		return "", f.openFault(err)
	}
	defer h.Close()
	return h.owner(), nil
}
