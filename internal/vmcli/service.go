package vmcli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/apiclient"
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
	server, err := program.ServiceURL("--attestation-service", s.url)
	if err != nil {
		return nil, err
	}
	if s.tokenFile == "" {
		return nil, errors.New("--attestation-token-file is missing: who is this host to the service?")
	}
	var authorities []byte
	if s.ca != "" {
		if authorities, err = os.ReadFile(s.ca); err != nil {
			return nil, err
		}
	}
	h, err := apiclient.Connect(authorities, serviceTime)
	if err != nil {
		return nil, fmt.Errorf("--attestation-ca: %s: %w", s.ca, err)
	}
	api := &apiclient.Client{Server: server, HTTP: h, Credential: func() (string, error) {
		text, err := os.ReadFile(s.tokenFile)
		return strings.TrimSpace(string(text)), err
	}}
	return func(machine string) health.Issuer {
		return &health.Remote{API: api, Machine: machine, Policy: s.policy}
	}, nil
}
