// Program guest-init is the first process of the servers that Nova boots for
// the end-to-end tests.
package main

import (
	"fmt"
	"os"

	"github.com/cinder-csi/cinder-csi/e2e/openstack/guest/inside"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest-init: this is for the first process of a guest: openstack guests boots it")
		os.Exit(2)
	}
	inside.Main()
}
