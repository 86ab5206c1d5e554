package latency

import (
	"fmt"
	"time"
)

const ms = time.Millisecond

// BusyDetach is the step in which a hypervisor waits for a guest to let go of
// a device before it gives up and the volume is in use again.
const BusyDetach = "attachment.busy"

// GuestGrowth is the step between Cinder's word that an attached volume has
// grown and the guest's disk growing.
const GuestGrowth = "guest.growing"

// Named returns the preset of that name: instant, fast or realistic.
func Named(name string) (Model, error) {
	switch name {
	case "", "instant":
		return Instant(), nil
	case "fast":
		return Fast(), nil
	case "realistic":
		return Realistic(), nil
	}
	return Model{}, fmt.Errorf("unknown latency %q: use instant, fast or realistic", name)
}

// Instant takes no time, but for a guest that does not let go of a device:
// that is given up after two seconds.
func Instant() Model {
	return Model{}.WithDefaults()
}

// Fast shows every transitional state for a few milliseconds.
func Fast() Model {
	short := Distribution{2 * ms, 8 * ms, 30 * ms}
	return Model{
		DefaultCall: Distribution{0, ms, 4 * ms},
		DefaultStep: short,
		Steps: map[string]Distribution{
			"volume.cloning":   {5 * ms, 20 * ms, 60 * ms},
			"volume.restoring": {10 * ms, 40 * ms, 100 * ms},
			"backup.creating":  {10 * ms, 40 * ms, 100 * ms},
			"backup.restoring": {10 * ms, 40 * ms, 100 * ms},
			GuestGrowth:        {30 * ms, 60 * ms, 120 * ms},
		},
	}.WithDefaults()
}

// Realistic is what a small real cloud with Ceph RBD and libvirt was measured
// to take on a quiet machine.
func Realistic() Model {
	second := time.Second
	return Model{
		DefaultCall: Distribution{6 * ms, 12 * ms, 40 * ms},
		Calls: map[string]Distribution{
			"token.create":      {100 * ms, 150 * ms, 350 * ms},
			"volume.create":     {60 * ms, 80 * ms, 300 * ms},
			"volume.delete":     {14 * ms, 18 * ms, 50 * ms},
			"volume.extend":     {30 * ms, 38 * ms, 80 * ms},
			"volume.retype":     {70 * ms, 85 * ms, 150 * ms},
			"snapshot.create":   {35 * ms, 48 * ms, 100 * ms},
			"snapshot.delete":   {14 * ms, 20 * ms, 50 * ms},
			"backup.create":     {30 * ms, 40 * ms, 90 * ms},
			"backup.restore":    {900 * ms, 1100 * ms, 1500 * ms},
			"attachment.create": {85 * ms, 200 * ms, 680 * ms},
			"attachment.delete": {50 * ms, 70 * ms, 260 * ms},
			"attachment.get":    {12 * ms, 20 * ms, 60 * ms},
			"attachment.list":   {14 * ms, 22 * ms, 60 * ms},
			"server.create":     {180 * ms, 300 * ms, 1100 * ms},
			"server.delete":     {40 * ms, 60 * ms, 140 * ms},
			"server.get":        {20 * ms, 45 * ms, 120 * ms},
			"server.list":       {30 * ms, 60 * ms, 200 * ms},
		},
		DefaultStep: Distribution{40 * ms, 100 * ms, 400 * ms},
		Steps: map[string]Distribution{
			"volume.scheduling":    {20 * ms, 50 * ms, 150 * ms},
			"volume.creating":      {120 * ms, 200 * ms, 500 * ms},
			"volume.cloning":       {80 * ms, 400 * ms, 1100 * ms},
			"volume.restoring":     {5 * second, 8 * second, 12 * second},
			"volume.deleting":      {40 * ms, 120 * ms, 1100 * ms},
			"volume.extending":     {50 * ms, 90 * ms, 200 * ms},
			"volume.retyping":      {40 * ms, 80 * ms, 300 * ms},
			"snapshot.creating":    {50 * ms, 300 * ms, 1100 * ms},
			"snapshot.deleting":    {50 * ms, 220 * ms, 1000 * ms},
			"backup.creating":      {3 * second, 14 * second, 18 * second},
			"backup.deleting":      {30 * ms, 50 * ms, 100 * ms},
			"backup.restoring":     {6 * second, 11 * second, 13 * second},
			"attachment.reserved":  {60 * ms, 250 * ms, 1200 * ms},
			"attachment.attaching": {40 * ms, 200 * ms, 800 * ms},
			"attachment.detaching": {120 * ms, 350 * ms, 1000 * ms},
			"attachment.forgotten": {10 * ms, 30 * ms, 100 * ms},
			"server.building":      {800 * ms, 1300 * ms, 3500 * ms},
			"server.deleting":      {150 * ms, 300 * ms, 900 * ms},
			GuestGrowth:            {900 * ms, 1100 * ms, 1600 * ms},
			BusyDetach:             {190 * second, 193 * second, 205 * second},
		},
	}
}

// WithDefaults fills in the one step that has to take time in every model.
func (m Model) WithDefaults() Model {
	steps := make(map[string]Distribution, len(m.Steps)+1)
	steps[BusyDetach] = Distribution{2 * time.Second, 2 * time.Second, 2 * time.Second}
	for name, d := range m.Steps {
		steps[name] = d
	}
	m.Steps = steps
	return m
}
