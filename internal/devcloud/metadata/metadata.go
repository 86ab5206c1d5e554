// Package metadata is the service under which every server of the development
// cloud learns about itself. A real one knows the server by its address; this
// one by its key in the path.
package metadata

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/cinder-csi/cinder-csi/internal/devcloud/rest"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/state"
)

// Operation is the name under which all its requests are counted.
const Operation = "metadata.get"

// Service is the metadata service.
type Service struct{ cloud *state.Cloud }

// New returns the metadata service of a cloud.
func New(cloud *state.Cloud) *Service { return &Service{cloud: cloud} }

// Routes returns what the service answers.
func (s *Service) Routes() []rest.Route {
	return []rest.Route{{Pattern: "/metadata/{server}/", Operation: Operation, Errors: plainText, Handle: s.get}}
}

func plainText(status int, _ string) any {
	return rest.HTML("<html>\n <head>\n  <title>" + http.StatusText(status) + "</title>\n </head>\n</html>\n")
}

// get answers with a document, or with the names of what is in a folder.
func (s *Service) get(r *rest.Request) (*rest.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, rest.Fail(http.StatusMethodNotAllowed, "only GET")
	}
	server, found := s.cloud.ServerByKey(r.PathValue("server"))
	if !found {
		return nil, rest.NotFound("no such server")
	}
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, "/metadata/"+r.PathValue("server")), "/")
	files := state.ConfigDrive(server)
	if content, found := files[path]; found {
		return rest.Reply(http.StatusOK, json.RawMessage(content))
	}
	if names := children(files, path); len(names) > 0 {
		return rest.Reply(http.StatusOK, rest.Text(strings.Join(names, "\n")))
	}
	return nil, rest.NotFound("no such document")
}

// children returns the names in a folder; those of folders are told apart only
// where Nova does.
func children(files map[string][]byte, folder string) []string {
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	var names []string
	for path := range files {
		rest, inside := strings.CutPrefix(path, prefix)
		if !inside {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
