# The images of cinder-csi:
#
#   docker build --target controller -t cinder-csi-controller --build-arg VERSION=v1.2.3 .
#   docker build --target node       -t cinder-csi-node       --build-arg VERSION=v1.2.3 .
#   docker build --target combined   -t cinder-csi-plugin     --build-arg VERSION=v1.2.3 .
#
# The last is for manifests that name one image for both roles, as those of the
# reference driver do.
#
# buildah and podman build the same. For both architectures at once, without
# emulation:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target node …
#
# None of them has a shell or a package manager. Pin the bases by digest for a
# release: --build-arg DEBIAN_IMAGE=docker.io/library/debian:bookworm-slim@sha256:…
ARG GO_IMAGE=docker.io/library/golang:1.26-bookworm
ARG DEBIAN_IMAGE=docker.io/library/debian:bookworm-slim

# The compiler runs on the machine that builds, and compiles for any other.
FROM --platform=${BUILDPLATFORM} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY cmd/cinder-csi-plugin cmd/cinder-csi-plugin
COPY internal internal
ARG TARGETARCH
ARG VERSION=unknown
ARG REVISION=unknown
# grpcnotrace leaves golang.org/x/net/trace out of gRPC, a page of traces that the driver doesn't
# serve: its text/template keeps the linker from dropping methods that nothing calls.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=linux GOARCH=${TARGETARCH} go build -trimpath -tags grpcnotrace -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION} -X main.revision=${REVISION}" -o /out/cinder-csi-plugin ./cmd/cinder-csi-plugin

# Takes files out of Debian packages.
FROM --platform=${BUILDPLATFORM} ${GO_IMAGE} AS collect
WORKDIR /src
COPY build/collect .
RUN --mount=type=cache,target=/root/.cache/go-build CGO_ENABLED=0 go build -trimpath -o /collect *.go

# What is taken from Debian, in the place where it will be. The packages are of the
# architecture that the images are for, and nothing of them is run: so this is
# the same on every machine, and needs no emulation.
FROM --platform=${BUILDPLATFORM} ${DEBIAN_IMAGE} AS debian
# The programs that the node plugin runs, each with its package. Tests hold this
# list against the code, and run each program inside the image.
ARG NODE_TOOLS="\
  blkid:util-linux wipefs:util-linux setsid:util-linux mount:mount \
  mkfs.ext2:e2fsprogs mkfs.ext3:e2fsprogs mkfs.ext4:e2fsprogs e2fsck:e2fsprogs resize2fs:e2fsprogs \
  mkfs.xfs:xfsprogs \
  mkfs.btrfs:btrfs-progs btrfs:btrfs-progs \
  cryptsetup:cryptsetup-bin"
# cryptsetup is from a newer Debian: before 2.8.1 it takes a header whose keys are
# "encrypted" by the null cipher. What it and its libraries are linked with comes
# along; apt finds out whether the other programs can live with these. A snapshot of
# that suite serves as well, however old: the version is what counts.
ARG CRYPTSETUP_SUITE=forky
ARG CRYPTSETUP_SINCE=2:2.8.1
ARG CRYPTSETUP_SOURCES="cryptsetup glibc lvm2 openssl libzstd"
ARG TARGETARCH
RUN arch=${TARGETARCH:-$(dpkg --print-architecture)} \
 && mkdir -p /debs/partial && : >/debs/none \
 && printf '%s;\n' "APT::Architecture \"${arch}\"" "APT::Architectures {\"${arch}\"}" \
      'Dir::State::status "/debs/none"' 'Dir::Cache::archives "/debs"' >/etc/apt/apt.conf.d/90target \
 && mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -n 1) \
 && printf 'deb [check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
      "${mirror:-http://deb.debian.org/debian}" "${CRYPTSETUP_SUITE}" >/etc/apt/sources.list.d/cryptsetup.list \
 && printf 'Package: %s\nPin: release n=%s\nPin-Priority: %s\n\n' \
      '*' "${CRYPTSETUP_SUITE}" 100 "$(printf 'src:%s ' ${CRYPTSETUP_SOURCES})" "${CRYPTSETUP_SUITE}" 990 \
      >/etc/apt/preferences.d/cryptsetup \
 && apt-get update \
 && apt-get install --yes --download-only --no-install-recommends \
      ca-certificates $(for tool in ${NODE_TOOLS}; do echo "${tool#*:}"; done | sort -u) \
 && dpkg --compare-versions "$(dpkg-deb --field /debs/cryptsetup-bin_*.deb Version)" ge "${CRYPTSETUP_SINCE}"
COPY --from=collect /collect /collect
# libgcc_s is what the C library loads when a thread ends: cryptsetup has threads
# where a key was made for more than one.
RUN /collect /debs /controller /etc/ssl/certs/ca-certificates.crt \
 && /collect /debs /node /etc/ssl/certs/ca-certificates.crt /etc/mke2fs.conf libgcc_s.so.1 \
      $(for tool in ${NODE_TOOLS}; do echo "${tool%%:*}"; done)

# Speaks HTTPS to the cloud and gRPC to its sidecars; needs no right at all.
FROM scratch AS controller
COPY --from=debian /controller /
COPY --from=build /out/cinder-csi-plugin /bin/cinder-csi-plugin
USER 65532:65532
LABEL org.opencontainers.image.title="cinder-csi controller" org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/bin/cinder-csi-plugin"]

# Formats and mounts, so it is root; the chart says where it may do so.
FROM scratch AS node
COPY --from=debian /node /
COPY --from=build /out/cinder-csi-plugin /bin/cinder-csi-plugin
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.title="cinder-csi node" org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/bin/cinder-csi-plugin"]

# Takes the place of the reference driver's image, in each pod of its manifests: what
# the node role needs, whichever role the arguments ask for. A controller that has
# an image of its own needs none of it.
FROM node AS combined
LABEL org.opencontainers.image.title="cinder-csi"
