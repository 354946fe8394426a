package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

// NewImageCmds are the subcommands of "image" that are about the gallery.
func NewImageCmds(env *program.Env) []*cobra.Command {
	return []*cobra.Command{newImageAddCmd(env), newImageListCmd(env), newImageDescribeCmd(env), newImageDeleteCmd(env)}
}

// gallery is that of the root.
func (h *hostFlags) gallery() (*gallery.Gallery, error) {
	dir, err := h.Dir(h.env)
	return gallery.Open(filepath.Join(dir, "images"), h.env.Now), err
}

func newImageAddCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME[@VERSION] DISK",
		Short: "Put a copy of a disk into the gallery, for machines to be made from",
		Long: `Put a copy of a disk that is in no use into the gallery, with its digest. Without a
version it is the next number. With --keyset it is checked first, as "assay image check"
does: what that says is kept with the image, and an image that would be refused is not
added without --force. assay vm create --image makes machines of it.

Exit status: 0 added, 1 refused, 2 the disk cannot be used.`,
		Example: "  assay image add debian-12 disk.qcow2 --keyset microsoft --label os=linux",
		Args:    cobra.ExactArgs(2),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var i gallery.Image
	var labels []string
	var force bool
	f := cmd.Flags()
	f.StringVar(&i.Format, "format", "", "how the disk lies in its file: raw or qcow2 (default by the name's ending)")
	f.StringVar(&i.Keyset, "keyset", "", "check it under the key set `NAME`")
	f.StringArrayVar(&labels, "label", nil, "`NAME=VALUE` (repeatable)")
	f.BoolVar(&force, "force", false, "add an image that would be refused under --keyset")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := parseDisk(args[1] + formatWord(i.Format))
		if err != nil {
			return err
		}
		i.Name, i.Version, _ = strings.Cut(args[0], "@")
		i.Format, i.By = d.Format, actor()
		if i.Labels, err = parseLabels(labels); err != nil {
			return err
		}
		if i.Keyset != "" {
			if i.Boots, i.Why, err = h.ImageVerdict(cmd.Context(), env, d.File, d.Format, i.Keyset); err != nil {
				return err
			}
			if i.Boots == "no" && !force {
				return program.RefusedBy(fmt.Errorf("under key set %q this image does not boot: %s; --force adds it", i.Keyset, i.Why))
			}
		}
		g, err := h.gallery()
		if err != nil {
			return err
		}
		made, err := g.Add(cmd.Context(), i, d.File)
		if errors.Is(err, gallery.ErrExists) {
			err = program.RefusedBy(err)
		}
		if err != nil {
			return err
		}
		return emit(env, *format, made, func(w io.Writer) error { return showImage(w, made, nil) })
	}
	return cmd
}

// formatWord is the format as --disk has it.
func formatWord(format string) string {
	if format == "" {
		return ""
	}
	return ",format=" + format
}

// parseLabels reads --label.
func parseLabels(texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--label %q: want NAME=VALUE", text)
		}
		out[name] = value
	}
	return out, nil
}

func newImageListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the images of the gallery", Args: cobra.NoArgs}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		g, err := h.gallery()
		if err != nil {
			return err
		}
		images, err := g.List()
		if err != nil {
			return err
		}
		return emit(env, *format, images, func(out io.Writer) error {
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tFORMAT\tBYTES\tKEY SET\tBOOTS\tSHA256")
			for _, i := range images {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%.16s\n", i.Ref(), i.Format, i.Size, dash(i.Keyset), dash(i.Boots), i.SHA256)
			}
			return w.Flush()
		})
	}
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// imageView is an image with the machines that were made from it.
type imageView struct {
	*gallery.Image
	Machines []string `json:"machines"`
}

func newImageDescribeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "describe NAME[@VERSION]", Short: "Show an image, and the machines that were made from it", Args: cobra.ExactArgs(1)}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		g, err := h.gallery()
		if err != nil {
			return err
		}
		i, err := g.Get(args[0])
		if err != nil {
			return err
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			users, err := usersOf(cmd.Context(), r, i)
			if err != nil {
				return err
			}
			return emit(env, *format, imageView{i, users}, func(w io.Writer) error { return showImage(w, i, users) })
		})
	}
	return cmd
}

// usersOf are the machines that were made from an image.
func usersOf(ctx context.Context, r *machine.Root, i *gallery.Image) ([]string, error) {
	names, err := r.Names()
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, name := range names {
		d, err := r.Describe(ctx, name)
		if err != nil {
			return nil, err
		}
		if d.Definition.Image == i.Ref() {
			out = append(out, name)
		}
	}
	return out, nil
}

func showImage(out io.Writer, i *gallery.Image, users []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%s\n", name, program.Printable(fmt.Sprint(value))) }
	row("image", i.Ref())
	row("format", i.Format)
	row("bytes", i.Size)
	row("sha256", i.SHA256)
	row("added", fmt.Sprintf("%s by %s", i.Added.Format("2006-01-02T15:04:05Z07:00"), i.By))
	if i.Keyset != "" {
		row("boots", fmt.Sprintf("%s, under key set %s", i.Boots, i.Keyset))
	}
	if i.Why != "" {
		row("why", i.Why)
	}
	for name, value := range i.Labels {
		row("label", name+"="+value)
	}
	for _, name := range users {
		row("machine", name)
	}
	return w.Flush()
}

func newImageDeleteCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAME@VERSION",
		Short: "Remove an image that no machine was made from",
		Long: `Remove one version of an image. One that machines were made from is kept, and the
machines are named (status 1): each has its own copy, and would outlive the image, but
nobody could tell any more what it was made from. --force removes it.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	force := cmd.Flags().Bool("force", false, "remove an image that machines were made from")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		g, err := h.gallery()
		if err != nil {
			return err
		}
		if !strings.Contains(args[0], "@") {
			return fmt.Errorf("delete %q: say which version: NAME@VERSION", args[0])
		}
		i, err := g.Get(args[0])
		if err != nil {
			return err
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			users, err := usersOf(cmd.Context(), r, i)
			if err != nil && !*force {
				return err
			}
			if len(users) > 0 && !*force {
				return program.RefusedBy(fmt.Errorf("image %s: machines were made from it: %s; --force removes it", i.Ref(), strings.Join(users, ", ")))
			}
			return g.Delete(i)
		})
	}
	return cmd
}

// create makes a machine, of an image where its definition names one.
func (h *hostFlags) create(ctx context.Context, r *machine.Root, actor, provider string, d *fleet.Definition) (*machine.Card, error) {
	if d.Image == "" {
		return r.Create(ctx, actor, machine.CreateOptions{Definition: d, Provider: provider})
	}
	g, err := h.gallery()
	if err != nil {
		return nil, err
	}
	i, err := g.Get(d.Image)
	if err != nil {
		return nil, err
	}
	const file = "image"
	d.Image = i.Ref()
	for n := range d.Disks {
		d.Disks[n].Boot = false
	}
	own := fleet.Disk{File: r.DiskPath(d.Name, file+"."+i.Format), Format: i.Format, Bus: "virtio", Boot: true}
	d.Disks = append([]fleet.Disk{own}, d.Disks...)
	made, err := r.Arrive(ctx, actor, machine.Arrival{
		Definition: d, Provider: provider, Event: integrity.EventImport,
		Reasons: []evidence.Reason{{Code: "machine.from-image", Message: fmt.Sprintf("made from image %s, SHA-256 %s", i.Ref(), i.SHA256)}},
		Disks: func(ctx context.Context, dir string) error {
			return g.Copy(ctx, i, filepath.Join(dir, filepath.Base(own.File)))
		},
	})
	if err != nil {
		return nil, err
	}
	return made.Card, nil
}
