package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// clone makes dst a copy of src, with the same holes. shared tells that the file
// system made it by sharing blocks, which happens at one moment; otherwise the
// data was copied piece by piece.
func clone(dst, src *os.File) (shared bool, err error) {
	err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if err == nil {
		return true, nil
	}
	if !cannotShare(err) {
		return false, fmt.Errorf("share the blocks of %s: %w", src.Name(), err)
	}
	if err := copySparse(dst, src); err != nil {
		return false, fmt.Errorf("copy %s: %w", src.Name(), err)
	}
	return false, nil
}

// cannotShare recognises the answers of file systems, and pairs of them, that
// have no shared blocks.
func cannotShare(err error) bool {
	for _, reason := range []error{unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.ENOTTY, unix.ENOSYS} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// copySparse copies the parts of src that hold data; the rest of dst is a hole.
func copySparse(dst, src *os.File) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(0); err != nil { // an earlier attempt's data
		return err
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return err
	}
	for offset := int64(0); offset < info.Size(); {
		start, end, err := nextData(src, offset)
		if err != nil {
			return err
		}
		end = min(end, info.Size()) // src may grow meanwhile
		if start >= end {
			return nil
		}
		if err := copyRange(dst, src, start, end); err != nil {
			return err
		}
		offset = end
	}
	return nil
}

// nextData returns the first stretch of data at or after offset; an empty one
// when there is none.
func nextData(f *os.File, offset int64) (start, end int64, err error) {
	start, err = f.Seek(offset, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return offset, offset, nil
	}
	if err != nil {
		return 0, 0, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	return start, end, err
}

// copyRange copies src[start:end) to the same place in dst, inside the kernel
// where it can (copy_file_range).
func copyRange(dst, src *os.File, start, end int64) error {
	if _, err := src.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(start, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(dst, src, end-start)
	return err
}
