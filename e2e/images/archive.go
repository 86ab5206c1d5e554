package images

import (
	"context"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// assemble puts layers under a configuration.
func assemble(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		Config:       config,
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(base, layers...)
}

// named is an image under one of its names. Names of the same Go value would be
// written in random order.
type named struct{ v1.Image }

// archive returns the way to write an image under several names into an archive.
func archive(tags []string, build func(context.Context) (v1.Image, error)) func(context.Context, string) error {
	return func(ctx context.Context, path string) error {
		image, err := build(ctx)
		if err != nil {
			return err
		}
		refs := map[name.Tag]v1.Image{}
		for _, tag := range tags {
			ref, err := name.NewTag(tag)
			if err != nil {
				return err
			}
			refs[ref] = &named{image}
		}
		return tarball.MultiWriteToFile(path, refs)
	}
}
