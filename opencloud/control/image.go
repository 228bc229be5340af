package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/ocbackup/ocbackup/proc"
)

// engineOf is the engine that runs the instance in a container, if one does.
func engineOf(cfg Config) (engine, bool) {
	switch cfg.Type {
	case "compose", "docker", "podman":
		return newEngine(cfg), true
	}
	return engine{}, false
}

// HasImage tells whether the engine that runs the instance has an image of that
// name. Where there is no engine, none is needed: it is true.
func HasImage(ctx context.Context, cfg Config, ref string) (bool, error) {
	e, ok := engineOf(cfg)
	if !ok {
		return true, nil
	}
	_, err := e.run(ctx, "image", "inspect", "--format", "{{.Id}}", ref)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask %s for image %s: %w", e.program, ref, err)
	}
	return true, nil
}

// LoadImage gives the engine that runs the instance an image, which it reads from r
// as what Image.Save writes.
func LoadImage(ctx context.Context, cfg Config, r io.Reader) error {
	e, ok := engineOf(cfg)
	if !ok {
		return fmt.Errorf("load an image: an instance of type %s has no container engine", cfg.Type)
	}
	load := e.load()
	_, err := proc.Run(ctx, proc.Cmd{Name: load[0], Args: load[1:], Env: e.env(), Stdin: r})
	return err
}

// load is the command that reads an image from standard input.
func (e engine) load() []string { return []string{e.program, "image", "load"} }

// image tells which image a container was made of.
func (e engine) image(ctx context.Context, c container) (Image, error) {
	img := Image{Ref: c.Config.Image, Digest: c.Image, Env: e.env(), Load: e.load()}
	out, err := e.run(ctx, "image", "inspect", "--format", `{{json .RepoDigests}}`, c.Image)
	if err != nil {
		return Image{}, fmt.Errorf("image of container %s: %w", c.Name, err)
	}
	var digests []string
	if err := json.Unmarshal([]byte(out), &digests); err != nil {
		return Image{}, fmt.Errorf("image of container %s: %w", c.Name, err)
	}
	if len(digests) > 0 {
		_, img.Digest, _ = strings.Cut(digestOf(digests, img.Ref), "@")
	}
	// Saved by its name, the image has the name again when it is loaded. But the
	// name may stand for a newer image by now.
	name := img.Ref
	id, err := e.run(ctx, "image", "inspect", "--format", "{{.Id}}", name)
	if err != nil || bareID(id) != bareID(c.Image) {
		name = c.Image
	}
	img.Save = []string{e.program, "image", "save", name}
	return img, nil
}

// digestOf picks the digest that belongs to the repository in ref, else the first.
func digestOf(digests []string, ref string) string {
	repo, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo = repo[:i]
	}
	for _, d := range digests {
		if strings.HasPrefix(d, repo+"@") || strings.Contains(d, "/"+repo+"@") {
			return d
		}
	}
	return digests[0]
}

// bareID is an image id without the name of its hash, which podman leaves out.
func bareID(id string) string {
	return strings.TrimPrefix(strings.TrimSpace(id), "sha256:")
}
