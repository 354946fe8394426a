package vmcli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/program"
)

// serviceFlags say which attestation service makes tokens of what a machine's agent proves.
type serviceFlags struct{ url, tokenFile, ca, policy string }

// serviceFlagNames are those that a supervisor in the background is given, too.
var serviceFlagNames = [...]string{"attestation-service", "attestation-token-file", "attestation-ca", "attestation-policy"}

func addServiceFlags(cmd *cobra.Command) *serviceFlags {
	s := &serviceFlags{}
	f := cmd.Flags()
	f.StringVar(&s.url, serviceFlagNames[0], "", "`URL` of an attestation service that makes tokens of what the agent proves")
	f.StringVar(&s.tokenFile, serviceFlagNames[1], "", "`FILE` with an API token of it; read each time")
	f.StringVar(&s.ca, serviceFlagNames[2], "", "`FILE` with the authority of its certificate, in PEM")
	f.StringVar(&s.policy, serviceFlagNames[3], "", "`NAME` of its policy (default the service's own)")
	return s
}

// serviceTime bounds one request to the service.
const serviceTime = 30 * time.Second

// issuer returns the service; nil when none is named.
func (s *serviceFlags) issuer() (func(machine string) health.Issuer, error) {
	if s.url == "" {
		return nil, nil //nolint:nilnil // none is wanted
	}
	u, err := url.Parse(s.url)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("--attestation-service %q is no URL of a service", s.url)
	}
	if u.Scheme == "http" {
		if err := program.MustBeLoopback("--attestation-service over http", u.Host); err != nil {
			return nil, err
		}
	}
	if s.tokenFile == "" {
		return nil, errors.New("--attestation-token-file is missing: who is this host to the service?")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	if s.ca != "" {
		text, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--attestation-ca: %s holds no certificate in PEM", s.ca)
		}
	}
	// The token is for nobody else: no redirection is followed.
	client := &http.Client{Transport: transport, Timeout: serviceTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(machine string) health.Issuer {
		return &health.Remote{
			Server: strings.TrimRight(s.url, "/"), HTTP: client, Machine: machine, Policy: s.policy,
			Credential: func() (string, error) {
				text, err := os.ReadFile(s.tokenFile)
				return strings.TrimSpace(string(text)), err
			},
		}
	}, nil
}
