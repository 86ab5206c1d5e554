package state

import (
	"slices"

	"github.com/google/uuid"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
)

// DefaultType is the name of the type of volumes whose creator names none.
const DefaultType = "__DEFAULT__"

// seedTypes makes the types of a new cloud. Only in an update.
func (c *Cloud) seedTypes() {
	for _, t := range []VolumeType{
		{Name: DefaultType, Description: Text("Default Volume Type"), Backend: "file"},
		{Name: "standard", Description: Text("Ordinary volumes"), Backend: "file", ExtraSpecs: map[string]string{"volume_backend_name": "file"}},
		{Name: "ssd", Description: Text("Volumes of another backend"), Backend: "flash", ExtraSpecs: map[string]string{"volume_backend_name": "flash"}},
		{Name: "multiattach", Description: Text("Volumes for more than one server at once"), Backend: "file", ExtraSpecs: map[string]string{"multiattach": "<is> True", "volume_backend_name": "file"}},
		{Name: "nobackend", Description: Text("Volumes that no backend can make")},
	} {
		t.ID, t.Seq, t.Public = newID(), c.nextSeq(), true
		c.types.Put(t.ID, t)
	}
}

// findType returns a type by its name or id, the default for "". Only under the lock.
func (c *Cloud) findType(name string) (VolumeType, error) {
	if name == "" {
		name = DefaultType
	}
	if t, ok := c.types.Get(name); ok {
		return t, nil
	}
	var found *VolumeType
	c.types.Each(func(t *VolumeType) bool {
		if SameText(t.Name, name) {
			found = t
		}
		return found == nil
	})
	if found == nil && uuid.Validate(name) == nil {
		return VolumeType{}, rest.NotFound("Volume type %s could not be found.", name)
	}
	if found == nil {
		return VolumeType{}, rest.NotFound("Volume type with name %s could not be found.", name)
	}
	return *found, nil
}

// Type returns a type by its id.
func (c *Cloud) Type(id string) (t VolumeType, err error) {
	c.view(func() {
		var ok bool
		if t, ok = c.types.Get(id); !ok {
			err = rest.NotFound("Volume type %s could not be found.", id)
		}
	})
	return t, err
}

// DefaultVolumeType returns the default type.
func (c *Cloud) DefaultVolumeType() (t VolumeType, err error) {
	c.view(func() { t, err = c.findType("") })
	return t, err
}

// Types returns all types, newest first.
func (c *Cloud) Types() []VolumeType {
	var list []VolumeType
	c.view(func() { list = c.sortedTypes() })
	slices.Reverse(list)
	return list
}

// TypeNames returns the names of all types by id.
func (c *Cloud) TypeNames() map[string]string {
	names := map[string]string{}
	c.view(func() {
		c.types.Each(func(t *VolumeType) bool {
			names[t.ID] = t.Name
			return true
		})
	})
	return names
}

// PutType makes or changes a type through fn; an empty id makes a new one.
func (c *Cloud) PutType(id string, fn func(t *VolumeType)) (VolumeType, error) {
	var t VolumeType
	err := c.update(func() error {
		if id == "" {
			t = VolumeType{ID: newID(), Seq: c.nextSeq(), Public: true, Backend: "file"}
		} else {
			var ok bool
			if t, ok = c.types.Get(id); !ok {
				return rest.NotFound("Volume type %s could not be found.", id)
			}
		}
		fn(&t)
		if other, err := c.findType(t.Name); err == nil && other.ID != t.ID {
			return rest.Conflict("Volume Type %s already exists.", t.Name)
		}
		c.types.Put(t.ID, t)
		return nil
	})
	return t, err
}

// DeleteType removes a type that no volume has.
func (c *Cloud) DeleteType(id string) error {
	return c.update(func() error {
		if _, ok := c.types.Get(id); !ok {
			return rest.NotFound("Volume type %s could not be found.", id)
		}
		used := false
		c.volumes.Each(func(v *Volume) bool {
			used = v.TypeID == id
			return !used
		})
		if used {
			return rest.BadRequest("Target volume type is still in use.")
		}
		c.types.Delete(id)
		return nil
	})
}

// QoSList returns all quality of service specifications, newest first.
func (c *Cloud) QoSList() []QoS {
	var list []QoS
	c.view(func() {
		c.qos.Each(func(q *QoS) bool {
			list = append(list, *q)
			return true
		})
	})
	newestFirst(list, func(q *QoS) uint64 { return q.Seq })
	return list
}

// QoS returns one quality of service specification.
func (c *Cloud) QoS(id string) (q QoS, err error) {
	c.view(func() {
		var ok bool
		if q, ok = c.qos.Get(id); !ok {
			err = rest.NotFound("No such QoS spec %s.", id)
		}
	})
	return q, err
}

// CreateQoS makes a quality of service specification.
func (c *Cloud) CreateQoS(name, consumer string, specs map[string]string) (QoS, error) {
	q := QoS{ID: newID(), Name: name, Consumer: consumer, Specs: specs}
	err := c.update(func() error {
		q.Seq = c.nextSeq()
		c.qos.Put(q.ID, q)
		return nil
	})
	return q, err
}
