package configdrive

import "slices"

// Documents are the contents a config drive repeats for every metadata version.
type Documents struct {
	Meta    []byte // meta_data.json; required
	Network []byte // network_data.json; default "{}"
	Vendor  []byte // vendor_data.json; default "{}"
	Vendor2 []byte // vendor_data2.json; default "{}"
	User    []byte // user_data; left out when nil
}

// The versions from which on a document is there.
const (
	sinceVendor  = "2013-10-17"
	sinceNetwork = "2015-10-15"
	sinceVendor2 = "2016-10-06"
)

// Versions returns the metadata versions Nova offers, oldest first, "latest" last.
func Versions() []string {
	return []string{
		"2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30",
		"2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest",
	}
}

// Files lays the documents out as Nova does: path in the drive → content. The
// metadata service answers the same paths.
func Files(d Documents) map[string][]byte {
	files := map[string][]byte{}
	versions := Versions()
	for i, version := range versions {
		dir := "openstack/" + version + "/"
		files[dir+"meta_data.json"] = d.Meta
		if d.User != nil {
			files[dir+"user_data"] = d.User
		}
		for _, doc := range []struct {
			name, since string
			content     []byte
		}{
			{"vendor_data.json", sinceVendor, d.Vendor},
			{"network_data.json", sinceNetwork, d.Network},
			{"vendor_data2.json", sinceVendor2, d.Vendor2},
		} {
			if i >= slices.Index(versions, doc.since) {
				files[dir+doc.name] = orEmpty(doc.content)
			}
		}
	}
	return files
}

func orEmpty(content []byte) []byte {
	if content == nil {
		return []byte("{}")
	}
	return content
}
