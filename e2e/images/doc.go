// Package images builds the container images of the end-to-end cluster as
// archives that containerd imports: without a registry, without a Docker daemon,
// from Go modules and Debian packages alone.
//
// The driver's images come from the Dockerfile that users build, with buildah.
// The others are assembled here: a static program on an empty filesystem for
// each sidecar, busybox for the suites' test pods. What has not changed is not
// built again, and the same input makes the same digest, so that a node keeps
// what it has imported.
package images
