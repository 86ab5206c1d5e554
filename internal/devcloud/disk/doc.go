// Package disk is the data plane of the development cloud: volumes, snapshots
// and backups are sparse files, and an attachment is a loop device that appears
// in the device directory of the server it is attached to.
//
// # Layout
//
// Everything lives below the directory given to Open:
//
//	volumes/volume-<uuid>
//	snapshots/snapshot-<uuid>
//	backups/backup-<uuid>
//	servers/<server>/dev/vdb                              block node of the loop device
//	servers/<server>/dev/sr0                              config drive
//	servers/<server>/dev/disk/by-id/virtio-<20 characters> -> ../../vdb
//	servers/<server>/dev/disk/by-label/config-2            -> ../../sr0
//
// # Where the truth is
//
// The kernel holds it. A loop device is bound to its file in one step that also
// stores the server and the device name in the device itself, so that a process
// that dies at any point leaves either an attachment that Open finds and
// completes, or none. The device directories are derived from it and repaired
// by Open. Files are written under a temporary name and renamed when complete.
//
// # Privileges
//
// Loop devices and device nodes need root. Without it files can still be made,
// copied and deleted; Attach, Detach, GrowAttached and Wipe return ErrNotRoot.
package disk
