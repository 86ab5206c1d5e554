package state

import "strings"

// Backend is a back end in a zone: as in a real cloud, each zone has a service
// of its own for every back end.
type Backend struct {
	// Host is the service, Name what types ask for.
	Host, Name, Zone string
	// Used is the size of all volumes there, in GiB.
	Used int64
}

// hostOf returns the service that makes volumes on a back end in a zone.
func hostOf(zone, backend string) string {
	host := "devcloud"
	if zone != DefaultZone {
		host += "-" + strings.Map(func(r rune) rune {
			if strings.ContainsRune(" :#@/", r) {
				return '-'
			}
			return r
		}, zone)
	}
	return host + "@" + backend
}

// poolOf is the pool on the service: each has one.
func poolOf(zone, backend string) string { return hostOf(zone, backend) + "#" + backend }

// Backends returns all back ends, in the order of their zones.
func (c *Cloud) Backends() []Backend {
	zones, behave := c.Zones(), c.Behaviour()
	var backends []Backend
	c.view(func() {
		used := map[string]int64{}
		c.volumes.Each(func(v *Volume) bool {
			used[v.Host] += v.Size
			return true
		})
		names := map[string]bool{}
		for _, zone := range zones {
			clear(names)
			for _, t := range c.sortedTypes() {
				if t.Backend == "" || names[t.Backend] || !behave.serves(t.Backend, zone) {
					continue
				}
				names[t.Backend] = true
				backends = append(backends, Backend{
					Host: hostOf(zone, t.Backend), Name: t.Backend, Zone: zone, Used: used[poolOf(zone, t.Backend)],
				})
			}
		}
	})
	return backends
}
