package cinder

import (
	"net/http"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// completeAttachment answers os-complete.
func (s *Service) completeAttachment(r *request) (*rest.Response, error) {
	v, a, err := s.findAttachment(r)
	if err != nil {
		return nil, err
	}
	if rest.Member(r.Body, "os-complete") == nil {
		return nil, rest.BadRequest("There is no such action.")
	}
	return &rest.Response{Status: http.StatusNoContent}, s.cloud.CompleteAttachment(r.Call, v.ID, a.ID)
}
