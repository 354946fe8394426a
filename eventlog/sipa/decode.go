package sipa

// Int reads a number of 1, 2, 4 or 8 bytes.
func (t Tag) Int() (n uint64, ok bool) { return integer(t.Value) }

// Bool reads a BOOLEAN: 0 or 1, and nothing else is true.
func (t Tag) Bool() (v, ok bool) { return boolean(t.Value) }

// Text reads a UTF-16 string up to its first NUL.
func (t Tag) Text() (s string, ok bool) { return text(t.Value) }
