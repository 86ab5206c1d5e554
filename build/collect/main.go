// Command collect makes the root of an image out of Debian packages, of any
// architecture, without installing them:
//
//	collect DEBS ROOT WANTED…
//
// DEBS is a directory of packages. WANTED are names of programs (mkfs.xfs), names
// of libraries (libgcc_s.so.1) and paths of files (/etc/mke2fs.conf). A program
// comes with its dynamic linker and its libraries. Every package that something is
// from leaves its copyright, and its entry in /var/lib/dpkg/status.d, where
// scanners of images look for versions.
//
// No program of the packages is run, so that the machine that builds an image
// needs no emulator for the one that will run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "collect:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return errors.New("usage: collect DEBS ROOT WANTED…")
	}
	t, err := readPackages(ctx, args[0])
	if err != nil {
		return err
	}
	c := &collection{tree: t, files: map[string]*entry{}}
	for _, wanted := range args[2:] {
		if err := c.add(wanted); err != nil {
			return fmt.Errorf("%s: %w", wanted, err)
		}
	}
	return c.write(args[1])
}
