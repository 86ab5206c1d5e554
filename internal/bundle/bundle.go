// Package bundle gathers what somebody needs who is to find out what is wrong with the
// driver in one archive, without secrets and without what is none of the driver's business.
package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/kube"
	"github.com/cinder-csi/cinder-csi/internal/openstack"
	"github.com/cinder-csi/cinder-csi/internal/report"
)

// Options say what to gather.
type Options struct {
	// Version is the driver's, and Arguments those of the command.
	Version   string
	Arguments []string
	// CloudConfig are the cloud.conf files; none: the bundle has no configuration.
	CloudConfig []string
	// Reports are what other commands find out.
	Reports []Report
	// Cluster is the way to Kubernetes; nil: there is none, because of NoCluster.
	Cluster   *kube.Client
	NoCluster error
	// Namespace is the one of the driver's pods, and Driver its name in Kubernetes.
	Namespace string
	Driver    string
	// Made is the time of the bundle.
	Made time.Time
}

// Report is what a command finds out.
type Report struct {
	// Name is that of the file, without its extension.
	Name string
	Ask  func(context.Context) (report.Answer, error)
}

// Answer is what became of a bundle.
type Answer struct {
	Path  string `json:"path"`
	Files int    `json:"files"`
	// Missing are what could not be read; the bundle has them in errors.txt.
	Missing []string `json:"missing"`
}

// Wrong is never true: a bundle judges nothing.
func (a *Answer) Wrong() bool { return false }

// Print tells where the bundle is, and what it lacks.
func (a *Answer) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d files, without secrets. Look through it before you give it away.\n", a.Path, a.Files)
	if len(a.Missing) > 0 {
		fmt.Fprintf(&b, "\nIt lacks (errors.txt):\n  %s\n", strings.Join(a.Missing, "\n  "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Write gathers a bundle and writes it as a .tar.gz. What can't be read is told in the
// answer. It returns an error only if the bundle can't be written.
func Write(ctx context.Context, w io.Writer, opts Options) (*Answer, error) {
	root := "cinder-csi-" + opts.Made.UTC().Format("20060102-150405")
	a := newArchive(w, root, opts.Made)
	// What is secret has to be known before anything is written.
	shown, secrets := environment()
	a.know(secrets...)
	files := a.configuration(opts.CloudConfig)
	a.add("versions.txt", versions(opts))
	a.add("environment.txt", []byte(strings.Join(shown, "\n")+"\n"))
	for name, text := range files {
		a.add("config/"+name, text)
	}
	for _, one := range opts.Reports {
		a.report(ctx, one)
	}
	if opts.Cluster != nil {
		c := &cluster{archive: a, Client: opts.Cluster, namespace: opts.Namespace, driver: opts.Driver}
		c.gather(ctx)
	} else {
		a.failed("kubernetes", cmp.Or(opts.NoCluster, errors.New("there is no way to it")))
	}
	if err := a.close(); err != nil {
		return nil, fmt.Errorf("write the bundle: %w", err)
	}
	for i, text := range a.errors { // by what has become known since
		a.errors[i] = string(a.clean([]byte(text)))
	}
	return &Answer{Files: len(a.names), Missing: a.errors}, nil
}

// versions tells about this program.
func versions(opts Options) []byte {
	var b bytes.Buffer
	host, _ := os.Hostname()
	fmt.Fprintf(&b, "cinder-csi-plugin %s\n%s %s/%s\non %s, at %s\narguments: %s\n", opts.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH,
		host, opts.Made.UTC().Format(time.RFC3339), strings.Join(opts.Arguments, " "))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			fmt.Fprintf(&b, "%s %s\n", module.Path, module.Version)
		}
	}
	return b.Bytes()
}

// report adds what a command finds out, as text and as JSON.
func (a *archive) report(ctx context.Context, one Report) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	answer, err := one.Ask(ctx)
	if err != nil {
		a.failed(one.Name, err)
	}
	if answer == nil {
		return
	}
	for format, extension := range map[string]string{report.Text: ".txt", report.JSON: ".json"} {
		var out bytes.Buffer
		if err := report.Show(&out, answer, format); err != nil && !errors.Is(err, report.ErrWrong) {
			a.failed(one.Name, err)
			continue
		}
		a.add(one.Name+extension, out.Bytes())
	}
}

// mostOfConfig is the largest configuration that is read.
const mostOfConfig = 1 << 20

// configuration returns the files of the configuration without their secrets, which it
// has the redactor know.
func (a *archive) configuration(paths []string) map[string][]byte {
	files := map[string][]byte{}
	read := func(path string, show func([]byte) ([]byte, []string, error)) {
		text, err := readBounded(path)
		if err != nil {
			a.failed("config "+path, err)
			return
		}
		shown, secrets, err := show(text)
		a.know(secrets...)
		if err != nil {
			a.failed("config "+path, err)
			return
		}
		files[fmt.Sprintf("%d-%s", len(files), filepath.Base(path))] = append([]byte("# "+path+"\n"), shown...)
	}
	for _, path := range paths {
		read(path, func(text []byte) ([]byte, []string, error) {
			shown, secrets := showConf(text)
			return shown, secrets, nil
		})
	}
	secrets, others := openstack.Secrets(paths...)
	a.know(secrets...)
	for _, path := range others {
		read(path, showYAML)
	}
	return files
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, mostOfConfig))
	return text, errors.Join(err, f.Close())
}
