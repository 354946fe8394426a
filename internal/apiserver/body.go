package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"time"
)

// firstRead is what a body gets before its bytes are there.
const firstRead = 64 << 10

// readBody reads all of the body before the request takes a turn, so that a slow
// sender holds nothing but its own place.
func (s *Server) readBody(rt Route, r *http.Request, p *place, leave *leavers) ([]byte, error) {
	if rt.Body == 0 || r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	limit := min(rt.Body, p.mostHeld) // a larger body would never have its turn
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, NewProblem(http.StatusUnsupportedMediaType, CodeMediaType, "the body must be sent as Content-Type: application/json")
	}
	buf, err := s.receive(r, limit, p, leave)
	var problem *Problem
	switch {
	case errors.As(err, &problem):
		return nil, problem
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, NewProblem(http.StatusRequestTimeout, CodeTimeout, "the body did not arrive in time")
	case err != nil:
		return nil, NewProblem(http.StatusBadRequest, CodeMalformed, "the body ended before its length")
	}
	return buf, nil
}

// receive reads a body of at most limit bytes, in memory of its caller's share. Memory is taken for what has come
// and as much again, not for what was announced: who announces a large body and
// sends nothing must not keep others out.
func (s *Server) receive(r *http.Request, limit int64, p *place, leave *leavers) ([]byte, error) {
	size := r.ContentLength
	if size < 0 {
		size = limit
	}
	var held int64
	leave.add(func() { s.bodies.give(held); p.give(held) })
	var buf bytes.Buffer
	for more := min(size, firstRead); ; more = min(size-held, held) {
		if err := s.takeMemory(more, p); err != nil {
			return nil, err
		}
		held += more
		buf.Grow(int(more) + bytes.MinRead)
		_, err := io.CopyN(&buf, r.Body, held-int64(buf.Len()))
		switch {
		case errors.Is(err, io.EOF):
			return buf.Bytes(), nil
		case err != nil:
			return nil, err
		case held < size:
			continue
		}
		// One byte more shows the end.
		if n, err := io.CopyN(&buf, r.Body, 1); n > 0 {
			return nil, tooLarge(limit)
		} else if !errors.Is(err, io.EOF) {
			return nil, err
		}
		return buf.Bytes(), nil
	}
}

// takeMemory takes n bytes off the caller's share and off all there is.
func (s *Server) takeMemory(n int64, p *place) error {
	if !p.take(n) {
		s.metrics.limited.WithLabelValues("caller-memory").Inc()
		problem := NewProblem(http.StatusTooManyRequests, CodeMemory, "this caller's requests under way hold as much memory as one caller may")
		problem.retryAfter = time.Second
		return problem
	}
	if !s.bodies.take(n) {
		p.give(n)
		s.metrics.limited.WithLabelValues("memory").Inc()
		return overloaded()
	}
	return nil
}

func tooLarge(limit int64) *Problem {
	return NewProblem(http.StatusRequestEntityTooLarge, CodeTooLarge, fmt.Sprintf("the body may have %d bytes at most", limit))
}
