// Package driver runs the driver unchanged, as its own program with a cloud.conf,
// against the OpenStack that make openstack-up starts, and asks of it what a
// cluster's sidecars ask. It also counts what each operation costs there.
package driver
