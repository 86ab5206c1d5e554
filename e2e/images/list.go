package images

// nobody is the user of programs that need no rights, as upstream's images have it.
const nobody = "65532:65532"

// All are the images of the cluster and of the suites.
func (b *Builder) All() []Image {
	all := []Image{b.pause()}
	all = append(all, b.sidecars()...)
	all = append(all, b.Driver()...)
	all = append(all, b.static(sidecarProgram(), nobody, "localhost/cinder-csi-sidecar:e2e"))
	return append(all, b.suite()...)
}

// Driver are the driver's own images.
func (b *Builder) Driver() []Image { return []Image{b.driver("controller"), b.driver("node")} }

// pause stands for upstream's of that version.
func (b *Builder) pause() Image {
	return b.static(pauseProgram(), "65535:65535", "registry.k8s.io/pause:3.10.2")
}

// sidecars are named as the chart names them by default.
func (b *Builder) sidecars() []Image {
	tags := map[string]string{
		"csi-provisioner": "v6.3.0", "csi-attacher": "v4.13.0", "csi-resizer": "v2.3.0",
		"csi-snapshotter": "v8.7.0", "snapshot-controller": "v8.7.0",
	}
	var all []Image
	for _, p := range sidecarPrograms() {
		all = append(all, b.static(p, nobody, "registry.k8s.io/sig-storage/"+p.name()+":"+tags[p.name()]))
	}
	return all
}
