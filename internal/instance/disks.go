package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// DiskAddress is where Nova says that a disk is attached.
type DiskAddress struct {
	// Bus is Nova's word for the bus, as in scsi; Address the place on it, as in
	// 0:0:0:2.
	Bus, Address string
}

// DiskAddresses returns where the server's metadata say that the volume is: all
// entries of type disk with its id as serial, none where there is no such entry.
// The metadata service is asked first, whatever the order of the sources is: it
// knows of a volume that was attached just now, and live is true then. A config
// drive is as old as the server, and is asked only when the service can't be. Each is asked
// once, for ten seconds at most: whoever asks for a disk asks again.
func (s *Server) DiskAddresses(ctx context.Context, volumeID string) (addresses []DiskAddress, live bool, err error) {
	for _, source := range []Source{MetadataService, ConfigDrive} {
		if !slices.Contains(s.opts.Order, source) {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, laterTime)
		data, failure := s.read(asking, source, 1)
		cancel()
		if failure == nil {
			addresses, err := parseDisks(data, volumeID)
			return addresses, source == MetadataService, err
		}
		err = errors.Join(err, fmt.Errorf("%s: %w", source, failure))
	}
	return nil, false, err
}

// parseDisks reads where a meta_data.json says that a volume is.
func parseDisks(data []byte, volumeID string) ([]DiskAddress, error) {
	var doc struct {
		Devices []struct {
			Type    word `json:"type"`
			Bus     word `json:"bus"`
			Address word `json:"address"`
			Serial  word `json:"serial"`
		} `json:"devices"`
	}
	if err := decode(data, &doc); err != nil {
		return nil, err
	}
	var addresses []DiskAddress
	for _, d := range doc.Devices {
		at := DiskAddress{Bus: string(d.Bus), Address: string(d.Address)}
		if d.Type == "disk" && strings.EqualFold(string(d.Serial), volumeID) && at.Bus != "" && at.Address != "" && !slices.Contains(addresses, at) {
			addresses = append(addresses, at)
		}
	}
	return addresses, nil
}
