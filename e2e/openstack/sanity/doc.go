// Package sanity runs the official csi-sanity suite against the real OpenStack:
// the driver's controller as a program on this machine, and the node plugin in a
// guest that Nova has booted.
package sanity
