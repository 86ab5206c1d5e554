// Package guest runs the node plugin's tests where the node plugin really runs:
// in a virtual machine, with a kernel's own buses, udev and root's full powers.
//
// Loop devices have no serial, no bus and no events, and a container can
// neither grow a mounted ext4 nor load a module. So the test of this package
// builds a small image from Debian's packages (package image), boots it with
// QEMU (package machine) and has the tests of package inside run there, each as
// a subtest of its own. A test inside asks the host to plug, pull and resize
// disks while it runs (package wire), and the host does so over QMP.
//
// Nothing of it is linked into the driver.
package guest
