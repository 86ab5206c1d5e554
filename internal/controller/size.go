package controller

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gib is the unit of Cinder's sizes, in bytes.
const gib int64 = 1 << 30

// sizes returns the wanted size in GiB, rounded up, and the limit in GiB,
// rounded down, 0 for none. Nothing asked for is 1 GiB.
func sizes(r *csi.CapacityRange) (size, limit int64, err error) {
	required, limitBytes := r.GetRequiredBytes(), r.GetLimitBytes()
	if required < 0 || limitBytes < 0 {
		return 0, 0, status.Errorf(codes.InvalidArgument, "capacity range %d to %d bytes is negative", required, limitBytes)
	}
	if limitBytes > 0 && required > limitBytes {
		return 0, 0, status.Errorf(codes.OutOfRange, "required_bytes %d is more than limit_bytes %d", required, limitBytes)
	}
	size, limit = 1, limitBytes/gib
	if required > 0 {
		size = (required-1)/gib + 1
	}
	if limitBytes > 0 && size > limit {
		return 0, 0, status.Errorf(codes.OutOfRange, "volumes have whole GiB, and none lies between %d and %d bytes", required, limitBytes)
	}
	return size, limit, nil
}
