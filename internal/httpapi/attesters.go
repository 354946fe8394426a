package httpapi

import (
	"context"
	"net/http"

	"github.com/assay-project/assay/internal/access"
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

func (a *API) attesterRoutes() {
	serve(a, operation{
		id: "list-attesters", summary: "List enrolled attestation keys", tag: "attesters",
		route: route{pattern: "GET /v1/attesters", needs: access.ReadAttesters},
	}, a.listAttesters)
	serve(a, operation{
		id: "get-attester", summary: "Read one attestation key's record", tag: "attesters",
		route: route{pattern: "GET /v1/attesters/{akName}", needs: access.ReadAttesters},
	}, func(ctx context.Context, in *ByAKName) (*reply[attest.Attester], error) {
		one, err := a.service.Attester(ctx, in.AKName)
		return &reply[attest.Attester]{one}, err
	})
	serve(a, operation{
		id: "register-attester", summary: "Trust an attestation key on your word", tag: "attesters", status: http.StatusCreated,
		route: route{pattern: "POST /v1/attesters", needs: access.SetAttesters, body: 64 << 10},
	}, func(ctx context.Context, in *registerInput) (*reply[attest.Attester], error) {
		one, err := a.service.RegisterAttester(ctx, actor(ctx), attest.Registration(in.Body))
		return &reply[attest.Attester]{one}, err
	})
	serve(a, operation{
		id: "set-attester-baseline", summary: "Name the reference value that a machine's boots are compared with", tag: "attesters", status: http.StatusNoContent,
		route: route{pattern: "PUT /v1/attesters/{akName}/baseline", needs: access.SetAttesters, body: 4 << 10},
	}, func(ctx context.Context, in *baselineInput) (*struct{}, error) {
		return nil, a.service.SetBaseline(ctx, actor(ctx), in.AKName, in.Body.Baseline)
	})
	serve(a, operation{
		id: "remove-attester", summary: "Trust an attestation key no longer", tag: "attesters", status: http.StatusNoContent,
		route: route{pattern: "DELETE /v1/attesters/{akName}", needs: access.SetAttesters},
	}, func(ctx context.Context, in *ByAKName) (*struct{}, error) {
		return nil, a.service.RemoveAttester(ctx, actor(ctx), in.AKName)
	})
}

func (a *API) listAttesters(ctx context.Context, in *attestersInput) (*reply[attestersBody], error) {
	found, err := a.service.Attesters(ctx, in.After, in.Limit)
	body := attestersBody{Attesters: orEmpty(found)}
	if err == nil && len(found) == in.Limit {
		body.Next = found[len(found)-1].AKName
	}
	return &reply[attestersBody]{body}, err
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

func (a *API) enrolmentRoutes() {
	serve(a, operation{
		id: "begin-enrolment", summary: "Ask for a credential that only the TPM of an endorsement key can open", tag: "attesters", status: http.StatusCreated,
		route: route{pattern: "POST /v1/enrolments", needs: access.SetAttesters, body: 256 << 10},
	}, func(ctx context.Context, in *enrolmentInput) (*reply[attest.CredentialChallenge], error) {
		c, err := a.service.BeginEnrolment(ctx, actor(ctx), attest.EnrolmentRequest{
			Registration: attest.Registration(in.Body.Registration), EKPublic: in.Body.EKPublic,
			EKCert: in.Body.EKCert, Chain: in.Body.Chain, TrustEK: in.Body.TrustEK,
		})
		return &reply[attest.CredentialChallenge]{c}, err
	})
	serve(a, operation{
		id: "finish-enrolment", summary: "Prove that the attestation key is in that TPM", tag: "attesters", status: http.StatusCreated,
		route: route{pattern: "POST /v1/enrolments/{id}/finish", needs: access.SetAttesters, body: 4 << 10},
	}, func(ctx context.Context, in *finishInput) (*reply[attest.Attester], error) {
		one, err := a.service.FinishEnrolment(ctx, actor(ctx), in.ID, in.Body.Secret)
		return &reply[attest.Attester]{one}, err
	})
}
