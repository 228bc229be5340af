package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// image tells which image a container was made of.
func (e engine) image(ctx context.Context, c container) (Image, error) {
	img := Image{Ref: c.Config.Image, Digest: c.Image, Env: e.env(), Load: []string{e.program, "image", "load"}}
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
