package state

import (
	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// note leaves a message for the user. Only in an update.
func (c *Cloud) note(call Call, project, event, text, kind, id string) {
	m := Message{
		ID: newID(), Seq: c.nextSeq(), ProjectID: project, EventID: event, Text: text, RequestID: call.RequestID,
		ResourceType: kind, ResourceID: id, CreatedAt: now(),
	}
	c.messages.Put(m.ID, m)
}

// Messages returns the messages that the filter selects, newest first.
func (c *Cloud) Messages(call Call, filter func(*Message) bool) []Message {
	var list []Message
	c.view(func() {
		c.messages.Each(func(m *Message) bool {
			if call.sees(m.ProjectID) && (filter == nil || filter(m)) {
				list = append(list, *m)
			}
			return true
		})
	})
	newestFirst(list, func(m *Message) uint64 { return m.Seq })
	return list
}

// DeleteMessage removes a message.
func (c *Cloud) DeleteMessage(call Call, id string) error {
	return c.update(func() error {
		m, ok := c.messages.Get(id)
		if !ok || !call.sees(m.ProjectID) {
			return rest.NotFound("Message %s could not be found.", id)
		}
		c.messages.Delete(id)
		return nil
	})
}

// act writes a server's history. Only in an update.
func (c *Cloud) act(call Call, serverID, name string, done, failed bool) {
	key := serverID + "/" + call.RequestID + "/" + name
	a, ok := c.actions.Get(key)
	if !ok {
		a = Action{
			Key: key, Seq: c.nextSeq(), ServerID: serverID, RequestID: call.RequestID, Name: name, UserID: call.UserID,
			ProjectID: call.ProjectID, StartedAt: now(),
		}
	}
	a.Done, a.Failed, a.UpdatedAt = done, failed, now()
	c.actions.Put(key, a)
}

// Actions returns a server's history, newest first.
func (c *Cloud) Actions(call Call, serverID string) ([]Action, error) {
	var list []Action
	var err error
	c.view(func() {
		if _, err = c.visibleServer(call, serverID); err != nil {
			return
		}
		c.actions.Each(func(a *Action) bool {
			if a.ServerID == serverID {
				list = append(list, *a)
			}
			return true
		})
	})
	newestFirst(list, func(a *Action) uint64 { return a.Seq })
	return list, err
}
