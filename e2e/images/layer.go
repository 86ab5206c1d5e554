package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// file is a regular file of a layer, or a directory, or a symbolic link.
type file struct {
	mode int64
	body []byte
	link string // a link's target
	dir  bool
}

// layer makes a layer of files by their paths, which have no slash in front. All
// belong to root and are as old as the epoch, so that the same files make the
// same layer. It isn't compressed: it only travels from one directory of this
// machine to another.
func layer(files map[string]file) (v1.Layer, error) {
	all := maps.Clone(files)
	for name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, there := all[dir]; !there {
				all[dir] = file{dir: true, mode: 0o755}
			}
		}
	}
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := add(archive, name, all[name]); err != nil {
			return nil, fmt.Errorf("layer: %s: %w", name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	return static.NewLayer(buffer.Bytes(), types.DockerUncompressedLayer), nil
}

func add(archive *tar.Writer, name string, f file) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.mode, Size: int64(len(f.body)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	switch {
	case f.dir:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
	case f.link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.link, 0o777
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := archive.Write(f.body)
	return err
}
