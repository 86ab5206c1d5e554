package images

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fake is an image whose making is counted.
type fake struct {
	input, content string
	err            error
	made           int
}

func (f *fake) image() []Image {
	return []Image{{
		File: "fake.tar", Tags: []string{"localhost/fake:1"},
		input: func(context.Context) (string, error) { return f.input, nil },
		write: func(_ context.Context, archive string) error {
			f.made++
			return errors.Join(os.WriteFile(archive, []byte(f.content), 0o600), f.err)
		},
	}}
}

func TestWhatHasNotChangedIsNotBuiltAgainNorTouched(t *testing.T) {
	b := &Builder{Dir: t.TempDir(), Log: io.Discard}
	archive := filepath.Join(b.Dir, "images", "fake.tar")
	f := &fake{input: "1", content: "a"}
	build := func(want int) os.FileInfo {
		t.Helper()
		built, err := b.Build(t.Context(), f.image())
		if err != nil {
			t.Fatal(err)
		}
		if f.made != want || built > 1 {
			t.Errorf("made %d times, want %d; this time %d were built", f.made, want, built)
		}
		info, err := os.Stat(archive)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	build(1)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(archive, old, old); err != nil {
		t.Fatal(err)
	}
	before := build(1)
	f.input = "2"
	if after := build(2); !after.ModTime().Equal(before.ModTime()) {
		t.Error("the same archive was written again: nodes would import it again")
	}
	f.input, f.content = "3", "b"
	if after := build(3); after.ModTime().Equal(before.ModTime()) {
		t.Error("a changed archive was not written")
	}
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
	build(4)
}

func TestABuildThatFailsLeavesTheOldArchive(t *testing.T) {
	b := &Builder{Dir: t.TempDir(), Log: io.Discard}
	f := &fake{input: "1", content: "whole"}
	if _, err := b.Build(t.Context(), f.image()); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk full")
	f.input, f.content, f.err = "2", "half", broken
	if _, err := b.Build(t.Context(), f.image()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	found, err := filepath.Glob(filepath.Join(b.Dir, "images", "*"))
	if err != nil || len(found) != 1 {
		t.Errorf("left %q, %v", found, err)
	}
	if got, err := os.ReadFile(filepath.Join(b.Dir, "images", "fake.tar")); err != nil || string(got) != "whole" {
		t.Errorf("the archive is %q, %v", got, err)
	}
	f.err, f.content = nil, "new"
	if built, err := b.Build(t.Context(), f.image()); err != nil || built != 1 {
		t.Errorf("what failed is taken for built: %d, %v", built, err)
	}
}

func TestTheSameFilesMakeTheSameArchive(t *testing.T) {
	made := func(name string) []byte {
		t.Helper()
		write := archive([]string{"localhost/b:2", "localhost/a:1", "localhost/c:3"}, func(context.Context) (v1.Image, error) {
			content, err := layer(map[string]file{
				"bin/sh":      {link: "busybox"},
				"bin/busybox": {mode: 0o755, body: []byte("busybox")},
				"tmp":         {dir: true, mode: 0o1777},
			})
			if err != nil {
				return nil, err
			}
			return assemble(v1.Config{Cmd: []string{"sh"}}, content)
		})
		path := filepath.Join(t.TempDir(), name)
		if err := write(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	first := made("first.tar")
	for range 20 {
		if !bytes.Equal(first, made("again.tar")) {
			t.Fatal("the same files made another archive")
		}
	}
}
