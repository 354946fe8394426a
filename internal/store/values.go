package store

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// moment is a time as stored: microseconds, whose range holds the zero time too.
func moment(t time.Time) int64 { return t.UnixMicro() }

func fromMoment(micro int64) time.Time { return time.UnixMicro(micro).UTC() }

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// octets is b as stored: columns are NOT NULL, and drivers make nil NULL.
func octets(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func fromOctets(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// texts refuses what PostgreSQL cannot keep in a text, on every database alike.
func texts(values ...string) error {
	for _, v := range values {
		if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return fmt.Errorf("%w: text %.64q is not UTF-8 without NUL", ErrInvalid, v)
		}
	}
	return nil
}

// fromHex reads a SHA-256 digest, or nothing.
func fromHex(digest string) ([]byte, error) {
	b, err := hex.DecodeString(digest)
	if err != nil || len(b) != 32 && len(b) != 0 || digest != hex.EncodeToString(b) {
		return nil, fmt.Errorf("%w: %.80q is not a SHA-256 digest in lower-case hex", ErrInvalid, digest)
	}
	return b, nil
}

// document packs what only the service reads into.
func document(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return b, nil
}

func fromDocument(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
