package move

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/assay-project/assay/internal/strictjson"
)

// The errors of tickets that a caller acts on.
var (
	ErrTicket  = errors.New("not a ticket for a machine")
	ErrExpired = errors.New("the ticket has expired")
	// ErrStranger is the other end of a connection that does not have the ticket's key.
	ErrStranger = errors.New("the other end is not the one that the ticket is about")
)

// A Ticket lets one host give one machine to another. Who has it may do that until it
// expires: it is a secret, and goes to the source by a way that its owner trusts.
type Ticket struct {
	Version int    `json:"version"`
	Machine string `json:"machine"`
	// Address is where the destination listens, host:port.
	Address string `json:"address"`
	// Server is the SHA-256 of the destination's certificate.
	Server []byte `json:"server"`
	// Seed is that of the key by which the source shows that it has the ticket.
	Seed    []byte    `json:"seed"`
	Expires time.Time `json:"expires"`
}

const (
	ticketVersion = 1
	maxTicket     = 4 << 10
	alpn          = "assay-move/1"
)

// Terms say what a ticket is for.
type Terms struct {
	Machine string
	Address string
	Now     time.Time
	Expires time.Time
	Random  io.Reader
}

// NewTicket makes a ticket, and what its destination listens with: TLS 1.3, a certificate
// that the ticket names, and no client but the one that has the ticket.
func NewTicket(t Terms) (*Ticket, *tls.Config, error) {
	if t.Machine == "" || t.Random == nil || !t.Now.Before(t.Expires) {
		return nil, nil, errors.New("a ticket needs a machine, randomness, and time")
	}
	server, err := newKey(t.Random)
	if err != nil {
		return nil, nil, err
	}
	client, err := newKey(t.Random)
	if err != nil {
		return nil, nil, err
	}
	cert, err := certify(t.Random, server, t.Now)
	if err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256(cert.Certificate[0])
	ticket := &Ticket{ticketVersion, t.Machine, t.Address, digest[:], client.Seed(), t.Expires.UTC().Truncate(time.Second)}
	cfg := &tls.Config{
		Rand: t.Random, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, Certificates: []tls.Certificate{*cert},
		ClientAuth: tls.RequireAnyClientCert, VerifyConnection: sameKey(client.Public().(ed25519.PublicKey)), SessionTicketsDisabled: true,
	}
	return ticket, cfg, nil
}

func newKey(random io.Reader) (ed25519.PrivateKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// certify puts a key into the form that TLS wants. Nobody believes what else it says.
func certify(random io.Reader, key ed25519.PrivateKey, now time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour)}
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// sameKey accepts the holder of one key alone; TLS has proved that it is held.
func sameKey(want ed25519.PublicKey) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 1 {
			if got, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); ok && got.Equal(want) {
				return nil
			}
		}
		return ErrStranger
	}
}

var ticketRules = strictjson.Rules{Bytes: maxTicket, Depth: 2, Members: 8, Values: 16, FoldNames: true}

// ParseTicket reads what [Ticket.Text] wrote.
func ParseTicket(text []byte) (*Ticket, error) {
	if _, err := strictjson.Parse(text, ticketRules); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTicket, err)
	}
	t := new(Ticket)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTicket, err)
	}
	_, _, err := net.SplitHostPort(t.Address)
	if t.Version != ticketVersion || t.Machine == "" || len(t.Server) != sha256.Size || len(t.Seed) != ed25519.SeedSize || err != nil {
		return nil, fmt.Errorf("%w: version %d for machine %.80q at %.80q", ErrTicket, t.Version, t.Machine, t.Address)
	}
	return t, nil
}

// Text is the ticket for a file. It is a secret.
func (t *Ticket) Text() ([]byte, error) {
	text, err := json.MarshalIndent(t, "", "  ")
	return append(text, '\n'), err
}

// A Clock gives what a connection needs of this machine.
type Clock struct {
	Random io.Reader
	Now    func() time.Time
}

// Dial connects to the destination of a ticket, and sees that it is that.
func (t *Ticket) Dial(ctx context.Context, c Clock) (*Link, error) {
	cert, err := certify(c.Random, ed25519.NewKeyFromSeed(t.Seed), c.Now())
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		Rand: c.Random, Time: c.Now, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, Certificates: []tls.Certificate{*cert},
		InsecureSkipVerify: true, //nolint:gosec // the certificate is the very one that the ticket names
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 1 {
				if digest := sha256.Sum256(s.PeerCertificates[0].Raw); bytes.Equal(digest[:], t.Server) {
					return nil
				}
			}
			return ErrStranger
		},
	}
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Address, err)
	}
	return NewLink(conn), nil
}
