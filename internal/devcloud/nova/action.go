package nova

import (
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

func (r *request) viewAction(a state.Action) rest.Object {
	var message any
	if a.Failed {
		message = "Error"
	}
	view := rest.Object{
		"action": a.Name, "instance_uuid": a.ServerID, "request_id": a.RequestID, "user_id": a.UserID, "project_id": a.ProjectID,
		"start_time": rest.Seconds(a.StartedAt), "message": message,
	}
	if r.version.AtLeast(58) {
		view["updated_at"] = rest.Seconds(a.UpdatedAt)
	}
	return view
}

func (s *Service) listActions(r *request) (*rest.Response, error) {
	list, err := s.cloud.Actions(r.Call, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	views := make([]rest.Object, len(list))
	for i, a := range list {
		views[i] = r.viewAction(a)
	}
	return ok(rest.Object{"instanceActions": views})
}

func (s *Service) getAction(r *request) (*rest.Response, error) {
	list, err := s.cloud.Actions(r.Call, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if a.RequestID == r.PathValue("request") {
			view := r.viewAction(a)
			view["events"] = []rest.Object{r.viewEvent(a)}
			return ok(rest.Object{"instanceAction": view})
		}
	}
	return nil, rest.NotFound("Action %s on instance %s not found", r.PathValue("request"), r.PathValue("id"))
}

func (r *request) viewEvent(a state.Action) rest.Object {
	event := rest.Object{"event": "compute_" + a.Name, "start_time": rest.Seconds(a.StartedAt), "finish_time": nil, "result": nil}
	if a.Done {
		event["finish_time"], event["result"] = rest.Seconds(a.UpdatedAt), "Success"
	}
	if a.Failed {
		event["result"] = "Error"
	}
	if r.version.AtLeast(62) {
		event["hostId"] = hostID(a.ProjectID)
	}
	return event
}
