package httpapi

import (
	"context"
	"net/http"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
)

type attestersInput struct {
	After string `query:"after" maxLength:"256" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type attestersBody struct {
	Attesters []attest.Attester `json:"attesters" doc:"By key name" nullable:"false"`
	Next      string            `json:"next,omitempty" doc:"after of the next page; absent on the last"`
}

// ByAKName is the part of a path that names an attestation key.
type ByAKName struct {
	AKName string `path:"akName" maxLength:"256" doc:"Name of the attestation key, hex"`
}

// A Registration is what every enrolment says about the machine.
type Registration struct {
	Machine  string `json:"machine" maxLength:"128" doc:"What you call the machine; one live key each"`
	AKPublic []byte `json:"akPublic" doc:"TPMT_PUBLIC of the attestation key"`
	Baseline string `json:"baseline,omitempty" maxLength:"128" doc:"Reference value that its boots are compared with"`
}

type registerInput struct{ Body Registration }

type baselineInput struct {
	ByAKName
	Body struct {
		Baseline string `json:"baseline" maxLength:"128" doc:"Name of a reference value; empty for none"`
	}
}

func (a *API) attesterRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-attesters", Summary: "List enrolled attestation keys", Tag: "attesters",
		Route: apiserver.Route{Pattern: "GET /v1/attesters", Needs: access.ReadAttesters},
	}, a.listAttesters)
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-attester", Summary: "Read one attestation key's record", Tag: "attesters",
		Route: apiserver.Route{Pattern: "GET /v1/attesters/{akName}", Needs: access.ReadAttesters},
	}, func(ctx context.Context, in *ByAKName) (*apiserver.Reply[attest.Attester], error) {
		one, err := a.service.Attester(ctx, in.AKName)
		return apiserver.Answer(one), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "register-attester", Summary: "Trust an attestation key on your word", Tag: "attesters", Status: http.StatusCreated,
		Route: apiserver.Route{Pattern: "POST /v1/attesters", Needs: access.SetAttesters, Body: 64 << 10},
	}, func(ctx context.Context, in *registerInput) (*apiserver.Reply[attest.Attester], error) {
		one, err := a.service.RegisterAttester(ctx, apiserver.Actor(ctx), attest.Registration(in.Body))
		return apiserver.Answer(one), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "set-attester-baseline", Summary: "Name the reference value that a machine's boots are compared with", Tag: "attesters", Status: http.StatusNoContent,
		Route: apiserver.Route{Pattern: "PUT /v1/attesters/{akName}/baseline", Needs: access.SetAttesters, Body: 4 << 10},
	}, func(ctx context.Context, in *baselineInput) (*struct{}, error) {
		return nil, a.service.SetBaseline(ctx, apiserver.Actor(ctx), in.AKName, in.Body.Baseline)
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "remove-attester", Summary: "Trust an attestation key no longer", Tag: "attesters", Status: http.StatusNoContent,
		Route: apiserver.Route{Pattern: "DELETE /v1/attesters/{akName}", Needs: access.SetAttesters},
	}, func(ctx context.Context, in *ByAKName) (*struct{}, error) {
		return nil, a.service.RemoveAttester(ctx, apiserver.Actor(ctx), in.AKName)
	})
}

func (a *API) listAttesters(ctx context.Context, in *attestersInput) (*apiserver.Reply[attestersBody], error) {
	found, err := a.service.Attesters(ctx, in.After, in.Limit)
	body := attestersBody{Attesters: apiserver.OrEmpty(found)}
	if err == nil && len(found) == in.Limit {
		body.Next = found[len(found)-1].AKName
	}
	return apiserver.Answer(body), err
}

type enrolmentInput struct {
	Body struct {
		Registration
		EKPublic []byte   `json:"ekPublic" doc:"TPMT_PUBLIC of the endorsement key"`
		EKCert   []byte   `json:"ekCert,omitempty" doc:"Its certificate, DER"`
		Chain    [][]byte `json:"chain,omitempty" maxItems:"8" doc:"Intermediate certificates, DER" nullable:"false"`
		TrustEK  bool     `json:"trustEK,omitempty" doc:"Take the endorsement key on your word, without a certificate"`
	}
}

type finishInput struct {
	ByID
	Body struct {
		Secret []byte `json:"secret" doc:"What TPM2_ActivateCredential gave back"`
	}
}

func (a *API) enrolmentRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "begin-enrolment", Summary: "Ask for a credential that only the TPM of an endorsement key can open", Tag: "attesters", Status: http.StatusCreated,
		Route: apiserver.Route{Pattern: "POST /v1/enrolments", Needs: access.SetAttesters, Body: 256 << 10},
	}, func(ctx context.Context, in *enrolmentInput) (*apiserver.Reply[attest.CredentialChallenge], error) {
		c, err := a.service.BeginEnrolment(ctx, apiserver.Actor(ctx), attest.EnrolmentRequest{
			Registration: attest.Registration(in.Body.Registration), EKPublic: in.Body.EKPublic,
			EKCert: in.Body.EKCert, Chain: in.Body.Chain, TrustEK: in.Body.TrustEK,
		})
		return apiserver.Answer(c), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "finish-enrolment", Summary: "Prove that the attestation key is in that TPM", Tag: "attesters", Status: http.StatusCreated,
		Route: apiserver.Route{Pattern: "POST /v1/enrolments/{id}/finish", Needs: access.SetAttesters, Body: 4 << 10},
	}, func(ctx context.Context, in *finishInput) (*apiserver.Reply[attest.Attester], error) {
		one, err := a.service.FinishEnrolment(ctx, apiserver.Actor(ctx), in.ID, in.Body.Secret)
		return apiserver.Answer(one), err
	})
}
