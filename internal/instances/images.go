package instances

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/gallery"
)

const codeImage evidence.Code = "instance.image-refused"

type imagesBody struct {
	Items []*gallery.Image `json:"items" nullable:"false" doc:"By name, the oldest version of each first"`
}

// ByImage is the part of a path that names an image.
type ByImage struct {
	Image string `path:"image" maxLength:"128" doc:"NAME@VERSION; to read, NAME is the version that was added last"`
}

type imageBody struct {
	gallery.Image
	Machines []string `json:"machines" nullable:"false" doc:"Those that were made from it and that the caller may see"`
}

type imageInput struct {
	Body struct {
		Name    string            `json:"name" minLength:"1" maxLength:"63"`
		Version string            `json:"version,omitempty" maxLength:"63" doc:"The next number when absent"`
		File    string            `json:"file" minLength:"1" maxLength:"4096" doc:"Disk, in a folder whose files the caller may give to machines; it is copied"`
		Format  string            `json:"format" enum:"raw,qcow2"`
		Keyset  string            `json:"keyset,omitempty" maxLength:"63" doc:"Check it under this key set first"`
		Labels  map[string]string `json:"labels,omitempty"`
		Force   bool              `json:"force,omitempty" doc:"Take one that does not boot under the key set"`
	}
}

type dropImageInput struct {
	ByImage
	Force bool `query:"force" doc:"Also one that machines were made from: each has its own copy"`
}

func (a *API) imageRoutes(s *apiserver.Server) {
	op := func(id, summary, pattern string, needs access.Permission) apiserver.Operation {
		return apiserver.Operation{ID: id, Summary: summary, Tag: "images", Route: apiserver.Route{Pattern: pattern, Needs: needs}}
	}
	apiserver.Serve(s, op("list-images", "List the images that machines are made from", "GET /v1/images", access.ReadImages),
		func(context.Context, *struct{}) (*apiserver.Reply[imagesBody], error) {
			all, err := a.cfg.Images.List()
			if err != nil {
				return nil, err
			}
			return apiserver.Answer(imagesBody{apiserver.OrEmpty(all)}), nil
		})
	apiserver.Serve(s, op("get-image", "Read an image, and which machines were made from it", "GET /v1/images/{image}", access.ReadImages), a.image)
	apiserver.Serve(s, op("check-image", "Say without booting whether an image boots under a key set, and what that will measure", "GET /v1/images/{image}/check", access.ReadImages), a.checkImage)
	check := op("check-disk", "Say the same of a disk that is in no use and no image yet", "POST /v1/images/check", access.CreateImage)
	check.Body = 8 << 10
	apiserver.Serve(s, check, a.checkDisk)
	create := op("create-image", "Copy a disk that is in no use into the gallery", "POST /v1/images", access.CreateImage)
	create.Body = 32 << 10
	apiserver.Serve(s, create, a.addImage)
	apiserver.Serve(s, op("delete-image", "Remove a version of an image that no machine was made from", "DELETE /v1/images/{image}", access.DeleteImage), a.dropImage)
}

// CheckedBy is what a disk is judged by.
type CheckedBy struct {
	Keyset     string `query:"keyset" maxLength:"63" doc:"Name of a key set; of an image, the one that it was checked under when absent"`
	SecureBoot bool   `query:"secureBoot" default:"true" doc:"The firmware enforces secure boot"`
}

type checkImageInput struct {
	ByImage
	CheckedBy
}

type checkDiskInput struct {
	Body struct {
		File         string `json:"file" minLength:"1" maxLength:"4096" doc:"Disk, in a folder whose files the caller may give to machines"`
		Format       string `json:"format" enum:"raw,qcow2"`
		Keyset       string `json:"keyset" minLength:"1" maxLength:"63"`
		NoSecureBoot bool   `json:"noSecureBoot,omitempty" doc:"The firmware does not enforce secure boot"`
	}
}

