package bundle

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

const (
	// mostOfFile and mostOfAll bound a file and the archive, in bytes before they are compressed.
	mostOfFile = 8 << 20
	mostOfAll  = 256 << 20
)

// archive is a .tar.gz. Everything that is added passes its redactor.
type archive struct {
	redactor

	zip   *gzip.Writer
	tar   *tar.Writer
	root  string
	made  time.Time
	left  int
	names map[string]bool
	// errors are what could not be read, and err why the archive could not be written.
	errors []string
	err    error
}

func newArchive(w io.Writer, root string, made time.Time) *archive {
	zip := gzip.NewWriter(w)
	return &archive{redactor: newRedactor(), zip: zip, tar: tar.NewWriter(zip), root: root, made: made, left: mostOfAll, names: map[string]bool{}}
}

// plain returns a part of a file's name, with a - for each character that is odd there.
func plain(part string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, part), ".")
}

// add writes a file. One that is too large loses its middle.
func (a *archive) add(name string, content []byte) {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = plain(part)
	}
	name = path.Join(parts...)
	content = a.clean(content)
	if len(content) > mostOfFile {
		note := fmt.Sprintf("\n[… %d bytes are left out …]\n", len(content)-mostOfFile)
		content = append(append(content[:mostOfFile/2:mostOfFile/2], note...), content[len(content)-mostOfFile/2:]...)
	}
	switch {
	case a.err != nil || a.names[name]:
		return
	case len(content) > a.left:
		a.failed(name, fmt.Errorf("the bundle is larger than %d MiB", mostOfAll>>20))
		return
	}
	a.names[name], a.left = true, a.left-len(content)
	a.err = a.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(a.root, name), Size: int64(len(content)), Mode: 0o600, ModTime: a.made})
	if a.err == nil {
		_, a.err = a.tar.Write(content)
	}
}

// failed notes what could not be read.
func (a *archive) failed(what string, err error) {
	a.errors = append(a.errors, string(a.clean([]byte(what+": "+strings.Join(strings.Fields(err.Error()), " ")))))
}

// close writes what could not be read, and ends the archive.
func (a *archive) close() error {
	if len(a.errors) > 0 {
		a.left = mostOfFile // a few lines always fit
		a.add("errors.txt", []byte(strings.Join(a.errors, "\n")+"\n"))
	}
	for _, end := range []func() error{a.tar.Close, a.zip.Close} {
		if err := end(); a.err == nil {
			a.err = err
		}
	}
	return a.err
}
