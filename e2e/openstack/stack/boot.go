package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"
)

// guestMemory is what a guest gets, in MiB.
const guestMemory = 512

// guests boots the servers from a new build, in place of those that there are.
func (s *seeder) guests(ctx context.Context, made *build) error {
	if err := s.removeGuests(ctx); err != nil {
		return err
	}
	err := s.stack.step("the guests' images", func() error { return s.guestImages(ctx, made) })
	if err != nil {
		return err
	}
	err = s.stack.step("servers with a guest", func() error {
		for _, g := range guests() {
			id, err := s.boot(ctx, g.name, g.zone)
			if err != nil {
				return err
			}
			s.cloud.Guests[g.name] = id
		}
		return s.active(ctx, s.cloud.Guests)
	})
	if err != nil {
		return err
	}
	err = s.stack.step("the guests have booted", func() error { return s.stack.reach(ctx, s.cloud.Guests, 5*time.Minute) })
	if err != nil {
		return errors.Join(err, s.console(ctx))
	}
	s.cloud.GuestBuild = made.hash
	return s.stack.save(s.cloud)
}

// boot makes a server with a guest, that of the same name as its image, with the
// config drive by which it learns who it is.
func (s *seeder) boot(ctx context.Context, name, zone string) (string, error) {
	made, err := s.make(ctx, s.member, s.member.Services["compute"]+"/servers", "compute 2.93", "server", object{
		"name": name, "availability_zone": zone, "imageRef": s.cloud.GuestImages[name], "flavorRef": s.cloud.GuestFlavor,
		"networks": "none", "config_drive": true,
	})
	return made.ID, err
}

// active waits until servers run.
func (s *seeder) active(ctx context.Context, servers map[string]string) error {
	return s.stack.wait(ctx, "the servers", 2*time.Minute, func(ctx context.Context) error {
		for name, id := range servers {
			status, err := s.status(ctx, s.member.Services["compute"]+"/servers/"+id, "server")
			if err != nil || status != "ACTIVE" {
				return errors.Join(err, fmt.Errorf("server %s is %s", name, status))
			}
		}
		return nil
	}, daemons()...)
}

// removeGuests deletes the servers of an earlier build, and waits until they are
// gone.
func (s *seeder) removeGuests(ctx context.Context) error {
	servers := s.member.Services["compute"] + "/servers"
	ours := map[string]bool{}
	for _, g := range guests() {
		ours[g.name] = true
	}
	s.cloud.Guests = map[string]string{}
	err := s.stack.wait(ctx, "the end of the old guests", 2*time.Minute, func(ctx context.Context) error {
		got, err := s.member.Do(ctx, http.MethodGet, servers, "", nil)
		if err != nil {
			return err
		}
		var listed struct{ Servers []entry }
		if err := got.Into(&listed); err != nil {
			return err
		}
		var left []error
		for _, l := range listed.Servers {
			if ours[l.Name] {
				left = append(left, fmt.Errorf("server %s is there", l.Name))
				got, err := s.member.Do(ctx, http.MethodDelete, servers+"/"+l.ID, "", nil)
				left = append(left, errors.Join(err, got.Into(nil, http.StatusNoContent, http.StatusNotFound)))
			}
		}
		return errors.Join(left...)
	})
	if err != nil {
		return err
	}
	return s.removeImages(ctx, s.cloud.GuestImages)
}

// removeImages deletes the images of an earlier build, with what they name.
func (s *seeder) removeImages(ctx context.Context, images map[string]string) error {
	url := s.admin.Services["image"] + "/v2/images/"
	gone := map[string]bool{}
	for _, id := range images {
		got, err := s.admin.Do(ctx, http.MethodGet, url+id, "", nil)
		if err != nil {
			return err
		}
		if got.Status == http.StatusNotFound {
			continue // an earlier attempt came that far
		}
		var image struct {
			Kernel    string `json:"kernel_id"`
			Initramfs string `json:"ramdisk_id"`
		}
		if err := got.Into(&image); err != nil {
			return fmt.Errorf("image %s: %w", id, err)
		}
		gone[id], gone[image.Kernel], gone[image.Initramfs] = true, true, true
	}
	for id := range gone {
		if err := s.do(ctx, s.admin, http.MethodDelete, url+id, nil); err != nil {
			return err
		}
	}
	return nil
}

// guestImages gives Glance the kernel, the initramfs, and for each guest an
// image that names them. Its disk is empty.
func (s *seeder) guestImages(ctx context.Context, made *build) error {
	if s.cloud.GuestFlavor == "" {
		flavor, err := s.make(ctx, s.admin, s.admin.Services["compute"]+"/flavors", "", "flavor",
			object{"name": "guest", "ram": guestMemory, "disk": 1, "vcpus": 1})
		if err != nil {
			return err
		}
		s.cloud.GuestFlavor = flavor.ID
		if err := s.stack.save(s.cloud); err != nil { // or a second attempt would make it again
			return err
		}
	}
	parts := map[string]string{}
	for format, path := range map[string]string{"aki": made.kernel, "ari": made.initramfs} {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		id, err := s.upload(ctx, object{"name": "guest-" + format, "disk_format": format, "container_format": format}, content)
		if err != nil {
			return err
		}
		parts[format] = id
	}
	s.cloud.GuestImages = map[string]string{}
	for _, g := range guests() {
		fields := object{
			"name": g.name, "disk_format": "raw", "container_format": "bare",
			"kernel_id": parts["aki"], "ramdisk_id": parts["ari"], "os_command_line": "console=ttyS0 panic=-1 loglevel=4 no_timer_check",
			// It is for the computes with a hypervisor, and has the port of the
			// guest agent.
			"img_hv_type": "qemu", "hw_qemu_guest_agent": "yes",
		}
		for name, value := range g.properties {
			fields[name] = value
		}
		id, err := s.upload(ctx, fields, make([]byte, 1<<20))
		if err != nil {
			return err
		}
		s.cloud.GuestImages[g.name] = id
	}
	return nil
}

// upload makes an image for everybody.
func (s *seeder) upload(ctx context.Context, fields object, content []byte) (string, error) {
	url := s.admin.Services["image"] + "/v2/images"
	fields = maps.Clone(fields)
	fields["visibility"] = "public"
	got, err := s.admin.Do(ctx, http.MethodPost, url, "", fields)
	if err != nil {
		return "", err
	}
	var made entry
	if err := got.Into(&made); err != nil {
		return "", fmt.Errorf("make the image %s: %w", fields["name"], err)
	}
	return made.ID, s.do(ctx, s.admin, http.MethodPut, url+"/"+made.ID+"/file", content)
}

// console returns the last words of the guests, as an error.
func (s *seeder) console(ctx context.Context) error {
	var said []error
	for name, id := range s.cloud.Guests {
		url := s.member.Services["compute"] + "/servers/" + id + "/action"
		got, err := s.member.Do(ctx, http.MethodPost, url, "", object{"os-getConsoleOutput": object{"length": 20}})
		var answer struct{ Output string }
		if err = errors.Join(err, got.Into(&answer)); err != nil {
			answer.Output = err.Error()
		}
		said = append(said, fmt.Errorf("the console of %s:\n%s", name, answer.Output))
	}
	return errors.Join(said...)
}
