package identity

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"time"

	"atoll.dev/envd/internal/reply"
)

const maxInitBody = 8 << 20

// AfterAnswer is a Root's Later: in a sandbox that was just thawed, writing the environment's file takes a
// millisecond, for which no create should wait. Who reads it first comes later still.
func AfterAnswer(work func()) { time.AfterFunc(time.Millisecond, work) }

// Init is the body of POST /init. An absent field leaves what was; an empty token opens the daemon.
type Init struct {
	EnvVars        map[string]string `json:"envVars"`
	AccessToken    *string           `json:"accessToken"`
	Timestamp      *time.Time        `json:"timestamp"`
	DefaultUser    *string           `json:"defaultUser"`
	DefaultWorkdir *string           `json:"defaultWorkdir"`
	CABundle       string            `json:"caBundle"`
	SandboxID      string            `json:"sandboxID"`
	TemplateID     string            `json:"templateID"`
	BuildID        string            `json:"buildID"`
	TeamID         string            `json:"teamID"`
	Hostname       string            `json:"hostname"`
	Entropy        []byte            `json:"entropy"`
	Events         string            `json:"events"`  // address of the events service, http://…
	HostKey        string            `json:"hostKey"` // of the host that is obeyed from the next call on
}

// Handler serves POST /init.
func (s *Store) Handler(key *HostKey, root Root, version string) http.Handler {
	files := newScribe(root)
	later := root.Later
	if later == nil {
		later = func(work func()) { work() }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInitBody))
		if err != nil {
			reply.Error(w, reply.Failf(http.StatusBadRequest, "reading the body: %v", err))
			return
		}
		if err := key.Verify(r, body); err != nil {
			reply.Error(w, reply.Failf(http.StatusUnauthorized, "%v", err))
			return
		}
		var init Init
		if len(body) > 0 {
			if err := json.Unmarshal(body, &init); err != nil {
				reply.Error(w, reply.Failf(http.StatusBadRequest, "the body is not what /init expects: %v", err))
				return
			}
		}
		if init.HostKey != "" {
			if err := key.Replace(init.HostKey); err != nil {
				reply.Error(w, reply.Failf(http.StatusBadRequest, "%v", err))
				return
			}
		}
		s.apply(&init)
		// A file that cannot be written (read-only image) must not keep a sandbox from starting.
		for _, problem := range files.apply(&init) {
			log.Printf("init: %v", problem)
		}
		if init.SandboxID != "" {
			s.begin()
		}
		later(func() {
			if err := files.writeEnvironment(s.Envs(), s.owner()); err != nil {
				log.Printf("init: %v", err)
			}
		})
		w.Header().Set("X-Envd-Version", version)
		w.WriteHeader(http.StatusNoContent)
	})
}

// apply takes over what concerns the daemon itself.
func (s *Store) apply(init *Init) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, value := range defaultVariables(init) {
		s.envs[name] = value
	}
	for name, value := range init.EnvVars {
		s.envs[name] = value
	}
	if init.AccessToken != nil {
		s.token = *init.AccessToken
	}
	if init.DefaultUser != nil {
		s.user = *init.DefaultUser
	}
	if init.DefaultWorkdir != nil {
		s.workdir = *init.DefaultWorkdir
	}
}

// begin sets the start that changes are counted from: after our own files are written.
func (s *Store) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = time.Now()
}

// defaultVariables are those every command sees; the caller's own of the same name win.
func defaultVariables(init *Init) map[string]string {
	defaults := map[string]string{}
	add := func(name, value string) {
		if value != "" {
			defaults[name] = value
		}
	}
	if init.SandboxID != "" {
		add("E2B_SANDBOX", "true")
	}
	add("E2B_SANDBOX_ID", init.SandboxID)
	add("E2B_TEMPLATE_ID", init.TemplateID)
	add("E2B_TEAM_ID", init.TeamID)
	add("E2B_EVENTS_ADDRESS", init.Events)
	if init.CABundle != "" {
		// Programs that bring their own roots (Node, Python's requests, uv) look at these.
		add("SSL_CERT_FILE", systemBundle)
		add("REQUESTS_CA_BUNDLE", systemBundle)
		add("NODE_EXTRA_CA_CERTS", systemBundle)
	}
	return defaults
}
