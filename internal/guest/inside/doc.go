// Package inside holds the tests that run in the guest: with the kernel's own
// buses, with udev, and with a host that plugs and pulls disks when asked to.
// Compiled, they are the guest's first process as well; the test of package
// guest boots them.
package inside
