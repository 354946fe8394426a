package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiclient"
	"github.com/assay-project/assay/internal/program"
)

// A remote is a service that a command asks over its API.
type remote struct {
	url string
	api *apiclient.Client
}

// remoteFlags say which service, and who is asking.
type remoteFlags struct{ server, tokenFile, ca string }

// addRemoteFlags declares them for cmd and everything below it.
func addRemoteFlags(cmd *cobra.Command) *remoteFlags {
	var f remoteFlags
	cmd.PersistentFlags().StringVar(&f.server, "server", "", "`URL` of the service (default $ASSAY_SERVER, else https://127.0.0.1:8750)")
	cmd.PersistentFlags().StringVar(&f.tokenFile, "token-file", "", "`FILE` with your API token (default $ASSAY_TOKEN_FILE)")
	cmd.PersistentFlags().StringVar(&f.ca, "ca", "", "`FILE` with the certificate authority of the service, PEM (default $ASSAY_CA, else the system's)")
	return &f
}

// remoteTimeout bounds one request; a large bundle of anchors takes some seconds.
const remoteTimeout = time.Minute

func (f *remoteFlags) open(env *program.Env) (*remote, error) {
	setting := func(flag, name, otherwise string) string {
		if flag == "" {
			flag = env.Getenv(name)
		}
		if flag == "" {
			flag = otherwise
		}
		return flag
	}
	server, err := program.ServiceURL("--server", setting(f.server, "ASSAY_SERVER", "https://127.0.0.1:8750"))
	if err != nil {
		return nil, err
	}
	name := setting(f.tokenFile, "ASSAY_TOKEN_FILE", "")
	if name == "" {
		return nil, errors.New("say who you are: --token-file FILE; a new service puts its administrator's into admin-token of its data folder")
	}
	token, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	secret := strings.TrimSpace(string(token))
	if _, err := access.ParseToken(secret); err != nil {
		return nil, fmt.Errorf("%s holds no API token", name)
	}
	var authorities []byte
	ca := setting(f.ca, "ASSAY_CA", "")
	if ca != "" {
		if authorities, err = os.ReadFile(ca); err != nil {
			return nil, err
		}
	}
	h, err := apiclient.Connect(authorities, remoteTimeout)
	if err != nil {
		return nil, fmt.Errorf("--ca: %s: %w", ca, err)
	}
	return newRemote(server, secret, h), nil
}

func newRemote(server, token string, h *http.Client) *remote {
	return &remote{server, &apiclient.Client{
		Server: server, HTTP: h, Limit: maxRemoteAnswer, Credential: func() (string, error) { return token, nil },
	}}
}

// maxRemoteAnswer bounds what is read of an answer.
const maxRemoteAnswer = 64 << 20

// call sends in as JSON, unless it is nil, and reads the answer into out, unless
// it is nil. A problem that the service answers is refusedBy it.
func (r *remote) call(ctx context.Context, method, path string, in, out any) error {
	err := r.api.Do(ctx, method, path, in, out)
	var p *apiclient.Problem
	if errors.As(err, &p) {
		return program.RefusedBy(remoteProblem(p))
	}
	return err
}

// remoteProblem puts an answer that is no success into words.
func remoteProblem(p *apiclient.Problem) error {
	if p.Code == "" {
		return fmt.Errorf("%s answers %d %s", p.Host, p.Status, http.StatusText(p.Status))
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", p.Code, cmp.Or(p.Detail, p.Title))
	for _, e := range p.Errors {
		if !strings.Contains(p.Detail, e.Detail) {
			fmt.Fprintf(&text, "\n  %s: %s", e.Field, e.Detail)
		}
	}
	if p.RequestID != "" {
		text.WriteString(" (request " + p.RequestID + ")")
	}
	return errors.New(text.String())
}