func (a *API) checkImage(ctx context.Context, in *checkImageInput) (*apiserver.Reply[checkBody], error) {
	i, err := a.cfg.Images.Get(in.Image)
	if err != nil {
		return nil, err
	}
	if in.Keyset == "" {
		in.Keyset = i.Keyset
	}
	if in.Keyset == "" {
		return nil, apiserver.InvalidField("keyset", "is missing: the image was added without one")
	}
	f, err := a.cfg.Machines.CheckDisk(ctx, a.cfg.Images.Disk(i), disk.Format(i.Format), in.Keyset, in.SecureBoot)
	if err != nil {
		return nil, unreadable(err)
	}
	f.File = i.Ref()
	return apiserver.Answer(checkOf(f)), nil
}

func (a *API) checkDisk(ctx context.Context, in *checkDiskInput) (*apiserver.Reply[checkBody], error) {
	b := in.Body
	if !lies(b.File, a.cfg.Disks) {
		return nil, notAllowed("file", "lies in no folder whose files may become images")
	}
	f, err := a.cfg.Machines.CheckDisk(ctx, b.File, disk.Format(b.Format), b.Keyset, !b.NoSecureBoot)
	if err != nil {
		return nil, unreadable(err)
	}
	return apiserver.Answer(checkOf(f)), nil
}

// madeFrom are the machines that were made from an image, and how many are left out because
// their homes cannot be read.
func (a *API) madeFrom(ctx context.Context, i *gallery.Image) (users []string, unread int, err error) {
	names, err := a.cfg.Machines.Names()
	if err != nil {
		return nil, 0, err
	}
	users = []string{}
	for n, d := range a.defined(ctx, names) {
		switch {
		case d == nil:
			unread++
		case d.Image == i.Ref():
			users = append(users, names[n])
		}
	}
	return users, unread, ctx.Err()
}

func (a *API) image(ctx context.Context, in *ByImage) (*apiserver.Reply[imageBody], error) {
	i, err := a.cfg.Images.Get(in.Image)
	if err != nil {
		return nil, err
	}
	users, _, err := a.madeFrom(ctx, i)
	if err != nil {
		return nil, err
	}
	body, who := imageBody{*i, []string{}}, apiserver.Caller(ctx)
	for _, name := range users {
		if who.MayOn(access.ListInstances, name) {
			body.Machines = append(body.Machines, name)
		}
	}
	return apiserver.Answer(body), nil
}

func (a *API) addImage(ctx context.Context, in *imageInput) (*apiserver.Reply[Operation], error) {
	b := in.Body
	if !lies(b.File, a.cfg.Disks) {
		return nil, notAllowed("file", "lies in no folder whose files may become images")
	}
	i := gallery.Image{Name: b.Name, Version: b.Version, Format: b.Format, Keyset: b.Keyset, Labels: b.Labels, By: actorOf(ctx)}
	return a.runOn(ctx, b.Name, work{"create", "", b, func(ctx context.Context, _ string, show *Operation) (err error) {
		if i.Keyset != "" {
			if i.Boots, i.Why, err = a.cfg.Host.Boots(ctx, b.File, i.Format, i.Keyset); err != nil {
				return err
			}
			if i.Boots == "no" && !b.Force {
				return apiserver.NewProblem(http.StatusConflict, codeImage, fmt.Sprintf("under key set %q this image does not boot: %s; force takes it", i.Keyset, i.Why))
			}
		}
		show.ImageMade, err = a.cfg.Images.Add(ctx, i, b.File)
		return err
	}})
}

func (a *API) dropImage(ctx context.Context, in *dropImageInput) (*apiserver.Reply[Operation], error) {
	if !strings.Contains(in.Image, "@") {
		return nil, apiserver.InvalidField("image", "say which version: NAME@VERSION")
	}
	i, err := a.cfg.Images.Get(in.Image)
	if err != nil {
		return nil, err
	}
	return a.runOn(ctx, i.Ref(), work{"delete", "", map[string]bool{"force": in.Force}, func(ctx context.Context, _ string, _ *Operation) error {
		users, unread, err := a.madeFrom(ctx, i)
		switch {
		case err != nil:
			return err
		case in.Force:
		case len(users) > 0:
			return apiserver.NewProblem(http.StatusConflict, codeImage, fmt.Sprintf("%d machines were made from the image; force removes it, and they keep their copies", len(users)))
		case unread > 0:
			return apiserver.NewProblem(http.StatusConflict, codeImage, fmt.Sprintf("the homes of %d machines cannot be read, which may have been made from the image; force removes it", unread))
		}
		return a.cfg.Images.Delete(i)
	}})
}
