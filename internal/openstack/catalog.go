package openstack

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// anyRegion is the region of endpoints that serve all of them.
const anyRegion = "*"

// offer is an endpoint in the catalog that the driver can use.
type offer struct {
	// region and regionID are one name in most catalogs; either may be left out.
	region, regionID string
	url              string
}

func (o offer) name() string { return cmp.Or(o.region, o.regionID) }

// locate finds the URLs of services in the catalog, all in one region:
//
//	a region is set   endpoints of that region, else those that serve every one
//	none is set       the only region that these services have; it is an error if there
//	                  are several, as volumes of one are of no use to servers of another
func (c CloudConfig) locate(g grant, services ...service) (urls []string, err error) {
	if len(g.catalog.Entries) == 0 {
		return nil, c.errorf("%w: the account's token has no catalog: set tenant-id or tenant-name", cloud.ErrUnsupported)
	}
	offers := make([][]offer, len(services))
	var regions, where []string
	for i, s := range services {
		var others []string
		if offers[i], others = c.offers(g, s); len(offers[i]) == 0 {
			return nil, c.notInCatalog(s, others)
		}
		own := regionsOf(offers[i])
		regions = append(regions, own...)
		where = append(where, fmt.Sprintf("%s is in %s", s.name, cmp.Or(strings.Join(own, ", "), "all of them")))
	}
	slices.Sort(regions)
	region := c.Region
	switch regions = slices.Compact(regions); {
	case region != "" || len(regions) == 0:
	case len(regions) == 1:
		region = regions[0]
	case c.untrusted:
		return nil, c.errorf("%w: region is empty, and the catalog has several regions: name one of them", cloud.ErrUnsupported)
	default:
		return nil, c.errorf("%w: region is empty, and the catalog has several regions: %s; set region to one of them", cloud.ErrUnsupported, strings.Join(where, ", "))
	}
	for i, s := range services {
		found := slices.IndexFunc(offers[i], func(o offer) bool { return o.region == region || o.regionID == region })
		if found < 0 {
			found = slices.IndexFunc(offers[i], func(o offer) bool { return o.name() == "" || o.name() == anyRegion })
		}
		if found < 0 {
			return nil, c.notInCatalog(s, regionsOf(offers[i]))
		}
		urls = append(urls, offers[i][found].url)
	}
	return urls, nil
}

// offers returns the endpoints of a service that have the wanted interface and the
// version that the driver speaks, in the catalog's order, and the types of those with
// another version.
func (c CloudConfig) offers(g grant, s service) (found []offer, others []string) {
	wanted, _ := availability(c.EndpointType)
	for _, entry := range g.catalog.Entries {
		if entry.Type != s.kind && !slices.Contains(gophercloud.ServiceTypeAliases[s.kind], entry.Type) {
			continue
		}
		for _, e := range entry.Endpoints {
			has, known := availability(e.Interface)
			if !known || has != wanted {
				continue
			}
			if other := otherVersion(entry.Type, e.URL, s.major); other != 0 {
				others = append(others, fmt.Sprintf("%s, which is version %d", entry.Type, other))
				continue
			}
			found = append(found, offer{region: e.Region, regionID: e.RegionID, url: e.URL})
		}
	}
	return found, slices.Compact(others)
}

// otherVersion returns the major version of an endpoint of the catalog where it is not
// the wanted one, by its type, as in volumev2, or by its URL; else 0.
func otherVersion(kind, raw string, wanted int) int {
	paths := []string{"/" + strings.TrimPrefix(kind, "volume")}
	if u, err := url.Parse(raw); err == nil {
		paths = append(paths, u.Path)
	}
	for _, path := range paths {
		if major, _ := lastVersion(path); major != 0 && major != wanted {
			return major
		}
	}
	return 0
}

// regionsOf returns the names of regions, each once, without those that stand for all.
func regionsOf(offers []offer) (names []string) {
	for _, o := range offers {
		if name := o.name(); name != "" && name != anyRegion && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// notInCatalog is the error for a service that was not found there, and says what was.
func (c CloudConfig) notInCatalog(s service, found []string) error {
	text := fmt.Sprintf("the catalog has no %s service with version %d of its API, os-endpoint-type %s", s.name, s.major, cmp.Or(c.EndpointType, "public"))
	if c.Region != "" {
		text += fmt.Sprintf(" and region %q", c.Region)
	}
	if len(found) > 0 && !c.untrusted {
		text += ", only " + strings.Join(found, ", ")
	}
	return c.errorf("%w: %s", cloud.ErrUnsupported, text)
}
