package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

func TestRememberedDigestIsThatOfTheVeryBytes(t *testing.T) {
	var m digestMemo
	body := bytes.Repeat([]byte("0123456789abcdef"), 100)
	for range 2 { // unknown, then remembered
		if m.digest(body) != sha256.Sum256(body) {
			t.Fatal("digest of the body is wrong")
		}
	}
	for i := range body {
		other := bytes.Clone(body)
		other[i] ^= 1
		for range 2 {
			if m.digest(other) != sha256.Sum256(other) {
				t.Fatalf("byte %d changed: digest is wrong", i)
			}
		}
		if m.digest(other[:i]) != sha256.Sum256(other[:i]) {
			t.Fatalf("first %d bytes: digest is wrong", i)
		}
	}
	changed := bytes.Clone(body)
	d := m.digest(changed)
	changed[0] ^= 1 // the caller's to change
	if m.digest(body) != d || m.digest(changed) != sha256.Sum256(changed) {
		t.Error("the memo rests on memory of the caller")
	}
}

func TestDigestIsNotTakenForAHashAlone(t *testing.T) {
	var m digestMemo
	body, other := []byte("body"), []byte("other")
	m.digest(body)
	m.newer[1] = part{digest: sha256.Sum256(body), body: body}
	if d, ok := m.find(1, other); ok {
		t.Errorf("found %x by the hash alone", d)
	}
	if _, ok := m.find(1, body); !ok {
		t.Error("the body itself is not found")
	}
}

func TestRememberedDigestsAreBounded(t *testing.T) {
	var m digestMemo
	total := func(parts map[uint64]part) (n int) {
		for _, p := range parts {
			n += len(p.body)
		}
		return n
	}
	body := make([]byte, 100<<10)
	for i := range uint32(500) {
		binary.BigEndian.PutUint32(body, i)
		m.digest(body)
		if n := total(m.newer); n != m.newerBytes || n > memoBytes || total(m.older) > memoBytes {
			t.Fatalf("after %d: %d and %d bytes kept, %d counted", i, n, total(m.older), m.newerBytes)
		}
	}
	before := m.newerBytes
	m.digest(make([]byte, memoLargest+1))
	if m.newerBytes != before {
		t.Error("a body above the limit is kept")
	}
}
