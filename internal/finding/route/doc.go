// Package route delivers the findings of a host to where people look: webhooks,
// Alertmanager, syslog.
//
// A [Deliverer] takes the changes that a [finding.Store] has queued, in order and for
// each route by itself, tries again until the receiver has them, and puts what it
// gives up into a file. Each change arrives at least once; one that arrives twice has
// the same identifier. That a receiver took a message is its word; syslog over UDP
// gives none.
//
// Start with [Deliverer.Run]. Webhooks are signed as Standard Webhooks 1.0 has it;
// Alertmanager is spoken to by its API v2; syslog is RFC 5424, over UDP (RFC 5426),
// TCP (RFC 6587, octet counting), TLS (RFC 5425) or a socket of this machine.
package route
