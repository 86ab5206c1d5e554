package openstack

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cinder-csi/cinder-csi/internal/cloud"
)

// in returns an entry of a catalog with one endpoint in each region.
func in(kind, path string, regions ...string) string {
	var endpoints []string
	for _, region := range regions {
		endpoints = append(endpoints, fmt.Sprintf(`{"interface": "public", "region": %q, "region_id": %q, "url": %q}`, region, region, "ADDRESS/"+strings.ToLower(region)+path))
	}
	return fmt.Sprintf(`{"type": %q, "endpoints": [%s]}`, kind, strings.Join(endpoints, ", "))
}

func TestServicesAreOfOneRegion(t *testing.T) {
	oneEach := in("volumev3", "/v3/p1", "GRA7") + ", " + in("compute", "/v2.1", "SBG5")
	both := in("volumev3", "/v3/p1", "GRA7", "SBG5") + ", " + in("compute", "/v2.1", "SBG5", "GRA7")
	plain := func(endpoint string) string {
		return `{"type": "volumev3", "endpoints": [` + strings.Replace(endpoint, "PATH", "/c/v3/p1", 1) + `]}, {"type": "compute", "endpoints": [` + strings.Replace(endpoint, "PATH", "/n/v2.1", 1) + `]}`
	}
	for _, test := range []struct {
		name, catalog, region string
		// want are the URLs of Cinder and Nova, or the parts of the error.
		cinder, nova string
		refused      []string
	}{
		{"one of two", both, "SBG5", "/sbg5/v3/p1/", "/sbg5/v2.1/", nil},
		{"none of two", both, "", "", "", []string{"block storage is in GRA7, SBG5", "compute is in GRA7, SBG5", "set region"}},
		{"each in another, none named", oneEach, "", "", "", []string{"block storage is in GRA7", "compute is in SBG5"}},
		{"each in another, one named", oneEach, "GRA7", "", "", []string{"compute", `region "GRA7"`, "only SBG5"}},
		{"one has more than the other", in("volumev3", "/v3/p1", "A") + ", " + in("compute", "/v2.1", "A", "B"), "", "", "", []string{"block storage is in A,", "compute is in A, B"}},
		{"regions of other services", in("volumev3", "/v3/p1", "A") + ", " + in("compute", "/v2.1", "A") + ", " + in("object-store", "", "B"), "", "/a/v3/p1/", "/a/v2.1/", nil},
		{"another letter case", both, "gra7", "", "", []string{`region "gra7"`, "only GRA7, SBG5"}},
		{"one that is not there", both, "Mars", "", "", []string{`region "Mars"`, "only GRA7, SBG5"}},
		{"the one for all", plain(`{"interface": "public", "region": "*", "region_id": "*", "url": "ADDRESSPATH"}`), "eu-de", "/c/v3/p1/", "/n/v2.1/", nil},
		{"the one for all, none named", plain(`{"interface": "public", "region": "*", "url": "ADDRESSPATH"}`), "", "/c/v3/p1/", "/n/v2.1/", nil},
		{"its own goes before the one for all", in("volumev3", "/v3/p1", "*", "GRA7") + ", " + in("compute", "/v2.1", "*"), "GRA7", "/gra7/v3/p1/", "/*/v2.1/", nil},
		{"its own and the one for all, none named", in("volumev3", "/v3/p1", "*", "GRA7") + ", " + in("compute", "/v2.1", "*"), "", "/gra7/v3/p1/", "/*/v2.1/", nil},
		{"its id alone", plain(`{"interface": "public", "region_id": "GRA7", "url": "ADDRESSPATH"}`), "GRA7", "/c/v3/p1/", "/n/v2.1/", nil},
		{"its id alone, another named", plain(`{"interface": "public", "region_id": "GRA7", "url": "ADDRESSPATH"}`), "SBG5", "", "", []string{`"SBG5"`, "only GRA7"}},
		{"its name alone", plain(`{"interface": "public", "region": "GRA7", "url": "ADDRESSPATH"}`), "GRA7", "/c/v3/p1/", "/n/v2.1/", nil},
		{"no region at all", plain(`{"interface": "public", "url": "ADDRESSPATH"}`), "", "/c/v3/p1/", "/n/v2.1/", nil},
		{"no region at all, one named", plain(`{"interface": "public", "url": "ADDRESSPATH"}`), "R1", "/c/v3/p1/", "/n/v2.1/", nil},
		{"interfaces in capitals", plain(`{"interface": "Public", "region": "R1", "url": "ADDRESSPATH"}`), "R1", "/c/v3/p1/", "/n/v2.1/", nil},
		{"interfaces of Keystone v2", plain(`{"interface": "publicURL", "region": "R1", "url": "ADDRESSPATH"}`), "R1", "/c/v3/p1/", "/n/v2.1/", nil},
		{"version 2 alone", in("volumev2", "/v2/p1", "R1") + ", " + in("compute", "/v2.1", "R1"), "", "", "", []string{"volumev2, which is version 2", "version 3"}},
		{"version 2 by its address", in("volume", "/v2/p1", "R1") + ", " + in("compute", "/v2.1", "R1"), "R1", "", "", []string{"volume, which is version 2"}},
		{"version 2 before version 3", in("volumev2", "/v2/p1", "R1") + ", " + in("volumev3", "/v3/p1", "R1") + ", " + in("compute", "/v2.1", "R1"), "", "/r1/v3/p1/", "/r1/v2.1/", nil},
		{"old names, slashes and no project", in("block-store", "/volume/v3/", "R1") + ", " + in("compute", "/v2/p1/", "R1"), "", "/r1/volume/v3/", "/r1/v2/p1/", nil},
		{"a gateway with a version of its own", in("block-storage", "/api/v1/v3/p1", "R1") + ", " + in("compute", "/api/v1/v2.1", "R1"), "", "/r1/api/v1/v3/p1/", "/r1/api/v1/v2.1/", nil},
		{"no catalog", " ", "", "", "", []string{"no catalog", "tenant-id"}},
		{"no Nova", in("volumev3", "/v3/p1", "R1"), "", "", "", []string{"no compute service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newTestCloud(t, says(200, `{"versions": []}`))
			c.catalog = test.catalog
			cfg := c.config()
			cfg.Region = test.region
			client, err := Connect(t.Context(), cfg, Options{})
			if test.refused != nil {
				checkLine(t, err, append(test.refused, "/etc/cloud.conf [Global]")...)
				if !errors.Is(err, cloud.ErrUnsupported) {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if cinder, nova := client.now().cinder.client.Endpoint, client.now().nova.client.Endpoint; cinder != c.URL+test.cinder || nova != c.URL+test.nova {
				t.Errorf("Cinder is %s, Nova is %s", cinder, nova)
			}
		})
	}
}

// A list shows whether the API is where the driver has completed the catalog's URL to.
func TestAnEndpointWithoutVersionHasToShowItsAPI(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		want   error
	}{"it is there": {200, nil}, "it is not": {404, cloud.ErrUnavailable}} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, says(test.status, volumeBody(idA)))
			c.catalog = in("volumev3", "", "R1") + ", " + in("compute", "/v2.1", "R1")
			client, err := Connect(t.Context(), c.config(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.GetVolume(t.Context(), idA); !errors.Is(err, test.want) || contains(err, "404") != (test.want != nil) {
				t.Error(err)
			}
		})
	}
}
