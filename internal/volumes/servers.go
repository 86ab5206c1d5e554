package volumes

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
	"github.com/cinder-csi/cinder-csi/internal/logging"
	"github.com/cinder-csi/cinder-csi/internal/watch"
)

// How often the cloud is asked while many wait: once a second, and once more for
// each server with waiters. Nova, which is asked about one server at a time and only
// to confirm, rarely needs a third of its share. Cinder, which says when something is
// done, has a third of it, as far as that shortens the waiting.
const (
	baseRate   = 1.0
	novaRate   = 0.9
	cinderRate = 0.35
	maxRate    = 4.0
)

// A question to Nova waits for others about the same server: shortly where a
// call is alone with the server, for those who learn at the same moment that
// Cinder is done; longer where others are at work on it, who are likely to have
// the same question soon. The longer wait saves Nova half of the questions, and
// is still well within the second that anybody may have to wait.
const (
	gatherAlone = 30 * time.Millisecond
	gatherBusy  = 600 * time.Millisecond
)

// servers is what Nova lists as attached, per server, while somebody wants to
// know. Many volumes of one server are answered for by one request.
type servers struct {
	service *Service

	mu   sync.Mutex
	byID map[string]*server
}

// server is Nova's view of one server. It lives as long as a call works on the
// server, so that what one call learned is known to the others.
type server struct {
	id      string
	service *Service
	watcher *watch.Watcher[string, bool]
	users   int

	mu sync.Mutex
	// at is when the request was sent that returned attached.
	at       time.Time
	attached map[string]bool
}

// acquire returns the view of a server; release has to be called when it is no
// longer needed.
func (s *servers) acquire(id string) (view *server, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	view = s.byID[id]
	if view == nil {
		if s.byID == nil {
			s.byID = make(map[string]*server)
		}
		view = &server{id: id, service: s.service}
		view.watcher = watch.New(watch.Options[string, bool]{
			Name: "attachments of a server",
			Ask: func(ctx context.Context, ids []string) (map[string]bool, error) {
				s.service.counted.polls.Inc()
				return view.ask(logging.Into(ctx, s.service.opts.Logger), s.service.cloud.ListAttachments, ids)
			},
			Final: final, Panicked: s.service.panicked,
			Rate:   func() float64 { return novaRate },
			Burst:  askBurst,
			Gather: func() time.Duration { return s.gather(view) },
		})
		s.byID[id] = view
	}
	view.users++
	return view, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if view.users--; view.users == 0 {
			delete(s.byID, id)
		}
	}
}

// gather returns for how long a question about a server waits for others.
func (s *servers) gather(view *server) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if view.users > 1 {
		return gatherBusy
	}
	return gatherAlone
}

// rate returns how often Cinder may be asked.
func (s *servers) rate() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(baseRate+cinderRate*float64(len(s.byID)), maxRate)
}

// ask reads the attachments of the server. A server that does not exist has none.
func (v *server) ask(ctx context.Context, list func(context.Context, string) ([]cloud.ServerAttachment, error), volumeIDs []string) (map[string]bool, error) {
	start := time.Now()
	attachments, err := list(ctx, v.id)
	if err != nil && !errors.Is(err, cloud.ErrNotFound) {
		return nil, err
	}
	attached := make(map[string]bool, len(attachments))
	for _, a := range attachments {
		attached[a.VolumeID] = true
	}
	v.mu.Lock()
	v.at, v.attached = start, attached
	v.mu.Unlock()
	answers := make(map[string]bool, len(volumeIDs))
	for _, id := range volumeIDs {
		answers[id] = attached[id]
	}
	return answers, nil
}

// attachedNow asks whether Nova lists the volume, sharing the request with
// others who ask at the same time.
func (v *server) attachedNow(ctx context.Context, volumeID string) (bool, error) {
	return wait(ctx, v.service, v.watcher, volumeID, "", func(bool) (bool, error) { return true, nil })
}

// agree waits until Nova lists the volume, or does not, as wanted. What any
// call has learned by a request that was sent after since counts.
func (v *server) agree(ctx context.Context, volumeID string, wanted bool, since time.Time) error {
	v.mu.Lock()
	known := v.at.After(since) && v.attached[volumeID] == wanted
	v.mu.Unlock()
	if known {
		return nil
	}
	_, err := wait(ctx, v.service, v.watcher, volumeID, "", func(attached bool) (bool, error) { return attached == wanted, nil })
	return err
}

// inTurn makes a request that changes the attachments of a server when it is
// the caller's turn. Nova works on one such request per server at a time and
// refuses, or lets wait for minutes, what comes meanwhile.
func (s *Service) inTurn(ctx context.Context, serverID string, request func() error) error {
	leave, err := s.turn(ctx, &s.queues, "server "+serverID, 0)
	if err != nil {
		return err
	}
	defer leave()
	return request()
}
