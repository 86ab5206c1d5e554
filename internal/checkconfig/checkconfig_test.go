package checkconfig_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/cinder-csi/cinder-csi/internal/checkconfig"
	"github.com/cinder-csi/cinder-csi/internal/devcloud"
	"github.com/cinder-csi/cinder-csi/internal/devcloud/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a development cloud behind a gateway that can change what it answers.
type world struct {
	*testing.T
	cloud *devcloud.Cloud
	front *httptest.Server
	dir   string
	// change changes an answer, where it is set; answer gives one instead of the cloud.
	change func(path string, header http.Header, body []byte) []byte
	answer func(http.ResponseWriter, *http.Request) bool
	// patience bounds each question.
	patience time.Duration
	names    []string

	mu     sync.Mutex
	tokens []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), patience: time.Minute}
	cloud, err := devcloud.Start(t.Context(), devcloud.Config{
		StateDir: filepath.Join(t.TempDir(), "cloud"), Disks: devcloud.DisksNone, Ephemeral: true,
		Servers: []devcloud.Server{{Name: "one"}, {Name: "two", Zone: "az2"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	w.cloud = cloud
	w.front = httptest.NewUnstartedServer(w.gateway())
	w.front.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	t.Cleanup(w.front.Close)
	return w
}

// gateway passes requests on, and notes the tokens that pass.
func (w *world) gateway() http.Handler {
	target, err := url.Parse(w.cloud.URL())
	if err != nil {
		w.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ErrorLog: zap.NewStdLog(zap.NewNop()),
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			w.mu.Lock()
			w.tokens = append(w.tokens, resp.Header.Get("X-Subject-Token"))
			w.mu.Unlock()
			body = bytes.ReplaceAll(body, []byte("http://"+resp.Request.Host), []byte(w.front.URL))
			if w.change != nil {
				body = w.change(resp.Request.URL.Path, resp.Header, body)
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			resp.ContentLength = int64(len(body))
			resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.answer == nil || !w.answer(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	})
}

// conf is a cloud.conf that leads to the gateway, which is started.
func (w *world) conf(original string) string {
	if w.front.URL == "" {
		w.front.Start()
	}
	return strings.ReplaceAll(original, w.cloud.URL(), w.front.URL)
}

func (w *world) write(name, content string) string {
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

func (w *world) faults(faults ...admin.Fault) {
	if err := w.cloud.Admin().SetFaults(w.Context(), faults...); err != nil {
		w.Fatal(err)
	}
}

// check looks, and returns the answer with its text and its JSON.
func (w *world) check(files ...string) (answer *checkconfig.Answer, text, structured string) {
	answer = checkconfig.Check(w.Context(), checkconfig.Options{Files: files, Names: w.names, Patience: w.patience})
	var out bytes.Buffer
	if err := answer.Print(&out); err != nil {
		w.Error(err)
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		w.Error(err)
	}
	return answer, out.String(), string(encoded)
}

// status is the exit status of the command.
func status(a *checkconfig.Answer) int {
	switch {
	case a.Wrong():
		return 1
	case a.Unseen():
		return 2
	}
	return 0
}

// served answers a path with a body instead of the cloud.
func served(suffix, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, suffix) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Openstack-Request-Id", "req-1")
		_, _ = io.WriteString(w, body)
		return true
	}
}

// ofToken changes the answers about tokens.
func ofToken(old, replacement string) func(string, http.Header, []byte) []byte {
	return func(path string, _ http.Header, body []byte) []byte {
		if !strings.Contains(path, "/auth/tokens") {
			return body
		}
		return bytes.ReplaceAll(body, []byte(old), []byte(replacement))
	}
}

const day = 24 * time.Hour

// TestEachCauseIsTold: cause, what is told, exit status.
func TestEachCauseIsTold(t *testing.T) {
	for name, row := range map[string]struct {
		// files makes the files, by default cloud.conf as it is.
		files func(*world) []string
		// prepare makes the trouble.
		prepare func(*world)
		// tells are findings as "subject verdict part of the text".
		tells  []string
		status int
	}{
		"all is well": {
			tells: []string{"login well /identity/v3", "account well password of user demo", "roles well member, reader", "zones well az2: Cinder, Nova", "features well multiattach volumes", "type multiattach well for several servers", "quota well volumes: 0 of"},
		},
		"wrong password": {
			files:  edited("password=", "password=wrong"),
			tells:  []string{"login wrong does not accept username \"demo\""},
			status: 1,
		},
		"wrong application credential": {
			files:  credential("application-credential-secret=", "application-credential-secret=wrong"),
			tells:  []string{"login wrong does not accept application-credential-id"},
			status: 1,
		},
		"nobody listens": {
			files:   edited("", ""),
			prepare: func(w *world) { w.conf(""); w.front.Close() },
			tells:   []string{"host unseen gives no answer", "login unseen can't be reached"},
			status:  2,
		},
		"Keystone hangs": {
			prepare: func(w *world) {
				w.patience = 200 * time.Millisecond
				w.answer = func(_ http.ResponseWriter, r *http.Request) bool {
					_, _ = io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
					return true
				}
			},
			tells:  []string{"login unseen auth-url"},
			status: 2,
		},
		"Cinder hangs": {
			prepare: func(w *world) {
				w.patience = 3 * time.Second
				w.answer = func(_ http.ResponseWriter, r *http.Request) bool {
					if !strings.HasSuffix(r.URL.Path, "/volumes") {
						return false
					}
					<-r.Context().Done()
					return true
				}
			},
			tells:  []string{"policies unseen volumes"},
			status: 2,
		},
		"Keystone is in trouble": {
			prepare: func(w *world) { w.faults(admin.Fault{Operation: "token.create", Before: 503}) },
			tells:   []string{"login unseen answers HTTP 503"},
			status:  2,
		},
		"no Keystone": {
			files:  edited("/identity/v3", "/elsewhere/v3"),
			tells:  []string{"login wrong is not a Keystone"},
			status: 1,
		},
		"the file is missing": {
			files:  func(w *world) []string { return []string{filepath.Join(w.dir, "away")} },
			tells:  []string{"files unseen no such file"},
			status: 2,
		},
		"the file is a directory": {
			files:  func(w *world) []string { return []string{w.dir} },
			tells:  []string{"files wrong is a directory"},
			status: 1,
		},
		"the file makes no sense": {
			files:  func(w *world) []string { return []string{w.write("cloud.conf", "[Global\nauth-url=")} },
			tells:  []string{"files wrong line 1"},
			status: 1,
		},
		"no cloud": {
			files:  func(w *world) []string { return []string{w.write("cloud.conf", "[BlockStorage]\n")} },
			tells:  []string{"files wrong has no section [Global]"},
			status: 1,
		},
		"a key is missing": {
			files:  edited("username=demo\n", ""),
			tells:  []string{"section wrong username is empty"},
			status: 1,
		},
		"no such section": {
			prepare: func(w *world) { w.names = []string{"b"} },
			tells:   []string{`section wrong no section [Global "b"]`},
			status:  1,
		},
		"an unknown key": {
			files: edited("region=", "regoin=RegionOne\nregion="),
			tells: []string{"keys warn regoin", "login well "},
		},
		"a key without effect, and a section of others": {
			files: edited("[BlockStorage]", "[LoadBalancer]\nx=y\n[BlockStorage]\nrescan-on-resize=true"),
			tells: []string{"keys warn rescan-on-resize", "keys well [LoadBalancer]"},
		},
		"no such region": {
			files:  edited("region=RegionOne", "region=elsewhere"),
			tells:  []string{`login wrong region "elsewhere"`, "account well user demo"},
			status: 1,
		},
		"an old Cinder": {
			prepare: func(w *world) { w.behave(func(b *admin.Behaviour) { b.VolumeVersion = "3.30" }) },
			tells:   []string{"features warn no growing an attached volume: that needs block storage 3.42, and the cloud has up to 3.30", "features well attachment records", "block storage well microversions 3.0 to 3.30"},
		},
		"an old Nova": {
			prepare: func(w *world) { w.behave(func(b *admin.Behaviour) { b.ComputeVersion = "2.42" }) },
			tells:   []string{"features warn no multiattach volumes"},
		},
		"a gateway hides the microversions": {
			prepare: func(w *world) {
				w.faults(admin.Fault{Operation: "version.get", Before: 404})
				w.change = func(_ string, header http.Header, body []byte) []byte {
					header.Del("OpenStack-API-Version")
					return body
				}
			},
			tells: []string{"block storage warn tells no microversions", "features warn growing an attached volume may be missing"},
		},
		"messages are refused": {
			prepare: func(w *world) { w.faults(admin.Fault{Operation: "message.list", Before: 403}) },
			tells:   []string{"policies warn messages is refused: errors of volumes come without their cause"},
		},
		"volumes are refused": {
			prepare: func(w *world) { w.faults(admin.Fault{Operation: "volume.list", Before: 403}) },
			tells:   []string{"policies wrong volumes is refused"},
			status:  1,
		},
		"pools and services are refused, as usual": {
			tells: []string{"policies well pools is refused", "policies well services is refused", "policies well not tried, as each changes something"},
		},
		"pools are allowed, to an administrator": {
			files: func(w *world) []string { return []string{w.write("cloud.conf", w.conf(w.cloud.CloudConfFor("admin")))} },
			tells: []string{"policies well allowed: volumes, servers", "roles warn admin"},
		},
		"no zone in common": {
			prepare: func(w *world) {
				w.answer = served("/compute/v2.1/os-availability-zone", zonesBody("compute-a", "compute-b"))
			},
			tells:  []string{"zones wrong no zone of Nova's is one of Cinder's", "zones well compute-a: Nova"},
			status: 1,
		},
		"a zone that Cinder doesn't have": {
			prepare: func(w *world) {
				w.answer = served("/compute/v2.1/os-availability-zone", zonesBody("nova", "compute-b"))
			},
			tells: []string{"zones warn Cinder has no zone compute-b", "zones well no server is in az2"},
		},
		"other zones, that are to be ignored": {
			files:   edited("ignore-volume-az=false", "ignore-volume-az=true"),
			prepare: func(w *world) { w.answer = served("/compute/v2.1/os-availability-zone", zonesBody("compute-a")) },
			tells:   []string{"zones well ignore-volume-az is true"},
		},
		"no volume type": {
			prepare: func(w *world) {
				w.faults(admin.Fault{Operation: "type.list", Before: 200, Body: `{"volume_types": []}`}, admin.Fault{Operation: "type.get", Before: 404})
			},
			tells:  []string{"types wrong no volume can be made", "types warn there is no default type"},
			status: 1,
		},
		"the quota is used up": {
			prepare: func(w *world) { w.quota("volumes", 0) },
			tells:   []string{"quota wrong volumes: 0 of 0 used"},
			status:  1,
		},
		"no backups by quota": {
			prepare: func(w *world) { w.quota("backups", 0) },
			tells:   []string{"quota warn backups: 0 of 0 used"},
		},
		"reader alone": {
			prepare: func(w *world) { w.change = ofToken(`{"id":"role-member","name":"member"},`, "") },
			tells:   []string{"roles wrong reader alone"},
			status:  1,
		},
		"a password that ends in ten days": {
			prepare: func(w *world) { w.behave(ends(10 * day)) },
			tells:   []string{"credential warn the password ends"},
		},
		"a credential that ends in a year": {
			files:   credential("", ""),
			prepare: func(w *world) { w.behave(ends(365 * day)) },
			tells:   []string{"credential well application credential \"demo\" ends", "account well application credential of user demo"},
		},
		"a credential that ends tomorrow": {
			files:   credential("", ""),
			prepare: func(w *world) { w.behave(ends(day)) },
			tells:   []string{"credential wrong application credential \"demo\" ends"},
			status:  1,
		},
		"a credential that has ended": {
			files:   credential("", ""),
			prepare: func(w *world) { w.behave(ends(-day)) },
			tells:   []string{"login wrong does not accept application-credential-id"},
			status:  1,
		},
		"a credential whose end is secret": {
			files: credential("", ""),
			prepare: func(w *world) {
				w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
					if !strings.Contains(r.URL.Path, "/application_credentials/") {
						return false
					}
					rw.WriteHeader(http.StatusForbidden)
					return true
				}
			},
			tells: []string{"credential warn can't be told"},
		},
		"a credential that can make others": {
			files: credential("", ""),
			prepare: func(w *world) {
				w.change = ofToken(`"restricted":true`, `"restricted":false`)
			},
			tells: []string{"credential warn is unrestricted"},
		},
		"clocks that differ": {
			prepare: func(w *world) {
				w.change = func(_ string, header http.Header, body []byte) []byte {
					header.Set("Date", time.Now().Add(-10*time.Minute).UTC().Format(http.TimeFormat))
					return body
				}
			},
			tells: []string{"clock warn behind this machine"},
		},
		"a certificate that nobody knows": {
			prepare: func(w *world) { w.tls(365 * day) },
			tells:   []string{"login wrong TLS fails", "certificates wrong is not accepted"},
			status:  1,
		},
		"a certificate of a known authority": {
			prepare: func(w *world) { w.tls(365 * day) },
			files:   edited("region=", "ca-file=CAFILE\nregion="),
			tells:   []string{"login well https://", "certificates well (ca-file) ends", "certificates well of https://127.0.0.1"},
		},
		"a certificate that ends soon": {
			prepare: func(w *world) { w.tls(5 * day) },
			files:   edited("region=", "ca-file=CAFILE\nregion="),
			tells:   []string{"certificates warn of https://127.0.0.1"},
		},
		"a certificate that has ended": {
			prepare: func(w *world) { w.tls(-day) },
			files:   edited("region=", "ca-file=CAFILE\nregion="),
			tells:   []string{"certificates wrong which is past", "login wrong TLS fails"},
			status:  1,
		},
		"no verification": {
			prepare: func(w *world) { w.tls(365 * day) },
			files:   edited("region=", "tls-insecure=true\nregion="),
			tells:   []string{"certificates warn is not verified", "login well "},
		},
		"a client's certificate that ends soon": {
			prepare: func(w *world) { w.tls(365 * day) },
			files:   edited("region=", "ca-file=CAFILE\ncert-file=CERTFILE\nkey-file=KEYFILE\nregion="),
			tells:   []string{"certificates warn (cert-file) ends", "login well "},
		},
		"a ca-file that is missing": {
			files:  edited("region=", "ca-file=/nowhere/ca.pem\nregion="),
			tells:  []string{"section wrong ca-file /nowhere/ca.pem"},
			status: 1,
		},
		"two clouds, of which one is down": {
			files: func(w *world) []string {
				good := w.conf(w.cloud.CloudConf())
				return []string{w.write("a.conf", good), w.write("b.conf", "[Global \"b\"]\nauth-url=http://127.0.0.1:1/v3\nusername=u\npassword=p\ndomain-name=d\n")}
			},
			tells:  []string{"login well ", "login unseen can't be reached"},
			status: 2,
		},
		"the one that is wanted of these": {
			prepare: func(w *world) { w.names = []string{"default"} },
			files: func(w *world) []string {
				return []string{w.write("a.conf", w.conf(w.cloud.CloudConf())), w.write("b.conf", "[Global \"b\"]\nauth-url=http://127.0.0.1:1/v3\nusername=u\npassword=p\ndomain-name=d\n")}
			},
			tells: []string{"login well "},
		},
		"a clouds.yaml": {
			files: func(w *world) []string {
				w.write("clouds.yaml", cloudsYAML(w.conf(w.cloud.CloudConf())))
				return []string{w.write("cloud.conf", "[Global]\nuse-clouds=true\nclouds-file="+filepath.Join(w.dir, "clouds.yaml")+"\ncloud=mine\n")}
			},
			tells: []string{"login well ", "account well user demo"},
		},
		"a token": {
			files: func(w *world) []string {
				return []string{w.write("cloud.conf", fmt.Sprintf("[Global]\nauth-url=%s/identity/v3\ntoken=%s\ntenant-name=demo\ndomain-name=Default\n", w.conf(w.cloud.URL()), w.token()))}
			},
			tells:  []string{"credential wrong the driver stops then"},
			status: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if row.prepare != nil {
				row.prepare(w)
			}
			if row.files == nil {
				row.files = edited("", "")
			}
			answer, text, _ := w.check(row.files(w)...)
			for _, wanted := range row.tells {
				if !tells(answer, wanted) {
					t.Errorf("not told: %s", wanted)
				}
			}
			if got := status(answer); got != row.status {
				t.Errorf("exit status %d, want %d", got, row.status)
			}
			for line := range strings.Lines(text) {
				if len(line) > 121 && len(strings.Fields(line)) > 3 {
					t.Errorf("a line of %d columns: %s", len(line), line)
				}
			}
			if t.Failed() {
				t.Logf("\n%s", text)
			}
		})
	}
}

// tells reports whether there is a finding "subject verdict part".
func tells(a *checkconfig.Answer, wanted string) bool {
	found := a.Findings
	for _, c := range a.Clouds {
		found = append(found, c.Findings...)
	}
	for _, f := range found {
		part, ok := strings.CutPrefix(wanted, f.Subject+" "+string(f.Verdict)+" ")
		if ok && strings.Contains(f.Text, part) {
			return true
		}
	}
	return false
}

// edited is a cloud.conf with a password in which something is replaced, and
// the names of files.
func edited(old, replacement string) func(*world) []string {
	return func(w *world) []string {
		text := strings.Replace(w.conf(w.cloud.CloudConf()), old, replacement, 1)
		for _, name := range []string{"CAFILE", "CERTFILE", "KEYFILE"} {
			text = strings.ReplaceAll(text, name, filepath.Join(w.dir, name))
		}
		return []string{w.write("cloud.conf", text)}
	}
}

// credential is edited for an application credential.
func credential(old, replacement string) func(*world) []string {
	return func(w *world) []string {
		return []string{w.write("cloud.conf", strings.Replace(w.conf(w.cloud.CredentialConf()), old, replacement, 1))}
	}
}

// ends has all credentials end after some time.
func ends(d time.Duration) func(*admin.Behaviour) {
	return func(b *admin.Behaviour) {
		b.CredentialsExpire, b.PasswordsExpire = time.Now().Add(d), time.Now().Add(d)
	}
}

func zonesBody(names ...string) string {
	var zones []string
	for _, name := range names {
		zones = append(zones, fmt.Sprintf(`{"zoneName": %q, "zoneState": {"available": true}}`, name))
	}
	return `{"availabilityZoneInfo": [` + strings.Join(zones, ",") + `]}`
}

func (w *world) behave(change func(*admin.Behaviour)) {
	b, err := w.cloud.Admin().Behaviour(w.Context())
	if err == nil {
		change(&b)
		err = w.cloud.Admin().SetBehaviour(w.Context(), b)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// cloudsYAML is a cloud.conf with a password as a clouds.yaml.
func cloudsYAML(conf string) string {
	value := func(key string) string {
		_, rest, _ := strings.Cut(conf, "\n"+key+"=")
		line, _, _ := strings.Cut(rest, "\n")
		return line
	}
	return fmt.Sprintf("clouds:\n  mine:\n    region_name: RegionOne\n    auth: {auth_url: %q, username: %q, password: %q, project_name: demo, user_domain_name: Default, project_domain_name: Default}\n",
		value("auth-url"), value("username"), value("password"))
}

func (w *world) quota(resource string, limit int64) {
	if err := w.cloud.Admin().SetQuotas(w.Context(), map[string]int64{resource: limit}); err != nil {
		w.Fatal(err)
	}
}

// token logs in as the driver does.
func (w *world) token() string {
	w.check(edited("region=", "tls-insecure=true\nregion=")(w)...)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, token := range w.tokens {
		if token != "" {
			return token
		}
	}
	w.Fatal("no token was given")
	return ""
}

// TestNoSecretIsTold: of each kind of credentials, whether they are accepted or refused.
func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tls(365 * day)
	const canary = "kanarienvogel"
	key, err := os.ReadFile(filepath.Join(w.dir, "KEYFILE"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{canary, strings.Split(string(key), "\n")[1]}
	for _, account := range []string{w.cloud.CloudConf(), w.cloud.CredentialConf()} {
		for line := range strings.Lines(account) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if name == "password" || name == "application-credential-secret" {
				secrets = append(secrets, value)
			}
		}
	}
	token := w.token()
	for name, content := range map[string]string{
		"accepted":             w.conf(w.cloud.CloudConf()),
		"credential":           w.conf(w.cloud.CredentialConf()),
		"token":                fmt.Sprintf("[Global]\nauth-url=%s/identity/v3\ntoken=%s\ntenant-name=demo\ndomain-name=Default\n", w.front.URL, token),
		"refused":              strings.Replace(w.conf(w.cloud.CloudConf()), "password=", "password="+canary, 1),
		"refused credential":   strings.Replace(w.conf(w.cloud.CredentialConf()), "-secret=", "-secret="+canary, 1),
		"refused token":        "[Global]\nauth-url=" + w.front.URL + "/identity/v3\ntoken=" + canary + "\n",
		"in the address":       strings.Replace(w.conf(w.cloud.CloudConf()), "https://", "https://user:"+canary+"@", 1),
		"in the wrong key":     strings.Replace(w.conf(w.cloud.CloudConf()), "[Global]", "[Global]\npassphrase="+canary, 1),
		"without a line's end": "[Global]\npassword=\"" + canary,
		"as a truth":           "[Global]\nuse-clouds=" + canary,
	} {
		content = strings.Replace(content, "[Global]", fmt.Sprintf("[Global]\nca-file=%[1]s/CAFILE\ncert-file=%[1]s/CERTFILE\nkey-file=%[1]s/KEYFILE", w.dir), 1)
		_, text, structured := w.check(w.write("cloud.conf", content))
		w.mu.Lock()
		all := append(append([]string{token}, secrets...), w.tokens...)
		w.mu.Unlock()
		for _, secret := range all {
			if secret != "" && strings.Contains(text+structured, secret) {
				t.Errorf("%s: %q is told:\n%s", name, secret, text)
			}
		}
	}
}

// TestItAsksAFewHarmlessQuestions: nothing but reads after the login, and a bounded number.
func TestItAsksAFewHarmlessQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before, err := w.cloud.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.check(edited("", "")(w)...)
	after, err := w.cloud.Admin().Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if writes := after.Writes - before.Writes; writes != 1 || after.Count("token.create")-before.Count("token.create") != 1 {
		t.Errorf("%d requests that change something, want the login alone: %v", writes, after.Operations)
	}
	if reads := after.Reads - before.Reads; reads > 30 {
		t.Errorf("%d reads: %v", reads, after.Operations)
	}
}
