package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Pin opens the disk for reading, after which it proves once more that it is the
// one that was found, and keeps it open until the result is closed. Meanwhile no
// other disk can get its number, even when it is unplugged, and what has been
// read of it stays in memory: a disk that nobody has open is forgotten at once.
func (d Disk) Pin() (io.Closer, error) {
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", d.VolumeID, err)
	}
	if err := d.Verify(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("volume %s: stat %s: %w", d.VolumeID, d.Path, err), f.Close())
	}
	if st.Rdev != d.Number {
		err := fmt.Errorf("volume %s: %w: %s was device %s and is %s now",
			d.VolumeID, ErrUnsafe, d.Path, numberString(d.Number), numberString(st.Rdev))
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
