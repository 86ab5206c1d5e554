package images

import (
	"context"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// machine is what images are for.
type machine struct {
	arch     string
	emulator string // where this machine has to be told how to run programs for it
}

// foreign is the architecture that this machine can't run.
func foreign(t *testing.T) machine {
	t.Helper()
	if runtime.GOARCH == "amd64" {
		return machine{"arm64", emulator(t, "qemu-aarch64-static")}
	}
	return machine{"amd64", emulator(t, "qemu-x86_64-static")}
}

func (m machine) machine() elf.Machine {
	return map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[m.arch]
}

// emulated is where the emulator is in an image.
const emulated = "/emulator"

// enter puts the emulator into the root of an image.
func (m machine) enter(t *testing.T, root string) {
	t.Helper()
	if m.emulator == "" {
		return
	}
	program, err := os.ReadFile(m.emulator)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, emulated), program, 0o755) // #nosec G306 -- a program
	}
	if err != nil {
		t.Fatal(err)
	}
}

// command returns how to run a command line in which the programs of an image
// stand by their names. An emulator is put before each, since the kernel only
// does so itself where binfmt_misc is set up, and this mustn't depend on it.
func (m machine) command(place map[string]string, args []string) []string {
	if m.emulator == "" {
		return args
	}
	var all []string
	for i, arg := range args {
		path, program := place[arg]
		switch {
		case program:
			all = append(all, emulated, path)
		case i == 0:
			all = append(all, emulated, arg)
		default:
			all = append(all, arg)
		}
	}
	return all
}

// emulator returns a program of Debian's qemu-user-static, which isn't installed:
// it is of use to nobody but this test.
func emulator(t *testing.T, name string) string {
	t.Helper()
	b := &Builder{Dir: stateDir(), Source: source(t), Log: os.Stderr}
	deb, err := b.deb(t.Context(), "qemu-user-static")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := extract(t.Context(), deb, dir, "./usr/bin/"+name); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "usr", "bin", name)
}

// extract unpacks one file of a package.
func extract(ctx context.Context, deb, dir, name string) error {
	read := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	write := exec.CommandContext(ctx, "tar", "--extract", "--directory", dir, name)
	pipe, err := read.StdoutPipe()
	if err != nil {
		return err
	}
	write.Stdin = pipe
	if err := read.Start(); err != nil {
		return err
	}
	_, err = write.Output()
	_, drained := io.Copy(io.Discard, pipe)
	return errors.Join(err, drained, read.Wait())
}

// The images of both architectures are built on either of them, and nothing of
// the other one is run while they are.
func TestTheImagesForAnotherArchitectureAreWholeToo(t *testing.T) {
	m := foreign(t)
	for _, target := range []string{"controller", "node"} {
		image := builtFor(t, target, m.arch)
		t.Run("nothing spare is in "+target, func(t *testing.T) { nothingSpare(t, image, target, m) })
		if target == "node" {
			eachDoesItsWork(t, image, m)
		}
	}
}
