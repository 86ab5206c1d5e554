package demo

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

// askTime bounds one question to the cloud's administrator.
const askTime = 5 * time.Second

// adminClient answers the demo's questions from devcloud's own interface.
type adminClient struct{ *admin.Client }

// Requests returns how many OpenStack requests have been counted.
func (a adminClient) Requests(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	r, err := a.Client.Requests(ctx)
	return int(r.Total), err
}

// Left says what the cloud still holds.
func (a adminClient) Left(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	dump, err := a.Dump(ctx)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, v := range dump.Volumes {
		left = append(left, fmt.Sprintf("volume %s (%s)", v.ID, v.Status))
		for _, at := range v.Attachments {
			left = append(left, fmt.Sprintf("attachment %s of volume %s", at.ID, v.ID))
		}
	}
	for _, s := range dump.Snapshots {
		left = append(left, fmt.Sprintf("snapshot %s (%s)", s.ID, s.Status))
	}
	for _, b := range dump.Backups {
		left = append(left, fmt.Sprintf("backup %s (%s)", b.ID, b.Status))
	}
	for _, file := range dump.Files {
		left = append(left, "file "+file)
	}
	disks, err := a.leftAtServers(ctx)
	return append(left, disks...), err
}

// leftAtServers says which volumes Nova still has at its servers.
func (a adminClient) leftAtServers(ctx context.Context) ([]string, error) {
	servers, err := a.Servers(ctx)
	var left []string
	for _, s := range servers {
		for _, id := range s.Volumes {
			left = append(left, fmt.Sprintf("disk %s of server %s", id, s.Name))
		}
	}
	return left, err
}

// awaitCloud waits until the cloud answers and has written its cloud.conf, and
// returns its servers by name.
func (f *fleet) awaitCloud(ctx context.Context, a adminClient) (map[string]admin.Server, error) {
	for {
		servers, err := a.Servers(ctx)
		if err == nil {
			_, err = os.Stat(f.home.cloudConf())
		}
		if err == nil {
			byName := map[string]admin.Server{}
			for _, s := range servers {
				byName[s.Name] = s
			}
			return byName, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the development cloud does not get ready: %w: %w", context.Cause(ctx), err)
		case <-time.After(askPause):
		}
	}
}
