package machine

import (
	"fmt"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/guest/image"
	"github.com/cinder-csi/cinder-csi/internal/guest/wire"
)

// Accelerator is how QEMU runs the guest's code.
type Accelerator string

// The accelerators.
const (
	// TCG translates it, which works everywhere.
	TCG Accelerator = "tcg"
	// KVM lets the processor run it.
	KVM Accelerator = "kvm"
)

// Network of the metadata service, which has no other member than the guest.
const (
	network  = "169.254.169.0/24"
	gateway  = "169.254.169.2"
	metadata = "169.254.169.254:80"
)

// arguments returns QEMU's. Devices that are there from the start have fixed
// places so that what is plugged later finds the others free.
func (m *Machine) arguments() []string {
	// An emulated processor is faster without what it would only have to imitate: this
	// one saves a fifth of the time of "max". It has AES, for dm-crypt.
	model := "EPYC"
	if m.cfg.Accelerator == KVM {
		model = "host"
	}
	lines := []string{
		"-nodefaults -no-user-config -no-reboot -display none",
		fmt.Sprintf("-M pc -accel %s -cpu %s -m 512 -smp 1", m.cfg.Accelerator, model),
		"-chardev socket,id=monitor,fd=3 -mon chardev=monitor,mode=control",
		"-chardev socket,id=agent,fd=4",
		"-chardev socket,id=console,fd=5 -serial chardev:console",
		"-device virtio-serial-pci,id=port0,addr=2",
		"-device virtserialport,bus=port0.0,chardev=agent,name=" + wire.Port,
		"-device virtio-scsi-pci,id=scsi0,addr=3",
		"-device virtio-scsi-pci,id=scsi1,hotplug=off,param_change=off,addr=4",
		"-device pci-bridge,id=bridge0,chassis_nr=1,addr=5",
		"-device ide-cd,id=cdrom,bus=ide.0",
		"-device virtio-net-pci,netdev=net0,romfile=,addr=6",
		"-blockdev driver=raw,node-name=boot,file.driver=file,file.filename=" + image.PathOf(m.boot),
		"-device virtio-blk-pci,id=boot,drive=boot,addr=7,serial=" + m.cfg.BootVolume,
		"-kernel " + m.cfg.Image.Kernel,
		"-initrd " + image.PathOf(m.cfg.Image.Initramfs),
	}
	return append(strings.Fields(strings.Join(lines, " ")),
		"-netdev", fmt.Sprintf("user,id=net0,restrict=on,net=%s,host=%s,guestfwd=tcp:%s-cmd:%s",
			network, gateway, metadata, strings.ReplaceAll(m.cfg.Relay, ",", ",,")),
		// Linux checks the timer by waiting for it, and panics where the emulator
		// gets no time on a busy machine. Guards against other programs on the same
		// processor cost much where it is emulated, and there are none.
		"-append", "console=ttyS0 loglevel=4 panic=-1 no_timer_check mitigations=off")
}
